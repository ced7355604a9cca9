"""The reader of a ring buffer, on memory with the kernel's layout."""

from __future__ import annotations

import mmap
import os
import struct
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.bpf import syscall
from ipvsd.bpf.ringbuf import RingBuffer

SIZE = 4096
BUSY, DISCARDED = 1 << 31, 1 << 30


class Kernel:
    """The writer: each position on its own page, and the data mapped twice in a row."""

    def __init__(self) -> None:
        self.file = os.memfd_create("ring")
        os.ftruncate(self.file, 2 * mmap.PAGESIZE + 2 * SIZE)
        self._memory = mmap.mmap(self.file, 0)
        self._pages = memoryview(self._memory).cast("Q")
        self._written = 0

    def put(self, data: bytes, flags: int = 0) -> int:
        """Write a record, and return the place of its header."""
        at, record = self._written, struct.pack("<II", len(data) | flags, 0) + data
        self._store(at, record)
        self._written += len(record) + -len(record) % 8
        self._pages[mmap.PAGESIZE // 8] = self._written
        return at

    def finish(self, at: int, length: int) -> None:
        """Mark a record that was being written as complete."""
        self._store(at, struct.pack("<I", length))

    def _store(self, at: int, data: bytes) -> None:
        at %= SIZE
        for start in (2 * mmap.PAGESIZE, 2 * mmap.PAGESIZE + SIZE):
            for place, part in ((start + at, data[: SIZE - at]), (start, data[SIZE - at :])):
                self._memory[place : place + len(part)] = part

    def close(self) -> None:
        self._pages.release()
        self._memory.close()

    @property
    def read(self) -> int:
        return self._pages[0]

    @read.setter
    def read(self, position: int) -> None:
        self._pages[0] = position

    @property
    def free(self) -> int:
        return SIZE - (self._written - self.read)


@contextmanager
def ring() -> Iterator[tuple[Kernel, RingBuffer]]:
    kernel = Kernel()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(syscall, "create_map", lambda *_: kernel.file)
        reader = RingBuffer("ring", SIZE)
    try:
        yield kernel, reader
    finally:
        reader.close()
        kernel.close()


@given(st.lists(st.lists(st.binary(max_size=300), max_size=5), max_size=30))
def test_records_are_read_once_in_order(batches: list[list[bytes]]) -> None:
    with ring() as (kernel, reader):
        for batch in batches:
            for data in batch:
                kernel.put(data)
            assert reader.read_records() == batch
            assert kernel.free == SIZE


def test_records_after_an_unfinished_one_are_not_read() -> None:
    with ring() as (kernel, reader):
        kernel.put(b"first")
        at = kernel.put(b"second", BUSY)
        kernel.put(b"third")
        assert reader.read_records() == [b"first"]
        assert reader.read_records() == []
        kernel.finish(at, len(b"second"))
        assert reader.read_records() == [b"second", b"third"]


def test_discarded_records_are_left_out_and_an_empty_ring_stores_no_position() -> None:
    with ring() as (kernel, reader):
        kernel.put(b"first", DISCARDED)
        kernel.put(b"second")
        assert (reader.read_records(), kernel.free) == ([b"second"], SIZE)
        kernel.read = mark = 12345
        assert (reader.read_records(), kernel.read) == ([], mark)


# Exits 1 if the position ever decreased.
FORWARD = """
import mmap, sys
position = memoryview(mmap.mmap(int(sys.argv[1]), mmap.PAGESIZE)).cast("Q")
print("watching", flush=True)
last = 0
while last < int(sys.argv[2]):
    now = position[0]
    if now < last:
        sys.exit(1)
    last = now
"""


def test_the_kernel_never_sees_the_position_go_back() -> None:
    with ring() as (kernel, reader):
        times, data = 20_000, b""
        command = [sys.executable, "-c", FORWARD, str(kernel.file), str(8 * times)]
        with subprocess.Popen(command, pass_fds=[kernel.file], stdout=subprocess.PIPE) as watching:
            assert watching.stdout
            assert watching.stdout.readline() == b"watching\n"
            for _ in range(times):
                kernel.put(data)
                reader.read_records()
                reader.read_records()
            assert watching.wait(20) == 0
