"""A difference of patterns, compared with the patterns themselves on every short name. No name is empty."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Optional

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from ipvsd.sysctl.glob_difference import subtract
from ipvsd.sysctl.globs import matches

LENGTH = 3
NAMES = ["".join(letters) for length in range(1, LENGTH + 1) for letters in product("ab-]", repeat=length)]
PATTERN = st.lists(
    st.sampled_from(["*", "*", "?", "a", "b", "-", "]", "[!a]", "[]b]", "[a-b]"]), min_size=1, max_size=4
).map("".join)


@given(PATTERN, st.lists(PATTERN, max_size=3), st.just(LENGTH))
@example("*", ["ab*", "b", "*-]"], None)  # simple only if they are subtracted from different ends
def test_it_matches_what_the_pattern_matches_and_the_others_do_not(
    pattern: str, others: Sequence[str], length: Optional[int]
) -> None:
    found = subtract(pattern, others, length)
    assert found is not None
    for name in NAMES:
        wanted = matches(pattern, name) and not any(matches(other, name) for other in others)
        assert any(matches(item, name) for item in found) is wanted, (name, found)


@pytest.mark.parametrize(
    ("pattern", "others", "found"),
    [
        ("*", ["ve*"], ["[!v]*", "v", "v[!e]*"]),
        ("*", ["*.0"], ["*[!.]0", "*[!0]", "0"]),
        ("eth*", ["eth?"], ["eth", "eth??*"]),
        ("eth?", ["eth0", "eth1"], ["eth[!01]"]),
        ("[ab]", ["a"], ["b"]),
        ("a*", ["*"], []),
        ("a*", ["b*"], ["a*"]),
        ("a?", ["a*", "b"], []),
        ("?", ["[!]^-]"], ["[\\]\\^-]"]),
        ("?", ["[!*]"], ["\\*"]),
        ("*", ["*a*"], None),
    ],
)
def test_the_result_has_few_and_short_patterns(pattern: str, others: Sequence[str], found: Optional[list[str]]) -> None:
    result = subtract(pattern, others)
    assert (None if result is None else sorted(result)) == found
