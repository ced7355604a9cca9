"""Who wrote what, as far as it was seen: kept for a moment, to explain a drift and never to cause a repair."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Optional

from ipvsd import values
from ipvsd.report import Repair, Writer

_KEPT = 8  # writes to one sysctl
_FRESH = 1.0  # seconds: a write that was seen may not have been stored yet


class Seen(NamedTuple):
    """A write, or a module's unloading, that was about to happen; `value` is None for the latter."""

    value: Optional[str]
    writer: Writer
    before: str  # the value that it replaces
    at: float  # CLOCK_MONOTONIC, seconds


class Evidence:
    """What was seen lately, by the names of sysctls and modules."""

    def __init__(self) -> None:
        self._seen: dict[str, list[Seen]] = {}

    def add(self, name: str, seen: Seen) -> None:
        """Keep this, in place of what was known of it before."""
        same = (seen.value, seen.writer.pid)
        others = [old for old in self._seen.get(name, []) if (old.value, old.writer.pid) != same]
        self._seen[name] = [*others, seen][-_KEPT:]

    def of(self, name: str, found: str) -> Optional[Seen]:
        """Return what was seen last of how the value that was found came about, or of the module's unloading."""
        for seen in reversed(self._seen.get(name, [])):
            if seen.value is None or values.same(name, seen.value, found):
                return seen
        return None

    def attributed(self, repair: Repair, everything: bool) -> Repair:
        """Return the repair with who made the drift.

        `everything` says that what no process was seen to do, the kernel did itself.
        """
        seen = self.of(repair.name, repair.found)
        if seen is None:
            return repair._replace(who="the kernel" if everything else "unknown")
        return repair._replace(before=seen.before, who=str(seen.writer), writer=seen.writer)

    def settle(self, names: Collection[str], now: float) -> None:
        """Forget what explains nothing any more: these are right, or not of interest."""
        for name in list(self._seen):
            kept = [seen for seen in self._seen[name] if name not in names or seen.at > now - _FRESH]
            if kept:
                self._seen[name] = kept
            else:
                del self._seen[name]
