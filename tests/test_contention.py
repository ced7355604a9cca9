"""Contention differs from drift by its frequency, and ends after a quiet time."""

from __future__ import annotations

import errno
import math
from typing import Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.decide.contention import Contention, Limit
from ipvsd.reconcile.changes import ContentionEnded
from ipvsd.runtime.event_loop import ReasonKind
from tests.fake_kernel import FORWARD
from tests.reconciling import FORWARDING, Node, started

NONE = Contention()
LIMIT = Limit(repairs=3, window=30.0, quiet=100.0)


def repaired(*times: float, begin: Contention = NONE, rival: str = "agent[7]", yields: bool = False) -> Contention:
    for now in times:
        begin = begin.repaired(LIMIT, now, rival, yields)
    return begin


def contention(*, yields: bool = False) -> Contention:
    """Return a contention that began at 3."""
    return repaired(0.0, 1.0, 2.0, 3.0, yields=yields)


def lasts(contention: Optional[Contention], now: float) -> bool:
    """Return whether it continues after a check that found the sysctl compliant."""
    contention = contention and contention.checked(LIMIT, True, now)
    return contention is not None and contention.contended


def test_one_repair_more_than_permitted_is_contention_with_the_program_and_the_time() -> None:
    assert not repaired(5.0, 5.0, 5.0).contended
    found = repaired(5.0, 5.0, 5.0, 5.0)
    assert (found.contended, found.conflicting_program, found.since) == (True, "agent[7]", 5.0)


def test_contention_keeps_its_beginning_and_names_the_last_known_program() -> None:
    found = repaired(20.0, begin=contention(), rival="tuned[9]")
    assert (found.since, found.conflicting_program) == (3.0, "tuned[9]")
    assert repaired(20.0, begin=contention(), rival="").conflicting_program == "agent[7]"
    assert repaired(0.0, rival="").conflicting_program == "an unknown writer"


def test_the_leaking_bucket_permits_later_repairs() -> None:
    # Three in half a minute: after ten seconds, one more is permitted.
    found = repaired(0.0, 0.0, 0.0, 10.0)
    assert not found.contended
    assert repaired(10.0, begin=found).contended


LIMITS = st.builds(Limit, st.integers(1, 50), st.floats(1.0, 3600.0), st.just(300.0))


@given(LIMITS, st.floats(1.05, 20.0))
def test_a_rate_below_the_limit_is_never_contention(limit: Limit, slower: float) -> None:
    found, pause = Contention(), limit.window / limit.repairs * slower
    for number in range(200):
        found = found.repaired(limit, number * pause, "agent")
        found = found.checked(limit, True, number * pause) or Contention()
    assert not found.contended


@given(LIMITS, st.floats(2.0, 100.0))
def test_twice_the_rate_of_the_limit_always_is(limit: Limit, faster: float) -> None:
    found, pause = Contention(), limit.window / limit.repairs / faster
    for now in [number * pause for number in range(2 * limit.repairs + 2)]:
        found = found.repaired(limit, now, "agent").checked(limit, True, now) or Contention()
    assert found.contended


# --- suspended writes -------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "yielded", "suspended"),
    [
        pytest.param(repaired(0.0), False, (False, False), id="below the limit"),
        pytest.param(repaired(0.0, yields=True), False, (False, False), id="below the limit, with the policy yield"),
        pytest.param(contention(), False, (True, False), id="contended: written only at a resync"),
        pytest.param(contention(yields=True), True, (True, True), id="yielded: never written"),
    ],
)
def test_suspended_writes(found: Contention, yielded: bool, suspended: tuple[bool, bool]) -> None:
    assert (found.yielded, (found.suspended(full=False), found.suspended(full=True))) == (yielded, suspended)


# --- the end of contention --------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "over"),
    [
        pytest.param(contention(), 103.0, id="after a quiet time"),
        pytest.param(contention().checked(LIMIT, False, 90.0), 190.0, id="extended by a reading that is not compliant"),
        pytest.param(repaired(90.0, begin=contention()), 190.0, id="extended by a repair at a resync"),
        pytest.param(contention(yields=True), math.inf, id="never if yielded"),
    ],
)
def test_the_end_of_contention(found: Optional[Contention], over: float) -> None:
    assert lasts(found, min(over - 1, 1e9))
    assert math.isinf(over) or not (lasts(found, over) or lasts(found, 1e6))


def test_a_drift_long_ago_leaves_no_trace() -> None:
    found = repaired(0.0)
    assert found.checked(LIMIT, True, 9.0) == found
    assert found.checked(LIMIT, True, 10.0) is None


def contended() -> Node:
    """Return a node before the round that reports contention."""
    node = started(FORWARDING, peace="\ncontention: {repairs: 1}")
    for _ in range(2):
        node.drift()
        node.loop.wait(0.01)
    return node


def test_a_sysctl_that_is_no_longer_desired_is_not_contended() -> None:
    node = contended()
    node.round()
    assert set(node.reconciler.registry.contended()) == {FORWARD}
    del node.kernel.values[FORWARD]
    node.round()
    assert ContentionEnded(FORWARD) in node.changes
    assert node.reconciler.registry.contended() == {}


def test_a_contended_sysctl_is_not_due_for_a_retry() -> None:
    node = contended()
    node.kernel.values[FORWARD], node.kernel.refused[FORWARD] = "0", errno.EIO
    node.round(ReasonKind.RESYNC)
    assert node.reconciler.next_try is not None
    node.loop.now += 10.0
    node.round()
    assert node.reconciler.next_try is None
