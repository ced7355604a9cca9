"""The program that the kernel runs before each write to a sysctl, and what it and we read of each other's.

It tells of a write when the name's digest marks a bucket of a table that we fill through a mapping;
names that are not held leave it after one look into that table, and names that share a bucket are told apart
by whoever reads the records. It is of type cgroup/sysctl, so it sees every process of the machine, whatever
procfs and network namespace it has, and runs before the value is stored.
A write to a name that is guarded it refuses, with EPERM for the writer, unless the writer's control group, or
one above it (on 6.1, and not on 5.10), is one of those that we list in a second mapping.

Which sysctl a write changes depends on the file that the writer opened: it may be open in one network
namespace and be written from another. The kernel keeps the sysctls of each network namespace in a set of
their own. From each of our own reads the program learns the set that our sysctl is in, and the address of its
value. A write to another set and another value is to another sysctl: it is not told, and not refused.
The offsets are the same in Linux 5.10, 6.1, 6.12, 6.18 and 7.2. struct ctl_table has __randomize_layout: where a
kernel is built so, only values that several network namespaces share may be taken for different ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ipvsd.bpf.asm import (
    FRAME,
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    Line,
    add,
    add_atomically,
    both,
    call,
    exclusive_or,
    if_equal,
    if_not_equal,
    if_same,
    leave,
    load32,
    load64,
    move,
    multiply,
    set_map,
    set_to,
    set_wide,
    shift_right,
    store32,
    store64,
)

# <linux/bpf.h>, enum bpf_func_id
_MAP_LOOKUP, _TIME, _PID_TGID, _COMM, _CGROUP_ID, _ANCESTOR_ID = 1, 5, 14, 16, 80, 123
_NAME, _OLD_VALUE, _NEW_VALUE, _READ_KERNEL, _RING_OUTPUT = 101, 102, 103, 113, 130
_SET = 48  # struct ctl_table_header, <linux/sysctl.h>
_DATA = 8  # struct ctl_table

BITS = 14
LOST = 1 << BITS  # the bucket that counts the records for which there was no room
BUCKETS = LOST + 1
ALLOWED = 16  # control groups that may write what is guarded
_DEPTH = 6  # levels below the root at which the group of a unit may be

# A bucket has three words: its mark, and what was learned of the sysctl, its set and the address of its value.
# The mark is 0, or the digest of a name that is held, with these bits in place of its lowest.
WORDS = 3
_HELD, _GUARDED, _SHARED = 1, 2, 4
_FLAGS = 3  # bits

# A record, built on the stack: process, cgroup, command's name, sysctl, the value written, whether the sysctl
# is ours for sure, whether the write was refused; then what differs where the same is done again: the value
# before, and when.
_RECORD = struct.Struct("<QQ16s64s64sQQ64sQ")
SIZE = _RECORD.size
_TEXT = 64
_LONGEST = _TEXT - 1  # of a name that is told; a longer one is cut
_START = -SIZE
_PLACES = (8, 16, 32, 96, 160, 168, 176, 240)
_AT_CGROUP, _AT_COMM, _AT_NAME, _AT_NEW, _AT_OURS, _AT_REFUSED, _AT_OLD, _AT_TIME = (
    _START + place for place in _PLACES
)
_NAME_IN_RECORD = slice(SIZE + _AT_NAME, SIZE + _AT_NEW)
_AT_BUCKET = _START - 8
_AT_ANCESTORS = _AT_BUCKET - 8 * _DEPTH
_AT_ENTRY, _AT_HEAD, _AT_TABLE, _AT_SET, _AT_DATA = (_AT_ANCESTORS - 40 + 8 * place for place in range(5))

# FNV-1a's numbers (http://www.isthe.com/chongo/tech/comp/fnv/), over words instead of bytes.
_BASIS, _PRIME = 0xCBF29CE484222325, 0x100000001B3
_WORD = (1 << 64) - 1


class Told(NamedTuple):
    """One record: a write that was about to happen. `pid` is 0 where the kernel lets no program ask for it."""

    pid: int
    cgroup: int  # the id, which is the inode number of its directory
    comm: str  # empty where it lets none ask for this
    name: str  # as a path below /proc/sys
    old: str
    new: str
    whole: bool  # whether `new` is all of what was written
    ours: bool  # whether the sysctl is in our network namespace for sure
    refused: bool
    at: float  # CLOCK_MONOTONIC, seconds


class Form(NamedTuple):
    """The parts that a program has, by its kernel and its rights.

    `process` is ours, of which nothing is told; with None, it is not asked which one writes, nor what is above its
    control group: 5.10 refuses both. Our reads are known by our control group then, `group`, if that is not 0.
    Without `comm` the name of the process is not asked, for which 6.18 wants CAP_PERFMON. Without `places` nothing is
    learned of our sysctls, for which every kernel wants CAP_PERFMON, and a lockdown to "confidentiality" forbids it.
    """

    process: Optional[int]
    group: int = 0
    comm: bool = True
    places: bool = True


def program(table: int, allowed: Optional[int], ring: int, form: Form) -> Iterator[Line]:
    """Yield the program for these maps; without `allowed` it guards nothing."""
    yield move(R6, R1)
    yield from _whose(form)
    yield set_to(R1, 0)
    yield from (store64(FRAME, offset, R1) for offset in range(_START, 0, 8))
    yield from _text(_NAME, _AT_NAME, flags=True)
    yield from _look_up(table)
    yield if_equal(R0, 0, "allow")
    if form.process is not None:
        yield store64(FRAME, _START, R8)
    yield load64(R8, R0, 0)
    yield if_equal(R8, 0, "allow")
    yield from (move(R1, R8), exclusive_or(R1, R7), shift_right(R1, _FLAGS), if_equal(R1, 0, "held"))
    yield from (move(R1, R8), both(R1, _SHARED), if_equal(R1, 0, "allow"))
    yield "held"
    if form.places:
        yield from _place()
    yield set_to(R9, 1)
    if form.process is not None and form.comm:
        yield from (move(R1, FRAME), add(R1, _AT_COMM), set_to(R2, 16), call(_COMM))
    yield call(_CGROUP_ID)
    yield store64(FRAME, _AT_CGROUP, R0)
    if allowed is not None:
        yield from _guard(allowed, ancestors=form.process is not None)
    yield "tell"
    yield from (call(_TIME), store64(FRAME, _AT_TIME, R0))
    yield from _text(_OLD_VALUE, _AT_OLD)
    yield from _text(_NEW_VALUE, _AT_NEW)
    yield from set_map(R1, ring)
    yield from (move(R2, FRAME), add(R2, _START), set_to(R3, SIZE), set_to(R4, 0), call(_RING_OUTPUT))
    yield if_equal(R0, 0, "end")
    yield set_to(R1, LOST)
    yield from _bucket(table)
    yield if_equal(R0, 0, "end")
    yield set_to(R1, 1)
    yield add_atomically(R0, 0, R1)
    yield "end"
    yield from (move(R0, R9), leave())
    yield "allow"
    yield from (set_to(R0, 1), leave())


def _whose(form: Form) -> Iterator[Line]:
    """Go on with a write by others, with 1 in r9, or with a read by us, with 0; r8 is the process."""
    yield load32(R9, R6, 0)  # ctx->write
    if form.process is not None:
        yield from (call(_PID_TGID), move(R8, R0), shift_right(R0, 32), if_not_equal(R0, form.process, "other"))
        yield if_not_equal(R9, 0, "allow")
        yield if_equal(R9, 0, "name" if form.places else "allow")
        yield "other"
    elif form.places and form.group:
        yield if_not_equal(R9, 0, "name")
        yield from (call(_CGROUP_ID), *set_wide(R1, form.group), if_same(R0, R1, "name"))
    yield if_equal(R9, 0, "allow")
    yield "name"


def _place() -> Iterator[Line]:
    """Learn of a read where our sysctl is, and end; go on with a write unless it is to another one."""
    yield store64(FRAME, _AT_ENTRY, R0)
    yield from (move(R3, R6), *_read_kernel(_AT_HEAD, 16))  # struct bpf_sysctl_kern: the header and the table
    yield from (load64(R3, FRAME, _AT_HEAD), add(R3, _SET), *_read_kernel(_AT_SET, 8))
    yield from (load64(R3, FRAME, _AT_TABLE), add(R3, _DATA), *_read_kernel(_AT_DATA, 8))
    yield from (load64(R1, FRAME, _AT_ENTRY), load64(R2, FRAME, _AT_SET), load64(R3, FRAME, _AT_DATA))
    yield if_not_equal(R9, 0, "written")
    yield from (both(R8, _SHARED), if_not_equal(R8, 0, "allow"))  # of which of them it would be is not known
    yield from (store64(R1, 8, R2), store64(R1, 16, R3), if_equal(R9, 0, "allow"))
    yield "written"
    yield from (load64(R4, R1, 8), if_equal(R4, 0, "told"), if_equal(R2, 0, "told"), if_same(R4, R2, "ours"))
    # Some values are the same in several sets: net.netfilter.nf_conntrack_max, which others may write before 5.12.
    yield from (load64(R4, R1, 16), if_equal(R4, 0, "told"), if_equal(R3, 0, "told"), if_same(R4, R3, "told"))
    yield if_not_equal(R9, 0, "allow")
    yield "ours"
    yield from (set_to(R1, 1), store64(FRAME, _AT_OURS, R1))
    yield "told"


def _read_kernel(offset: int, size: int) -> Iterator[Line]:
    """Have what is at the address in r3 put on the stack; zeros where it cannot be read."""
    yield from (move(R1, FRAME), add(R1, offset), set_to(R2, size), call(_READ_KERNEL))


def _guard(allowed: int, ancestors: bool) -> Iterator[Line]:
    """Go on with "tell", with 0 in r9 if the write is to be refused; r7 is the digest and r8 the bucket."""
    yield from (move(R1, R8), both(R1, _GUARDED), if_equal(R1, 0, "tell"))
    yield from (move(R1, R8), exclusive_or(R1, R7), shift_right(R1, _FLAGS), if_not_equal(R1, 0, "tell"))
    groups = [_AT_CGROUP]
    if ancestors:
        groups = [_AT_ANCESTORS + 8 * level for level in range(_DEPTH)]
        for level, group in enumerate(groups, 1):
            yield from (set_to(R1, level), call(_ANCESTOR_ID), store64(FRAME, group, R0))
    yield from (set_to(R1, 0), store32(FRAME, _AT_BUCKET, R1), *set_map(R1, allowed))
    yield from (move(R2, FRAME), add(R2, _AT_BUCKET), call(_MAP_LOOKUP), if_equal(R0, 0, "refuse"))
    for slot in range(ALLOWED):
        yield from (load64(R2, R0, 8 * slot), if_equal(R2, 0, "refuse"))
        for group in groups:
            yield from (load64(R1, FRAME, group), if_same(R1, R2, "tell"))
    yield "refuse"
    yield from (set_to(R9, 0), set_to(R1, 1), store64(FRAME, _AT_REFUSED, R1))


def _text(helper: int, offset: int, flags: bool = False) -> Iterator[Line]:
    """Have a helper put a text on the stack."""
    yield from (move(R1, R6), move(R2, FRAME), add(R2, offset), set_to(R3, _TEXT))
    if flags:
        yield set_to(R4, 0)
    yield call(helper)


def _look_up(table: int) -> Iterator[Line]:
    """Leave the address of the name's bucket in r0."""
    yield from set_wide(R7, _BASIS)
    yield from set_wide(R2, _PRIME)
    for offset in range(0, _TEXT, 8):
        yield from (load64(R1, FRAME, _AT_NAME + offset), exclusive_or(R7, R1), multiply(R7, R2))
    yield from (move(R1, R7), shift_right(R1, 64 - BITS))
    yield from _bucket(table)


