"""The standard streams as descriptors: ours are written at once, and never taken by another file."""

from __future__ import annotations

import os
from typing import IO, Optional, TextIO


def write(stream: Optional[TextIO], text: str) -> None:
    """Write all of a text; nowhere if the stream was closed when the process began. Raises OSError.

    What cannot be written does not stay in Python's own buffer, which would be written again when the interpreter
    ends, and make the exit code 120.
    """
    if stream is None:
        return
    try:
        descriptor = stream.fileno()
    except OSError:  # io.UnsupportedOperation: it has been replaced by one in memory
        stream.write(text)
        return
    data = text.encode(stream.encoding, "backslashreplace")
    while data:
        try:
            data = data[os.write(descriptor, data) :]
        except BlockingIOError:  # somebody else has set it to O_NONBLOCK
            import select

            select.select([], [descriptor], [])


def open_missing_streams() -> None:
    """Open /dev/null in place of a standard stream that is closed: else the next file of ours becomes that stream."""
    for descriptor in range(3):
        try:
            os.fstat(descriptor)
        except OSError:
            os.set_inheritable(os.open(os.devnull, os.O_RDWR), True)  # the lowest number that is free: this one


def open_devnull() -> IO[bytes]:
    """Open /dev/null for the streams of a child. Raises OSError.

    subprocess.DEVNULL would lose a descriptor where no pipe can be had after it (Popen._get_handles()).
    """
    return open(os.devnull, "r+b", buffering=0)
