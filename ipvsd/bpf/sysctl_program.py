"""The BPF program that the kernel runs before each write to a sysctl, and the data that it shares with ipvsd.

The program reports a write if the digest of the sysctl's name marks a bucket of a table that ipvsd fills through a
mapping. The reader of the records distinguishes names that share a bucket. Its type, cgroup/sysctl, lets it see
every process of the machine, with any procfs and in any network namespace, before the kernel stores the value.

A write to a guarded sysctl fails with EPERM unless ipvsd lists the writer's cgroup in a second mapping. On 6.1, but
not on 5.10, an ancestor of the cgroup can be listed instead.

The file that the writer has opened determines the sysctl, whatever network namespace the writer is in. The kernel
keeps the sysctls of each namespace in a set. When ipvsd reads a sysctl, the program learns its set and the address
of its value, and ignores writes to another set and another value.

The offsets are the same in Linux 5.10, 6.1, 6.12, 6.18 and 7.2. On a kernel with a randomised layout of struct
ctl_table, the program can only mistake values that several network namespaces share for different ones.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ipvsd.bpf.asm import (
    R0,
    R1,
    R2,
    R3,
    R4,
    R6,
    R7,
    R8,
    R9,
    R10,
    Line,
    add_imm,
    and_imm,
    atomic_add,
    call,
    exit_,
    jeq_imm,
    jeq_reg,
    jne_imm,
    ld_imm64,
    ld_map_fd,
    ldx_dw,
    ldx_w,
    mov_imm,
    mov_reg,
    mul_reg,
    rsh_imm,
    stx_dw,
    stx_w,
    xor_reg,
)

# <linux/bpf.h>, enum bpf_func_id
_MAP_LOOKUP, _TIME, _PID_TGID, _COMM, _CGROUP_ID, _ANCESTOR_ID = 1, 5, 14, 16, 80, 123
_NAME, _OLD_VALUE, _NEW_VALUE, _READ_KERNEL, _RING_OUTPUT = 101, 102, 103, 113, 130
_SET = 48  # struct ctl_table_header, <linux/sysctl.h>
_DATA = 8  # struct ctl_table

BUCKET_BITS = 14
LOST_BUCKET = 1 << BUCKET_BITS  # the bucket that counts the records for which there was no room
BUCKETS = LOST_BUCKET + 1
MAX_ALLOWED = 16  # cgroups that may write guarded sysctls
_MAX_DEPTH = 6  # levels under the root at which the cgroup of a unit can be

# A bucket has three words: its mark, and what the program learned of the sysctl, its set and the address of its
# value. The mark is 0, or the digest of a managed name with these bits in place of its lowest.
BUCKET_WORDS = 3
_MANAGED, _GUARDED, _SHARED = 1, 2, 4
_FLAGS = 3  # bits

# A record, built on the stack. First the fields that are equal if a writer repeats a write: process, cgroup,
# command name, sysctl, new value, whether the sysctl is certainly ours, whether the write was refused. Then those
# that differ: old value and time.
_RECORD = struct.Struct("<QQ16s64s64sQQ64sQ")
RECORD_SIZE = _RECORD.size
_TEXT_SIZE = 64
_MAX_NAME = _TEXT_SIZE - 1  # characters of a reported name; the program cuts a longer one
_START = -RECORD_SIZE
_OFFSETS = (8, 16, 32, 96, 160, 168, 176, 240)
_AT_CGROUP, _AT_COMM, _AT_NAME, _AT_NEW, _AT_OURS, _AT_REFUSED, _AT_OLD, _AT_TIME = (
    _START + place for place in _OFFSETS
)
_NAME_IN_RECORD = slice(RECORD_SIZE + _AT_NAME, RECORD_SIZE + _AT_NEW)
_AT_BUCKET = _START - 8
_AT_ANCESTORS = _AT_BUCKET - 8 * _MAX_DEPTH
_AT_ENTRY, _AT_HEAD, _AT_TABLE, _AT_SET, _AT_DATA = (_AT_ANCESTORS - 40 + 8 * place for place in range(5))

# The constants of FNV-1a (http://www.isthe.com/chongo/tech/comp/fnv/), used with words instead of bytes.
_BASIS, _PRIME = 0xCBF29CE484222325, 0x100000001B3
_WORD = (1 << 64) - 1


class WriteRecord(NamedTuple):
    """A write that was about to happen. `pid` is 0 if the kernel does not permit the program to query it."""

    pid: int
    cgroup: int  # the ID, which is the inode number of its directory
    comm: str  # empty if the kernel does not permit the program to query it
    name: str  # as a path under /proc/sys
    old: str
    new: str
    complete: bool  # whether `new` is the whole text that was written
    in_our_namespace: bool  # whether the sysctl is certainly in our network namespace
    refused: bool
    at: float  # CLOCK_MONOTONIC, seconds


class Variant(NamedTuple):
    """The optional parts of a program, which depend on the kernel and on privileges.

    - `process`: The ID of ipvsd's process, whose writes are not reported. With None, the program queries neither
      the writer's process nor the ancestors of its cgroup, because 5.10 rejects both.
    - `group`: Without `process`, the program recognises ipvsd's reads by this cgroup, unless it is 0.
    - `comm`: The program queries the name of the process. 6.18 requires CAP_PERFMON for it.
    - `namespaces`: The program learns the sets of ipvsd's sysctls. Every kernel requires CAP_PERFMON for it, and
      lockdown "confidentiality" forbids it.
    """

    process: Optional[int]
    group: int = 0
    comm: bool = True
    namespaces: bool = True


def program(table: int, allowed: Optional[int], ring: int, variant: Variant) -> Iterator[Line]:
    """Yield the program for these maps. Without `allowed`, it guards nothing."""
    yield mov_reg(R6, R1)
    yield from _select_access(variant)
    yield mov_imm(R1, 0)
    yield from (stx_dw(R10, offset, R1) for offset in range(_START, 0, 8))
    yield from _read_text(_NAME, _AT_NAME, flags=True)
    yield from _hash_name(table)
    yield jeq_imm(R0, 0, "allow")
    if variant.process is not None:
        yield stx_dw(R10, _START, R8)
    yield ldx_dw(R8, R0, 0)
    yield jeq_imm(R8, 0, "allow")
    yield from (mov_reg(R1, R8), xor_reg(R1, R7), rsh_imm(R1, _FLAGS), jeq_imm(R1, 0, "held"))
    yield from (mov_reg(R1, R8), and_imm(R1, _SHARED), jeq_imm(R1, 0, "allow"))
    yield "held"
    if variant.namespaces:
        yield from _check_namespace()
    yield mov_imm(R9, 1)
    if variant.process is not None and variant.comm:
        yield from (mov_reg(R1, R10), add_imm(R1, _AT_COMM), mov_imm(R2, 16), call(_COMM))
    yield call(_CGROUP_ID)
    yield stx_dw(R10, _AT_CGROUP, R0)
    if allowed is not None:
        yield from _guard(allowed, ancestors=variant.process is not None)
    yield "tell"
    yield from (call(_TIME), stx_dw(R10, _AT_TIME, R0))
    yield from _read_text(_OLD_VALUE, _AT_OLD)
    yield from _read_text(_NEW_VALUE, _AT_NEW)
    yield from ld_map_fd(R1, ring)
    yield from (mov_reg(R2, R10), add_imm(R2, _START), mov_imm(R3, RECORD_SIZE), mov_imm(R4, 0), call(_RING_OUTPUT))
    yield jeq_imm(R0, 0, "end")
    yield mov_imm(R1, LOST_BUCKET)
    yield from _load_bucket(table)
    yield jeq_imm(R0, 0, "end")
    yield mov_imm(R1, 1)
    yield atomic_add(R0, 0, R1)
    yield "end"
    yield from (mov_reg(R0, R9), exit_())
    yield "allow"
    yield from (mov_imm(R0, 1), exit_())


def _select_access(variant: Variant) -> Iterator[Line]:
    """Continue with a write of another process (r9 is 1), or with a read of ipvsd (r9 is 0). r8 is the process."""
    yield ldx_w(R9, R6, 0)  # ctx->write
    if variant.process is not None:
        yield from (call(_PID_TGID), mov_reg(R8, R0), rsh_imm(R0, 32), jne_imm(R0, variant.process, "other"))
        yield jne_imm(R9, 0, "allow")
        yield jeq_imm(R9, 0, "name" if variant.namespaces else "allow")
        yield "other"
    elif variant.namespaces and variant.group:
        yield jne_imm(R9, 0, "name")
        yield from (call(_CGROUP_ID), *ld_imm64(R1, variant.group), jeq_reg(R0, R1, "name"))
    yield jeq_imm(R9, 0, "allow")
    yield "name"


def _check_namespace() -> Iterator[Line]:
    """End after a read by storing the set and address of our sysctl. Continue only with a write to the same one."""
    yield stx_dw(R10, _AT_ENTRY, R0)
    yield from (mov_reg(R3, R6), *_read_kernel(_AT_HEAD, 16))  # struct bpf_sysctl_kern: the header and the table
    yield from (ldx_dw(R3, R10, _AT_HEAD), add_imm(R3, _SET), *_read_kernel(_AT_SET, 8))
    yield from (ldx_dw(R3, R10, _AT_TABLE), add_imm(R3, _DATA), *_read_kernel(_AT_DATA, 8))
    yield from (ldx_dw(R1, R10, _AT_ENTRY), ldx_dw(R2, R10, _AT_SET), ldx_dw(R3, R10, _AT_DATA))
    yield jne_imm(R9, 0, "written")
    yield from (and_imm(R8, _SHARED), jne_imm(R8, 0, "allow"))  # it is unknown which of the names it would be
    yield from (stx_dw(R1, 8, R2), stx_dw(R1, 16, R3), jeq_imm(R9, 0, "allow"))
    yield "written"
    yield from (ldx_dw(R4, R1, 8), jeq_imm(R4, 0, "told"), jeq_imm(R2, 0, "told"), jeq_reg(R4, R2, "ours"))
    # Several sets share some values: net.netfilter.nf_conntrack_max, which other namespaces may write before 5.12.
    yield from (ldx_dw(R4, R1, 16), jeq_imm(R4, 0, "told"), jeq_imm(R3, 0, "told"), jeq_reg(R4, R3, "told"))
    yield jne_imm(R9, 0, "allow")
    yield "ours"
    yield from (mov_imm(R1, 1), stx_dw(R10, _AT_OURS, R1))
    yield "told"


def _read_kernel(offset: int, size: int) -> Iterator[Line]:
    """Copy `size` bytes from the address in r3 to the stack, or zeros if the address cannot be read."""
    yield from (mov_reg(R1, R10), add_imm(R1, offset), mov_imm(R2, size), call(_READ_KERNEL))


def _guard(allowed: int, ancestors: bool) -> Iterator[Line]:
    """Continue at "tell", with 0 in r9 to refuse the write. r7 is the digest, and r8 the mark of the bucket."""
    yield from (mov_reg(R1, R8), and_imm(R1, _GUARDED), jeq_imm(R1, 0, "tell"))
    yield from (mov_reg(R1, R8), xor_reg(R1, R7), rsh_imm(R1, _FLAGS), jne_imm(R1, 0, "tell"))
    groups = [_AT_CGROUP]
    if ancestors:
        groups = [_AT_ANCESTORS + 8 * level for level in range(_MAX_DEPTH)]
        for level, group in enumerate(groups, 1):
            yield from (mov_imm(R1, level), call(_ANCESTOR_ID), stx_dw(R10, group, R0))
    yield from (mov_imm(R1, 0), stx_w(R10, _AT_BUCKET, R1), *ld_map_fd(R1, allowed))
    yield from (mov_reg(R2, R10), add_imm(R2, _AT_BUCKET), call(_MAP_LOOKUP), jeq_imm(R0, 0, "refuse"))
    for slot in range(MAX_ALLOWED):
        yield from (ldx_dw(R2, R0, 8 * slot), jeq_imm(R2, 0, "refuse"))
        for group in groups:
            yield from (ldx_dw(R1, R10, group), jeq_reg(R1, R2, "tell"))
    yield "refuse"
    yield from (mov_imm(R9, 0), mov_imm(R1, 1), stx_dw(R10, _AT_REFUSED, R1))


def _read_text(helper: int, offset: int, flags: bool = False) -> Iterator[Line]:
    yield from (mov_reg(R1, R6), mov_reg(R2, R10), add_imm(R2, offset), mov_imm(R3, _TEXT_SIZE))
    if flags:
        yield mov_imm(R4, 0)
    yield call(helper)


def _hash_name(table: int) -> Iterator[Line]:
    """Set r0 to the address of the name's bucket."""
    yield from ld_imm64(R7, _BASIS)
    yield from ld_imm64(R2, _PRIME)
    for offset in range(0, _TEXT_SIZE, 8):
        yield from (ldx_dw(R1, R10, _AT_NAME + offset), xor_reg(R7, R1), mul_reg(R7, R2))
    yield from (mov_reg(R1, R7), rsh_imm(R1, 64 - BUCKET_BITS))
    yield from _load_bucket(table)