def _bucket(table: int) -> Iterator[Line]:
    """Leave the address of the bucket in r0 whose number is in r1."""
    yield store32(FRAME, _AT_BUCKET, R1)
    yield from set_map(R1, table)
    yield from (move(R2, FRAME), add(R2, _AT_BUCKET), call(_MAP_LOOKUP))


def entry(name: bytes, guarded: bool = False) -> tuple[int, int]:
    """Return the bucket of a sysctl, named by its path below /proc/sys, and its mark if it is held."""
    digest = _digest(name)
    return digest >> 64 - BITS, digest >> _FLAGS << _FLAGS | _HELD | (_GUARDED if guarded else 0)


def both_held(mark: int, other: int) -> int:
    """Return the mark of a bucket that two names share, of which one can be guarded."""
    return max(mark, other, key=lambda each: each & _GUARDED) | _SHARED


def _digest(name: bytes) -> int:
    digest = _BASIS
    for (word,) in struct.iter_unpack("<Q", named(name)):
        digest = (digest ^ word) * _PRIME & _WORD
    return digest


def name(record: bytes) -> bytes:
    """Return the name of the sysctl that a record is about, as it stands there."""
    return record[_NAME_IN_RECORD]


def named(name: bytes) -> bytes:
    """Return how the name of a sysctl, its path below /proc/sys, stands in a record."""
    return name[:_LONGEST].ljust(_TEXT, b"\0")


def what(record: bytes) -> bytes:
    """Return what is equal in two records of the same writer's doing the same: all but the value before, and when."""
    return record[: SIZE + _AT_OLD]


def told(record: bytes) -> Told:
    """Return what a record says. Raises struct.error if it is too short."""
    process, cgroup, *texts, written, ours, refused, before, at = _RECORD.unpack_from(record)
    comm, name, new, old = (
        text.partition(b"\0")[0].decode("utf-8", "surrogateescape") for text in (*texts, written, before)
    )
    whole = len(written.rstrip(b"\0")) < _TEXT - 1
    return Told(process >> 32, cgroup, comm, name, old, new, whole, bool(ours), bool(refused), at / 1e9)
