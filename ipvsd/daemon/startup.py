"""The end of the start: at once, or in a strict start when the node is not failed, or at its limit."""

from __future__ import annotations

import time
from typing import Callable, Optional

from ipvsd.config.schema import Config
from ipvsd.model.report import Report, State
from ipvsd.runtime.journal import log
from ipvsd.runtime.sd_notify import SdNotify

HOLD = 5.0  # seconds between the checks of a strict start that waits


class Startup:
    """The start begins with the constructor. `over` is True from READY=1 on."""

    def __init__(self, notifier: SdNotify, clock: Callable[[], float] = time.monotonic) -> None:
        self._notifier, self._clock = notifier, clock
        self._began = clock()
        self.over = False

    def next_check(self, now: float, config: Config) -> Optional[float]:
        return None if self.over else min(now + HOLD, max(now, self._began + config.startup_limit))

    def may_end(self, report: Report, config: Config) -> bool:
        """Return whether the start is over with this report. If not, ask systemd for more time."""
        if report.health.state is not State.FAILED or not config.startup_strict:
            return True
        left = self._began + config.startup_limit - self._clock()
        if left <= 0:
            late = f"the node is not ready after {config.startup_limit:g} s; sending READY=1 anyway"
            log("warning", f"startup.mode strict: {late}")
            return True
        waiting = f"waiting up to {left:.0f} s more (startup.mode: strict); {report.health.summary}"
        self._notifier.extend_timeout(waiting, 6 * HOLD)
        return False
