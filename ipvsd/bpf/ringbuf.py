"""A BPF ring buffer: what a program puts there is read through shared memory, without a system call."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct

from ipvsd.bpf import syscall

# <linux/bpf.h>: the head of a record, its length with two flags
_HEAD = struct.Struct("<II")
_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_POSITION = struct.Struct("<Q")  # on a page of its own for either side


class RingBuffer:
    """`descriptor` is the map's, and can be read when there is something to take. Making one raises OSError."""

    def __init__(self, name: str, size: int) -> None:
        """`size` is in bytes: a power of two, and a multiple of every page size."""
        self._size, self._consumed = size, 0
        with contextlib.ExitStack() as stack:
            self.descriptor = syscall.create_map(syscall.RINGBUF, name, 0, 0, size)
            stack.callback(os.close, self.descriptor)
            # A 0 in between would be a full ring to the kernel, or one that nobody waits for.
            self._consumer_page = syscall.map_words(stack, self.descriptor, mmap.PAGESIZE)
            # Mapped twice in a row, so that no record is in two pieces.
            length = mmap.PAGESIZE + 2 * size
            data = mmap.mmap(self.descriptor, length, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
            self._data = stack.enter_context(data)
            self._stack = stack.pop_all()

    def read_records(self) -> list[bytes]:
        """Return the records that are there by now, in their order, and make room for others.

        That a record is read after its head, and its head after the position, is what x86-64 does by itself;
        on arm64 no more ensures it than the wake-up that came before.
        """
        read, (written,) = self._consumed, _POSITION.unpack_from(self._data)
        records = []
        while read < written:
            start = mmap.PAGESIZE + (read & self._size - 1)
            length, _ = _HEAD.unpack_from(self._data, start)
            if length & _BUSY:
                break  # being written: its own event follows
            start, size = start + _HEAD.size, length & _LENGTH
            if not length & _DISCARDED:
                records.append(self._data[start : start + size])
            read += _HEAD.size + (size + 7 & ~7)
        if read != self._consumed:
            self._consumer_page[0] = self._consumed = read
        return records

    def close(self) -> None:
        """Let go of it; it ends with the program that writes into it."""
        self._stack.close()
