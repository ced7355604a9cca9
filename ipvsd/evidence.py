"""Who wrote what, as far as it was seen: kept for a moment, to explain a drift and never to cause a repair."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from ipvsd import values
from ipvsd.model import Action
from ipvsd.report import Repair, Writer

_KEPT = 8  # writes to one sysctl
_FRESH = 1.0  # seconds: a write that was seen may not have been stored yet


class Seen(NamedTuple):
    """A write, or a module's unloading, that was about to happen; `value` is None for the latter."""

    value: Optional[str]
    writer: Writer
    before: str  # the value that it replaces
    at: float  # CLOCK_MONOTONIC, seconds


class Turned(NamedTuple):
    """One drift that was turned back at once, between two looks; times are CLOCK_MONOTONIC, in seconds."""

    action: Action
    since: float
    read: float  # when what was wrong had been read
    until: float
    seen: Optional[Seen] = None


class Evidence:
    """What was seen lately, by the names of sysctls and modules."""

    def __init__(self) -> None:
        self._seen: dict[str, list[Seen]] = {}

    def add(self, name: str, seen: Seen) -> None:
        """Keep this, in place of an earlier write of the same value by the same writer."""
        others = [old for old in self._seen.get(name, []) if (old.value, old.writer) != (seen.value, seen.writer)]
        self._seen[name] = [*others, seen][-_KEPT:]

    def of(self, name: str, found: str, by: float = float("inf")) -> Optional[Seen]:
        """Return what was seen last of how the value that was found came about, or of the module's unloading.

        It is the last one by the time (CLOCK_MONOTONIC, seconds) at which that value had been read, since a write is
        told of before it is stored; else the first one after it, by the process that had written the same before.
        """
        fitting = [
            seen for seen in self._seen.get(name, []) if seen.value is None or values.same(name, seen.value, found)
        ]
        before = [seen for seen in fitting if seen.at <= by]
        return before[-1] if before else fitting[0] if fitting else None

    def settle(self, names: Callable[[str], bool], now: float) -> None:
        """Forget what explains nothing that comes: what was seen earlier of these, and came to nothing or is over."""
        for name in filter(names, list(self._seen)):
            kept = [seen for seen in self._seen[name] if seen.at > now - _FRESH]
            if kept:
                self._seen[name] = kept
            else:
                del self._seen[name]


def attributed(repair: Repair, seen: Optional[Seen], everything: bool) -> Repair:
    """Return the repair with who made the drift.

    `everything` says that what no process was seen to do, the kernel did itself.
    """
    if seen is None:
        return repair._replace(who="the kernel" if everything else "unknown")
    return repair._replace(before=seen.before, who=str(seen.writer), writer=seen.writer)
