"""inotify(7) for the loop's thread, for sysctls and cgroups.

watchdog, which serves the configuration, delays every event by half a second (its InotifyBuffer), starts threads, and
takes 10 MB and 0.1 s to import.
"""

from __future__ import annotations

import ctypes
import os
import struct
from typing import Callable

from ipvsd.runtime.event_loop import EventLoop

# <sys/inotify.h>
MODIFY = 0x2
CREATE = 0x100
ONLY_DIRECTORY = 0x01000000
OVERFLOW = 0x4000
_EVENT = struct.Struct("iIII")


class Inotify:
    """One instance, only for the loop's thread. Methods that call the kernel raise OSError."""

    def __init__(self, loop: EventLoop, on_event: Callable[[int, int, str], None]) -> None:
        """The event loop calls `on_event` with the watch, the mask and the name of each event."""
        self._loop, self._on_event = loop, on_event
        self._libc = ctypes.CDLL(None, use_errno=True)
        self._descriptor = _checked(self._libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC))
        try:
            loop.add_reader(self._descriptor, self._receive)
        except OSError:
            os.close(self._descriptor)
            raise

    def add(self, path: str, mask: int) -> int:
        """Watch a file or a directory. Return the watch, which is the same for repeated calls."""
        return _checked(self._libc.inotify_add_watch(self._descriptor, os.fsencode(path), mask))

    def remove(self, watch: int) -> None:
        """Remove a watch. Do nothing if its file was removed."""
        self._libc.inotify_rm_watch(self._descriptor, watch)

    def close(self) -> None:
        self._loop.remove_reader(self._descriptor)
        os.close(self._descriptor)

    def _receive(self) -> None:
        data = os.read(self._descriptor, 1 << 16)
        offset = 0
        events: dict[tuple[int, int, str], None] = {}  # deduplicated: a storm causes thousands of equal events
        while offset < len(data):
            watch, mask, _, length = _EVENT.unpack_from(data, offset)
            offset += _EVENT.size + length
            name = os.fsdecode(data[offset - length : offset].rstrip(b"\0")) if length else ""
            events[watch, mask, name] = None
        for event in events:
            self._on_event(*event)


def _checked(result: int) -> int:
    if result < 0:
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number))
    return result
