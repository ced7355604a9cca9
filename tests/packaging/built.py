"""The built packages."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

PROJECT = Path(__file__).parents[2]
QUICK = "not (vm or namespace or packaging or differential or full)"


def debian() -> Path:
    return _only("*_all.deb")


def bundled() -> Path:
    return _only("*-1.noarch.rpm")


def unbundled() -> Path:
    """Return the package that uses the distribution's libraries."""
    return _only("*.unbundled.noarch.rpm")


def _only(pattern: str) -> Path:
    found = list((PROJECT / "dist").glob(pattern))
    assert len(found) == 1, f"there are {len(found)} files dist/{pattern} (run: make rpm)"
    return found[0]


def copy_tree(tree: Path) -> None:
    """Copy the current content of all files that are, or would be, under version control."""
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (PROJECT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(PROJECT / name, tree / name)


def build_newer(place: Path) -> Path:
    """Build a later version of the bundling package, from a copy of the tree below `place`. This takes some seconds."""
    tree = place / "tree"
    copy_tree(tree)
    (tree / "ipvsd/__init__.py").write_text('__version__ = "99.0"\n')
    (tree / "CHANGELOG.md").write_text("# Changelog\n\n## [99.0] - 2099-01-01\n\n### Added\n\n- 5% of something.\n")
    command = [sys.executable, "-B", "packaging/build.py", "--work", "../work", "--dist", "../dist", "--no-check"]
    environment = {**os.environ, "PIP": str(Path(sys.executable).parent / "pip")}
    subprocess.run([*command, "rpm"], cwd=tree, env=environment, capture_output=True, check=True)
    return place / "dist/ipvsd-99.0-1.noarch.rpm"
