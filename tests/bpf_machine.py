"""An emulator of the few instructions and helpers of ipvsd's program, by the kernel's instruction set document.

It is as strict as the kernel's verifier where that is simple. Unwritten memory cannot be read, a call clears r1 to
r5, and memory is limited to the context, the stack and the table.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Optional

WORD = (1 << 64) - 1
STACK_SIZE = 512
ALLOWED_SIZE = 128
ENTRY_SIZE = 24
CONTEXT, STACK, TABLE = 1 << 20, 2 << 20, 3 << 20
RING_FD, TABLE_FD, ALLOWED_FD = 1111, 2222, 3333
RING_MAP, TABLE_MAP, ALLOWED_MAP, ALLOWED = 4 << 20, 5 << 20, 6 << 20, 7 << 20
HEADER, CTL_TABLE = 8 << 20, 9 << 20  # memory of the kernel itself
NO_ROOM = -11 & WORD  # -EAGAIN
TOO_LONG = -7 & WORD  # -E2BIG
FAULT = -14 & WORD  # -EFAULT


class RefusedError(Exception):
    """The verifier would reject this."""


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
    table: bytearray
    room: int = 1000
    records: list[bytes] = field(default_factory=list)
    called: list[int] = field(default_factory=list)
    allowed: tuple[int, ...] = ()  # cgroups; the rest of the second map is zero

    def run(self, event: Write) -> int:
        """Return the program's value of r0: 1 permits the write."""
        self._event = event
        self._stack: list[Optional[int]] = [None] * STACK_SIZE
        self._registers: list[Optional[int]] = [None] * 11
        self._registers[1], self._registers[10] = CONTEXT, STACK + STACK_SIZE
        at = 0
        while True:
            code, registers, offset, value = struct.unpack_from("<BBhi", self.code, 8 * at)
            target, source = registers & 15, registers >> 4
            at += 1
            if code == 0x95:  # EXIT
                return self._get(0)
            if code == 0x18:  # LD | DW | IMM, two instructions long
                self._wide(target, source, value, struct.unpack_from("<BBhi", self.code, 8 * at))
                at += 1
            elif code & 7 == 5 and code != 0x85:  # JMP: JEQ and JNE with a number, JEQ with a register
                at += offset if self._jumps(code, target, source, value) else 0
            elif code == 0x85:  # JMP | CALL
                self._call(value)
            elif code & 7 in (1, 3):  # LDX, STX
                self._memory(code, target, source, offset)
            else:
                self._arithmetic(code, target, source, value)

    def _jumps(self, code: int, target: int, source: int, value: int) -> bool:
        same = self._get(target) == (self._get(source) if code & 8 else value & WORD)
        return {0x15: same, 0x1D: same, 0x55: not same}[code]

    def _arithmetic(self, code: int, target: int, source: int, value: int) -> None:
        if code & 7 != 7:
            raise RefusedError(f"no such instruction: {code:#x}")
        operand = self._get(source) if code & 8 else value & WORD
        kind = code & 0xF0
        if kind == 0xB0:  # MOV
            self._set(target, operand)
            return
        old = self._get(target)
        kinds: dict[int, Callable[[], int]] = {
            0x00: lambda: old + operand,
            0x20: lambda: old * operand,
            0x50: lambda: old & operand,
            0x70: lambda: old >> (operand & 63),
            0xA0: lambda: old ^ operand,
        }
        self._set(target, kinds[kind]() & WORD)

    def _memory(self, code: int, target: int, source: int, offset: int) -> None:
        size = {0x00: 4, 0x18: 8}[code & 0x18]
        if code & 7 == 1:
            self._set(target, int.from_bytes(self._read(self._get(source) + offset, size), "little"))
        elif code & 0xE0 == 0xC0:  # ATOMIC; the value 0 is ADD
            place = self._get(target) + offset
            total = int.from_bytes(self._read(place, size), "little") + self._get(source)
            self._write(place, (total & WORD).to_bytes(size, "little"))
        else:
            value = self._get(source) & ((1 << 8 * size) - 1)
            self._write(self._get(target) + offset, value.to_bytes(size, "little"))

    def _wide(self, target: int, source: int, value: int, other: tuple[int, int, int, int]) -> None:
        if other[:3] != (0, 0, 0):
            raise RefusedError("half a wide instruction")
        if source == 1:  # a map, by its descriptor
            self._set(target, {RING_FD: RING_MAP, TABLE_FD: TABLE_MAP, ALLOWED_FD: ALLOWED_MAP}[value])
        else:
            self._set(target, (other[3] & 0xFFFFFFFF) << 32 | value & 0xFFFFFFFF)

    # --- helpers, by their numbers in enum bpf_func_id ----------------------------------

    def _call(self, helper: int) -> None:
        self.called.append(helper)
        event = self._event
        helpers: dict[int, Callable[[], int]] = {
            1: self._look_up,
            5: lambda: event.nanoseconds,
            14: lambda: event.process << 32 | event.process + 1,  # the thread differs from the process
            16: lambda: self._text(1, 2, event.comm),
            80: lambda: event.cgroup,
            101: lambda: self._of_sysctl(event.name),
            102: lambda: self._of_sysctl(event.old),
            103: lambda: self._of_sysctl(event.new),
            113: self._read_kernel,
            123: lambda: dict(enumerate(event.ancestors, 1)).get(self._get(1), 0),
            130: self._output,
        }
        result = helpers[helper]()
        self._registers[1:6] = [None] * 5
        self._set(0, result)

    def _look_up(self) -> int:
        (index,) = struct.unpack("<I", self._read(self._get(2), 4))
        if self._get(1) == ALLOWED_MAP:
            return 0 if index else ALLOWED
        if self._get(1) != TABLE_MAP:
            raise RefusedError("not a table")
        return TABLE + ENTRY_SIZE * index if ENTRY_SIZE * index < len(self.table) else 0

    def _read_kernel(self) -> int:
        # struct bpf_sysctl_kern, struct ctl_table_header and struct ctl_table, as far as the program reads them
        memory = {
            CONTEXT: struct.pack("<QQ", HEADER, CTL_TABLE),
            HEADER + 48: struct.pack("<Q", self._event.set),
            CTL_TABLE + 8: struct.pack("<Q", self._event.data),
        }
        place, size = self._get(3), self._get(2)
        found = memory.get(place, b"")[:size] if self._event.readable else b""
        self._write(self._get(1), found.ljust(size, b"\0"))
        return 0 if len(found) == size else FAULT

    def _of_sysctl(self, text: bytes) -> int:
        if self._get(1) != CONTEXT:
            raise RefusedError("not the context")
        if self.called[-1] == 101 and self._get(4) != 0:
            raise RefusedError("flags of the name")
        return self._text(2, 3, text)

    def _text(self, place: int, size: int, text: bytes) -> int:
        room = self._get(size)
        self._write(self._get(place), text[: room - 1].ljust(room, b"\0"))
        return len(text) if len(text) < room else TOO_LONG

    def _output(self) -> int:
        if self._get(1) != RING_MAP or self._get(4) != 0:
            raise RefusedError("not the ring, or flags")
        record = self._read(self._get(2), self._get(3))
        if len(self.records) >= self.room:
            return NO_ROOM
        self.records.append(record)
        return 0

    # --- registers and memory -----------------------------------------------------------

    def _get(self, register: int) -> int:
        value = self._registers[register]
        if value is None:
            raise RefusedError(f"r{register} was never set")
        return value

    def _set(self, register: int, value: int) -> None:
        if register == 10:
            raise RefusedError("r10 is for reading")
        self._registers[register] = value

    def _read(self, place: int, size: int) -> bytes:
        return bytes(self._byte(address) for address in range(place, place + size))

    def _byte(self, address: int) -> int:
        if CONTEXT <= address < CONTEXT + 8:
            return struct.pack("<II", self._event.write, 0)[address - CONTEXT]
        if TABLE <= address < TABLE + len(self.table):
            return self.table[address - TABLE]
        if ALLOWED <= address < ALLOWED + ALLOWED_SIZE:
            return struct.pack("<16Q", *self.allowed, *[0] * (16 - len(self.allowed)))[address - ALLOWED]
        if not STACK <= address < STACK + STACK_SIZE:
            raise RefusedError(f"no memory at {address:#x}")
        value = self._stack[address - STACK]
        if value is None:
            raise RefusedError(f"the stack at {address - STACK - STACK_SIZE} was never written")
        return value

    def _write(self, place: int, data: bytes) -> None:
        if place % min(len(data), 8):
            raise RefusedError(f"not aligned: {place:#x}")
        for address, value in enumerate(data, place):
            if TABLE <= address < TABLE + len(self.table):
                self.table[address - TABLE] = value
            elif STACK <= address < STACK + STACK_SIZE:
                self._stack[address - STACK] = value
            else:
                raise RefusedError(f"no memory at {address:#x}")


def calls(code: bytes) -> Iterator[int]:
    """Yield the helpers that any part of a program calls."""
    for at in range(0, len(code), 8):
        operation, _, _, value = struct.unpack_from("<BBhi", code, at)
        if operation == 0x85:
            yield value
