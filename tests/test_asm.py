"""The encoding, byte for byte as in Documentation/bpf/standardization/instruction-set.rst."""

from __future__ import annotations

import struct
from collections.abc import Sequence

import pytest

from ipvsd.bpf import asm
from ipvsd.bpf.asm import R0, R1, R2, R6, R9, R10, Line, assemble

# A basic instruction is opcode, registers (source above target), offset and value: 8, 4 + 4, 16 and 32 bits.
GOLDEN = [
    pytest.param(asm.mov_reg(R6, R1), "bf 16 0000 00000000", id="MOV | X | ALU64: dst = src"),
    pytest.param(asm.mov_imm(R9, 7), "b7 09 0000 07000000", id="MOV | K | ALU64: dst = imm"),
    pytest.param(asm.mov_imm(R9, -2), "b7 09 0000 feffffff", id="MOV | K | ALU64: imm has a sign"),
    pytest.param(asm.mov_imm(R9, 1 << 31), "b7 09 0000 00000080", id="a value beyond the sign keeps its bits"),
    pytest.param(asm.mov_imm(R9, (1 << 32) - 1), "b7 09 0000 ffffffff", id="the greatest value keeps its bits"),
    pytest.param(asm.add_imm(R2, -232), "07 02 0000 18ffffff", id="ADD | K | ALU64: dst += imm"),
    pytest.param(asm.mul_reg(R1, R2), "2f 21 0000 00000000", id="MUL | X | ALU64: dst *= src"),
    pytest.param(asm.xor_reg(R1, R2), "af 21 0000 00000000", id="XOR | X | ALU64: dst ^= src"),
    pytest.param(asm.rsh_imm(R1, 50), "77 01 0000 32000000", id="RSH | K | ALU64: dst >>= imm"),
    pytest.param(asm.ldx_w(R0, R6, 4), "61 60 0400 00000000", id="LDX | MEM | W: dst = *(u32 *) (src + off)"),
    pytest.param(asm.ldx_dw(R1, R10, -8), "79 a1 f8ff 00000000", id="LDX | MEM | DW: dst = *(u64 *) (src + off)"),
    pytest.param(asm.stx_w(R10, -4, R1), "63 1a fcff 00000000", id="STX | MEM | W: *(u32 *) (dst + off) = src"),
    pytest.param(asm.stx_dw(R10, -8, R1), "7b 1a f8ff 00000000", id="STX | MEM | DW: *(u64 *) (dst + off) = src"),
    pytest.param(asm.atomic_add(R0, 8, R1), "db 10 0800 00000000", id="STX | ATOMIC | DW, imm is ADD"),
    pytest.param(asm.and_imm(R1, 2), "57 01 0000 02000000", id="AND | K | ALU64: dst &= imm"),
    pytest.param(asm.call(130), "85 00 0000 82000000", id="CALL | K | JMP: a helper by its number"),
    pytest.param(asm.exit_(), "95 00 0000 00000000", id="EXIT | K | JMP"),
]


@pytest.mark.parametrize(("instruction", "encoded"), GOLDEN)
def test_an_instruction_is_encoded_like_in_the_document(instruction: Line, encoded: str) -> None:
    assert assemble([instruction]).hex() == encoded.replace(" ", "")


@pytest.mark.parametrize(
    ("value", "encoded"),
    [
        pytest.param(0xCBF29CE484222325, "18 07 0000 25232284 00 00 0000 e49cf2cb", id="both halves beyond a sign"),
        pytest.param(0x100000001B3, "18 07 0000 b3010000 00 00 0000 00010000", id="a small low half"),
        pytest.param(1 << 31, "18 07 0000 00000080 00 00 0000 00000000", id="the sign of the low half"),
        pytest.param(1 << 63, "18 07 0000 00000000 00 00 0000 00000080", id="the sign of the high half"),
        pytest.param((1 << 64) - 1, "18 07 0000 ffffffff 00 00 0000 ffffffff", id="the greatest"),
        pytest.param(0, "18 07 0000 00000000 00 00 0000 00000000", id="none"),
    ],
)
def test_a_wide_number_takes_two_instructions(value: int, encoded: str) -> None:
    assert assemble(asm.ld_imm64(7, value)).hex() == encoded.replace(" ", "")


def test_a_map_is_a_wide_number_marked_as_a_descriptor() -> None:
    assert assemble(asm.ld_map_fd(R1, 258)).hex() == "1811000002010000" + "0000000000000000"


@pytest.mark.parametrize(
    ("jump", "encoded"),
    [
        pytest.param(asm.jeq_imm(R2, 4242, "end"), "15 02 0000 92100000", id="JEQ | K | JMP"),
        pytest.param(asm.jne_imm(R2, 4242, "end"), "55 02 0000 92100000", id="JNE | K | JMP"),
        pytest.param(asm.jeq_reg(R1, R2, "end"), "1d 21 0000 00000000", id="JEQ | X | JMP"),
    ],
)
def test_a_jump_is_encoded_like_in_the_document(jump: Line, encoded: str) -> None:
    assert assemble([jump, "end"]).hex() == encoded.replace(" ", "")


@pytest.mark.parametrize(
    ("lines", "offset"),
    [
        pytest.param((asm.jeq_imm(R0, 0, "end"), "end"), 0, id="to the next"),
        pytest.param((asm.jeq_imm(R0, 0, "end"), asm.exit_(), "end"), 1, id="over one"),
        pytest.param((asm.jeq_imm(R0, 0, "end"), *asm.ld_imm64(R1, 5), "end"), 2, id="over a wide one"),
        pytest.param((asm.jeq_imm(R0, 0, "end"), "other", "end", asm.exit_()), 0, id="labels take no room"),
        pytest.param(("start", asm.jeq_imm(R0, 0, "start")), -1, id="to itself"),
    ],
)
def test_a_jump_counts_the_instructions_after_it(lines: Sequence[Line], offset: int) -> None:
    assert struct.unpack("<BBhi", assemble(lines)[:8]) == (0x15, R0, offset, 0)  # JEQ | K | JMP


def test_a_jump_to_an_unknown_label_is_an_error() -> None:
    with pytest.raises(KeyError, match="nowhere"):
        assemble([asm.jeq_imm(R0, 0, "nowhere"), asm.exit_()])
