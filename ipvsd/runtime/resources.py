"""Resources that this process may use: descriptors, some of them in reserve, and no huge pages.

Code that keeps descriptors open has its own limit. The reserve covers needs that nobody foresaw.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import resource
from collections.abc import Iterator

RESERVE = 16
# The maximum for HTTP clients (`http_clients.MAX_CLIENTS`), event sources, and the child process that queries IPVS.
_OTHER_DESCRIPTORS = 160
_LIMIT = 16384  # LimitNOFILE= of ipvsd.service


def raise_limit() -> None:
    """Raise the soft limit of descriptors to that of the unit, as far as the hard limit permits."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    limit = _LIMIT if hard == resource.RLIM_INFINITY else min(hard, _LIMIT)
    if resource.RLIM_INFINITY != soft < limit:
        with contextlib.suppress(OSError, ValueError):  # a user's own sandbox
            resource.setrlimit(resource.RLIMIT_NOFILE, (limit, hard))


def has_headroom(descriptor: int) -> bool:
    """Return whether enough descriptors remain after this one, or three quarters of them if the limit is low."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return soft == resource.RLIM_INFINITY or descriptor < soft - min(_OTHER_DESCRIPTORS + RESERVE, soft * 3 // 4)


def max_clients(limit: int) -> int:
    """Return the maximum number of HTTP clients: at most an eighth of the descriptors."""
    soft, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return limit if soft == resource.RLIM_INFINITY else min(limit, max(1, soft // 8))


class DescriptorReserve:
    """Descriptors that the loop, and only its thread, holds while it waits, and releases while it works."""

    def __init__(self) -> None:
        self._descriptors: list[int] = []
        self._reopen()

    def _reopen(self) -> None:
        with contextlib.suppress(OSError):  # the next call tries again
            while len(self._descriptors) < RESERVE:
                self._descriptors.append(os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC))

    @contextlib.contextmanager
    def released(self) -> Iterator[None]:
        self.close()
        try:
            yield
        finally:
            self._reopen()

    def close(self) -> None:
        while self._descriptors:
            os.close(self._descriptors.pop())


_PR_SET_THP_DISABLE = 41  # <linux/prctl.h>, since Linux 3.15


def disable_huge_pages() -> None:
    """Disable transparent huge pages in this process and its children. Do nothing if the kernel does not support it."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, *map(ctypes.c_ulong, (1, 0, 0, 0)))
