"""bpf(2): maps, programs for writes to sysctls, and their attachment to a cgroup.

Closing the link's descriptor, or the end of the process, detaches a program. Only loading requires capabilities:
CAP_BPF and CAP_NET_ADMIN.
"""

from __future__ import annotations

import contextlib
import ctypes
import mmap
import os
import struct
from typing import Optional

# asm/unistd.h
_SYSCALL = {"x86_64": 321, "aarch64": 280}

# <linux/bpf.h>
_MAP_CREATE, _PROG_LOAD, _LINK_CREATE = 0, 5, 28
ARRAY, RINGBUF = 2, 27
MMAPABLE = 1 << 10
_CGROUP_SYSCTL_PROGRAM, _CGROUP_SYSCTL_ATTACH = 23, 18
_ATTRIBUTES = 128  # at least the size that any of these commands reads; the rest must be 0
_LOG = 1 << 16


def create_map(kind: int, name: str, key: int, value: int, entries: int, flags: int = 0) -> int:
    """Return the descriptor of a new map. Sizes are in bytes. Raises OSError."""
    attributes = struct.pack("<IIIII", kind, key, value, entries, flags).ljust(28, b"\0")
    return _bpf(_MAP_CREATE, attributes + name.encode())


def map_words(stack: contextlib.ExitStack, table: int, size: int) -> memoryview:
    """Map `size` bytes of a map as 64-bit numbers with atomic stores, while the stack lasts. Raises OSError."""
    # struct would clear the memory first, and a program or the kernel can read it at any moment.
    return stack.enter_context(memoryview(stack.enter_context(mmap.mmap(table, size))).cast("Q"))


def load_program(name: str, code: bytes) -> int:
    """Return the descriptor of a program for writes to sysctls. Raises OSError with the verifier's last message."""
    try:
        return _load(name, code, None)
    except OSError as error:
        log = ctypes.create_string_buffer(_LOG)
        try:  # the log costs time, so only a failed load requests it
            return _load(name, code, log)
        except OSError:
            raise OSError(error.errno, _verifier_error(log.value) or os.strerror(error.errno or 0)) from None


def attach(program: int, cgroup: int) -> int:
    """Return the descriptor that keeps a program attached to a cgroup (version 2). Raises OSError."""
    return _bpf(_LINK_CREATE, struct.pack("<IIII", program, cgroup, _CGROUP_SYSCTL_ATTACH, 0))


def _load(name: str, code: bytes, log: Optional[ctypes.Array[ctypes.c_char]]) -> int:
    licence = ctypes.create_string_buffer(b"GPL")  # only GPL programs may use the helpers of the ring buffer
    instructions = ctypes.create_string_buffer(code, len(code))
    log_fields = (1, _LOG, ctypes.addressof(log)) if log else (0, 0, 0)
    texts = ctypes.addressof(instructions), ctypes.addressof(licence)
    attributes = struct.pack("<IIQQIIQII", _CGROUP_SYSCTL_PROGRAM, len(code) // 8, *texts, *log_fields, 0, 0)
    return _bpf(_PROG_LOAD, attributes + struct.pack("<16sII", name.encode(), 0, _CGROUP_SYSCTL_ATTACH))


def _verifier_error(log: bytes) -> str:
    """Return the line of the verifier's log that states the error: the last one before its statistics."""
    statistics = ("processed ", "verification time", "stack depth")
    lines = log.decode("utf-8", "replace").splitlines()
    return next((line for line in reversed(lines) if line and not line.startswith(statistics)), "")


def syscall_number(machine: str) -> int:
    """Return the number of bpf(2) on a machine, as named by uname(2). Raises OSError for other machines."""
    if machine not in _SYSCALL:
        raise OSError(0, f"unknown system call number for {machine}")
    return _SYSCALL[machine]


def _bpf(command: int, attributes: bytes) -> int:
    buffer = ctypes.create_string_buffer(attributes, _ATTRIBUTES)
    call = ctypes.CDLL(None, use_errno=True).syscall
    descriptor = int(call(syscall_number(os.uname().machine), command, buffer, _ATTRIBUTES))
    if descriptor < 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
    return descriptor
