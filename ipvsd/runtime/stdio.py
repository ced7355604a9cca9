"""The standard streams as descriptors: written without a buffer, and never replaced by another file."""

from __future__ import annotations

import os
from typing import IO, Optional, TextIO


def write(stream: Optional[TextIO], text: str) -> None:
    """Write all of a text. Do nothing if the stream was closed when the process began. Raises OSError.

    Python would write text in its own buffer again when the interpreter ends, and exit with 120.
    """
    if stream is None:
        return
    try:
        descriptor = stream.fileno()
    except OSError:  # io.UnsupportedOperation: the stream was replaced by one in memory
        stream.write(text)
        return
    data = text.encode(stream.encoding, "backslashreplace")
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # another process has set O_NONBLOCK on it
            wait(descriptor, writable=True)


def wait(descriptor: int, seconds: Optional[float] = None, writable: bool = False) -> bool:
    """Wait until a descriptor is readable or writable, or its other end is closed. Return False after the time.

    With poll(2), because select(2) does not support descriptors from FD_SETSIZE (1024) on.
    """
    import select

    poller = select.poll()
    poller.register(descriptor, select.POLLOUT if writable else select.POLLIN)
    return bool(poller.poll(None if seconds is None else max(0.0, seconds) * 1000))


def open_missing_streams() -> None:
    """Open /dev/null for each closed standard stream. Otherwise, the next open file would become that stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest free number, which is this one


def open_devnull() -> IO[bytes]:
    """Open /dev/null for the streams of a child. Raises OSError."""
    # subprocess.DEVNULL leaks a descriptor if creating a pipe fails after it (Popen._get_handles()).
    return open(os.devnull, "r+b", buffering=0)
