"""The time of the next reconciliation of all items. Times are CLOCK_MONOTONIC, in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from ipvsd.reconcile.rounds import UNSETTLED


class Schedule:
    """The resync, and the reconciliations that follow soon after one that left work unfinished."""

    def __init__(self, now: float, period: float) -> None:
        self._resync_at = now + period
        self._unsettled = 0  # consecutive reconciliations that left work unfinished

    def settle(self, unsettled: bool, link: bool) -> None:
        """Note whether a reconciliation left work unfinished, and whether an interface appeared or disappeared."""
        self._unsettled = self._unsettled + 1 if unsettled else 0
        if not self._unsettled and link:
            self._unsettled = 2  # the kernel reports an interface just before it creates its sysctls

    def next(self, now: float, period: float, dues: Iterable[Optional[float]]) -> float:
        """Return the time of the next reconciliation without an event. `dues` are times that other parts need."""
        # The interval may have been shortened since the last resync.
        self._resync_at = min(self._resync_at, now + period)
        times = [self._resync_at, *(due for due in dues if due is not None)]
        if 0 < self._unsettled <= len(UNSETTLED):
            times.append(now + UNSETTLED[self._unsettled - 1])
        return min(times)

    def resync(self, now: float, period: float) -> bool:
        """Return whether the resync is due. If it is, schedule the next one after the period."""
        if now < self._resync_at:
            return False
        self._resync_at = now + period
        return True
