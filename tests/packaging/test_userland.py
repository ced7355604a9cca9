"""The quick tests, with the Python and the libraries of the bench's Debian instead of those from PyPI."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from tests.packaging.built import QUICK, copy_tree
from tests.packaging.locked import without_markers
from tests.packaging.root import Root

# Packages that the quick tests need in addition to the libraries, also below Python 3.11. Markers are left out,
# because pip evaluates them for its own Python.
TOOLS = set(
    "attrs exceptiongroup hypothesis iniconfig packaging pluggy pygments pytest sortedcontainers tomli "
    "typing-extensions".split()
)


def _install_tools(root: Root, place: Path) -> None:
    """Install the tools of the tests, which are not tested, beside the distribution's Python."""
    version = root.run("python3 -c 'import sys; print(\"%d.%d\" % sys.version_info[:2])'").stdout.strip()
    pip = [sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--retries", "5"]
    target = ["--target", str(place), "--python-version", version, "--only-binary", ":all:", "--no-deps"]
    requirements = place.parent / "tools.txt"
    requirements.write_text(without_markers(TOOLS))
    subprocess.run([*pip, *target, "--require-hashes", "-r", str(requirements)], check=True)


def test_the_quick_tests_pass_with_the_libraries_of_the_distribution(root: Root, tmp_path: Path) -> None:
    copy_tree(tmp_path / "tree")
    _install_tools(root, tmp_path / "tree/tools")
    root.copy_directory(tmp_path / "tree", "tmp/project")
    # Python's warnings are about the distribution's versions.
    options = f"-q -p no:cacheprovider -o filterwarnings= -m '{QUICK}'"
    done = root.run(
        f"cd /tmp/project; export PYTHONDONTWRITEBYTECODE=1 PYTHONPATH=tools; python3 -m pytest {options} tests",
        check=False,
        proc=True,
    )
    root.run("rm -rf /tmp/project")
    assert done.returncode == 0, done.stdout[-4000:] + done.stderr[-2000:]
