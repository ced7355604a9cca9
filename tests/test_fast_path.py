"""A single drift is turned back in the moment of its event, and whatever is not is left to the whole look."""

from __future__ import annotations

import errno
from collections.abc import Collection
from typing import Callable

import pytest

from ipvsd.config.parser import parse
from ipvsd.model.types import LoadModule, WriteSysctl
from ipvsd.reconcile.fast_path import LONGEST, LULL, MOST, STORED, Reflex
from ipvsd.reconcile.reconciler import reconcile
from tests.fake_kernel import FORWARD, FakeKernel
from tests.held import Node
from tests.timers import Timers

ALIAS = "net.ipv4.conf.all.forwarding"
CONNTRACK, NODEST = "net.ipv4.vs.conntrack", "net.ipv4.vs.expire_nodest_conn"


@pytest.fixture
def node() -> Node:
    return Node()


# --- told of what has happened ----------------------------------------------------------


def test_a_drift_is_turned_back_once(node: Node) -> None:
    assert node.drift()
    assert node.kernel.values[FORWARD] == "1"
    assert node.reflex.told(FORWARD)
    assert [item.action for item in node.reflex.take()] == [WriteSysctl(FORWARD, "0", "1")]
    assert node.reflex.take() == ()


@pytest.mark.parametrize("value", ["1", " 1\n", "0x1"])
def test_the_same_value_is_right_and_nothing_is_written(node: Node, value: str) -> None:
    assert node.drift(value)
    assert (node.kernel.values[FORWARD], node.reflex.take()) == (value, ())
    node.mailbox.wait(60)
    assert node.mailbox.looks() == []


@pytest.mark.parametrize("name", ["net.ipv4.tcp_rmem", "kernel.panic", "", "no_module"])
def test_what_is_not_held_is_left_to_the_whole_look(node: Node, name: str) -> None:
    assert not node.reflex.told(name)
    assert node.reflex.take() == ()


def test_before_the_first_look_nothing_is_held() -> None:
    assert not Reflex(FakeKernel(), Timers()).told(FORWARD)


def test_what_was_not_right_at_the_look_is_left_to_the_next(node: Node) -> None:
    node.kernel.refused[FORWARD] = errno.EPERM
    node.kernel.values[FORWARD] = "0"
    node.arm()
    node.kernel.refused.clear()
    assert not node.reflex.told(FORWARD)
    assert node.kernel.values[FORWARD] == "0"


def test_what_is_to_be_left_alone_is_not_written(node: Node) -> None:
    node.arm(left_alone=[FORWARD])
    assert not node.drift()
    assert node.kernel.values[FORWARD] == "0"


def test_what_is_only_observed_is_never_written() -> None:
    text = "profiles: []\nsysctls: {net.ipv4.ip_forward: {value: 0, policy: observe}}"
    node = Node(text)
    assert node.drift("0")
    assert not node.drift("1")
    assert (node.kernel.values[FORWARD], node.reflex.take()) == ("1", ())


def test_a_write_that_is_refused_is_left_to_the_whole_look(node: Node) -> None:
    node.kernel.refused[FORWARD] = errno.EPERM
    assert not node.drift()
    assert node.reflex.take() == ()


def test_a_value_that_is_not_kept_is_left_to_the_whole_look(node: Node) -> None:
    node.kernel.clamps[FORWARD] = lambda _: "0"
    assert not node.drift()
    assert node.reflex.take() == ()


def test_a_sysctl_that_is_gone_is_left_to_the_whole_look(node: Node) -> None:
    del node.kernel.values[FORWARD]
    assert not node.reflex.told(FORWARD)


def test_another_name_of_a_sysctl_is_told_as_itself(node: Node) -> None:
    node.kernel.values[FORWARD] = "0"
    assert node.reflex.told(ALIAS)
    assert [item.action.name for item in node.reflex.take()] == [FORWARD]


def test_what_is_wanted_anew_is_what_is_turned_back_to(node: Node) -> None:
    node.drift()
    node.arm("sysctls: {net.ipv4.ip_forward: 0}")
    assert node.drift("0")
    assert node.drift("1")
    assert node.kernel.values[FORWARD] == "0"


def test_a_module_that_was_removed_is_loaded_again(node: Node) -> None:
    node.kernel.unload("ip_vs_sh")
    assert node.reflex.told("ip_vs_sh")
    assert "ip_vs_sh" in node.kernel.states
    assert [item.action for item in node.reflex.take()] == [LoadModule("ip_vs_sh")]


def test_a_module_that_is_still_going_is_left_to_the_whole_look(node: Node) -> None:
    node.kernel.unload("ip_vs_sh", looks=9)
    assert not node.reflex.told("ip_vs_sh")


def test_a_module_that_cannot_be_loaded_is_left_to_the_whole_look(node: Node) -> None:
    node.kernel.unload("ip_vs_sh")
    node.kernel.broken["ip_vs_sh"] = errno.ENOEXEC
    assert not node.reflex.told("ip_vs_sh")
    assert node.reflex.take() == ()


