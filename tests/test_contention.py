"""A fight is told from a drift by how often it comes, and is over when it was quiet for a while."""

from __future__ import annotations

import errno

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.config.parser import parse
from ipvsd.decide.contention import Fights, Limit
from ipvsd.reconcile.reconciler import reconcile
from tests.fake_kernel import FORWARD, FakeKernel

KEY, OTHER = "net.ipv4.ip_forward", "net.ipv4.vs.conntrack"
LIMIT = Limit(repairs=3, window=30.0, quiet=100.0)


def repaired(fights: Fights, *times: float, rival: str = "agent[7]", gives_in: bool = False) -> Fights:
    for now in times:
        fights = fights.repaired(KEY, now, rival, gives_in)
    return fights


def fight(*, gives_in: bool = False) -> Fights:
    """Return one that began at 3."""
    return repaired(Fights(LIMIT), 0.0, 1.0, 2.0, 3.0, gives_in=gives_in)


def test_as_many_repairs_as_are_allowed_are_no_fight() -> None:
    assert repaired(Fights(LIMIT), 0.0, 0.0, 0.0).contended() == {}


def test_one_more_is_and_names_the_rival_and_when() -> None:
    fights = repaired(Fights(LIMIT), 5.0, 5.0, 5.0, 5.0)
    assert set(fights.contended()) == {KEY}
    assert (fights.contended()[KEY].rival, fights.contended()[KEY].since) == ("agent[7]", 5.0)


def test_who_was_not_seen_is_taken_for_the_rival_before() -> None:
    assert repaired(fight(), 20.0, rival="").by_name[KEY].rival == "agent[7]"
    assert repaired(Fights(LIMIT), 0.0, rival="").by_name[KEY].rival == "an unknown writer"


def test_a_fight_goes_on_since_it_began_and_names_the_last_rival() -> None:
    fights = repaired(fight(), 20.0, rival="tuned[9]")
    assert (fights.contended()[KEY].since, fights.contended()[KEY].rival) == (3.0, "tuned[9]")


def test_what_leaks_makes_room_for_more() -> None:
    # Three in half a minute: after ten seconds there is room for one more.
    fights = repaired(Fights(LIMIT), 0.0, 0.0, 0.0, 10.0)
    assert fights.contended() == {}
    assert set(repaired(fights, 10.0).contended()) == {KEY}


def test_sysctls_are_counted_apart() -> None:
    fights = Fights(LIMIT)
    for now in range(3):
        fights = fights.repaired(KEY, now, "a").repaired(OTHER, now, "b")
    assert fights.contended() == {}


LIMITS = st.builds(Limit, st.integers(1, 50), st.floats(1.0, 3600.0), st.just(300.0))


@given(LIMITS, st.floats(1.05, 20.0))
def test_a_rate_below_the_limit_is_never_a_fight(limit: Limit, slower: float) -> None:
    fights, pause = Fights(limit), limit.window / limit.repairs * slower
    for number in range(200):
        fights = fights.repaired(KEY, number * pause, "agent")
        fights = fights.looked({KEY}, (), number * pause)
    assert fights.contended() == {}


@given(LIMITS, st.floats(2.0, 100.0))
def test_twice_the_rate_of_the_limit_always_is(limit: Limit, faster: float) -> None:
    fights, pause = Fights(limit), limit.window / limit.repairs / faster
    times = [number * pause for number in range(2 * limit.repairs + 2)]
    for now in times:
        fights = fights.repaired(KEY, now, "agent").looked({KEY}, (), now)
    assert set(fights.contended()) == {KEY}


# --- what is left alone -----------------------------------------------------------------


def test_what_is_fought_over_is_written_at_periodic_looks_alone() -> None:
    assert fight().left_alone(periodic=False) == {KEY}
    assert fight().left_alone(periodic=True) == frozenset()


def test_what_is_no_fight_yet_is_written() -> None:
    assert repaired(Fights(LIMIT), 0.0).left_alone(periodic=False) == frozenset()


def test_what_was_yielded_is_never_written() -> None:
    fights = fight(gives_in=True)
    assert fights.contended()[KEY].yielded
    assert fights.left_alone(periodic=True) == {KEY}


def test_nothing_is_yielded_before_it_is_a_fight() -> None:
    fights = repaired(Fights(LIMIT), 0.0, 1.0, gives_in=True)
    assert not fights.by_name[KEY].yielded


# --- the end of a fight -----------------------------------------------------------------


@pytest.mark.parametrize(("later", "lasts"), [(99.0, True), (100.0, False), (1e6, False)])
def test_a_fight_is_over_when_it_was_right_for_long(later: float, lasts: bool) -> None:
    assert bool(fight().looked({KEY}, (), 3.0 + later).contended()) is lasts


def test_being_wrong_makes_it_last_longer() -> None:
    fights = fight().looked((), {KEY}, 90.0)
    assert fights.looked({KEY}, (), 189.0).contended()
    assert not fights.looked({KEY}, (), 190.0).contended()


def test_a_repair_at_a_periodic_look_makes_it_last_longer() -> None:
    fights = repaired(fight(), 90.0)
    assert fights.looked({KEY}, (), 189.0).contended()
    assert not fights.looked({KEY}, (), 190.0).contended()


def test_what_was_yielded_stays_so_however_quiet_it_is() -> None:
    assert fight(gives_in=True).looked({KEY}, (), 1e9).contended()


def test_what_is_of_no_interest_any_more_is_forgotten() -> None:
    assert fight().looked((), (), 3.0).by_name == {}
    assert fight(gives_in=True).looked({OTHER}, (), 3.0).by_name == {}


def test_a_drift_long_ago_leaves_no_trace() -> None:
    fights = repaired(Fights(LIMIT), 0.0)
    assert set(fights.looked({KEY}, (), 9.0).by_name) == {KEY}
    assert fights.looked({KEY}, (), 10.0).by_name == {}


def test_after_a_fight_all_is_as_before_it() -> None:
    fights = fight().looked({KEY}, (), 500.0)
    assert repaired(fights, 500.0, 500.0, 500.0).contended() == {}


def test_nothing_is_changed_but_replaced() -> None:
    before = repaired(Fights(LIMIT), 0.0)
    repaired(before, 1.0, 2.0, 3.0)
    assert before.by_name[KEY].level == 1.0


def test_what_is_fought_over_is_not_due_for_a_retry() -> None:
    kernel, config = FakeKernel(), parse([("f", b"profiles: []\nsysctls: {net.ipv4.ip_forward: 1}")])
    kernel.values[FORWARD], kernel.refused[FORWARD] = "0", errno.EIO
    failed = reconcile(kernel, config, {}, lambda: 10.0)
    assert FORWARD in failed.history
    fights = Fights(Limit(1, 60.0, 300.0)).repaired(FORWARD, 10.0, "agent").repaired(FORWARD, 10.0, "agent")
    assert FORWARD in fights.contended()
    assert reconcile(kernel, config, failed.history, lambda: 20.0, fights, periodic=False).history == {}
