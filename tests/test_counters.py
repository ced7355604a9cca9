"""Every drift, repair and failure is counted once, regardless of the reconciliations in between."""

from __future__ import annotations

import errno

import pytest

from ipvsd.model.report import Repair
from ipvsd.model.types import ModuleState
from ipvsd.reconcile.changes import VirtualServicesLost
from ipvsd.reporting.counters import BUCKETS, Counters
from tests.fake_kernel import FORWARD
from tests.reconciling import Node, started

CONNTRACK = "net.ipv4.vs.conntrack"


def look(node: Node, pause: float = 100.0) -> tuple[Repair, ...]:
    """Reconcile for an event that is three milliseconds old, and return the repairs."""
    node.loop.now += pause
    node.round(ago=0.003)
    return tuple(item.repair for item in node.repaired)


@pytest.fixture
def node() -> Node:
    """A node after its first round."""
    return started()


def test_bringing_a_node_up_loads_modules_and_repairs_nothing(node: Node) -> None:
    assert {name: node.counters.values.loads[name] for name in ("ip_vs", "ip_vs_sh")} == {"ip_vs": 1, "ip_vs_sh": 1}
    assert (node.counters.values.unloads, node.counters.values.drifts, node.counters.values.repairs) == ({}, {}, {})
    assert node.counters.values.repair_seconds.counts == (0,) * (len(BUCKETS) + 1)


def test_a_reconciliation_without_a_drift_counts_only_itself(node: Node) -> None:
    before = node.counters.values
    look(node)
    assert node.counters.values == before


def test_a_drift_is_counted_and_so_is_its_repair(node: Node) -> None:
    node.kernel.values[FORWARD] = "0"
    (repair,) = look(node)
    assert (repair.name, repair.actual, repair.desired) == (FORWARD, "0", "1")
    assert repair.seconds == pytest.approx(0.003)
    assert (node.counters.values.drifts, node.counters.values.repairs) == ({FORWARD: 1}, {FORWARD: 1})
    assert sum(node.counters.values.repair_seconds.counts) == 1


def test_an_unload_is_counted_and_so_is_the_load(node: Node) -> None:
    node.kernel.unload("ip_vs_sh")
    (repair,) = look(node)
    assert str(repair) == "ip_vs_sh unloaded -> live"
    assert (node.counters.values.unloads, node.counters.values.loads["ip_vs_sh"]) == ({"ip_vs_sh": 1}, 2)


def test_sysctls_that_went_with_their_module_are_counted_once(node: Node) -> None:
    gone = node.kernel.unload_users("ip_vs")
    look(node)
    look(node)
    assert node.counters.values.unloads == dict.fromkeys(gone, 1)
    assert node.counters.values.drifts[CONNTRACK] == 1
    assert node.counters.values.repairs[CONNTRACK] == 1


def test_a_module_that_takes_long_to_unload_is_one_unload_without_a_failed_load(node: Node) -> None:
    node.kernel.unload("ip_vs_sh", looks=9)
    while node.kernel.states.get("ip_vs_sh") is not ModuleState.LIVE:
        look(node, pause=0.01)
    values = node.counters.values
    assert (values.unloads, values.loads["ip_vs_sh"], values.load_failures) == ({"ip_vs_sh": 1}, 2, {})


def test_a_contested_sysctl_is_one_drift_a_failure_per_try_and_one_repair(node: Node) -> None:
    node.kernel.contested[CONNTRACK] = node.kernel.values[CONNTRACK] = "0"
    for _ in range(3):
        assert look(node) == ()
    values = node.counters.values
    assert (values.drifts, values.repairs, values.repair_failures) == ({CONNTRACK: 1}, {}, {CONNTRACK: 3})
    del node.kernel.contested[CONNTRACK]
    assert len(look(node)) == 1
    assert (node.counters.values.drifts, node.counters.values.repairs) == ({CONNTRACK: 1}, {CONNTRACK: 1})


