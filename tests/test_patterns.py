"""Matching many patterns of paths at once."""

from __future__ import annotations

import errno
import re
import sys
from collections.abc import Callable, Collection
from pathlib import Path
from types import FrameType
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.config.desired_state import build_desired, patterns
from ipvsd.config.schema import Config, SysctlSetting
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.types import Exactly
from ipvsd.sysctl.globs import Glob, numbers_of
from ipvsd.sysctl.patterns import Patterns, Scope, renumber, split
from ipvsd.sysctl.sysctl_names import Path as Parts
from tests.trees import make_tree, put

PARTS = st.sampled_from(
    [
        "a",
        "b",
        "ab",
        ".a",
        "*",
        "a*",
        "*b",
        "?",
        "[ab]",
        "\\a",
        ".*",
        "[z-a]",
        "?b",
        "[!a]*",
        "*a*b",
        "[.]a",
        "**",
        "a?",
    ]
)
NAMES = st.sampled_from(["a", "b", "ab", "ba", ".a", "c", "a.b"])
# Sometimes there are more globs than those that are compared one by one.
PATTERNS = st.lists(st.lists(PARTS, min_size=1, max_size=3).map(tuple), max_size=6) | st.lists(
    PARTS.map(lambda part: (part,)), max_size=40
)


def fit_by_hand(pattern: Parts, path: Parts) -> bool:
    return len(pattern) == len(path) and all(Glob(glob).matches(part) for glob, part in zip(pattern, path))


@given(PATTERNS, st.lists(NAMES, min_size=1, max_size=3).map(tuple))
def test_they_fit_a_path_part_by_part(patterns: list[Parts], path: Parts) -> None:
    expected = [number for number, pattern in enumerate(patterns) if fit_by_hand(pattern, path)]
    index = Patterns(patterns)
    assert (index.matching(path), index.last(path)) == (expected, max(expected, default=None))


@given(PATTERNS, st.sets(st.lists(NAMES, min_size=1, max_size=3).map(tuple), max_size=8))
def test_patterns_find_existing_paths(patterns: list[Parts], paths: set[Parts]) -> None:
    def listed(above: Parts) -> Collection[str]:
        return {path[len(above)] for path in paths if path[: len(above)] == above and len(path) > len(above)}

    index = Patterns(patterns)
    found = {path: numbers_of(mask) for path, mask in index.expand(listed, []) if path in paths}
    assert found == {path: numbers for path in paths if (numbers := index.matching(path))}


def test_a_directory_is_listed_once_for_all_patterns() -> None:
    asked: list[Parts] = []

    def listed(path: Parts) -> Collection[str]:
        asked.append(path)
        return ["eth0", "eth1"]

    patterns = Patterns([("net", "conf", f"eth{number}*", "x") for number in range(5)])
    assert [path for path, _ in patterns.expand(listed, [])] == [
        ("net", "conf", name, "x") for name in ("eth0", "eth1")
    ]
    assert asked == [("net", "conf")]


def test_a_directory_is_listed_if_many_names_are_possible() -> None:
    asked: list[Parts] = []

    def listed(path: Parts) -> Collection[str]:
        asked.append(path)
        return [] if path else ["n5", "other"]

    assert list(Patterns([(f"n{number}",) for number in range(100)]).expand(listed, [])) == [(("n5",), 1 << 5)]
    assert asked == [()]


def test_only_the_patterns_that_need_an_unreadable_directory_are_unreadable() -> None:
    def listed(path: Parts) -> Collection[str]:
        if path == ("b",):
            raise error
        return ["x", "y"] if path else ["a", "b"]

    error, errors = OSError(errno.EIO, "Input/output error", "b"), list[tuple[int, OSError]]()
    keys = ("a/*", "b/x", "b/*", "*/x*", "?/x")
    found = {"/".join(path): mask for path, mask in Patterns([key.split("/") for key in keys]).expand(listed, errors)}
    readable, unreadable = split(keys, found, errors)
    assert unreadable == {"b/*": error, "*/x*": error}
    assert {key: names for key, names in readable.items() if names} == {
        "a/*": ["a/x", "a/y"], "b/x": ["b/x"], "?/x": ["a/x", "b/x"],
    }  # fmt: skip


NUMBERED = st.lists(st.sampled_from("abcdef"), unique=True)


@given(NUMBERED, NUMBERED, st.dictionaries(st.sampled_from("abcdef"), st.sets(st.sampled_from("xyz"))))
def test_the_matches_of_some_patterns_are_those_of_all(
    every: list[str], some: list[str], lists: dict[str, set[str]]
) -> None:
    found = renumber(renumber(lists, every), some)
    assert found.patterns == tuple(some)
    assert {key: set(names) for key, names in found.items()} == {
        key: lists.get(key, set()) if key in every else set() for key in some
    }


def test_the_steps_grow_with_the_patterns_and_sysctls_but_not_with_their_product(tmp_path: Path) -> None:
    few, many = (count_steps(make_tree(tmp_path / str(count)), count) for count in (50, 200))
    assert many < 5 * few


def count_steps(root: Path, count: int) -> int:
    """Return the lines that Python executes for so many interfaces and patterns, all of which match each of them."""
    for number in range(count):
        put(root, f"proc/sys/net/ipv4/conf/eth{number}/rp_filter", "0\n")
    others = ("".join(letter for bit, letter in enumerate("ABCDEFGH") if number >> bit & 1) for number in range(count))
    keys = [f"net.ipv4.conf.[e{letters}]*.rp_filter" for letters in others]
    config, host = Config(sysctls={key: SysctlSetting("", Exactly("1")) for key in keys}), LinuxHost(str(root))
    kernel = host.kernel(())
    steps = 0

    def count_line(frame: FrameType, event: str, argument: object) -> Callable[..., Any]:
        nonlocal steps
        steps += event == "line"
        return count_line

    before = sys.gettrace()
    sys.settrace(count_line)
    try:
        desired = build_desired(config, kernel, {}, host.expand(patterns(config)))
    finally:
        sys.settrace(before)
    found = [item.pattern for item in desired.sysctls if re.match(r"net\.ipv4\.conf\.eth\d+\.rp_filter", item.key)]
    assert found == [keys[-1]] * count
    return steps


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
