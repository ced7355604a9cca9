"""A pipe that wakes a thread that waits for descriptors."""

from __future__ import annotations

import contextlib
import os


class WakeUpPipe:
    """`reader` is readable after `wake_up`, until `drain`. The constructor raises OSError."""

    def __init__(self) -> None:
        self.reader, self._writer = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)

    def wake_up(self) -> None:
        """Raises OSError if the kernel has no memory for a byte. Then the thread may not wake up."""
        with contextlib.suppress(BlockingIOError):  # the pipe is full of bytes that the thread has not read
            os.write(self._writer, b"\0")

    def drain(self) -> None:
        with contextlib.suppress(BlockingIOError):
            os.read(self.reader, 4096)

    def close(self) -> None:
        os.close(self.reader)
        os.close(self._writer)
