"""Instructions of BPF, as on every little-endian machine (Documentation/bpf/standardization/instruction-set.rst)."""

from __future__ import annotations

import struct
from collections.abc import Iterable
from typing import Callable, NamedTuple, Union

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


def _alu_reg(opcode: int) -> Callable[[int, int], Instruction]:
    return lambda dst, src: Instruction(opcode, dst, src)


def _alu_imm(opcode: int) -> Callable[[int, int], Instruction]:
    """Return an instruction with a register and a signed 32-bit number."""
    return lambda dst, imm: Instruction(opcode, dst, imm=imm)


def _load(opcode: int) -> Callable[[int, int, int], Instruction]:
    return lambda dst, src, offset: Instruction(opcode, dst, src, offset)


def _store(opcode: int) -> Callable[[int, int, int], Instruction]:
    return lambda dst, offset, src: Instruction(opcode, dst, src, offset)


def _jump_imm(opcode: int) -> Callable[[int, int, str], Instruction]:
    return lambda dst, imm, label: Instruction(opcode, dst, imm=imm, jump=label)


mov_reg, mul_reg, xor_reg = _alu_reg(0xBF), _alu_reg(0x2F), _alu_reg(0xAF)
mov_imm, add_imm, and_imm, rsh_imm = _alu_imm(0xB7), _alu_imm(0x07), _alu_imm(0x57), _alu_imm(0x77)
ldx_w, ldx_dw = _load(0x61), _load(0x79)
stx_w, stx_dw = _store(0x63), _store(0x7B)
atomic_add = _store(0xDB)  # of a register to 64 bits of memory
jeq_imm, jne_imm = _jump_imm(0x15), _jump_imm(0x55)


def jeq_reg(dst: int, src: int, label: str) -> Instruction:
    return Instruction(0x1D, dst, src, jump=label)


def call(helper: int) -> Instruction:
    return Instruction(0x85, imm=helper)


def exit_() -> Instruction:
    return Instruction(0x95)


def ld_imm64(dst: int, imm: int) -> tuple[Instruction, Instruction]:
    return Instruction(0x18, dst, imm=imm & 0xFFFFFFFF), Instruction(0, imm=imm >> 32)


def ld_map_fd(dst: int, descriptor: int) -> tuple[Instruction, Instruction]:
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
