"""The BPF program on an emulator of its instructions, with some managed sysctls."""

from __future__ import annotations

import struct

from ipvsd.bpf import sysctl_program
from ipvsd.bpf.asm import assemble
from tests.bpf_machine import ALLOWED_FD, RING_FD, TABLE_FD, Machine

OWN, OWN_GROUP = 4000, 1 << 40 | 99
HELD = b"net/ipv4/ip_forward"
LONG = b"net/ipv4/conf/abcdefghijklmno/igmpv3_unsolicited_report_interval"


def machine(
    *held: bytes,
    named: bool = True,
    comm: bool = True,
    room: int = 1000,
    guarded: bool = False,
    allowed: tuple[int, ...] = (),
    places: bool = True,
) -> Machine:
    """Return an emulator that runs the program, with the buckets of these names marked."""
    form = sysctl_program.Variant(OWN if named else None, group=OWN_GROUP, comm=comm, namespaces=places)
    ran = Machine(
        assemble(sysctl_program.program(TABLE_FD, ALLOWED_FD, RING_FD, form)),
        bytearray(24 * sysctl_program.BUCKETS),
        room,
    )
    ran.allowed = allowed
    for name in held:
        mark(ran, *sysctl_program.find_bucket(name, guarded))
    return ran


def mark(ran: Machine, bucket: int, mark: int) -> None:
    struct.pack_into("<Q", ran.table, 24 * bucket, mark)


def lost(ran: Machine) -> int:
    return int(struct.unpack_from("<Q", ran.table, 24 * sysctl_program.LOST_BUCKET)[0])


def sharing(name: bytes) -> bytes:
    """Return another name in the same bucket."""
    bucket = sysctl_program.find_bucket(name)[0]
    return next(
        name
        for name in (b"net/x%d" % number for number in range(1_000_000))
        if sysctl_program.find_bucket(name)[0] == bucket
    )
