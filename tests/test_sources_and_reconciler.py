"""The event sources with the reconciler: an event repairs a drift, and a compliant value wakes nothing."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.config.parser import parse
from ipvsd.kernel.fd_cache import FdCache
from ipvsd.kernel.processes import ProcessResolver
from ipvsd.model.report import Attribution
from ipvsd.model.types import LoadModule, Reading, WriteSysctl
from ipvsd.reconcile.changes import Repaired
from ipvsd.reconcile.reconciler import Reconciler
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_inotify import SysctlInotify
from ipvsd.watch.uevents import Uevents
from tests.fake_kernel import FORWARD, FakeKernel
from tests.reconciling import Reports
from tests.trees import put, store

CONNTRACK = "net.ipv4.vs.conntrack"


class Forwarding(FakeKernel):
    """A kernel whose ip_forward is a file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def read_sysctl(self, key: str) -> Reading:
        self.values[FORWARD] = self.file.read_text()
        return super().read_sysctl(key)

    def write_sysctl(self, key: str, value: str) -> None:
        super().write_sysctl(key, value)
        if key == FORWARD:
            store(self.file, value)


class Node:
    """A reconciler after its first round, with inotify on a file in place of ip_forward."""

    def __init__(self, loop: EventLoop, file: Path) -> None:
        self.loop, self.file, self.fds = loop, file, FdCache()
        self.kernel = Forwarding(file)
        config = parse([("f", b"sysctls: {net.ipv4.ip_forward: 1}")])
        self.reconciler = Reconciler(self.kernel, loop, Reports(), config)
        self.source = SysctlInotify(loop, self.reconciler, self.fds)
        self.round()
        self.source.arm(Targets(frozenset(), {FORWARD: str(file)}, ()))
        loop.run_until_reason(0)

    def write(self, value: str) -> None:
        store(self.file, value)

    def reasons(self) -> set[tuple[ReasonKind, str]]:
        return {(reason.kind, reason.detail) for reason in self.loop.run_until_reason(0)}

    def round(self) -> list[Repaired]:
        """Reconcile all items, and return the earlier repairs."""
        _, found = self.reconciler.reconcile_all([Reason(ReasonKind.SYSCTL, "", time.monotonic())])
        return [change for change in found if isinstance(change, Repaired) and change.at_once]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    file = tmp_path / "ip_forward"
    file.write_text("1\n")
    with EventLoop() as loop:
        node = Node(loop, file)
        yield node
        node.source.close()
        node.fds.close()


def test_a_write_is_repaired(node: Node) -> None:
    node.write("0")
    assert node.reasons() == set()
    assert node.file.read_text() == "1\n"
    assert [item.action for item in node.round()] == [WriteSysctl(FORWARD, "0", "1")]


def test_a_write_by_ipvsd_has_no_effect(node: Node) -> None:
    node.write("0")
    for _ in range(3):
        assert node.reasons() == set()
    assert len(node.round()) == 1


def test_the_same_value_has_no_effect(node: Node) -> None:
    node.write("1")
    assert (node.reasons(), node.round()) == (set(), [])


def test_a_reconciliation_of_all_items_follows(node: Node) -> None:
    node.write("0")
    (reason,) = node.loop.run_until_reason(10)
    assert (reason.kind, reason.detail) == (ReasonKind.SYSCTL, "repaired")


# --- modules ----------------------------------------------------------------------------


def gone(source: Uevents, *names: str) -> None:
    for name in names:
        source._handle(f"remove@/module/{name}\0ACTION=remove\0SUBSYSTEM=module\0".encode())
    source._deliver()


@pytest.fixture
def uevents(node: Node, tmp_path: Path) -> Iterator[Uevents]:
    put(tmp_path, "proc/loadavg", "0.00 0.01 0.05 1/123 42\n")
    put(tmp_path, "proc/42/comm", "rmmod\n")
    put(tmp_path, "proc/42/cmdline", "rmmod\0ip_vs_sh\0")
    source = Uevents(node.loop, node.reconciler, ProcessResolver(str(tmp_path)))
    source.arm(Targets(frozenset(node.kernel.states), {}, ()))
    yield source
    source.close()


def test_a_removed_module_is_reloaded_and_its_unloader_known(node: Node, uevents: Uevents) -> None:
    node.kernel.unload("ip_vs_sh")
    gone(uevents, "ip_vs_sh")
    assert (ReasonKind.MODULE, "remove ip_vs_sh") in node.reasons()
    (repaired,) = node.round()
    assert repaired.action == LoadModule("ip_vs_sh")
    assert (repaired.repair.writer_text, repaired.repair.attribution) == ("rmmod[42]", Attribution.LIKELY)


def test_an_unmanaged_module_is_ignored(node: Node, uevents: Uevents) -> None:
    gone(uevents, "ip_vs_ftp")
    assert node.reasons() == set()


def test_a_dependency_is_loaded_first_with_its_sysctls(node: Node, uevents: Uevents) -> None:
    names = node.kernel.unload_users("ip_vs")
    gone(uevents, *names)
    assert node.kernel.values[CONNTRACK] == "1"
    actions = [item.action for item in node.round()]
    loaded = [action.name for action in actions if isinstance(action, LoadModule)]
    assert loaded[0] == "ip_vs"
    assert sorted(loaded) == sorted(names)
    assert WriteSysctl(CONNTRACK, "0", "1") in actions
