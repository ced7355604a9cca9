"""sd_notify(3): READY, RELOADING, STATUS, WATCHDOG, STOPPING. This is the only user of sdnotify."""

from __future__ import annotations

import math
import os
import time
from typing import Optional

from sdnotify import SystemdNotifier

from ipvsd.model.printable import ascii_line


class SdNotify:
    """Reports the service's state to systemd. Does nothing if $NOTIFY_SOCKET is unset."""

    def __init__(self) -> None:
        self._notifier = SystemdNotifier()
        self._status = ""
        self._watchdog_at = -math.inf

    # The client encodes latin-1, and systemd expects UTF-8. ASCII is both.

    def ready(self, status: str) -> None:
        self._status = ascii_line(status)
        self._notifier.notify(f"READY=1\nSTATUS={self._status}")

    def status(self, status: str) -> None:
        """Replace the status line of `systemctl status` if it has changed."""
        if ascii_line(status) != self._status:
            self._status = ascii_line(status)
            self._notifier.notify(f"STATUS={self._status}")

    def extend_timeout(self, status: str, seconds: float) -> None:
        """Ask systemd to wait `seconds` more for READY, and report the reason."""
        self._notifier.notify(f"EXTEND_TIMEOUT_USEC={int(seconds * 1e6)}\nSTATUS={ascii_line(status)}")

    def reloading(self) -> None:
        """Report that a reload has begun; `ready` ends it."""
        usec = time.clock_gettime_ns(time.CLOCK_MONOTONIC) // 1000
        self._notifier.notify(f"RELOADING=1\nMONOTONIC_USEC={usec}")

    def watchdog(self) -> None:
        """Report that the main loop is alive, at most eight times in WatchdogSec=, even in a storm of events."""
        period, now = watchdog_period(), time.monotonic()
        if period and now - self._watchdog_at >= period / 8:
            self._watchdog_at = now
            self._notifier.notify("WATCHDOG=1")

    def stopping(self) -> None:
        self._notifier.notify("STOPPING=1\nSTATUS=stopping")


def watchdog_period() -> Optional[float]:
    """Return WatchdogSec= in seconds, or None if systemd does not watch this process (sd_watchdog_enabled(3))."""
    usec, pid = os.environ.get("WATCHDOG_USEC", ""), os.environ.get("WATCHDOG_PID")
    if not usec.isdecimal() or int(usec) == 0 or (pid and pid != str(os.getpid())):
        return None
    return int(usec) / 1e6
