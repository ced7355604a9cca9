"""An event reconciles one item at once, and a reconciliation of all items handles the rest."""

from __future__ import annotations

import errno
import itertools
from typing import Callable, Optional

import pytest

from ipvsd.decide.backoff import FIRST_PAUSE
from ipvsd.model.types import MISSING, LoadModule, Reading, SysctlFinding, WriteParameter, WriteSysctl
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reconcile.reconciler import LONGEST, LULL, MOST, STORED
from tests.fake_kernel import FORWARD, FakeKernel
from tests.reconciling import Node, started

ALIAS = "net.ipv4.conf.all.forwarding"
CONNTRACK, NODEST = "net.ipv4.vs.conntrack", "net.ipv4.vs.expire_nodest_conn"


TEXT = "sysctls: {net.ipv4.ip_forward: 1}"


def _finding(node: Node, name: str) -> SysctlFinding:
    """Reconcile all items, and return the finding of one."""
    return next(finding for finding in node.round().after.sysctls if finding.name == name)


@pytest.fixture
def node() -> Node:
    return started(TEXT)


# --- events for stored writes -----------------------------------------------------------


def test_a_drift_is_repaired_once(node: Node) -> None:
    assert node.drift()
    assert node.kernel.values[FORWARD] == "1"
    assert node.event(FORWARD)
    assert [item.action for item in node.at_once()] == [WriteSysctl(FORWARD, "0", "1")]
    assert node.at_once() == []


@pytest.mark.parametrize("value", ["1", " 1\n", "0x1"])
def test_the_same_value_is_compliant_and_not_written(node: Node, value: str) -> None:
    assert node.drift(value)
    assert (node.kernel.values[FORWARD], node.at_once()) == (value, [])
    node.loop.wait(60)
    assert node.loop.looks() == []


@pytest.mark.parametrize("name", ["net.ipv4.tcp_rmem", "kernel.panic", "", "no_module"])
def test_an_unmanaged_item_is_left_to_a_reconciliation_of_all_items(node: Node, name: str) -> None:
    assert not node.event(name)
    assert node.at_once() == []


def test_before_the_first_round_nothing_is_managed() -> None:
    assert not Node(TEXT).event(FORWARD)


def test_an_item_that_was_not_compliant_is_left_to_a_reconciliation_of_all_items(node: Node) -> None:
    node.kernel.refused[FORWARD] = errno.EPERM
    node.kernel.values[FORWARD] = "0"
    node.round()
    node.kernel.refused.clear()
    assert not node.event(FORWARD)
    assert node.kernel.values[FORWARD] == "0"


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda kernel: kernel.refused.update({FORWARD: errno.EPERM}), id="refused"),
        pytest.param(lambda kernel: kernel.clamps.update({FORWARD: lambda _: "0"}), id="not kept"),
        pytest.param(lambda kernel: kernel.values.pop(FORWARD), id="gone"),
    ],
)
def test_a_drift_that_cannot_be_repaired_is_left_to_a_reconciliation_of_all_items(
    node: Node, spoil: Callable[[FakeKernel], object]
) -> None:
    node.kernel.values[FORWARD] = "0"
    spoil(node.kernel)
    node.written()
    node.loop.wait(1)
    assert node.loop.looks() == [FORWARD]
    assert not node.event()
    assert node.at_once() == []


@pytest.mark.parametrize(("broken", "looks"), [({"ip_vs_sh": errno.ENOEXEC}, 0), ({}, 9)], ids=["broken", "unloading"])
def test_a_module_that_cannot_be_loaded_now_is_left_to_a_reconciliation_of_all_items(
    node: Node, broken: dict[str, int], looks: int
) -> None:
    node.kernel.unload("ip_vs_sh", looks)
    node.kernel.broken = broken
    assert not node.event("ip_vs_sh")
    assert node.at_once() == []


