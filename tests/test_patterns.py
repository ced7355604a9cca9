"""Matching many patterns of paths at once."""

from __future__ import annotations

from collections.abc import Collection

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.sysctl.globs import Glob
from ipvsd.sysctl.patterns import Patterns, Scope
from ipvsd.sysctl.sysctl_names import Path

PARTS = st.sampled_from(["a", "b", "ab", ".a", "*", "a*", "*b", "?", "[ab]", "\\a", ".*", "[z-a]"])
NAMES = st.sampled_from(["a", "b", "ab", "ba", ".a", "c"])
PATTERNS = st.lists(st.lists(PARTS, min_size=1, max_size=3).map(tuple), max_size=6)


def fit_by_hand(pattern: Path, path: Path) -> bool:
    return len(pattern) == len(path) and all(Glob(glob).matches(part) for glob, part in zip(pattern, path))


@given(PATTERNS, st.lists(NAMES, min_size=1, max_size=3).map(tuple))
def test_they_fit_a_path_part_by_part(patterns: list[Path], path: Path) -> None:
    expected = [number for number, pattern in enumerate(patterns) if fit_by_hand(pattern, path)]
    assert Patterns(patterns).matching(path) == expected


@given(PATTERNS, st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=8))
def test_patterns_find_existing_paths(patterns: list[Path], paths: set[Path]) -> None:
    def listed(above: Path) -> Collection[str]:
        return {path[len(above)] for path in paths if path[: len(above)] == above and len(path) > len(above)}

    index = Patterns(patterns)
    found = {path: numbers for path, numbers in index.expand(listed) if path in paths}
    assert found == {path: numbers for path in paths if (numbers := index.matching(path))}


def test_a_directory_is_listed_once_for_all_patterns() -> None:
    asked: list[Path] = []

    def listed(path: Path) -> Collection[str]:
        asked.append(path)
        return ["eth0", "eth1"]

    patterns = Patterns([("net", "conf", f"eth{number}*", "x") for number in range(5)])
    assert [path for path, _ in patterns.expand(listed)] == [("net", "conf", name, "x") for name in ("eth0", "eth1")]
    assert asked == [("net", "conf")]


@pytest.mark.parametrize(
    ("pattern", "excludes", "name", "inside"),
    [
        ("net.ipv4.conf.*.forwarding", [], "net.ipv4.ip_forward", True),
        ("net.ipv4.conf.*.forwarding", ["all"], "net.ipv4.ip_forward", False),
        ("net.ipv4.conf.*.forwarding", ["al[l]"], "net.ipv4.ip_forward", False),
        ("net.ipv4.ip_*", ["all"], "net.ipv4.ip_forward", True),
        ("net.*", [], "net.netfilter.nf_conntrack_max", True),
        ("net.ipv4.conf.eth*.x", ["eth0.1"], "net.ipv4.conf.eth0/1.x", False),
        ("net.ipv4.conf.eth*.x", ["eth0.*"], "net.ipv4.conf.eth0/1.x", False),
        ("net.ipv4.conf.a\\x2a*.x", [], "net.ipv4.conf.a\\x2ab.x", True),
        ("net.ipv4.conf.a\\x2a*.x", [], "net.ipv4.conf.aab.x", False),
        ("net.ipv4.conf.*.x", ["a\\x2a*"], "net.ipv4.conf.a\\x2ab.x", False),
        ("net.ipv4.conf.*.x", ["a\\x2a*"], "net.ipv4.conf.aab.x", True),
        ("net.ipv4.conf.?.x", [], "net.ipv4.conf.\\xc3\\xa9.x", False),
        ("net.ipv4.conf.??.x", [], "net.ipv4.conf.\\xc3\\xa9.x", True),
    ],
)
def test_a_pattern_stands_for_what_it_fits_and_does_not_exclude(
    pattern: str, excludes: list[str], name: str, inside: bool
) -> None:
    assert (name in Scope(pattern, excludes)) is inside
