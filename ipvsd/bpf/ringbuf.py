"""A reader of a BPF ring buffer through shared memory, without a system call."""

from __future__ import annotations

import contextlib
import mmap
import os
import struct

from ipvsd.bpf import syscall

# <linux/bpf.h>: the header of a record is its length with two flags.
_HEAD = struct.Struct("<II")
_BUSY, _DISCARDED, _LENGTH = 1 << 31, 1 << 30, (1 << 30) - 1
_POSITION = struct.Struct("<Q")  # the consumer's and the producer's position each have their own page


class RingBuffer:
    """`descriptor` is that of the map. It is readable while there are records. The constructor raises OSError."""

    def __init__(self, name: str, size: int) -> None:
        """`size` is in bytes: a power of two, and a multiple of every page size."""
        self._size, self._consumed = size, 0
        with contextlib.ExitStack() as stack:
            self.descriptor = syscall.create_map(syscall.RINGBUF, name, 0, 0, size)
            stack.callback(os.close, self.descriptor)
            # The kernel would take a transient 0 for a full ring, or for a reader that needs no wake-up.
            self._consumer_page = syscall.map_words(stack, self.descriptor, mmap.PAGESIZE)
            # The data is mapped twice in a row, so that every record is contiguous.
            length = mmap.PAGESIZE + 2 * size
            data = mmap.mmap(self.descriptor, length, prot=mmap.PROT_READ, offset=mmap.PAGESIZE)
            self._data = stack.enter_context(data)
            self._stack = stack.pop_all()

    def read_records(self) -> list[bytes]:
        """Return the complete records in order, and free their space.

        The position, the header and the record must be read in this order. x86-64 guarantees it; on arm64, only the
        preceding wake-up does.
        """
        read, (written,) = self._consumed, _POSITION.unpack_from(self._data)
        records = []
        while read < written:
            start = mmap.PAGESIZE + (read & self._size - 1)
            length, _ = _HEAD.unpack_from(self._data, start)
            if length & _BUSY:
                break  # it is being written, and causes its own event
            start, size = start + _HEAD.size, length & _LENGTH
            if not length & _DISCARDED:
                records.append(self._data[start : start + size])
            read += _HEAD.size + (size + 7 & ~7)
        if read != self._consumed:
            self._consumer_page[0] = self._consumed = read
        return records

    def close(self) -> None:
        """Release the buffer. The kernel keeps it until the program that writes to it ends."""
        self._stack.close()
