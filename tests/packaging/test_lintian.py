"""The lintian of Debian 13 on the .deb that is built there."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.built import copy_tree
from tests.packaging.root import Root
from tests.vm import cache, userland

SUITE = "trixie"
PACKAGES = (
    "lintian build-essential debhelper dh-python pybuild-plugin-pyproject python3-all python3-setuptools scdoc"
).split()


def _fill(target: Path, _: Path) -> None:
    userland.mmdebstrap(SUITE, PACKAGES, [], target / "root.tar")


@pytest.fixture
def builder(tmp_path: Path) -> Iterator[Root]:
    """A Debian 13 that can build the package, with the tree in /tmp/tree."""
    tmp_path.parent.chmod(0o755)
    root = Root(tmp_path)
    root.unpack(cache.kept(f"lintian-{SUITE}", (SUITE, *PACKAGES), _fill) / "root.tar")
    copy_tree(tmp_path / "tree")
    root.copy_directory(tmp_path / "tree", "tmp/tree")
    yield root
    root.remove()


def test_lintian_of_debian_13_reports_nothing(builder: Root) -> None:
    builder.run("cd /tmp/tree; SOURCE_DATE_EPOCH=1700000000 python3 packaging/build.py deb", proc=True)
    done = builder.run("lintian -EI --pedantic /tmp/tree/dist/*.deb", check=False)
    assert done.stdout == ""
    assert [line for line in done.stderr.splitlines() if not line.startswith("running with root privileges")] == []
