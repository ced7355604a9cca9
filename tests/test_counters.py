"""Every drift, repair and failure is counted once, whatever the looks between."""

from __future__ import annotations

import errno

import pytest

from ipvsd.config.parser import parse
from ipvsd.config.schema import Config
from ipvsd.decide.attribution import Turned
from ipvsd.decide.backoff import History
from ipvsd.model.report import Repair, Tally
from ipvsd.model.types import LoadModule, ModuleState, WriteSysctl
from ipvsd.reconcile.reconciler import reconcile
from ipvsd.reporting.counters import BUCKETS, Ledger
from tests.fake_kernel import FORWARD, FakeKernel

CONNTRACK = "net.ipv4.vs.conntrack"


class Node:
    """A daemon's bookkeeping, without the daemon."""

    def __init__(self, text: str = "") -> None:
        self.kernel = FakeKernel()
        self.config: Config = parse([("f", text.encode())])
        self.ledger = Ledger()
        self.history: History = {}
        self.now = 1000.0

    def look(self, pause: float = 100.0) -> tuple[Repair, ...]:
        self.now += pause
        done = reconcile(self.kernel, self.config, self.history, lambda: self.now)
        self.history = done.history
        self.ledger, repairs = self.ledger.book(done, self.now - 0.003, self.now, 1.0)
        self.ledger = self.ledger.looked(0.02)
        return repairs

    @property
    def tally(self) -> Tally:
        return self.ledger.tally


@pytest.fixture
def node() -> Node:
    """A node after its first look."""
    node = Node()
    assert node.look() == ()
    return node


def test_bringing_a_node_up_loads_modules_and_repairs_nothing(node: Node) -> None:
    # nf_conntrack came as ip_vs's dependency, but it had been asked for, too.
    assert {name: node.tally.loads[name] for name in ("ip_vs", "ip_vs_sh")} == {"ip_vs": 1, "ip_vs_sh": 1}
    assert (node.tally.unloads, node.tally.drifts, node.tally.repairs) == ({}, {}, {})
    assert node.tally.repair_seconds.counts == (0,) * (len(BUCKETS) + 1)


def test_a_quiet_look_counts_nothing_but_itself(node: Node) -> None:
    before = node.tally
    node.look()
    assert (node.tally.loads, node.tally.drifts, node.tally.looks) == (before.loads, {}, 2)


def test_a_drift_is_counted_and_so_is_its_repair(node: Node) -> None:
    node.kernel.values[FORWARD] = "0"
    (repair,) = node.look()
    assert (repair.name, repair.found, repair.wanted) == (FORWARD, "0", "1")
    assert repair.seconds == pytest.approx(0.003)
    assert (node.tally.drifts, node.tally.repairs) == ({FORWARD: 1}, {FORWARD: 1})
    assert sum(node.tally.repair_seconds.counts) == 1


def test_an_unload_is_counted_and_so_is_the_load(node: Node) -> None:
    node.kernel.unload("ip_vs_sh")
    (repair,) = node.look()
    assert str(repair) == "ip_vs_sh unloaded -> live"
    assert (node.tally.unloads, node.tally.loads["ip_vs_sh"]) == ({"ip_vs_sh": 1}, 2)


def test_sysctls_that_went_with_their_module_are_counted_once(node: Node) -> None:
    gone = node.kernel.unload_users("ip_vs")
    node.look()
    node.look()
    assert node.tally.unloads == dict.fromkeys(gone, 1)
    assert node.tally.drifts[CONNTRACK] == 1
    assert node.tally.repairs[CONNTRACK] == 1


def test_a_module_that_is_seen_going_for_long_is_one_unload(node: Node) -> None:
    node.kernel.unload("ip_vs_sh", looks=9)
    while node.kernel.states.get("ip_vs_sh") is not ModuleState.LIVE:
        node.look(pause=0.01)
    assert (node.tally.unloads, node.tally.loads["ip_vs_sh"]) == ({"ip_vs_sh": 1}, 2)


def test_a_load_that_fails_while_the_module_is_going_is_no_failure(node: Node) -> None:
    node.kernel.unload("ip_vs_sh", looks=8)
    node.look()
    node.look()
    assert node.tally.load_failures.get("ip_vs_sh", 0) == 0


def test_a_contested_sysctl_is_one_drift_and_a_failure_per_try(node: Node) -> None:
    node.kernel.contested[CONNTRACK] = "0"
    node.kernel.values[CONNTRACK] = "0"
    for _ in range(3):
        assert node.look() == ()
    assert (node.tally.drifts, node.tally.repairs) == ({CONNTRACK: 1}, {})
    assert node.tally.repair_failures == {CONNTRACK: 3}


