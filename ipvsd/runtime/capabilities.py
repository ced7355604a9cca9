"""Capabilities that the calling thread gives up permanently; the processes that it starts inherit the rest."""

from __future__ import annotations

import ctypes
import struct
from collections.abc import Sequence

# <linux/capability.h>
_VERSION_3 = 0x20080522
PERFMON, BPF = 38, 39


def drop(*given: int) -> None:
    """Give up these capabilities permanently; with NoNewPrivileges=, for child processes as well. Raises OSError."""
    libc, header = ctypes.CDLL(None, use_errno=True), _header()
    sets = ctypes.create_string_buffer(24)  # effective, permitted and inheritable; the low halves first
    if libc.capget(header, sets) < 0:
        raise OSError(ctypes.get_errno(), "cannot read the capabilities")
    words = list(struct.unpack("<6I", sets.raw))
    for capability in given:
        half, bit = divmod(capability, 32)
        for index in range(3 * half, 3 * half + 3):
            words[index] &= ~(1 << bit)
    _set(words)


def drop_all() -> None:
    """Give up all capabilities permanently. Raises OSError."""
    _set([0] * 6)


def _set(words: Sequence[int]) -> None:
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.capset(_header(), ctypes.create_string_buffer(struct.pack("<6I", *words), 24)) < 0:
        raise OSError(ctypes.get_errno(), "cannot drop a capability")


def _header() -> ctypes.Array[ctypes.c_char]:
    return ctypes.create_string_buffer(struct.pack("<Ii", _VERSION_3, 0), 8)
