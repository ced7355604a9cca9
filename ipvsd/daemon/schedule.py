"""When the next full round is due. Times are CLOCK_MONOTONIC, in seconds."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Optional

from ipvsd.reconcile.rounds import UNSETTLED


class Schedule:
    """The resync, and the rounds that follow soon upon one that left work under way."""

    def __init__(self, now: float, period: float) -> None:
        """`period` is the time between two resyncs."""
        self._resync_at = now + period
        self._unsettled = 0  # rounds in a row

    def settle(self, unsettled: bool, link: bool) -> None:
        """Take note of a finished round: whether work is under way, and whether an interface came or went."""
        self._unsettled = self._unsettled + 1 if unsettled else 0
        if not self._unsettled and link:
            self._unsettled = 2  # the kernel tells of an interface just before it makes its sysctls

    def next(self, now: float, period: float, dues: Iterable[Optional[float]]) -> float:
        """Return when to begin the next round without an event; `dues` are the times at which others have work."""
        # A shorter interval may have been configured since the last resync.
        self._resync_at = min(self._resync_at, now + period)
        times = [self._resync_at, *(due for due in dues if due is not None)]
        if 0 < self._unsettled <= len(UNSETTLED):
            times.append(now + UNSETTLED[self._unsettled - 1])
        return min(times)

    def resync(self, now: float, period: float) -> bool:
        """Tell whether the resync is due; if it is, the next one is due after the period."""
        if now < self._resync_at:
            return False
        self._resync_at = now + period
        return True
