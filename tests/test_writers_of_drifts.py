"""The writer of a drift that was repaired by its event, and the resulting contention."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from ipvsd.model.report import Attribution, Writer
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reconcile.changes import ContentionEnded, ContentionStarted, WriteRefused
from ipvsd.runtime.event_loop import ReasonKind
from tests.fake_kernel import FORWARD
from tests.reconciling import AGENT, FORWARDING, SYSCTL, Node, started

CONNTRACK = "net.ipv4.vs.conntrack"
LIMITED = "\ncontention: {repairs: 3}"


@pytest.fixture
def node() -> Node:
    return started("sysctls: {net.ipv4.ip_forward: 1}")


@pytest.fixture
def limited() -> Node:
    """A node on which three repairs a minute are not contention yet."""
    return started("sysctls: {net.ipv4.ip_forward: 1}", peace=LIMITED)


def writers(node: Node) -> list[Writer | None]:
    """Reconcile, and return the writers of the drifts that were repaired before."""
    return [item.repair.writer for item in node.at_once()]


# --- writers -----------------------------------------------------------------------------


def test_each_of_two_drifts_has_its_own_writer(node: Node) -> None:
    for writer in (AGENT, SYSCTL):
        node.kernel.values[FORWARD] = "0"
        node.written(writer=writer)
        node.loop.wait(0)
    assert writers(node) == [AGENT, SYSCTL]


def test_the_sources_are_drained_before_a_writer_is_named(node: Node) -> None:
    node.written(writer=AGENT, ours=False)
    node.sources.undelivered = [node.write(writer=SYSCTL)]
    node.drift()
    (item,) = node.at_once()
    assert (item.repair.writer, item.repair.attribution) == (SYSCTL, Attribution.LIKELY)


def test_a_writer_of_the_same_value_after_the_repair_is_not_the_cause(node: Node) -> None:
    node.written(writer=AGENT)
    node.drift()
    node.loop.now += 0.01
    node.sources.undelivered = [node.write(writer=SYSCTL)]
    assert writers(node) == [AGENT]


def test_the_sources_are_drained_once_for_all_drifts_that_wait_for_a_writer(node: Node) -> None:
    before = node.sources.drains
    for _ in range(100):
        node.drift()
    node.loop.wait(0)
    assert node.sources.drains == before + 1
    assert len(node.at_once()) == 100


def test_a_writer_is_named_even_if_its_event_arrives_late(node: Node) -> None:
    event = node.write(writer=SYSCTL)
    node.loop.wait(30.0)
    node.reconciler.on_event(*event)
    node.drift()
    assert writers(node) == [SYSCTL]


@pytest.mark.parametrize(("pause", "who"), [(0.5, [AGENT]), (2.0, [None])])
def test_a_writer_in_an_unknown_namespace_can_explain_only_an_immediate_drift(
    node: Node, pause: float, who: list[Writer | None]
) -> None:
    node.written(writer=AGENT, ours=False)
    node.loop.wait(pause)
    node.drift()
    assert writers(node) == who


def test_the_cause_of_one_drift_is_not_the_cause_of_a_later_one(node: Node) -> None:
    node.unloaded("ip_vs_sh")
    node.loop.wait(30.0)
    node.kernel.unload("ip_vs_sh")
    assert node.event("ip_vs_sh")
    assert node.repaired == []
    assert writers(node)[-1] is None


def test_a_round_drops_writes_without_an_effect(node: Node) -> None:
    node.written()
    node.loop.wait(2.0)
    node.round()
    node.kernel.values[FORWARD] = "0"
    node.round()
    assert [item.repair.writer for item in node.repaired] == [None]


def test_a_round_knows_the_writers_during_back_off(limited: Node) -> None:
    contend(limited)
    limited.written(writer=SYSCTL)
    limited.kernel.values[FORWARD] = "0"
    limited.loop.wait(30.0)
    limited.round(ReasonKind.RESYNC)
    assert [item.repair.writer for item in limited.repaired if not item.at_once] == [SYSCTL]


def test_no_more_writes_are_recorded_than_explain_a_drift(node: Node) -> None:
    node.sources.undelivered = [node.write(str(number), Writer(number, "flood")) for number in range(2, 100)]
    node.kernel.values[FORWARD] = "0"
    node.written(writer=AGENT)
    (item,) = node.at_once()
    assert item.repair.attribution is not Attribution.CERTAIN  # other writes may have been missed


# --- refused writes ---------------------------------------------------------------------------


def test_writes_that_were_refused_are_one_change_with_the_last_of_them(node: Node) -> None:
    for value in ("7", "0"):
        event = node.write(value)
        refused = [write._replace(refused=True, times=2) for write in event.writes()]
        node.reconciler.on_event(*event._replace(writes=refused.copy))
    node.loop.wait(0.3)
    assert node.loop.looks() == ["repaired"]
    node.round()
    assert node.changes == (WriteRefused(FORWARD, "0", AGENT, 4),)
    assert (node.kernel.values[FORWARD], node.counters.refused) == ("1", {FORWARD: 4})
    node.round()
    assert node.changes == ()


# --- contention -------------------------------------------------------------------------


def contend(node: Node, drift: Callable[[Node], object] = lambda node: node.drift()) -> None:
    """Cause more drifts than the limit permits."""
    for _ in range(4):
        drift(node)
        node.loop.wait(0.01)


def test_a_sysctl_that_changes_repeatedly_is_left_to_a_resync(limited: Node) -> None:
    def drift(node: Node) -> None:
        node.kernel.values[FORWARD] = "0"
        node.written(writer=AGENT)

    contend(limited, drift)
    assert limited.loop.looks() == [FORWARD]
    contention = limited.reconciler.registry.contended()[FORWARD]
    assert contention.conflicting_program == "agent[7] of agent.service"
    assert not limited.drift()
    assert limited.kernel.values[FORWARD] == "0"
    done = limited.round()
    assert [change.name for change in limited.changes if isinstance(change, ContentionStarted)] == [FORWARD]
    assert len([item for item in limited.repaired if item.at_once]) == 4
    (finding,) = (finding for finding in done.after.sysctls if finding.name == FORWARD)
    assert (finding.verdict, limited.kernel.values[FORWARD]) == (SysctlVerdict.CONTENDED, "0")


def test_an_unrecorded_program_is_unknown(limited: Node) -> None:
    contend(limited)
    assert limited.reconciler.registry.contended()[FORWARD].conflicting_program == "an unknown writer"


def test_contention_for_one_sysctl_leaves_the_others_managed(limited: Node) -> None:
    contend(limited)
    limited.kernel.values[CONNTRACK] = "0"
    assert limited.event(CONNTRACK)
    assert limited.kernel.values[CONNTRACK] == "1"


def test_modules_are_not_contended(limited: Node) -> None:
    contend(limited, lambda node: node.unloaded("ip_vs_sh"))
    assert limited.reconciler.registry.contended() == {}
    assert len(limited.at_once()) == 4


def test_a_sysctl_that_returns_with_its_module_is_not_contended(limited: Node) -> None:
    for _ in range(5):
        limited.kernel.unload_users("ip_vs")
        assert limited.event("ip_vs")
        limited.loop.wait(0.01)
        limited.round()
    assert limited.kernel.values[CONNTRACK] == "1"
    assert limited.reconciler.registry.contended() == {}


def test_a_reload_ends_contention(limited: Node) -> None:
    contend(limited)
    limited.round()
    limited.configure(FORWARDING)
    assert ContentionEnded(FORWARD) in limited.changes
    assert limited.drift()