def _load_bucket(table: int) -> Iterator[Line]:
    """Set r0 to the address of the bucket whose number is in r1."""
    yield stx_w(R10, _AT_BUCKET, R1)
    yield from ld_map_fd(R1, table)
    yield from (mov_reg(R2, R10), add_imm(R2, _AT_BUCKET), call(_MAP_LOOKUP))


def find_bucket(name: bytes, guarded: bool = False) -> tuple[int, int]:
    """Return the bucket of a sysctl, named by its path under /proc/sys, and its mark if it is managed."""
    digest = _digest(name)
    return digest >> 64 - BUCKET_BITS, digest >> _FLAGS << _FLAGS | _MANAGED | (_GUARDED if guarded else 0)


def shared_mark(mark: int, other: int) -> int:
    """Return the mark of a bucket that two names share. One of them can be guarded."""
    return max(mark, other, key=lambda each: each & _GUARDED) | _SHARED


def _digest(name: bytes) -> int:
    digest = _BASIS
    for (word,) in struct.iter_unpack("<Q", name_in_record(name)):
        digest = (digest ^ word) * _PRIME & _WORD
    return digest


def record_name(record: bytes) -> bytes:
    return record[_NAME_IN_RECORD]


def name_in_record(name: bytes) -> bytes:
    """Return the name of a sysctl, its path under /proc/sys, as a record stores it."""
    return name[:_MAX_NAME].ljust(_TEXT_SIZE, b"\0")


def record_key(record: bytes) -> bytes:
    """Return the part of a record that is equal if a writer repeats a write: all but the old value and the time."""
    return record[: RECORD_SIZE + _AT_OLD]


def parse_record(record: bytes) -> WriteRecord:
    """Parse a record. Raises struct.error if it is too short."""
    process, cgroup, *texts, written, in_our_namespace, refused, before, at = _RECORD.unpack_from(record)
    comm, name, new, old = (
        text.partition(b"\0")[0].decode("utf-8", "surrogateescape") for text in (*texts, written, before)
    )
    complete = len(written.rstrip(b"\0")) < _TEXT_SIZE - 1
    return WriteRecord(
        process >> 32, cgroup, comm, name, old, new, complete, bool(in_our_namespace), bool(refused), at / 1e9
    )
