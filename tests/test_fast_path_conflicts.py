"""Who made a drift that was turned back in the moment of its event, and the fight that it may be part of."""

from __future__ import annotations

import pytest

from ipvsd.decide.attribution import Seen
from ipvsd.decide.contention import Fights, Limit
from ipvsd.model.report import Writer
from tests.fake_kernel import FORWARD
from tests.held import Node

CONNTRACK = "net.ipv4.vs.conntrack"
AGENT, SYSCTL = Writer(7, "agent"), Writer(8, "sysctl")


@pytest.fixture
def node() -> Node:
    return Node()


# --- who ---------------------------------------------------------------------------------


def test_each_of_two_drifts_has_the_writer_of_its_own(node: Node) -> None:
    for writer in (AGENT, SYSCTL):
        node.drift()
        node.reflex.evidence.add(FORWARD, Seen("0", writer, "1", node.mailbox.now))
        node.mailbox.wait(0)
    assert [item.seen and item.seen.writer for item in node.reflex.take()] == [AGENT, SYSCTL]


def test_what_was_told_of_by_then_is_heard_before_a_writer_is_named(node: Node) -> None:
    node.reflex.evidence.add(FORWARD, Seen("0", AGENT, "1", node.mailbox.now))
    told = Seen("0", SYSCTL, "1", node.mailbox.now, ours=True)
    node.reflex.hear = lambda: node.reflex.evidence.add(FORWARD, told)
    node.drift()
    assert [item.seen for item in node.reflex.take()] == [told]


def test_who_wrote_the_same_after_it_was_turned_back_did_not_make_it(node: Node) -> None:
    node.reflex.evidence.add(FORWARD, Seen("0", AGENT, "1", node.mailbox.now))
    node.drift()
    later = Seen("0", SYSCTL, "1", node.mailbox.now + 0.01)
    node.reflex.hear = lambda: node.reflex.evidence.add(FORWARD, later)
    assert [item.seen and item.seen.writer for item in node.reflex.take()] == [AGENT]


def test_what_was_told_of_is_heard_once_for_all_drifts_that_are_to_be_named(node: Node) -> None:
    heard = []
    node.reflex.hear = lambda: heard.append(node.mailbox.now)
    for _ in range(100):
        node.drift()
    node.mailbox.wait(0)
    assert (len(node.reflex.take()), len(heard)) == (100, 1)


def test_who_wrote_long_before_it_was_heard_of_is_named(node: Node) -> None:
    write = Seen("0", SYSCTL, "1", node.mailbox.now)
    node.mailbox.wait(30.0)
    node.reflex.evidence.add(FORWARD, write)
    node.drift()
    assert [item.seen for item in node.reflex.take()] == [write]


def write_elsewhere(node: Node) -> None:
    node.reflex.evidence.add(FORWARD, Seen("0", AGENT, "1", node.mailbox.now))
    node.reflex.expect(FORWARD)


def test_who_wrote_elsewhere_is_blamed_for_nothing_that_follows(node: Node) -> None:
    write_elsewhere(node)
    node.mailbox.wait(2.0)
    node.drift()
    assert [item.seen for item in node.reflex.take()] == [None]


def test_who_wrote_elsewhere_may_have_been_who_made_it_wrong_soon_after(node: Node) -> None:
    write_elsewhere(node)
    node.mailbox.wait(0.5)
    node.drift()
    assert [item.seen and item.seen.writer for item in node.reflex.take()] == [AGENT]


def test_who_made_one_drift_is_not_blamed_for_a_later_one(node: Node) -> None:
    for wait in (0.0, 30.0):
        node.reflex.evidence.add("ip_vs_sh", Seen(None, AGENT, "", 1000.0))
        node.mailbox.wait(wait)
        node.kernel.unload("ip_vs_sh")
        assert node.reflex.told("ip_vs_sh")
    assert [item.seen and item.seen.writer for item in node.reflex.take()] == [AGENT, None]


def test_a_look_finds_no_evidence_of_what_came_to_nothing_before(node: Node) -> None:
    write_elsewhere(node)
    node.mailbox.wait(2.0)
    node.reflex.take()
    assert node.reflex.evidence.of(FORWARD, "0") is None


def test_a_look_finds_who_wrote_while_it_was_left_alone(node: Node) -> None:
    node.arm(left_alone={FORWARD})
    node.reflex.evidence.add(FORWARD, Seen("0", AGENT, "1", node.mailbox.now))
    node.mailbox.wait(30.0)
    node.reflex.take()
    assert node.reflex.evidence.of(FORWARD, "0") is not None


# --- fights -----------------------------------------------------------------------------


def test_what_is_turned_back_too_often_is_left_alone(node: Node) -> None:
    node.reflex.fights = Fights(Limit(3, 60.0, 300.0))
    node.reflex.evidence.add(FORWARD, Seen("0", AGENT, "1", 1000.0))
    for _ in range(4):
        assert node.drift()
        node.mailbox.wait(0.01)
    assert node.mailbox.looks() == [FORWARD]
    assert node.reflex.fights.contended()[FORWARD].rival == "agent[7]"
    assert not node.drift()
    assert (node.kernel.values[FORWARD], len(node.reflex.take())) == ("0", 4)


def test_a_rival_that_was_not_seen_is_unknown(node: Node) -> None:
    node.drift()
    node.mailbox.wait(0.01)
    assert node.reflex.fights.by_name[FORWARD].rival == "an unknown writer"


def test_a_fight_over_one_sysctl_leaves_the_others_held(node: Node) -> None:
    node.reflex.fights = Fights(Limit(3, 60.0, 300.0))
    for _ in range(4):
        node.drift()
        node.mailbox.wait(0.01)
    node.kernel.values[CONNTRACK] = "0"
    assert node.reflex.told(CONNTRACK)
    assert node.kernel.values[CONNTRACK] == "1"


def test_what_is_to_yield_is_yielded() -> None:
    node = Node("sysctls: {net.ipv4.ip_forward: {value: 1, policy: yield}}")
    node.reflex.fights = Fights(Limit(3, 60.0, 300.0))
    for _ in range(4):
        node.drift()
        node.mailbox.wait(0.01)
    assert node.reflex.fights.contended()[FORWARD].yielded


def test_modules_are_not_fought_over(node: Node) -> None:
    node.reflex.fights = Fights(Limit(1, 60.0, 300.0))
    for _ in range(5):
        node.kernel.unload("ip_vs_sh")
        assert node.reflex.told("ip_vs_sh")
        node.mailbox.wait(0.01)
    assert node.reflex.fights.by_name == {}
