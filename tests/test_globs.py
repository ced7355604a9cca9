"""Wildcards, compared with fnmatch(3) of the C library."""

from __future__ import annotations

import ctypes
import time

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.sysctl.glob_automaton import GlobAutomaton
from ipvsd.sysctl.globs import Glob, Globs, has_wildcard, matches, numbers_of, quoted
from ipvsd.sysctl.patterns import Patterns

_FNMATCH = ctypes.CDLL(None).fnmatch
PIECES = st.sampled_from(
    ["*", "?", "[", "]", "!", "^", "-", "\\", "a", "b", "c", "z", "_", "1", "[:alpha:]", "[a-c]", "[z-a]"]
)


def judged(pattern: str, name: str) -> bool:
    return int(_FNMATCH(pattern.encode(), name.encode(), 0)) == 0


@pytest.mark.parametrize(
    ("pattern", "name"),
    [
        ("ip_vs_*", "ip_vs_rr"), ("ip_vs_*", "ip_vs"), ("a?c", "abc"), ("[a-c]x", "bx"), ("[!a]", "b"), ("[^a]", "a"),
        ("[z-a]", "b"), ("a\\*", "a*"), ("a\\*", "ab"), ("[", "["), ("[a", "[a"), ("[]a]", "]"), ("[[:digit:]]", "7"),
        ("[a\\]b]", "]"), ("*", ""), ("**a", "a"), ("**a", "b"), ("a\\", "a"), ("a\\", "a\\"),
        ("net-pf-[0-9]*", "net-pf-10"),
        ("[!z-a]", "b"), ("a*b*c", "aXbYc"), ("*/x", "a/b/x"), (".*", ".a"),
    ],
)  # fmt: skip
def test_a_pattern_fits_as_in_the_c_library(pattern: str, name: str) -> None:
    assert matches(pattern, name) is judged(pattern, name)


PATTERN = st.lists(PIECES, max_size=7).map("".join)


@given(PATTERN, st.text("abcz_1-[]!\\^", max_size=5))
def test_any_pattern_fits_as_in_the_c_library(pattern: str, name: str) -> None:
    assert matches(pattern, name) is judged(pattern, name)


@pytest.mark.parametrize("pattern", ["*", "a?", "[a]", "a\\b"])
def test_a_pattern_that_can_match_more_than_itself_has_a_wildcard(pattern: str) -> None:
    assert has_wildcard(pattern)
    assert not has_wildcard("net-pf_10")


@given(st.text(max_size=30), st.text(max_size=10))
def test_any_text_is_a_pattern(pattern: str, name: str) -> None:
    matches(pattern, name)


@pytest.mark.parametrize(
    ("piece", "times", "end"),
    [
        ("*a", 50, "b"), ("*[ab]", 100, "c"), ("?*", 20_000, ""), ("[", 20_000, ""), ("[\\]", 20_000, ""),
        ("[[:alpha:]", 10_000, ""), ("[a-", 20_000, ""), ("*", 100_000, "b"), ("*?[a]", 10_000, "["),
    ],
)  # fmt: skip
def test_no_pattern_takes_long(piece: str, times: int, end: str) -> None:
    begun = time.process_time()
    matches(f"{piece * times}{end}", "a" * 255)
    assert time.process_time() - begun < 1.0


@given(st.lists(PATTERN, max_size=8), st.text("abcz.", max_size=5))
def test_many_patterns_fit_as_each_does(patterns: list[str], name: str) -> None:
    expected = [number for number, pattern in enumerate(patterns) if Glob(pattern).matches(name)]
    assert Globs(patterns).matching(name) == expected


@given(st.lists(PATTERN, max_size=20), st.text("abcz.", max_size=20), st.booleans())
def test_an_automaton_matches_as_each_pattern_does(patterns: list[str], name: str, hidden: bool) -> None:
    globs = [Glob(pattern) for pattern in patterns]
    expected = [number for number, glob in enumerate(globs) if glob.matches(name) and (glob.hidden or not hidden)]
    automaton = GlobAutomaton(((pattern, (number,)) for number, pattern in enumerate(patterns)), len(globs), len(name))
    assert numbers_of(automaton.matching(name, hidden)) == expected


def test_a_hidden_name_is_hidden_from_wildcards_as_in_glob() -> None:
    patterns = [(glob,) for glob in ("*", "?x", "[.]x", ".x", ".*", "\\.x")]
    assert Patterns(patterns).matching((".x",)) == [0, 1, 2, 3, 4, 5]
    assert Patterns(patterns, period=True).matching((".x",)) == [3, 4, 5]


@given(st.text())
def test_a_quoted_text_fits_itself_alone(text: str) -> None:
    assert matches(quoted(text), text)
    assert not matches(quoted(text), f"{text}x")
