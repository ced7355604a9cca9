"""An event loop that collects reasons to wake up: from file descriptors, threads, timers and signals.

It returns the first reason after an idle period at once, and all reasons that arrive while it is busy together.
"""

from __future__ import annotations

import collections
import enum
import heapq
import itertools
import os
import select
import signal
import time
from typing import Callable, NamedTuple, Optional


class ReasonKind(enum.Enum):
    START = "start"
    RESYNC = "resync"
    RETRY = "retry"
    MODULE = "module"
    SYSCTL = "sysctl"
    LINK = "interface"
    CONFIG = "configuration"
    RELOAD = "reload"
    STOP = "stop"
    LOST = "events lost"
    IPVS = "ipvs responded"
    KUBE_PROXY = "kube-proxy responded"


class Reason(NamedTuple):
    """Why the loop woke up. It never says what to do; a reconciliation finds that out."""

    kind: ReasonKind
    detail: str
    at: float  # CLOCK_MONOTONIC, seconds


_SIGNALS = {signal.SIGHUP: ReasonKind.RELOAD, signal.SIGTERM: ReasonKind.STOP, signal.SIGINT: ReasonKind.STOP}

# The loop ignores a descriptor for _PAUSE seconds if it was ready more than _MAX_EVENTS times within _WINDOW
# seconds. The events of that time are then read together.
_MAX_EVENTS, _WINDOW, _PAUSE = 100, 1.0, 0.1


class _Reader:
    def __init__(self, callback: Callable[[], object]) -> None:
        self.callback, self.window_start, self.count, self.paused = callback, 0.0, 0, False


class EventLoop:
    """A context manager. Any thread may call `post`; only the loop's thread may call the other methods."""

    def __enter__(self) -> EventLoop:
        self._reasons: collections.deque[Reason] = collections.deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._wakeup_failed = False
        self._poller, self._readers = select.epoll(), dict[int, _Reader]()
        self._wakeup_read, self._wakeup_write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.add_reader(self._wakeup_read, lambda: os.read(self._wakeup_read, 4096))
        return self

    def __exit__(self, *error: object) -> None:
        self._poller.close()
        os.close(self._wakeup_read)
        os.close(self._wakeup_write)

    def post(self, kind: ReasonKind, detail: str = "") -> None:
        """Add a reason, stamped with the current time."""
        was_empty = not self._reasons
        self._reasons.append(Reason(kind, detail, time.monotonic()))
        if was_empty or self._wakeup_failed:  # else the loop is not waiting: it never waits while there are reasons
            try:
                os.write(self._wakeup_write, b"\0")
                self._wakeup_failed = False
            except OSError:  # the pipe has no memory for a byte: the next event or the resync wakes the loop
                self._wakeup_failed = True

    def add_reader(self, fd: int, callback: Callable[[], object]) -> None:
        """Call `callback` from within `run_until_reason` whenever `fd` is readable."""
        self._poller.register(fd, select.EPOLLIN)
        self._readers[fd] = _Reader(callback)

    def remove_reader(self, fd: int) -> None:
        """Stop watching `fd`, which must still be open."""
        if not self._readers.pop(fd).paused:
            self._poller.unregister(fd)

    def call_later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call `callback` once, from within `run_until_reason`, after `seconds`."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))

    def run_until_reason(self, timeout: Optional[float]) -> tuple[Reason, ...]:
        """Wait at most `timeout` seconds for a reason, and return all reasons."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._reasons:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                break
            deadlines = [*([] if deadline is None else [deadline]), *(timer[0] for timer in self._timers[:1])]
            self._poll(max(0.0, min(deadlines) - now) if deadlines else None)
        self._poll(0)
        reasons = tuple(self._reasons)
        for _ in reasons:
            self._reasons.popleft()
        return reasons

    def run_ready(self) -> None:
        """Call the callbacks that are due, during long work. The next `run_until_reason` returns their reasons."""
        self._poll(0)

    def install_signal_handlers(self) -> None:
        """Add a reason for each SIGHUP, SIGTERM and SIGINT from now on. Only the main thread may call this."""
        # Python calls the handler between two bytecode instructions. The byte interrupts a wait.
        signal.set_wakeup_fd(self._wakeup_write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._on_signal)

    def restore_signal_handlers(self) -> None:
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)

    def _on_signal(self, number: int, frame: object) -> None:  # noqa: ARG002 -- signal passes both
        self._reasons.append(Reason(_SIGNALS[signal.Signals(number)], signal.Signals(number).name, time.monotonic()))

    def _poll(self, timeout: Optional[float]) -> None:
        for fd, _ in self._poller.poll(timeout):
            reader = self._readers.get(fd)
            if reader:  # else an earlier callback has removed it
                reader.callback()
                self._throttle(fd, reader)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:  # timers that a callback adds run the next time
            heapq.heappop(self._timers)[2]()

    def _throttle(self, fd: int, reader: _Reader) -> None:
        now = time.monotonic()
        if now - reader.window_start > _WINDOW:
            reader.window_start, reader.count = now, 0
        reader.count += 1
        if reader.count > _MAX_EVENTS and fd != self._wakeup_read and self._readers.get(fd) is reader:
            self._poller.unregister(fd)
            reader.paused = True
            self.call_later(_PAUSE, lambda: self._resume(fd, reader))

    def _resume(self, fd: int, reader: _Reader) -> None:
        if self._readers.get(fd) is not reader:
            return
        try:
            self._poller.register(fd, select.EPOLLIN)
        except OSError:  # no memory, or too many watches (epoll_ctl(2)): stay paused
            self.call_later(_PAUSE, lambda: self._resume(fd, reader))
            return
        reader.paused = False
