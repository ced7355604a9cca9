"""An emulator of the few instructions and helpers of ipvsd's program, by the kernel's instruction set document.

The real verifier loads every form of the program in tests/namespace, so the emulator does not repeat its rules. It
finds wrong results without root and in milliseconds, also in situations that a test cannot cause in a real kernel: a
ring without room, unreadable memory of the kernel, names that share a bucket, and processes of any id and cgroup.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Optional

from ipvsd.bpf import sysctl_program
from ipvsd.bpf.asm import assemble

WORD = (1 << 64) - 1
LOST = -1 & WORD  # in registers that a call clears
STACK_SIZE = 512
ENTRY_SIZE = 24
CONTEXT, STACK, TABLE, ALLOWED = 1 << 20, 2 << 20, 3 << 20, 4 << 20
RING_MAP, TABLE_MAP, ALLOWED_MAP = 1111, 2222, 3333  # also their descriptors
HEADER, CTL_TABLE = 8 << 20, 9 << 20  # memory of the kernel itself
NO_ROOM = -11 & WORD  # -EAGAIN
TOO_LONG = -7 & WORD  # -E2BIG
FAULT = -14 & WORD  # -EFAULT

OWN, OWN_GROUP = 4000, 1 << 40 | 99
HELD = b"net/ipv4/ip_forward"
LONG = b"net/ipv4/conf/abcdefghijklmno/igmpv3_unsolicited_report_interval"


@dataclass(frozen=True)
class Write:
    """An access of a process to a sysctl."""

    name: bytes
    old: bytes = b"1\n"
    new: bytes = b"0"
    process: int = 4242
    comm: bytes = b"sysctl"
    cgroup: int = 77
    ancestors: tuple[int, ...] = (11, 77)  # from the level below the root on, including the cgroup itself
    write: bool = True
    nanoseconds: int = 10**9  # since boot
    set: int = 0xAAAA  # location of the sysctl: the set of its network namespace
    data: int = 0xDDDD  # the address of its value
    readable: bool = True  # by bpf_probe_read_kernel()


@dataclass
class Machine:
    """Runs a program for one write at a time. `records` are those in the ring, which has `room` for so many."""

    code: bytes
    table: bytearray = field(default_factory=lambda: bytearray(ENTRY_SIZE * sysctl_program.BUCKETS))
    room: int = 1000
    allowed: tuple[int, ...] = ()  # cgroups; the rest of the second map is zero
    records: list[bytes] = field(default_factory=list)
    called: list[int] = field(default_factory=list)

    def run(self, event: Write) -> int:
        """Return the program's value of r0: 1 permits the write."""
        self._event, self._registers = event, [LOST] * 11
        self._registers[1], self._registers[10] = CONTEXT, STACK + STACK_SIZE
        allowed = struct.pack("<16Q", *self.allowed, *[0] * (16 - len(self.allowed)))
        self._memory = {
            CONTEXT: bytearray(struct.pack("<II", event.write, 0)), STACK: bytearray(b"\xff" * STACK_SIZE),
            TABLE: self.table, ALLOWED: bytearray(allowed),
        }  # fmt: skip
        at = 0
        while True:
            code, registers, offset, value = struct.unpack_from("<BBhi", self.code, 8 * at)
            target, source = registers & 15, registers >> 4
            at += 1
            if code == 0x95:  # EXIT
                return self._registers[0]
            if code == 0x18:  # LD | DW | IMM, two instructions long; of a map or of a number
                high = struct.unpack_from("<i", self.code, 8 * at + 4)[0]
                self._registers[target] = value if source else (high & 0xFFFFFFFF) << 32 | value & 0xFFFFFFFF
                at += 1
            elif code == 0x85:  # JMP | CALL
                self._call(value)
            elif code & 7 == 5:  # JMP: JEQ and JNE with a number, JEQ with a register
                same = self._registers[target] == (self._registers[source] if code & 8 else value & WORD)
                at += offset if {0x15: same, 0x1D: same, 0x55: not same}[code] else 0
            elif code & 7 in (1, 3):  # LDX, STX
                self._access(code, target, source, offset)
            else:
                self._arithmetic(code, target, source, value)

    def _arithmetic(self, code: int, target: int, source: int, value: int) -> None:
        assert code & 7 == 7, f"no such instruction: {code:#x}"
        old, operand = self._registers[target], self._registers[source] if code & 8 else value & WORD
        kinds: dict[int, Callable[[], int]] = {
            0x00: lambda: old + operand, 0x20: lambda: old * operand, 0x50: lambda: old & operand,
            0x70: lambda: old >> (operand & 63), 0xA0: lambda: old ^ operand, 0xB0: lambda: operand,
        }  # fmt: skip
        self._registers[target] = kinds[code & 0xF0]() & WORD

    def _access(self, code: int, target: int, source: int, offset: int) -> None:
        size = {0x00: 4, 0x18: 8}[code & 0x18]
        if code & 7 == 1:
            self._registers[target] = int.from_bytes(self._read(self._registers[source] + offset, size), "little")
            return
        place, value = self._registers[target] + offset, self._registers[source]
        if code & 0xE0 == 0xC0:  # ATOMIC; the value 0 is ADD
            value += int.from_bytes(self._read(place, size), "little")
        self._write(place, (value & (1 << 8 * size) - 1).to_bytes(size, "little"))

    # --- helpers, by their numbers in enum bpf_func_id ----------------------------------

    def _call(self, helper: int) -> None:
        self.called.append(helper)
        event, (one, two, three, four, _) = self._event, self._registers[1:6]
        if helper in (101, 102, 103):
            assert one == CONTEXT
        if helper in (101, 130):
            assert four == 0, "flags"
        helpers: dict[int, Callable[[], int]] = {
            1: lambda: self._look_up(one, two),
            5: lambda: event.nanoseconds,
            14: lambda: event.process << 32 | event.process + 1,  # the thread differs from the process
            16: lambda: self._text(one, two, event.comm),
            80: lambda: event.cgroup,
            101: lambda: self._text(two, three, event.name),
            102: lambda: self._text(two, three, event.old),
            103: lambda: self._text(two, three, event.new),
            113: lambda: self._read_kernel(one, two, three),
            123: lambda: dict(enumerate(event.ancestors, 1)).get(one, 0),
            130: lambda: self._output(two, three),
        }
        result = helpers[helper]()
        self._registers[:6] = [result, *[LOST] * 5]

    def _look_up(self, one: int, key: int) -> int:
        (index,) = struct.unpack("<I", self._read(key, 4))
        start, size, most = {ALLOWED_MAP: (ALLOWED, 128, 1), TABLE_MAP: (TABLE, ENTRY_SIZE, sysctl_program.BUCKETS)}[
            one
        ]
        return start + size * index if index < most else 0

    def _read_kernel(self, target: int, size: int, place: int) -> int:
        # struct bpf_sysctl_kern, struct ctl_table_header and struct ctl_table, as far as the program reads them
        memory = {
            CONTEXT: struct.pack("<QQ", HEADER, CTL_TABLE),
            HEADER + 48: struct.pack("<Q", self._event.set),
            CTL_TABLE + 8: struct.pack("<Q", self._event.data),
        }
        found = memory.get(place, b"")[:size] if self._event.readable else b""
        self._write(target, found.ljust(size, b"\0"))
        return 0 if len(found) == size else FAULT

    def _text(self, place: int, room: int, text: bytes) -> int:
        self._write(place, text[: room - 1].ljust(room, b"\0"))
        return len(text) if len(text) < room else TOO_LONG

    def _output(self, place: int, size: int) -> int:
        if len(self.records) >= self.room:
            return NO_ROOM
        self.records.append(self._read(place, size))
        return 0

    # --- memory -------------------------------------------------------------------------

    def _at(self, place: int, size: int) -> tuple[bytearray, slice]:
        for start, memory in self._memory.items():
            if start <= place <= start + len(memory) - size:
                return memory, slice(place - start, place - start + size)
        raise IndexError(f"no memory at {place:#x}")

    def _read(self, place: int, size: int) -> bytes:
        memory, part = self._at(place, size)
        return bytes(memory[part])

    def _write(self, place: int, data: bytes) -> None:
        memory, part = self._at(place, len(data))
        memory[part] = data


