"""Giving up what only the start needs."""

from __future__ import annotations

import ctypes
import struct

# <linux/capability.h>
_VERSION_3 = 0x20080522
BPF = 39


def drop(capability: int) -> None:
    """Give up a capability for good, for this process and all that it starts. Raises OSError.

    With NoNewPrivileges= what is started does not get it back.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    header = ctypes.create_string_buffer(struct.pack("<Ii", _VERSION_3, 0), 8)
    sets = ctypes.create_string_buffer(24)  # effective, permitted and inheritable, the low halves first
    if libc.capget(header, sets) < 0:
        raise OSError(ctypes.get_errno(), "cannot read the capabilities")
    half, bit = divmod(capability, 32)
    words = list(struct.unpack("<6I", sets.raw))
    for index in range(3 * half, 3 * half + 3):
        words[index] &= ~(1 << bit)
    if libc.capset(header, ctypes.create_string_buffer(struct.pack("<6I", *words), 24)) < 0:
        raise OSError(ctypes.get_errno(), "cannot give up a capability")