def test_the_interfaces_that_follow_ip_forward_are_no_drifts_of_their_own(node: Node) -> None:
    node.kernel.write_sysctl(FORWARD, "0")
    assert node.kernel.values["net.ipv4.conf.eth0.forwarding"] == "0"
    assert [repair.name for repair in look(node)] == [FORWARD]
    assert node.kernel.values["net.ipv4.conf.eth0.forwarding"] == "1"
    assert (node.counters.values.drifts, node.counters.values.repairs) == ({FORWARD: 1}, {FORWARD: 1})


def test_each_failed_load_is_counted_and_a_module_that_was_never_there_was_never_unloaded() -> None:
    node = Node()
    node.kernel.broken["ip_vs_sh"] = errno.ENOEXEC
    for number in (1, 2):
        look(node)
        assert (node.counters.values.unloads, node.counters.values.load_failures) == ({}, {"ip_vs_sh": number})
    assert "ip_vs_sh" not in node.counters.values.loads


def test_an_observed_sysctl_drifts_and_is_not_repaired() -> None:
    node = started("profiles: []\nsysctls: {net.ipv4.ip_forward: {value: 0, policy: observe}}")
    node.kernel.values[FORWARD] = "1"
    look(node)
    look(node)
    assert (node.counters.values.drifts, node.counters.values.repairs) == ({FORWARD: 1}, {})


def test_rounds_are_counted_with_their_time() -> None:
    counters = Counters()
    for seconds in (0.02, 1e9):
        counters.observe_round(seconds)
    assert counters.values.reconciliations == 2
    assert counters.values.reconciliation_seconds.total == pytest.approx(1e9 + 0.02)
    counts = counters.values.reconciliation_seconds.counts
    assert (counts[BUCKETS.index(0.025)], counts[-1], sum(counts)) == (1, 1, 2)


# --- repairs by events between two rounds ---------------------------------------------------


def test_a_repair_by_an_event_is_a_drift_and_its_repair_and_is_counted_once(node: Node) -> None:
    loads = node.counters.values.loads
    for _ in range(2):
        node.drift()
    assert [str(item.repair) for item in node.at_once()] == [f"{FORWARD} 0 -> 1"] * 2
    assert look(node) == ()
    values = node.counters.values
    assert (values.drifts, values.repairs, values.loads) == ({FORWARD: 2}, {FORWARD: 2}, loads)


def test_a_module_that_an_event_brought_back_is_an_unload_and_a_load(node: Node) -> None:
    node.unloaded("ip_vs_sh")
    assert [str(item.repair) for item in node.at_once()] == ["ip_vs_sh unloaded -> live"]
    values = node.counters.values
    assert (values.unloads, values.loads["ip_vs_sh"]) == ({"ip_vs_sh": 1}, 2)
    assert (values.drifts, values.repairs) == ({}, {})


def test_each_repair_is_timed_by_itself(node: Node) -> None:
    for value, late in (("0", 0.002), ("7", 0.02)):
        node.written(value)
        node.loop.wait(late)
        node.kernel.values[FORWARD] = value
        node.loop.wait(1)
    assert len(node.at_once()) == 2
    times = node.counters.values.repair_seconds
    assert (times.counts[BUCKETS.index(0.005)], times.counts[BUCKETS.index(0.025)]) == (1, 1)
    assert times.total == pytest.approx(0.0035 + 0.0235)


def test_members_of_a_pattern_are_counted_under_its_name() -> None:
    pattern = "net.ipv4.conf.*.arp_ignore"
    node = started(f"profiles: []\nsysctls: {{{pattern}: 1}}")
    names = [f"net.ipv4.conf.{name}.arp_ignore" for name in ("lo", "all")]
    for name in names:
        node.kernel.values[name] = "0"
        assert node.event(name)
    assert node.repaired_at_once() == names
    node.kernel.values[names[0]] = "0"
    node.round()
    node.kernel.values[names[0]] = "0"
    assert node.event(names[0])
    del node.kernel.values[names[0]]  # it disappears before the repair is counted
    node.round()
    assert (node.counters.values.drifts, node.counters.values.repairs) == ({pattern: 4}, {pattern: 4})


def test_each_loss_of_the_virtual_services_is_counted(node: Node) -> None:
    assert node.counters.values.tables_lost == 0
    node.counters.count([VirtualServicesLost("all of them"), VirtualServicesLost("all of them")])
    node.counters.count([])
    assert node.counters.values.tables_lost == 2
