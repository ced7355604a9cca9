"""depmod's binary indexes: the results of libkmod, and invalid files."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.modprobe.module_index import DamagedError, ModuleIndex
from ipvsd.sysctl import globs
from tests.trees import write_index

KEYS = st.text("ab*?[]_1", min_size=1, max_size=6)
NAMES = st.text("ab]_1", min_size=1, max_size=6)  # libkmod finds a pattern twice if the name has a wildcard


def index(path: Path, values: dict[str, list[str]]) -> ModuleIndex:
    write_index(path, values)
    return ModuleIndex(path.read_bytes())


def test_a_key_is_found_with_its_value_and_nothing_else_is(tmp_path: Path) -> None:
    found = index(tmp_path / "x.bin", {"ip_vs": ["a:"], "ip_vs_rr": ["b: a"], "ip": ["c:"]})
    assert [found.value(name) for name in ("ip_vs", "ip_vs_rr", "ip", "i", "ip_vs_", "", "x")] == [
        "a:", "b: a", "c:", None, None, None, None,
    ]  # fmt: skip


def test_patterns_that_fit_are_found_in_the_order_of_their_priority(tmp_path: Path) -> None:
    found = index(tmp_path / "x.bin", {"net-pf-*": ["one", "two"], "net-pf-1?": ["three"], "net-pf-10": ["four"]})
    assert found.matching("net-pf-10") == ["four", "three", "one", "two"]
    assert found.matching("net-pf-2") == ["one", "two"]
    assert found.matching("net") == []


@given(st.dictionaries(KEYS, st.just(["x"]), max_size=8), NAMES)
def test_every_pattern_that_fits_is_found(
    tmp_path_factory: pytest.TempPathFactory, keys: dict[str, list[str]], name: str
) -> None:
    found = index(tmp_path_factory.mktemp("index") / "x.bin", keys)
    assert len(found.matching(name)) == sum(globs.matches(key, name) for key in keys)
    assert (found.value(name) is not None) is (name in keys)


@pytest.mark.parametrize(
    "data", [b"", b"\xb0\x07\xf4\x57", b"nonsense, and more of it", b"\xb0\x07\xf4\x57\0\3\0\0\0\0\0\0"]
)
def test_invalid_data_is_reported_as_no_index(data: bytes) -> None:
    with pytest.raises(DamagedError):
        ModuleIndex(data)


def test_a_cyclic_index_ends() -> None:
    circle = bytes((42, 42)) + (12 | 1 << 29).to_bytes(4, "big")  # `*`, and the same node below it
    found = ModuleIndex(b"\xb0\x07\xf4\x57\0\2\0\1" + (12 | 1 << 29).to_bytes(4, "big") + circle)
    with pytest.raises(DamagedError):
        found.matching("ip_vs")


@given(st.binary(max_size=80), st.integers(0, 2**32 - 1))
def test_a_damaged_index_is_no_other_error(data: bytes, root: int) -> None:
    found = ModuleIndex(b"\xb0\x07\xf4\x57\0\2\0\1" + root.to_bytes(4, "big") + data)
    for ask in (found.value, found.matching):
        try:
            ask("ip_vs")
        except DamagedError:
            pass
