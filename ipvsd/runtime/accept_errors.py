"""Errors of accept(2): increasing delays, and a descriptor in reserve to reject a client when there is no other."""

from __future__ import annotations

import contextlib
import math
import os
import socket
import time

from ipvsd.runtime.journal import log

_BACKOFF = (0.1, 1.0)  # seconds without accepting after an error: initially, and at most
_LOG_INTERVAL = 60.0  # seconds without such an error, after which the next one is logged


class AcceptErrors:
    """`text` is the reason why the server cannot accept, or empty."""

    def __init__(self) -> None:
        self.text = ""
        self._backoff, self._failed_at = _BACKOFF[0], -math.inf
        self._reserve = -1

    def add(self, error: OSError) -> float:
        """Return the seconds to wait: the socket stays ready, so an immediate retry would keep a CPU busy."""
        now = time.monotonic()
        self.text = f"cannot accept connections: {error.strerror}"
        if now - self._failed_at > _LOG_INTERVAL:
            log("warning", f"web: {self.text}")
        self._failed_at = now
        wait, self._backoff = self._backoff, min(2 * self._backoff, _BACKOFF[1])
        return wait

    def clear(self) -> None:
        self.text, self._backoff = "", _BACKOFF[0]

    def reject(self, listener: socket.socket) -> None:
        """Accept and close one connection by means of the reserve, so that the client does not wait in vain."""
        if self._reserve >= 0:
            self.close()
            with contextlib.suppress(OSError):  # another thread accepted it first
                listener.accept()[0].close()
        self.open_reserve()

    def open_reserve(self) -> None:
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._reserve = -1

    def close(self) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1