# --- told of what is about to happen ----------------------------------------------------


@pytest.mark.parametrize("late", [0.0004, 0.003, 0.02, 0.1], ids=lambda late: f"{late * 1000} ms")
def test_a_write_that_is_stored_after_it_was_told_is_turned_back(node: Node, late: float) -> None:
    node.reflex.expect(FORWARD)
    node.mailbox.wait(late)
    node.kernel.values[FORWARD] = "0"
    node.mailbox.wait(sum(STORED))
    (item,) = node.reflex.take()
    assert (node.kernel.values[FORWARD], item.since) == ("1", 1000.0)


@pytest.mark.parametrize("name", [FORWARD, ALIAS])
def test_what_is_wrong_just_now_is_turned_back_and_told(node: Node, name: str) -> None:
    node.kernel.values[FORWARD] = "7"
    assert (node.reflex.turn_back(name), node.kernel.values[FORWARD], len(node.reflex.take())) == ("7", "1", 1)


@pytest.mark.parametrize("name", [FORWARD, "net.ipv4.tcp_rmem", "ip_vs"])
def test_what_is_right_or_not_held_is_not_turned_back(node: Node, name: str) -> None:
    assert (node.reflex.turn_back(name), node.reflex.take()) == (None, ())


def test_a_write_that_was_stored_by_then_is_turned_back_at_once(node: Node) -> None:
    node.kernel.values[FORWARD] = "0"
    node.reflex.expect(ALIAS)
    assert node.kernel.values[FORWARD] == "1"


def test_a_write_of_the_same_value_or_elsewhere_comes_to_nothing(node: Node) -> None:
    node.reflex.expect(FORWARD)
    node.mailbox.wait(1)
    assert (node.reflex.take(), node.mailbox.looks(), node.mailbox.idle) == ((), [], True)


def test_many_writes_at_once_have_all_the_time_that_one_has(node: Node) -> None:
    for _ in range(20):
        node.reflex.expect(CONNTRACK)
        node.reflex.expect(FORWARD)
    node.mailbox.wait(0.1)
    node.kernel.values[FORWARD] = "0"
    node.mailbox.wait(0.1)
    assert node.kernel.values[FORWARD] == "1"


def test_a_second_write_does_not_wait_for_the_looks_at_the_first(node: Node) -> None:
    node.reflex.expect(FORWARD)
    node.mailbox.wait(sum(STORED[:3]) + 0.001)
    node.reflex.expect(FORWARD)
    node.kernel.values[FORWARD] = "0"
    node.mailbox.wait(STORED[0])
    assert node.kernel.values[FORWARD] == "1"


def test_a_second_write_has_all_the_time_that_the_first_had(node: Node) -> None:
    node.reflex.expect(FORWARD)
    node.mailbox.wait(sum(STORED) - 0.001)
    node.reflex.expect(FORWARD)
    node.mailbox.wait(0.1)
    node.kernel.values[FORWARD] = "0"
    node.mailbox.wait(0.1)
    assert node.kernel.values[FORWARD] == "1"


def test_what_is_turned_back_by_its_other_event_is_not_looked_for_any_more(node: Node) -> None:
    node.reflex.expect(FORWARD)
    assert node.drift()
    node.mailbox.wait(0)
    assert len(node.reflex.take()) == 1
    node.mailbox.wait(1)
    assert (node.mailbox.looks(), node.mailbox.idle) == ([], True)


@pytest.mark.parametrize(
    "spoil",
    [
        pytest.param(lambda kernel: kernel.refused.update({FORWARD: errno.EPERM}), id="refused"),
        pytest.param(lambda kernel: kernel.clamps.update({FORWARD: lambda _: "0"}), id="not kept"),
        pytest.param(lambda kernel: kernel.values.pop(FORWARD), id="gone"),
    ],
)
def test_a_write_that_cannot_be_turned_back_is_left_to_the_whole_look(
    node: Node, spoil: Callable[[FakeKernel], object]
) -> None:
    node.kernel.values[FORWARD] = "0"
    spoil(node.kernel)
    node.reflex.expect(FORWARD)
    node.mailbox.wait(1)
    assert (node.mailbox.looks(), node.reflex.take()) == ([FORWARD], ())


def test_a_write_to_what_is_not_held_is_left_to_a_whole_look_after_it_is_stored(node: Node) -> None:
    node.reflex.expect("net.ipv4.tcp_rmem")
    assert node.mailbox.looks() == []
    node.mailbox.wait(1)
    assert node.mailbox.looks() == ["net.ipv4.tcp_rmem"]


# --- the whole look that follows --------------------------------------------------------


