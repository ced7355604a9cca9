"""Wildcards as fnmatch(3) of glibc takes them in the C locale, which is how libkmod matches names.

Python's fnmatch differs: it knows neither `\\` nor `[^...]` nor classes, and an empty range such as `[z-a]`
raises an error in Python 3.9.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterator
from typing import Optional

_WILD = re.compile(r"[*?\[\\]")
_CLASS = re.compile(r"\[:([a-z]+):\]")
_CLASSES = {
    "alpha": "A-Za-z",
    "digit": "0-9",
    "alnum": "A-Za-z0-9",
    "upper": "A-Z",
    "lower": "a-z",
    "space": " \\t-\\r",
    "blank": " \\t",
    "punct": "!-/:-@\\[-`{-~",
    "print": " -~",
    "graph": "!-~",
    "cntrl": "\\x00-\\x1f\\x7f",
    "xdigit": "0-9A-Fa-f",
}
_NEVER = "(?!)"


def is_wild(pattern: str) -> bool:
    """Tell whether a pattern can fit a name that it is not equal to."""
    return _WILD.search(pattern) is not None


def fits(pattern: str, name: str) -> bool:
    """Tell whether a pattern fits the whole of a name."""
    if not is_wild(pattern):
        return pattern == name
    return _compiled(pattern).match(name) is not None


@functools.lru_cache(maxsize=256)
def _compiled(pattern: str) -> re.Pattern[str]:
    return re.compile("".join(_translated(pattern)) + r"\Z", re.DOTALL)


def _translated(pattern: str) -> Iterator[str]:
    at = 0
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            at += len(pattern[at:]) - len(pattern[at:].lstrip("*"))
            yield ".*"
        elif character == "?":
            yield "."
        elif character == "\\":
            # One at the end escapes nothing, and fits nothing.
            yield re.escape(pattern[at]) if at < len(pattern) else _NEVER
            at += 1
        elif character == "[":
            found = _bracket(pattern, at)
            yield found[0] if found else r"\["
            at = found[1] if found else at
        else:
            yield re.escape(character)


def _bracket(pattern: str, at: int) -> Optional[tuple[str, int]]:
    """Return the regular expression of a bracket whose content begins at `at`, and where it ends.

    None if it is not closed: the `[` then stands for itself.
    """
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    parts: list[str] = []
    first = True
    while at < len(pattern):
        if pattern[at] == "]" and not first:
            content = "".join(parts)
            if negated:
                return (f"[^{content}]" if content else "."), at + 1
            return (f"[{content}]" if content else _NEVER), at + 1
        first = False
        named = _CLASS.match(pattern, at)
        if named:
            parts.append(_CLASSES.get(named[1], ""))
            at = named.end()
            continue
        low, at = _member(pattern, at)
        if pattern[at : at + 1] == "-" and pattern[at + 1 : at + 2] not in ("", "]"):
            high, at = _member(pattern, at + 1)
            parts.append(f"{re.escape(low)}-{re.escape(high)}" if low <= high else "")
        else:
            parts.append(re.escape(low))
    return None


def _member(pattern: str, at: int) -> tuple[str, int]:
    """Return the character at `at` of a bracket's content, which a backslash may escape, and where the next one is."""
    if pattern[at] == "\\" and at + 1 < len(pattern):
        at += 1
    return pattern[at], at + 1
