"""The time of the next reconciliation without an event."""

from __future__ import annotations

import pytest

from ipvsd.daemon.schedule import Schedule
from ipvsd.reconcile.rounds import UNSETTLED


@pytest.fixture
def schedule() -> Schedule:
    return Schedule(100.0, 60.0)


def test_the_resync_comes_after_its_period(schedule: Schedule) -> None:
    assert schedule.next(110.0, 60.0, ()) == 160.0
    assert not schedule.resync(159.9, 60.0)
    assert schedule.resync(161.0, 60.0)
    assert schedule.next(161.0, 60.0, ()) == 221.0


def test_a_shorter_period_counts_from_now_and_a_longer_one_from_the_next_resync(schedule: Schedule) -> None:
    assert schedule.next(110.0, 5.0, ()) == 115.0
    assert schedule.next(110.0, 600.0, ()) == 115.0
    assert schedule.resync(115.0, 600.0)
    assert schedule.next(115.0, 600.0, ()) == 715.0


def test_an_earlier_due_time_applies(schedule: Schedule) -> None:
    assert schedule.next(110.0, 60.0, (None, 130.0, 120.0)) == 120.0


def test_rounds_follow_soon_while_work_is_under_way_and_not_for_ever(schedule: Schedule) -> None:
    pauses = []
    for _ in range(len(UNSETTLED) + 1):
        schedule.settle(unsettled=True, link=False)
        pauses.append(schedule.next(110.0, 60.0, ()) - 110.0)
    assert pauses == pytest.approx([*UNSETTLED, 50.0])
    schedule.settle(unsettled=False, link=False)
    schedule.settle(unsettled=True, link=False)
    assert schedule.next(110.0, 60.0, ()) - 110.0 == pytest.approx(UNSETTLED[0])


def test_a_round_follows_soon_upon_an_interface(schedule: Schedule) -> None:
    schedule.settle(unsettled=False, link=True)
    assert schedule.next(110.0, 60.0, ()) - 110.0 == pytest.approx(UNSETTLED[1])
