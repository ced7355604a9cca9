"""Keeping a small process small where the kernel gives huge pages to whoever does not ask for them.

With transparent huge pages `always` (Debian, Fedora) the first touch of a thread's stack may take 2 MiB
for the few kilobytes that it needs, and khugepaged goes on with what is mapped near to each other.
"""

from __future__ import annotations

import ctypes

_PR_SET_THP_DISABLE = 41  # <linux/prctl.h>, since Linux 3.15


def refuse() -> None:
    """Have none from now on, in this process and in all that it starts; where that is unknown, nothing happens."""
    ctypes.CDLL(None).prctl(_PR_SET_THP_DISABLE, *map(ctypes.c_ulong, (1, 0, 0, 0)))