def test_the_write_to_an_interface_that_disappeared_is_no_failure_of_the_next_one(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    link = "net.ipv4.conf.eth7.forwarding"
    node = started("profiles: []\nsysctls: {net.ipv4.conf.*.forwarding: 1}")
    kernel, read = node.kernel, node.kernel.read_sysctl
    kernel.values[link] = "0"

    def replaced(key: str) -> Reading:
        """Return nothing after the write. At the next observation, another interface has the name."""
        if kernel.values.get(link) == "1" and key == link:
            kernel.values[link] = "0"
            return MISSING
        return read(key)

    with monkeypatch.context() as patched:
        patched.setattr(kernel, "read_sysctl", replaced)
        assert _finding(node, link).verdict is SysctlVerdict.NONCOMPLIANT
    node.loop.wait(FIRST_PAUSE)
    assert _finding(node, link).compliant


def test_an_observed_item_is_never_written() -> None:
    text = "profiles: []\nsysctls: {net.ipv4.ip_forward: {value: 0, policy: observe}}"
    node = started(text)
    assert node.drift("0")
    assert not node.drift("1")
    assert (node.kernel.values[FORWARD], node.at_once()) == ("1", [])


def test_an_alias_of_a_sysctl_is_reported_under_its_canonical_name(node: Node) -> None:
    node.kernel.values[FORWARD] = "0"
    assert node.event(ALIAS)
    assert node.repaired_at_once() == [FORWARD]


def test_a_repair_restores_the_new_desired_value(node: Node) -> None:
    node.drift()
    node.configure("sysctls: {net.ipv4.ip_forward: 0}")
    assert node.drift("0")
    assert node.drift("1")
    assert node.kernel.values[FORWARD] == "0"


def test_a_module_that_was_removed_is_loaded_again(node: Node) -> None:
    node.kernel.unload("ip_vs_sh")
    assert node.event("ip_vs_sh")
    assert "ip_vs_sh" in node.kernel.states
    assert [item.action for item in node.at_once()] == [LoadModule("ip_vs_sh")]


# --- events for writes that are about to be stored --------------------------------------


@pytest.mark.parametrize("late", [0.0004, 0.003, 0.02, 0.1], ids=lambda late: f"{late * 1000} ms")
def test_a_write_that_is_stored_after_its_event_is_repaired(node: Node, late: float) -> None:
    node.written()
    node.loop.wait(late)
    node.kernel.values[FORWARD] = "0"
    node.loop.wait(sum(STORED))
    (item,) = node.at_once()
    tries = (0.0, *itertools.accumulate(STORED))
    assert node.kernel.values[FORWARD] == "1"
    assert item.repair.seconds == pytest.approx(next(at for at in tries if at >= late))


@pytest.mark.parametrize("name", [FORWARD, ALIAS])
def test_a_value_that_is_not_compliant_now_is_repaired_and_reported(node: Node, name: str) -> None:
    node.kernel.values[FORWARD] = "7"
    node.written("7", name=name)
    assert (node.kernel.values[FORWARD], len(node.at_once())) == ("1", 1)


@pytest.mark.parametrize("name", [FORWARD, "net.ipv4.tcp_rmem", "ip_vs"])
def test_a_compliant_or_unmanaged_sysctl_is_not_written(node: Node, name: str) -> None:
    node.written("1", name=name)
    assert node.at_once() == []


def test_a_write_of_the_same_value_or_in_another_namespace_has_no_effect(node: Node) -> None:
    node.written()
    node.loop.wait(1)
    assert (node.at_once(), node.loop.looks(), node.loop.idle) == ([], [], True)


@pytest.mark.parametrize(
    ("between", "stored", "repaired"),
    [
        pytest.param(0.0, 0.1, 0.1, id="at once"),
        pytest.param(sum(STORED[:3]) + 0.001, 0.0, STORED[0], id="not waiting for the rechecks of the first"),
        pytest.param(sum(STORED) - 0.001, 0.1, 0.1, id="as long as the first"),
    ],
)
def test_each_of_several_writes_is_rechecked(node: Node, between: float, stored: float, repaired: float) -> None:
    for _ in range(1 if between else 20):
        node.written()
        node.written(name=CONNTRACK)
    node.loop.wait(between)
    node.written()
    node.loop.wait(stored)
    node.kernel.values[FORWARD] = "0"
    node.loop.wait(repaired)
    assert node.kernel.values[FORWARD] == "1"


def test_a_write_that_another_event_repaired_is_not_rechecked(node: Node) -> None:
    node.written()
    assert node.drift()
    node.loop.wait(0)
    assert len(node.at_once()) == 1
    node.loop.wait(1)
    assert (node.loop.looks(), node.loop.idle) == ([], True)


def test_a_write_to_an_unmanaged_sysctl_is_left_to_a_reconciliation_of_all_items_once_stored(node: Node) -> None:
    node.written(name="net.ipv4.tcp_rmem")
    assert node.loop.looks() == []
    node.loop.wait(1)
    assert node.loop.looks() == ["net.ipv4.tcp_rmem"]


# --- the reconciliation of all items that follows ---------------------------------------


@pytest.mark.parametrize("drifts", [1, 4], ids=["one drift", "each drift delays it"])
def test_the_reconciliation_of_all_items_comes_after_a_pause_and_not_before(node: Node, drifts: int) -> None:
    for _ in range(drifts):
        node.drift()
        node.loop.wait(LULL - 0.001)
    assert node.loop.looks() == []
    node.loop.wait(0.001)
    assert node.loop.looks() == ["repaired"]


def test_a_reconciliation_for_another_reason_replaces_it(node: Node) -> None:
    node.drift()
    node.loop.wait(0.1)
    assert len(node.at_once()) == 1
    node.loop.wait(60)
    assert node.loop.looks() == []


def test_a_storm_does_not_delay_it_forever(node: Node) -> None:
    while not node.loop.reasons:
        node.drift()
        node.loop.wait(0.01)
        assert node.loop.now < 1000.0 + 2 * LONGEST
    assert node.loop.now <= 1000.0 + LONGEST + 0.1


def test_after_very_many_drifts_it_is_not_delayed(node: Node) -> None:
    drifts = 0
    while not node.loop.reasons:
        node.drift()
        node.loop.wait(0.001)
        drifts += 1
    assert MOST <= drifts < MOST + LULL / 0.001 + 1
    assert len(node.at_once()) == drifts


# --- while all items are reconciled ------------------------------------------------------


class Drifting(FakeKernel):
    """A kernel on which ip_forward drifts at the next write to another sysctl, with an event."""

    node: Optional[Node] = None

    def write_sysctl(self, key: str, value: str) -> None:
        super().write_sysctl(key, value)
        node, self.node = self.node, None
        if node:
            self.values[FORWARD] = "0"
            node.sources.undelivered.append(node.write())


def test_an_item_that_drifts_during_other_repairs_does_not_wait_for_their_end() -> None:
    kernel = Drifting()
    node = Node(TEXT, kernel)
    node.round()
    kernel.values.update({CONNTRACK: "0", NODEST: "0"})
    kernel.node = node
    node.round()
    assert [item.action.name for item in node.repaired] == [CONNTRACK, NODEST]
    assert kernel.values[FORWARD] == "1"
    assert node.repaired_at_once() == [FORWARD]


def test_an_item_that_is_acted_on_is_left_to_that_reconciliation_until_it_has_ended(node: Node) -> None:
    node.kernel.values[FORWARD] = "0"
    node.reconciler._repair_others([FORWARD])
    node.reconciler._repair_others([CONNTRACK])  # as in the next round of the same reconciliation
    assert node.event()  # no action is needed
    node.written()
    node.loop.wait(1)
    assert (node.kernel.values[FORWARD], node.loop.looks()) == ("0", [])
    node.round()
    assert node.drift()
    assert node.repaired_at_once() == [FORWARD]


def test_a_reloaded_module_does_not_affect_items_that_are_acted_on(node: Node) -> None:
    node.kernel.unload_users("ip_vs")
    node.reconciler._repair_others([CONNTRACK])
    assert node.event("ip_vs")
    assert node.kernel.values[CONNTRACK] == "0"
    repaired = node.repaired_at_once()
    assert NODEST in repaired
    assert CONNTRACK not in repaired


# --- read errors --------------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO], ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize(("read", "name"), [("read_sysctl", FORWARD), ("module_state", "ip_vs_rr")])
def test_an_unreadable_item_is_left_to_a_reconciliation_of_all_items(
    node: Node, read: str, name: str, number: int
) -> None:
    before = dict(node.kernel.states)
    node.kernel.values[FORWARD] = "0"
    node.kernel.failing = {read: number}
    assert not node.event(name)
    assert (node.kernel.values[FORWARD], node.kernel.states) == ("0", before)
    assert node.at_once() == []


# --- parameters of modules ------------------------------------------------------------------


def test_a_parameter_that_can_be_written_is_repaired_at_once() -> None:
    node = started("profiles: []\nmodules: {nf_conntrack: {parameters: {hashsize: 32768}}}")
    node.kernel.parameters["nf_conntrack.hashsize"] = "1024"
    assert node.event("nf_conntrack.hashsize")
    assert node.kernel.parameters["nf_conntrack.hashsize"] == "32768"
    assert [item.action for item in node.at_once()] == [WriteParameter("nf_conntrack.hashsize", "1024", "32768")]
