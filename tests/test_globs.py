"""Wildcards as fnmatch(3) of the C library takes them, judged by that itself."""

from __future__ import annotations

import ctypes

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.globs import fits, is_wild

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
        ("[a\\]b]", "]"), ("*", ""), ("**a", "a"), ("a\\", "a"), ("a\\", "a\\"), ("net-pf-[0-9]*", "net-pf-10"),
        ("[!z-a]", "b"), ("a*b*c", "aXbYc"), ("*/x", "a/b/x"), (".*", ".a"),
    ],
)  # fmt: skip
def test_a_pattern_fits_as_in_the_c_library(pattern: str, name: str) -> None:
    assert fits(pattern, name) is judged(pattern, name)


@given(st.lists(PIECES, max_size=7).map("".join), st.text("abcz_1-[]!\\^", max_size=5))
def test_any_pattern_fits_as_in_the_c_library(pattern: str, name: str) -> None:
    assert fits(pattern, name) is judged(pattern, name)


@pytest.mark.parametrize("pattern", ["*", "a?", "[a]", "a\\b"])
def test_what_can_fit_more_than_itself_is_wild(pattern: str) -> None:
    assert is_wild(pattern)
    assert not is_wild("net-pf_10")
