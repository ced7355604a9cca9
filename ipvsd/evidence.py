"""Who wrote what, as far as it was seen: kept for a moment, to explain a drift and never to cause a repair."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from ipvsd import values
from ipvsd.model import Action
from ipvsd.report import UNKNOWN, Repair, Writer

KEPT = 16  # writes to one sysctl
_FRESH = 1.0  # seconds: a write that was heard of may not have been stored yet


class Seen(NamedTuple):
    """A write, or a module's unloading, that was about to happen; `value` is None for the latter."""

    value: Optional[str]
    writer: Writer
    before: str  # the value that it replaces
    at: float  # when it was made: CLOCK_MONOTONIC, seconds


class Turned(NamedTuple):
    """One drift that was turned back at once, between two looks; times are CLOCK_MONOTONIC, in seconds."""

    action: Action
    since: float
    read: float  # when what was wrong had been read
    until: float
    seen: Optional[Seen] = None


class _Heard(NamedTuple):
    seen: Seen
    at: float  # when it, or the same again, was heard of here: maybe long after it was made


class Evidence:
    """What was heard of lately, by the names of sysctls and modules."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._heard: dict[str, list[_Heard]] = {}
        self._clock = clock

    def add(self, name: str, seen: Seen) -> None:
        """Keep this; what one writer does again and again is kept once, as it was made at first."""
        others, now = self._heard.get(name, []), self._clock()
        last = others[-1].seen if others else None
        if last and (last.value, last.writer) == (seen.value, seen.writer):
            others, seen = others[:-1], last
        self._heard[name] = [*others, _Heard(seen, now)][-KEPT:]

    def of(self, name: str, found: str, by: float = float("inf")) -> Optional[Seen]:
        """Return what was seen last of how the value that was found came about, or of the module's unloading.

        `by` is when that value had been read (CLOCK_MONOTONIC, seconds): a write is told of before it is stored,
        so that one that was made later is not it. Who unloads a module is found afterwards.
        """
        fitting = [
            seen
            for seen, _ in self._heard.get(name, [])
            if seen.value is None or (seen.at <= by and values.same(name, seen.value, found))
        ]
        return fitting[-1] if fitting else None

    def settle(self, names: Callable[[str], bool], now: float) -> None:
        """Forget what explains nothing that comes: what was heard earlier of these came to nothing, or is over."""
        for name in filter(names, list(self._heard)):
            kept = [heard for heard in self._heard[name] if heard.at > now - _FRESH]
            if kept:
                self._heard[name] = kept
            else:
                del self._heard[name]


def attributed(repair: Repair, seen: Optional[Seen], everything: bool) -> Repair:
    """Return the repair with who made the drift.

    `everything` says that what no process was seen to do, the kernel did itself.
    """
    if seen is None:
        return repair._replace(who="the kernel" if everything else UNKNOWN)
    return repair._replace(before=seen.before, who=str(seen.writer), writer=seen.writer)
