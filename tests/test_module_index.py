"""depmod's binary indexes: the results of libkmod, and invalid files."""

from __future__ import annotations

import struct

import pytest

from ipvsd.modprobe.module_index import DamagedError, ModuleIndex
from tests.trees import index


def test_a_key_is_found_with_its_value_and_nothing_else_is() -> None:
    found = ModuleIndex(index({"ip_vs": ["a:"], "ip_vs_rr": ["b: a"], "ip": ["c:"]}))
    assert [found.value(name) for name in ("ip_vs", "ip_vs_rr", "ip", "i", "ip_vs_", "", "x")] == [
        "a:", "b: a", "c:", None, None, None, None,
    ]  # fmt: skip


def test_patterns_that_fit_are_found_in_the_order_of_their_priority() -> None:
    found = ModuleIndex(index({"net-pf-*": ["one", "two"], "net-pf-1?": ["three"], "net-pf-10": ["four"]}))
    assert found.matching("net-pf-10") == ["four", "three", "one", "two"]
    assert found.matching("net-pf-2") == ["one", "two"]
    assert found.matching("net") == []


def test_a_wildcard_in_a_prefix_is_one_of_the_pattern() -> None:
    found = ModuleIndex(index({"ab?d": ["one"], "axb?": ["two"]}))
    assert [found.matching(name) for name in ("abcd", "abcdd", "abd", "axbc")] == [["one"], [], [], ["two"]]


@pytest.mark.parametrize(
    "data", [b"", b"\xb0\x07\xf4\x57", b"nonsense, and more of it", b"\xb0\x07\xf4\x57\0\3\0\0\0\0\0\0"]
)
def test_invalid_data_is_reported_as_no_index(data: bytes) -> None:
    with pytest.raises(DamagedError):
        ModuleIndex(data)


HEAD = b"\xb0\x07\xf4\x57\0\2\0\1"


def test_nodes_that_depmod_has_merged_are_read_and_a_file_that_was_cut_off_is_damaged() -> None:
    data = HEAD + struct.pack(">I", 12 | 3 << 30) + b"ip\0" + struct.pack(">II", 1, 0) + b"a:\0"
    assert [ModuleIndex(data).value(name) for name in ("ip", "i", "ip_vs")] == ["a:", None, None]
    for length in range(12, len(data)):
        with pytest.raises(DamagedError):
            ModuleIndex(data[:length]).value("ip")


def test_a_cyclic_index_ends() -> None:
    circle = bytes((42, 42)) + (12 | 1 << 29).to_bytes(4, "big")  # `*`, and the same node below it
    found = ModuleIndex(HEAD + (12 | 1 << 29).to_bytes(4, "big") + circle)
    with pytest.raises(DamagedError):
        found.matching("ip_vs")
