"""An event loop without descriptors, whose time advances only on request."""

from __future__ import annotations

import heapq
import itertools
from typing import Callable

from ipvsd.runtime.event_loop import EventLoop, ReasonKind


class Timers(EventLoop):
    """An EventLoop for tests in which only reasons and timers matter."""

    def __init__(self) -> None:
        self.now = 1000.0
        self.reasons: list[tuple[float, ReasonKind, str]] = []
        self._due: list[tuple[float, int, Callable[[], None]]] = []
        self._number = itertools.count()

    def post(self, kind: ReasonKind, detail: str = "") -> None:
        self.reasons.append((self.now, kind, detail))

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        heapq.heappush(self._due, (self.now + seconds, next(self._number), callback))

    def wait(self, seconds: float) -> None:
        """Advance the time, and call the timers that are due."""
        until = self.now + seconds
        while self._due and self._due[0][0] <= until:
            self.now, _, callback = heapq.heappop(self._due)
            callback()
        self.now = until

    def run_ready(self) -> None:
        self.wait(0)

    @property
    def idle(self) -> bool:
        return not self._due

    def looks(self) -> list[str]:
        """Return the reasons of requested reconciliations since the last call."""
        told, self.reasons = [detail for _, _, detail in self.reasons], []
        return told
