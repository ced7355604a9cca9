"""A mailbox of reasons to look: fed by file descriptors, threads and signals, emptied by one loop.

The first reason after silence is handed out at once; what arrives while the loop is busy is
handed out together.
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
from types import TracebackType
from typing import Callable, NamedTuple, Optional


class ReasonKind(enum.Enum):
    START = "start"
    PERIODIC = "periodic look"
    RETRY = "retry"
    MODULE = "module"
    SYSCTL = "sysctl"
    LINK = "interface"
    CONFIG = "configuration"
    RELOAD = "reload"
    STOP = "stop"
    LOST = "events lost"
    IPVS = "ipvs answered"


class Reason(NamedTuple):
    """Why the loop woke up. Never what to do: that is found by looking."""

    kind: ReasonKind
    detail: str
    at: float  # CLOCK_MONOTONIC, seconds


_SIGNALS = {
    signal.SIGHUP: ReasonKind.RELOAD,
    signal.SIGTERM: ReasonKind.STOP,
    signal.SIGINT: ReasonKind.STOP,
}


# A descriptor that is ready so often within so many seconds is left alone for a moment at a time: what
# comes meanwhile is taken together.
_OFTEN, _SPAN, _REST = 100, 1.0, 0.1


class _Watched:
    def __init__(self, ready: Callable[[], None]) -> None:
        self.ready, self.since, self.times, self.resting = ready, 0.0, 0, False


class Mailbox:
    """A context manager. `put` may be called from any thread, everything else from the loop alone."""

    def __enter__(self) -> Mailbox:
        self._reasons: collections.deque[Reason] = collections.deque()
        self._timers: list[tuple[float, int, Callable[[], None]]] = []
        self._order = itertools.count()
        self._unheard = False
        self._poller, self._watched = select.epoll(), dict[int, _Watched]()
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._read, self._drain)
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._poller.close()
        os.close(self._read)
        os.close(self._write)

    def put(self, kind: ReasonKind, detail: str = "") -> None:
        """Leave a reason to look, stamped with the present time."""
        silent = not self._reasons
        self._reasons.append(Reason(kind, detail, time.monotonic()))
        if silent or self._unheard:  # else the loop is about to come by anyway: it never waits while there are reasons
            try:
                os.write(self._write, b"\0")
                self._unheard = False
            except OSError:  # the pipe has no memory for a byte: the next event wakes the loop, or the periodic look
                self._unheard = True

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` from within `take` whenever `fd` can be read."""
        self._poller.register(fd, select.EPOLLIN)
        self._watched[fd] = _Watched(ready)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`, which must still be open."""
        if not self._watched.pop(fd).resting:
            self._poller.unregister(fd)

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        """Call this once, from within `take`, when so much time has passed."""
        heapq.heappush(self._timers, (time.monotonic() + seconds, next(self._order), callback))

    def take(self, timeout: Optional[float]) -> tuple[Reason, ...]:
        """Wait for at least one reason, at most `timeout` seconds, and return all there are."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._reasons:
            now = time.monotonic()
            if deadline is not None and now >= deadline:
                break
            dues = [due for due in (deadline, self._timers[0][0] if self._timers else None) if due is not None]
            self._poll(max(0.0, min(dues) - now) if dues else None)
        self._poll(0)
        reasons = tuple(self._reasons)
        for _ in reasons:
            self._reasons.popleft()
        return reasons

    def serve(self) -> None:
        """Do what is due by now, within long work; reasons that come of it stay to be taken."""
        self._poll(0)

    def take_signals(self) -> None:
        """Let SIGHUP, SIGTERM and SIGINT leave reasons here from now on; only the main thread may ask."""
        # Python calls the handler between two steps of the program; the byte ends a wait that is under way.
        signal.set_wakeup_fd(self._write, warn_on_full_buffer=False)
        for number in _SIGNALS:
            signal.signal(number, self._signalled)

    def release_signals(self) -> None:
        """Give the signals back to their defaults."""
        for number in _SIGNALS:
            signal.signal(number, signal.SIG_DFL)
        signal.set_wakeup_fd(-1)

    def _signalled(self, number: int, frame: object) -> None:  # noqa: ARG002 -- signal passes both
        self._reasons.append(Reason(_SIGNALS[signal.Signals(number)], signal.Signals(number).name, time.monotonic()))

    def _poll(self, timeout: Optional[float]) -> None:
        for fd, _ in self._poller.poll(timeout):
            watched = self._watched.get(fd)
            if watched:  # else what was ready before it has ended it
                watched.ready()
                self._tire(fd, watched)
        now = time.monotonic()
        while self._timers and self._timers[0][0] <= now:  # what these leave for later is for the next time
            heapq.heappop(self._timers)[2]()

    def _tire(self, fd: int, watched: _Watched) -> None:
        now = time.monotonic()
        if now - watched.since > _SPAN:
            watched.since, watched.times = now, 0
        watched.times += 1
        if watched.times > _OFTEN and fd != self._read and self._watched.get(fd) is watched:
            self._poller.unregister(fd)
            watched.resting = True
            self.later(_REST, lambda: self._rouse(fd, watched))

    def _rouse(self, fd: int, watched: _Watched) -> None:
        if self._watched.get(fd) is not watched:
            return
        try:
            self._poller.register(fd, select.EPOLLIN)
        except OSError:  # no memory, or no room (epoll_ctl(2)): it rests on
            self.later(_REST, lambda: self._rouse(fd, watched))
            return
        watched.resting = False

    def _drain(self) -> None:
        os.read(self._read, 4096)
