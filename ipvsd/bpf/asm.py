"""The instructions of the kernel's BPF machine, and their encoding.

No compiler on the node is needed. The encoding is the same on every little-endian machine
(Documentation/bpf/standardization/instruction-set.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple, Union

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, FRAME = range(11)


class Instruction(NamedTuple):
    """One instruction; `jump` names the label that it goes to."""

    code: int
    target: int = 0
    source: int = 0
    offset: int = 0
    value: int = 0
    jump: str = ""


Line = Union[Instruction, str]  # a text is a label


def move(target: int, source: int) -> Instruction:
    return Instruction(0xBF, target, source)


def set_to(target: int, value: int) -> Instruction:
    """Set a register to a signed number of 32 bits."""
    return Instruction(0xB7, target, value=value)


def add(target: int, value: int) -> Instruction:
    return Instruction(0x07, target, value=value)


def multiply(target: int, source: int) -> Instruction:
    return Instruction(0x2F, target, source)


def exclusive_or(target: int, source: int) -> Instruction:
    return Instruction(0xAF, target, source)


def both(target: int, value: int) -> Instruction:
    """Keep the bits of a register that are set in a signed number of 32 bits, too."""
    return Instruction(0x57, target, value=value)


def shift_right(target: int, bits: int) -> Instruction:
    return Instruction(0x77, target, value=bits)


def load32(target: int, source: int, offset: int) -> Instruction:
    return Instruction(0x61, target, source, offset)


def load64(target: int, source: int, offset: int) -> Instruction:
    return Instruction(0x79, target, source, offset)


def store32(target: int, offset: int, source: int) -> Instruction:
    return Instruction(0x63, target, source, offset)


def store64(target: int, offset: int, source: int) -> Instruction:
    return Instruction(0x7B, target, source, offset)


def add_atomically(target: int, offset: int, source: int) -> Instruction:
    """Add a register to 64 bits of memory."""
    return Instruction(0xDB, target, source, offset)


def if_equal(target: int, value: int, label: str) -> Instruction:
    return Instruction(0x15, target, value=value, jump=label)


def if_not_equal(target: int, value: int, label: str) -> Instruction:
    return Instruction(0x55, target, value=value, jump=label)


def if_same(target: int, source: int, label: str) -> Instruction:
    return Instruction(0x1D, target, source, jump=label)


def call(helper: int) -> Instruction:
    return Instruction(0x85, value=helper)


def leave() -> Instruction:
    return Instruction(0x95)


def set_wide(target: int, value: int) -> tuple[Instruction, Instruction]:
    """Set a register to an unsigned number of 64 bits."""
    return Instruction(0x18, target, value=value & 0xFFFFFFFF), Instruction(0, value=value >> 32)


def set_map(target: int, descriptor: int) -> tuple[Instruction, Instruction]:
    """Set a register to the map that a descriptor stands for."""
    return Instruction(0x18, target, 1, value=descriptor), Instruction(0)


def assemble(lines: Iterable[Line]) -> bytes:
    """Return the program's machine code. Raises KeyError for a jump to a label that is not there."""
    labels: dict[str, int] = {}
    instructions: list[Instruction] = []
    for line in lines:
        if isinstance(line, str):
            labels[line] = len(instructions)
        else:
            instructions.append(line)
    encoded = []
    for at, item in enumerate(instructions):
        offset = labels[item.jump] - at - 1 if item.jump else item.offset
        value = item.value - (1 << 32) if item.value >= 1 << 31 else item.value
        encoded.append(struct.pack("<BBhi", item.code, item.source << 4 | item.target, offset, value))
    return b"".join(encoded)
