"""The cgroups of units, on directories that resemble the kernel's."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.runtime.event_loop import EventLoop
from ipvsd.watch.unit_cgroups import UnitCgroups
from tests.scarce import few_descriptors

AGENT = frozenset({"agent.service", "no.service"})


class Groups:
    """A tree of cgroups, and the reported IDs."""

    def __init__(self, loop: EventLoop, place: Path) -> None:
        self.place, self._loop = place, loop
        self.told: list[int] = []
        self.units = UnitCgroups(loop, str(place), self.told.append)

    def make(self, name: str) -> int:
        """Create a cgroup and its parents, and return its ID."""
        (self.place / name).mkdir(parents=True, exist_ok=True)
        return (self.place / name).stat().st_ino

    def hears(self) -> list[int]:
        """Return the IDs that were reported so far."""
        self._loop.run_until_reason(0)
        return self.told


@pytest.fixture
def groups(tmp_path: Path) -> Iterator[Groups]:
    with EventLoop() as loop:
        groups = Groups(loop, tmp_path)
        groups.make("system.slice")
        yield groups
        groups.units.close()


def test_the_groups_of_a_unit_are_found_in_every_slice(groups: Groups) -> None:
    made = {groups.make(f"{above}/agent.service") for above in ("system.slice", "a.slice/a-b.slice")}
    groups.make("system.slice/agent.service.d")
    assert set(groups.units.groups(AGENT)) == made
    assert groups.units.groups({"another.service"}) == groups.units.groups(set()) == ()


def test_a_slice_may_be_named_itself(groups: Groups) -> None:
    assert groups.units.groups({"system.slice"}) == (groups.make("system.slice"),)


def test_a_directory_that_is_not_a_slice_has_no_units(groups: Groups) -> None:
    groups.make("kubepods/pod1/agent.service")
    groups.make("system.slice/other.service/agent.service")
    assert groups.units.groups(AGENT) == ()


def test_a_started_unit_is_reported_once(groups: Groups) -> None:
    for _ in range(3):
        groups.units.groups(AGENT)
    groups.make("system.slice/other.service")
    assert groups.hears() == []
    made = groups.make("system.slice/agent.service")
    assert groups.hears() == [made]


def test_a_restarted_unit_is_reported_again(groups: Groups) -> None:
    groups.make("system.slice/agent.service")
    groups.units.groups(AGENT)
    for times in (1, 2):
        shutil.rmtree(groups.place / "system.slice/agent.service")
        groups.make("system.slice/agent.service")
        assert len(groups.hears()) == times


def test_a_unit_in_a_new_slice_is_reported(groups: Groups) -> None:
    groups.units.groups(AGENT)
    made = groups.make("a.slice/a-b.slice/agent.service")
    assert set(groups.hears()) == {made}
    again = groups.make("a.slice/agent.service")
    assert set(groups.hears()) == {made, again}


@pytest.mark.full
def test_a_unit_whose_event_was_lost_is_reported_as_well(groups: Groups) -> None:
    groups.units.groups(AGENT)
    names = [groups.place / "system.slice" / name for name in ("one", "two")]
    for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) + 2):
        names[number % 2].touch()
        names[number % 2].unlink()
    made = groups.make("system.slice/agent.service")
    while not groups.units.lost:  # the kernel reports the overflow after all queued events
        groups.hears()
    assert (groups.told, groups.units.lost) == ([made], 1)


def test_an_unneeded_unit_wakes_nothing(groups: Groups) -> None:
    groups.units.groups(AGENT)
    groups.units.groups(frozenset())
    groups.make("system.slice/agent.service")
    assert groups.hears() == []


def test_without_cgroups_there_are_none(groups: Groups) -> None:
    units = UnitCgroups(EventLoop(), str(groups.place / "none"), groups.told.append)
    assert units.groups(frozenset()) == ()
    shutil.rmtree(groups.place)
    assert groups.units.groups(AGENT) == ()


def test_allowed_cgroups_stay_allowed_while_none_can_be_read(groups: Groups) -> None:
    made = groups.make("system.slice/agent.service")
    assert groups.units.groups(AGENT) == (made,)
    with few_descriptors():
        assert groups.units.groups(AGENT) == (made,)
        assert groups.units.groups({"another.service"}) == ()
    (groups.place / "system.slice/agent.service").rmdir()
    assert groups.units.groups(AGENT) == ()