def test_the_whole_look_comes_after_a_lull_and_not_before(node: Node) -> None:
    node.drift()
    node.mailbox.wait(LULL - 0.001)
    assert node.mailbox.looks() == []
    node.mailbox.wait(0.001)
    assert node.mailbox.looks() == ["turned back"]
    node.reflex.take()
    node.mailbox.wait(60)
    assert node.mailbox.looks() == []


def test_another_drift_puts_it_off(node: Node) -> None:
    for _ in range(4):
        node.drift()
        node.mailbox.wait(LULL - 0.001)
    assert node.mailbox.looks() == []
    node.mailbox.wait(0.001)
    assert node.mailbox.looks() == ["turned back"]


def test_a_storm_does_not_put_it_off_for_ever(node: Node) -> None:
    while not node.mailbox.reasons:
        node.drift()
        node.mailbox.wait(0.01)
        assert node.mailbox.now < 1000.0 + 2 * LONGEST
    assert node.mailbox.now <= 1000.0 + LONGEST + 0.1


def test_after_very_many_drifts_it_is_not_put_off_any_longer(node: Node) -> None:
    drifts = 0
    while not node.mailbox.reasons:
        node.drift()
        node.mailbox.wait(0.001)
        drifts += 1
    assert MOST <= drifts < MOST + LULL / 0.001 + 1
    assert len(node.reflex.take()) == drifts


def test_a_look_for_another_reason_is_the_one_that_follows(node: Node) -> None:
    node.drift()
    node.mailbox.wait(0.1)
    assert len(node.reflex.take()) == 1
    node.mailbox.wait(60)
    assert node.mailbox.looks() == []


# --- what cannot be read ------------------------------------------------------------------


@pytest.mark.parametrize("number", [errno.EMFILE, errno.ENOMEM, errno.EIO], ids=lambda number: errno.errorcode[number])
@pytest.mark.parametrize(("read", "name"), [("read_sysctl", FORWARD), ("module_state", "ip_vs_rr")])
def test_what_cannot_be_read_is_left_to_the_whole_look(node: Node, read: str, name: str, number: int) -> None:
    before = dict(node.kernel.states)
    node.kernel.values[FORWARD] = "0"
    node.kernel.failing = {read: number}
    assert not node.reflex.told(name)
    assert (node.kernel.values[FORWARD], node.kernel.states) == ("0", before)
    assert node.reflex.take() == ()


def test_the_pattern_that_fits_a_sysctl_is_told_with_it() -> None:
    node, key = Node("profiles: []\nsysctls: {net.ipv4.conf.*.arp_ignore: 1}"), "net.ipv4.conf.lo.arp_ignore"
    node.kernel.values[key] = "0"
    assert node.reflex.told(key)
    assert [item.group for item in node.reflex.take()] == ["net.ipv4.conf.*.arp_ignore"]


# --- while a look acts ------------------------------------------------------------------


def test_what_drifts_while_a_look_acts_does_not_wait_for_its_end(node: Node) -> None:
    acted_upon: list[object] = []

    def meanwhile(names: Collection[str]) -> None:
        node.kernel.values[FORWARD] = "0"
        node.mailbox.later(0.0, lambda: node.reflex.expect(FORWARD))  # as where every write is told of
        node.reflex.turn_back_others(names)
        assert node.kernel.values[FORWARD] == "1"
        acted_upon.append(names)

    node.kernel.values.update({CONNTRACK: "0", NODEST: "0"})
    config = parse([("f", f"profiles: []\nsysctls: {{{CONNTRACK}: 1, {NODEST}: 1}}".encode())])
    done = reconcile(node.kernel, config, {}, lambda: node.mailbox.now, meanwhile=meanwhile)
    assert [action.name for action in done.proved] == [CONNTRACK, NODEST]
    assert acted_upon == [{CONNTRACK, NODEST}] * 2
    assert [item.action.name for item in node.reflex.take()] == [FORWARD, FORWARD]


def test_what_a_look_acts_upon_is_its_own_until_it_has_ended(node: Node) -> None:
    node.kernel.values[FORWARD] = "0"
    node.reflex.turn_back_others([FORWARD])
    node.reflex.turn_back_others([CONNTRACK])  # as in the next round of the same look
    assert node.reflex.told(FORWARD)  # nothing is to be done
    assert node.reflex.turn_back(FORWARD) is None
    assert (node.kernel.values[FORWARD], node.reflex.take(), node.mailbox.looks()) == ("0", (), [])
    node.arm()
    assert node.drift()
    assert len(node.reflex.take()) == 1


def test_a_module_that_comes_back_does_not_bring_what_a_look_acts_upon(node: Node) -> None:
    node.kernel.unload_users("ip_vs")
    node.reflex.turn_back_others([CONNTRACK])
    assert node.reflex.told("ip_vs")
    assert node.kernel.values[CONNTRACK] == "0"
    turned = [item.action.name for item in node.reflex.take()]
    assert NODEST in turned
    assert CONNTRACK not in turned