def machine(
    *held: bytes, named: bool = True, comm: bool = True, room: int = 1000, guarded: bool = False,
    allowed: tuple[int, ...] = (), places: bool = True, group: int = OWN_GROUP, guard: Optional[int] = ALLOWED_MAP,
) -> Machine:  # fmt: skip
    """Return an emulator that runs the program, with the buckets of these names marked."""
    form = sysctl_program.Variant(OWN if named else None, group=group, comm=comm, namespaces=places)
    ran = Machine(assemble(sysctl_program.program(TABLE_MAP, guard, RING_MAP, form)), room=room, allowed=allowed)
    for name in held:
        mark(ran, *sysctl_program.find_bucket(name, guarded))
    return ran


def mark(ran: Machine, bucket: int, mark: int) -> None:
    struct.pack_into("<Q", ran.table, ENTRY_SIZE * bucket, mark)


def lost(ran: Machine) -> int:
    return int(struct.unpack_from("<Q", ran.table, ENTRY_SIZE * sysctl_program.LOST_BUCKET)[0])


def sharing(name: bytes) -> bytes:
    """Return another name in the same bucket."""
    bucket = sysctl_program.find_bucket(name)[0]
    names = (b"net/x%d" % number for number in range(1_000_000))
    return next(name for name in names if sysctl_program.find_bucket(name)[0] == bucket)


def calls(code: bytes) -> Iterator[int]:
    """Yield the helpers that any part of a program calls."""
    for at in range(0, len(code), 8):
        operation, _, _, value = struct.unpack_from("<BBhi", code, at)
        if operation == 0x85:
            yield value
