"""The source of uevents with the reconciler: a removed module is loaded again, and its unloader known."""

from __future__ import annotations

import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.kernel.processes import ProcessResolver
from ipvsd.model.report import Attribution
from ipvsd.model.types import LoadModule, WriteSysctl
from ipvsd.reconcile.changes import Repaired
from ipvsd.reconcile.reconciler import Reconciler
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind
from ipvsd.watch.event_source import Targets
from ipvsd.watch.uevents import Uevents
from tests.configured import config
from tests.fake_kernel import FakeKernel
from tests.reconciling import Reports
from tests.trees import put

CONNTRACK = "net.ipv4.vs.conntrack"


class Node:
    """A reconciler after its first round, with the source of uevents."""

    def __init__(self, loop: EventLoop, tree: Path) -> None:
        self.kernel, self.loop = FakeKernel(), loop
        self.reconciler = Reconciler(self.kernel, loop, Reports(), config("sysctls: {net.ipv4.ip_forward: 1}"))
        self.round()
        self.source = Uevents(loop, self.reconciler, ProcessResolver(str(tree)))
        self.source.arm(Targets(frozenset(self.kernel.states), {}, ()))
        loop.run_until_reason(0)

    def gone(self, *names: str) -> set[tuple[ReasonKind, str]]:
        """Deliver the uevents of modules that were removed, and return the reasons for a reconciliation."""
        for name in names:
            self.source._handle(f"remove@/module/{name}\0ACTION=remove\0SUBSYSTEM=module\0".encode())
        self.source._deliver()
        return {(reason.kind, reason.detail) for reason in self.loop.run_until_reason(0)}

    def round(self) -> list[Repaired]:
        """Reconcile all items, and return the earlier repairs."""
        _, found = self.reconciler.reconcile_all([Reason(ReasonKind.SYSCTL, "", time.monotonic())])
        return [change for change in found if isinstance(change, Repaired) and change.at_once]


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    put(tmp_path, "proc/loadavg", "0.00 0.01 0.05 1/123 42\n")
    put(tmp_path, "proc/42/comm", "rmmod\n")
    put(tmp_path, "proc/42/cmdline", "rmmod\0ip_vs_sh\0")
    with EventLoop() as loop:
        node = Node(loop, tmp_path)
        yield node
        node.source.close()


def test_a_removed_module_is_reloaded_and_its_unloader_known(node: Node) -> None:
    node.kernel.unload("ip_vs_sh")
    assert (ReasonKind.MODULE, "remove ip_vs_sh") in node.gone("ip_vs_sh")
    (repaired,) = node.round()
    assert repaired.action == LoadModule("ip_vs_sh")
    assert (repaired.repair.writer_text, repaired.repair.attribution) == ("rmmod[42]", Attribution.LIKELY)


def test_an_unmanaged_module_is_ignored(node: Node) -> None:
    assert node.gone("ip_vs_ftp") == set()


def test_a_dependency_is_loaded_first_with_its_sysctls(node: Node) -> None:
    names = node.kernel.unload_users("ip_vs")
    node.gone(*names)
    assert node.kernel.values[CONNTRACK] == "1"
    actions = [item.action for item in node.round()]
    loaded = [action.name for action in actions if isinstance(action, LoadModule)]
    assert loaded[0] == "ip_vs"
    assert sorted(loaded) == sorted(names)
    assert WriteSysctl(CONNTRACK, "0", "1") in actions
