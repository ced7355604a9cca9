"""The instructions of the kernel's BPF machine, and their encoding.

So the node needs no compiler. The encoding is the same on every little-endian machine
(Documentation/bpf/standardization/instruction-set.rst).
"""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import NamedTuple, Union

R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, R10 = range(11)


class Instruction(NamedTuple):
    """One instruction; `jump` names the label of its target."""

    opcode: int
    dst: int = 0
    src: int = 0
    offset: int = 0
    imm: int = 0
    jump: str = ""


Line = Union[Instruction, str]  # a text is a label


def mov_reg(dst: int, src: int) -> Instruction:
    return Instruction(0xBF, dst, src)


def mov_imm(dst: int, imm: int) -> Instruction:
    """Set a register to a signed 32-bit number."""
    return Instruction(0xB7, dst, imm=imm)


def add_imm(dst: int, imm: int) -> Instruction:
    return Instruction(0x07, dst, imm=imm)


def mul_reg(dst: int, src: int) -> Instruction:
    return Instruction(0x2F, dst, src)


def xor_reg(dst: int, src: int) -> Instruction:
    return Instruction(0xAF, dst, src)


def and_imm(dst: int, imm: int) -> Instruction:
    """Set a register to its bitwise AND with a signed 32-bit number."""
    return Instruction(0x57, dst, imm=imm)


def rsh_imm(dst: int, imm: int) -> Instruction:
    return Instruction(0x77, dst, imm=imm)


def ldx_w(dst: int, src: int, offset: int) -> Instruction:
    return Instruction(0x61, dst, src, offset)


def ldx_dw(dst: int, src: int, offset: int) -> Instruction:
    return Instruction(0x79, dst, src, offset)


def stx_w(dst: int, offset: int, src: int) -> Instruction:
    return Instruction(0x63, dst, src, offset)


def stx_dw(dst: int, offset: int, src: int) -> Instruction:
    return Instruction(0x7B, dst, src, offset)


def atomic_add(dst: int, offset: int, src: int) -> Instruction:
    """Add a register to 64 bits of memory, atomically."""
    return Instruction(0xDB, dst, src, offset)


def jeq_imm(dst: int, imm: int, label: str) -> Instruction:
    return Instruction(0x15, dst, imm=imm, jump=label)


def jne_imm(dst: int, imm: int, label: str) -> Instruction:
    return Instruction(0x55, dst, imm=imm, jump=label)


def jeq_reg(dst: int, src: int, label: str) -> Instruction:
    return Instruction(0x1D, dst, src, jump=label)


def call(helper: int) -> Instruction:
    return Instruction(0x85, imm=helper)


def exit_() -> Instruction:
    return Instruction(0x95)


def ld_imm64(dst: int, imm: int) -> tuple[Instruction, Instruction]:
    """Set a register to an unsigned 64-bit number."""
    return Instruction(0x18, dst, imm=imm & 0xFFFFFFFF), Instruction(0, imm=imm >> 32)


def ld_map_fd(dst: int, descriptor: int) -> tuple[Instruction, Instruction]:
    """Set a register to the map of a descriptor."""
    return Instruction(0x18, dst, 1, imm=descriptor), Instruction(0)


def assemble(lines: Iterable[Line]) -> bytes:
    """Return the program's machine code. Raises KeyError for a jump to a label that does not exist."""
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
        imm = item.imm - (1 << 32) if item.imm >= 1 << 31 else item.imm
        encoded.append(struct.pack("<BBhi", item.opcode, item.src << 4 | item.dst, offset, imm))
    return b"".join(encoded)