def test_a_repair_that_took_several_tries_is_counted_once(node: Node) -> None:
    node.kernel.contested[CONNTRACK] = "0"
    node.kernel.values[CONNTRACK] = "0"
    node.look()
    del node.kernel.contested[CONNTRACK]
    assert len(node.look()) == 1
    assert (node.tally.drifts, node.tally.repairs) == ({CONNTRACK: 1}, {CONNTRACK: 1})


def test_the_interfaces_that_follow_ip_forward_are_no_drifts_of_their_own(node: Node) -> None:
    node.kernel.write_sysctl(FORWARD, "0")
    assert node.kernel.values["net.ipv4.conf.eth0.forwarding"] == "0"
    assert [repair.name for repair in node.look()] == [FORWARD]
    assert node.kernel.values["net.ipv4.conf.eth0.forwarding"] == "1"
    assert (node.tally.drifts, node.tally.repairs) == ({FORWARD: 1}, {FORWARD: 1})


def test_a_load_that_fails_is_counted() -> None:
    node = Node()
    node.kernel.broken["ip_vs_sh"] = errno.ENOEXEC
    node.look()
    assert node.tally.load_failures == {"ip_vs_sh": 1}
    assert "ip_vs_sh" not in node.tally.loads


def test_a_module_that_was_never_there_was_never_unloaded() -> None:
    node = Node()
    node.kernel.broken["ip_vs_sh"] = errno.ENOEXEC
    node.look()
    node.look()
    assert (node.tally.unloads, node.tally.load_failures) == ({}, {"ip_vs_sh": 2})


def test_an_observed_sysctl_drifts_and_is_not_repaired() -> None:
    node = Node("profiles: []\nsysctls: {net.ipv4.ip_forward: {value: 0, policy: observe}}")
    node.look()
    node.kernel.values[FORWARD] = "1"
    node.look()
    node.look()
    assert (node.tally.drifts, node.tally.repairs) == ({FORWARD: 1}, {})


def test_looks_are_counted_with_their_time(node: Node) -> None:
    assert node.tally.looks == 1
    assert node.tally.look_seconds.total == pytest.approx(0.02)
    assert node.tally.look_seconds.counts[BUCKETS.index(0.025)] == 1


def test_a_look_longer_than_every_bucket_is_counted() -> None:
    assert Ledger().looked(1e9).tally.look_seconds.counts[-1] == 1


# --- what was turned back between two looks -----------------------------------------------

WRITTEN = Turned(WriteSysctl(FORWARD, "0", "1"), 10.0, 10.001, 10.002)
LOADED = Turned(LoadModule("ip_vs_sh"), 20.0, 20.01, 20.04)


def test_what_was_turned_back_is_a_drift_and_its_repair(node: Node) -> None:
    before = node.tally
    ledger, repairs = node.ledger.turned([WRITTEN, WRITTEN], 1.0)
    assert [(str(repair), repair.time) for repair in repairs] == [(f"{FORWARD} 0 -> 1", 1.0)] * 2
    assert [repair.seconds for repair in repairs] == pytest.approx([0.002] * 2)
    assert (ledger.tally.drifts, ledger.tally.repairs) == ({FORWARD: 2}, {FORWARD: 2})
    assert (ledger.tally.loads, ledger.tally.looks) == (before.loads, before.looks)


def test_a_module_that_was_turned_back_is_an_unload_and_a_load(node: Node) -> None:
    ledger, (repair,) = node.ledger.turned([LOADED], 1.0)
    assert str(repair) == "ip_vs_sh unloaded -> live"
    assert (ledger.tally.unloads, ledger.tally.loads["ip_vs_sh"]) == ({"ip_vs_sh": 1}, 2)
    assert (ledger.tally.drifts, ledger.tally.repairs) == ({}, {})


def test_each_repair_is_timed_by_itself(node: Node) -> None:
    times = node.ledger.turned([WRITTEN, LOADED], 1.0)[0].tally.repair_seconds
    assert (times.counts[BUCKETS.index(0.0025)], times.counts[BUCKETS.index(0.05)]) == (1, 1)
    assert times.total == pytest.approx(0.042)


def test_the_look_after_it_does_not_count_it_again(node: Node) -> None:
    node.ledger, _ = node.ledger.turned([WRITTEN], 1.0)
    assert node.look() == ()
    assert (node.tally.drifts, node.tally.repairs) == ({FORWARD: 1}, {FORWARD: 1})


def test_members_of_a_pattern_are_counted_under_its_name_even_if_they_are_gone_by_then() -> None:
    group = "net.ipv4.conf.*.arp_ignore"
    of_it = [
        Turned(WriteSysctl(f"net.ipv4.conf.{name}.arp_ignore", "0", "1"), 0.0, 0.05, 0.1, group=group)
        for name in ("lo", "gone")
    ]
    ledger, repairs = Ledger().turned(of_it, 1.0)
    assert (ledger.tally.drifts, ledger.tally.repairs) == ({group: 2}, {group: 2})
    assert [repair.name for repair in repairs] == [item.action.name for item in of_it]
