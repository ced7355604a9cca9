"""One machine for each process of the test run. Tests restore their changes."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.vm.image import chosen
from tests.vm.machine import Machine
from tests.vm.node import Journal, Node

# These begin first, so that no process waits for another at the end. Requires xdist's --no-loadscope-reorder.
LONGEST = ("test_soak.py", "test_writers.py", "test_kube_proxy.py")


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/vm/" in item.nodeid:
            item.add_marker("vm")
    items.sort(key=lambda item: item.path.name not in LONGEST)


@pytest.fixture(scope="session")
def booted() -> Iterator[Node]:
    """A node with the package, installed while running and then rebooted, like by a person."""
    with Machine(chosen()) as machine:
        node = Node(machine)
        node.install()
        machine.reboot()
        machine.booted()
        node.until(node.status, "status.json")
        node.note_boot()
        yield node


@pytest.fixture
def node(booted: Node) -> Iterator[Node]:
    """The node, compliant before and after the test."""
    booted.until(booted.right, "the node right before the test")
    yield booted
    booted.until(booted.right, "the node right after the test")


@pytest.fixture(autouse=True)
def journal(node: Node) -> Iterator[Journal]:
    """ipvsd's log during the test. An unexpected line fails the test."""
    journal = Journal(node)
    yield journal
    journal.check()
