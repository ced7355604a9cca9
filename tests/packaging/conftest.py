"""Tests of the built .rpm, with a real rpm in a root of its own; `make test` builds what they need.

The root is the bench's userland, unpacked; `rpm` and what it runs there do so in a mount namespace, and
without root in a user namespace, too.
"""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.root import PROJECT, Root
from tests.vm import userland


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/packaging/" in item.nodeid:
            item.add_marker("packaging")


@pytest.fixture(scope="session")
def packages() -> dict[str, Path]:
    """The two .rpm, by whether they are `bundled` or `unbundled`."""
    found = {"unbundled" if "unbundled" in path.name else "bundled": path for path in (PROJECT / "dist").glob("*.rpm")}
    assert found.keys() == {"bundled", "unbundled"}, "there are not two packages in dist/ (run: make rpm)"
    return found


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a later version, built from a copy of the tree."""
    place = tmp_path_factory.mktemp("newer")
    tree = place / "tree"
    listed = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listed, cwd=PROJECT, capture_output=True, text=True, check=True).stdout
    for name in filter(None, names.split("\0")):
        if (PROJECT / name).exists():
            (tree / name).parent.mkdir(parents=True, exist_ok=True)
            (tree / name).write_bytes((PROJECT / name).read_bytes())
    (tree / "ipvsd/__init__.py").write_text('__version__ = "99.0"\n')
    (tree / "CHANGELOG.md").write_text("# Changelog\n\n## [99.0] - 2099-01-01\n\n### Added\n\n- 5% of something.\n")
    command = [sys.executable, "-B", "packaging/build.py", "--work", "../work", "--dist", "../dist", "--no-check"]
    subprocess.run([*command, "rpm"], cwd=tree, capture_output=True, check=True)
    return place / "dist/ipvsd-99.0-1.noarch.rpm"


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A Debian in which nothing of ipvsd is, and which enables no service unless it is asked to, as EL does."""
    archive = userland.userland(lambda text: print(text, file=sys.stderr))
    made = Root(tmp_path_factory.mktemp("root"))
    made.unpack(archive)
    yield made
    made.remove()


@pytest.fixture
def clean(root: Root) -> Iterator[Root]:
    """The root without ipvsd, before and after the test, and nothing of it left on the disk."""
    before = root.paths()
    yield root
    root.rpm("-e", "ipvsd", check=False)
    assert root.paths() - before == set()
