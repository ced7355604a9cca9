"""What this process may use: descriptors, some of them in reserve, and no huge pages.

A look opens a few files, one after the other, and the loader of modules a few at a time. Everything that opens a
descriptor for good has a bound of its own; the reserve is for what nobody thought of.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator

RESERVE = 16
# What HTTP clients (`http_server.MAX_CLIENTS`), the sources, and the child that asks IPVS take at most.
_OTHER_DESCRIPTORS = 160
_LIMIT = 16384  # LimitNOFILE= of ipvsd.service


def raise_limit() -> None:
    """Let this process have as many descriptors as the unit gives it, as far as it may."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _LIMIT if hard == resource.RLIM_INFINITY else min(hard, _LIMIT)
    if resource.RLIM_INFINITY != soft < limit:
        with contextlib.suppress(OSError, ValueError):  # a sandbox of someone's own
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def has_headroom(descriptor: int) -> bool:
    """Tell whether others can be opened after this one: the kernel gives the lowest number that is free.

    With few descriptors in all, half of them are left.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft == resource.RLIM_INFINITY or descriptor < soft - min(_OTHER_DESCRIPTORS + RESERVE, soft // 2)


def max_clients(limit: int) -> int:
    """Return how many HTTP clients there may be: more would take the reserve while it is lent.

    With few descriptors in all, it is an eighth of them.
    """
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit if soft == resource.RLIM_INFINITY else min(limit, max(1, soft // 8))


class DescriptorReserve:
    """For the loop's thread alone, which has them free while it works and holds them while it waits."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._reopen()

    def _reopen(self) -> None:
        with contextlib.suppress(OSError):  # the next time, then
            while len(self._descriptors) < RESERVE:
                self._descriptors.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        """Have these descriptors free meanwhile."""
        self.close()
        try:
            yield
        finally:
            self._reopen()

    def close(self) -> None:
        """Give them up."""
        while self._descriptors:
            os.close(self._descriptors.pop())


_PR_SET_THP_DISABLE = 41  # <linux/prctl.h>, since Linux 3.15


def disable_huge_pages() -> None:
    """Have none from now on, in this process and in all that it starts; where that is unknown, nothing happens."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, *map(ctypes.c_ulong, (1, 0, 0, 0)))
