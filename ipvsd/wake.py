"""A mailbox of reasons to look: fed by file descriptors, threads and signals, emptied by one loop.

The first reason after silence is handed out at once; what arrives while the loop is busy is
handed out together.
"""

from __future__ import annotations

import collections
import os
import selectors
import signal
import time
from types import TracebackType
from typing import Callable, Optional

from ipvsd.model import Reason, ReasonKind

_SIGNALS = {
    signal.SIGHUP: ReasonKind.RELOAD,
    signal.SIGTERM: ReasonKind.STOP,
    signal.SIGINT: ReasonKind.STOP,
}


class Mailbox:
    """A context manager. `put` may be called from any thread, everything else from the loop alone."""

    def __enter__(self) -> Mailbox:
        self._reasons: collections.deque[Reason] = collections.deque()
        self._selector = selectors.DefaultSelector()
        self._read, self._write = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
        self.watch(self._read, self._drain)
        return self

    def __exit__(
        self, kind: Optional[type[BaseException]], error: Optional[BaseException], trace: Optional[TracebackType]
    ) -> None:
        self._selector.close()
        os.close(self._read)
        os.close(self._write)

    def put(self, kind: ReasonKind, detail: str = "") -> None:
        """Leave a reason to look, stamped with the present time."""
        silent = not self._reasons
        self._reasons.append(Reason(kind, detail, time.monotonic()))
        if silent:  # else the loop is about to come by anyway: it never waits while there are reasons
            os.write(self._write, b"\0")

    def watch(self, fd: int, ready: Callable[[], None]) -> None:
        """Call `ready` from within `take` whenever `fd` can be read."""
        self._selector.register(fd, selectors.EVENT_READ, ready)

    def unwatch(self, fd: int) -> None:
        """Forget `fd`, which must still be open."""
        self._selector.unregister(fd)

    def take(self, timeout: Optional[float]) -> tuple[Reason, ...]:
        """Wait for at least one reason, at most `timeout` seconds, and return all there are."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self._reasons:
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                break
            self._poll(left)
        self._poll(0)
        reasons = tuple(self._reasons)
        for _ in reasons:
            self._reasons.popleft()
        return reasons

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
        for key, _ in self._selector.select(timeout):
            key.data()

    def _drain(self) -> None:
        os.read(self._read, 4096)
