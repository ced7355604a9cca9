r"""Wildcards as glibc's fnmatch(3) implements them in the C locale, for libkmod, glob(3) and the configuration.

Python's fnmatch lacks `\\`, `[^...]` and classes, and `*a*a*a*b` takes exponential time in Python 3.9. Here, the time
is proportional to the length of the pattern times that of the name. A character stands for one byte, and any text
is a valid pattern.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Iterator, Sequence
from typing import NamedTuple, Optional, Union

_WILDCARD = re.compile(r"[*?[\\]")
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


class Token(NamedTuple):
    """A part of a pattern that matches one character: the `literal`, or any that the regular expression matches."""

    regex: str
    literal: Optional[str] = None


STAR = Token(".*")
_ANY = Token(".")


class _Segment:
    """The part of a pattern between two stars. It matches texts of its own length."""

    __slots__ = ("_regex", "_text", "length")

    def __init__(self, tokens: Sequence[Token]) -> None:
        self.length = len(tokens)
        letters = [token.literal for token in tokens if token.literal is not None]
        self._text = "".join(letters if len(letters) == len(tokens) else (token.regex for token in tokens))
        # Most segments are plain texts. An expression is compiled when a name is long enough to match.
        self._regex: Union[re.Pattern[str], bool] = len(letters) < len(tokens)

    def stands_at(self, name: str, at: int) -> bool:
        if not self._regex:
            return name.startswith(self._text, at)
        return at + self.length <= len(name) and self._compiled().match(name, at) is not None

    def end_of_first(self, name: str, at: int, end: int) -> int:
        """Return the end of the first match that begins at `at` or later and ends at `end` at most, or -1."""
        if not self._regex:
            found = name.find(self._text, at, end)
            return found if found < 0 else found + self.length
        match = self._compiled().search(name, at, end) if at + self.length <= end else None
        return match.end() if match else -1

    def _compiled(self) -> re.Pattern[str]:
        if isinstance(self._regex, bool):
            self._regex = re.compile(self._text, re.DOTALL)
        return self._regex


class Glob:
    __slots__ = ("_segments", "exact", "hidden", "literal")

    def __init__(self, pattern: str) -> None:
        segments: list[list[Token]] = [[]]
        for token in tokens(pattern):
            if token is STAR:
                segments.append([])
            else:
                segments[-1].append(token)
        self._segments = [_Segment(segment) for segment in segments]
        # `literal` is the longest text that every match contains. `exact` means that the pattern matches only this
        # text.
        self.literal = max((text for segment in segments for text in _runs(segment)), key=len, default="")
        self.exact = len(segments) == 1 and len(self.literal) == len(segments[0])
        # Whether the pattern begins with a literal dot, which glob(3) requires for hidden names.
        self.hidden = bool(segments[0]) and segments[0][0].literal == "."

    def matches(self, name: str) -> bool:
        first, last = self._segments[0], self._segments[-1]
        if len(self._segments) == 1:
            return len(name) == first.length and first.stands_at(name, 0)
        at, end = first.length, len(name) - last.length
        if at > end or not first.stands_at(name, 0) or not last.stands_at(name, end):
            return False
        # The first match of each segment leaves the most room to those after it.
        for segment in self._segments[1:-1]:
            at = segment.end_of_first(name, at, end)
            if at < 0:
                return False
        return True


class Globs:
    """Numbered patterns. A name is compared only with those whose longest literal text it contains, or without any."""

    def __init__(self, patterns: Iterable[str]) -> None:
        self._exact: dict[str, list[int]] = {}
        self._by_text: dict[str, list[tuple[int, Glob]]] = {}
        for number, pattern in enumerate(patterns):
            glob = Glob(pattern)
            if glob.exact:
                self._exact.setdefault(glob.literal, []).append(number)
            else:
                self._by_text.setdefault(glob.literal, []).append((number, glob))
        self._lengths = sorted({len(text) for text in self._by_text} - {0})

    def matching(self, name: str) -> list[int]:
        """Return the numbers of the matching patterns, in order."""
        found = list(self._exact.get(name, ()))
        for text in self._texts(name):
            found += (number for number, glob in self._by_text.get(text, ()) if glob.matches(name))
        return sorted(found)

    def _texts(self, name: str) -> Collection[str]:
        places = range(len(name))
        return {"", *(name[at : at + length] for length in self._lengths for at in places[: len(name) - length + 1])}


def mask(numbers: Collection[int]) -> int:
    """Return a set of numbers as one number, in which these bits are set."""
    buffer = bytearray((max(numbers, default=0) >> 3) + 1)
    for number in numbers:
        buffer[number >> 3] |= 1 << (number & 7)
    return int.from_bytes(buffer, "little")


def numbers_of(bits: int) -> list[int]:
    """Return the numbers of the set bits, in order."""
    return [bit.start() for bit in re.finditer("1", f"{bits:b}"[::-1])]


def has_wildcard(pattern: str) -> bool:
    """Return whether a pattern can match a name that differs from it."""
    return _WILDCARD.search(pattern) is not None


def matches(pattern: str, name: str) -> bool:
    return _compiled(pattern).matches(name) if has_wildcard(pattern) else pattern == name


def quoted(text: str, signs: str = "*?[\\") -> str:
    """Return a text in which these characters are escaped."""
    return re.sub(f"[{re.escape(signs)}]", r"\\\g<0>", text)


@functools.lru_cache(maxsize=1024)
def _compiled(pattern: str) -> Glob:
    return Glob(pattern)


def _runs(segment: Sequence[Token]) -> list[str]:
    return "".join("\0" if token.literal is None else token.literal for token in segment).split("\0")


def tokens(pattern: str) -> Iterator[Token]:
    """Yield the tokens of a pattern. Several stars in a row are one."""
    at = 0
    unclosed: set[int] = set()
    while at < len(pattern):
        character = pattern[at]
        at += 1
        if character == "*":
            while pattern[at : at + 1] == "*":
                at += 1
            yield STAR
        elif character == "?":
            yield _ANY
        elif character == "\\":
            # A backslash at the end escapes nothing, and matches nothing.
            yield _literal(pattern[at]) if at < len(pattern) else Token(_NEVER)
            at += 1
        elif character == "[":
            found = _bracket(pattern, at, unclosed)
            yield Token(found[0]) if found else _literal("[")
            at = found[1] if found else at
        else:
            yield _literal(character)


def _literal(character: str) -> Token:
    return Token(re.escape(character), character)


def _bracket(pattern: str, at: int, unclosed: set[int]) -> Optional[tuple[str, int]]:
    """Return the regular expression of a bracket whose content begins at `at`, and the position after it.

    Return None if it is not closed; the `[` then stands for itself. `unclosed` collects positions without a closing
    bracket, so that many unclosed brackets are not each read to the end of the pattern.
    """
    negated = pattern[at : at + 1] in ("!", "^")
    at += negated
    parts: list[str] = []
    seen: list[int] = []
    while at < len(pattern) and at not in unclosed:
        if pattern[at] == "]" and seen:
            content = "".join(parts)
            if negated:
                return (f"[^{content}]" if content else "."), at + 1
            return (f"[{content}]" if content else _NEVER), at + 1
        # The first character can be a `]`, so its position is stored as -1.
        seen.append(at if seen else -1)
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
    unclosed.update(seen)
    return None


def _member(pattern: str, at: int) -> tuple[str, int]:
    """Return the character at `at` of a bracket expression, which a backslash can escape, and the next position."""
    if pattern[at] == "\\" and at + 1 < len(pattern):
        at += 1
    return pattern[at], at + 1
