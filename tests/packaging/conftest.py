"""Tests of the built .rpm, with a real rpm in a separate root. `make test` builds the packages.

The root is the unpacked userland of the bench. `rpm` and its scriptlets run there in a mount namespace, and without
root also in a user namespace.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.built import build_newer, bundled, unbundled
from tests.packaging.root import Root
from tests.vm import kernels, userland
from tests.vm.image import say


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/packaging/" in item.nodeid:
            item.add_marker("packaging")


@pytest.fixture(scope="session")
def packages() -> dict[str, Path]:
    """Both .rpm packages, `bundled` and `unbundled`."""
    return {"bundled": bundled(), "unbundled": unbundled()}


@pytest.fixture(scope="session")
def newer(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The same as a later version, built from a copy of the tree."""
    return build_newer(tmp_path_factory.mktemp("newer"))


@pytest.fixture(scope="session")
def root(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Root]:
    """A Debian without ipvsd. Like EL, it enables no service unless asked."""
    archive = userland.userland(say, kernels.chosen_suite())
    made = Root(tmp_path_factory.mktemp("root"))
    made.unpack(archive)
    made.put("usr/lib/systemd/system-preset/99-default-disable.preset", "disable *\n")
    made.run("mkdir -p /usr/share/licenses")  # which every rpm distribution has
    yield made
    made.remove()


@pytest.fixture
def clean(root: Root) -> Iterator[Root]:
    """The root without ipvsd before and after the test, and without its files."""
    before = root.paths()
    yield root
    root.rpm("-e", "ipvsd", check=False)
    assert root.paths() - before == set()
