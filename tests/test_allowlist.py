"""The list of cgroups that may write guarded sysctls, examined after every single store."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from ipvsd.bpf import sysctl_program
from ipvsd.bpf.allowlist import Allowlist

GROUPS = st.lists(st.integers(1, 40), max_size=20)


class Seen:
    """Shared memory, and the values that the program could have read."""

    def __init__(self) -> None:
        self._slots = [0] * sysctl_program.MAX_ALLOWED
        self.moments: list[list[int]] = [[]]

    def __setitem__(self, slot: int, identity: int, /) -> None:
        self._slots[slot] = identity
        end = (*self._slots, 0).index(0)
        assert not any(self._slots[end:])  # nothing follows the first 0
        self.moments.append(self._slots[:end])


@given(GROUPS, st.lists(GROUPS, max_size=4))
def test_an_entry_that_stays_is_listed_at_every_moment(first: list[int], others: list[list[int]]) -> None:
    seen = Seen()
    allowed = Allowlist(seen)
    allowed.replace(first)
    for wanted in others:
        stay = set(seen.moments[-1]) & set(list(dict.fromkeys(wanted))[: sysctl_program.MAX_ALLOWED])
        seen.moments = seen.moments[-1:]
        allowed.replace(wanted)
        assert all(stay <= set(moment) for moment in seen.moments)
        assert sorted(seen.moments[-1]) == sorted(list(dict.fromkeys(wanted))[: sysctl_program.MAX_ALLOWED])


def test_the_same_groups_again_store_nothing() -> None:
    seen = Seen()
    allowed = Allowlist(seen)
    allowed.replace((1, 2, 3))
    seen.moments.clear()
    allowed.replace((3, 1, 2))
    assert seen.moments == []


@given(GROUPS, st.lists(st.integers(1, 40), min_size=1, max_size=5))
def test_an_added_entry_is_listed_at_once_and_replaces_the_last_if_necessary(first: list[int], more: list[int]) -> None:
    seen = Seen()
    allowed = Allowlist(seen)
    allowed.replace(first)
    for identity in more:
        before = seen.moments[-1]
        allowed.add(identity)
        if identity in before:
            assert seen.moments[-1] == before
        else:
            assert seen.moments[-1] == [*before[: sysctl_program.MAX_ALLOWED - 1], identity]
    allowed.replace(())
    assert seen.moments[-1] == []
