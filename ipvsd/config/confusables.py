"""Characters that resemble ASCII characters, as inserted by word processors, web pages and input methods."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Iterator, Mapping
from typing import Optional

# The ASCII replacement of each character that YAML takes for a part of a word, or an empty text if it is invisible.
_REPLACEMENTS: Mapping[str, str] = {
    **dict.fromkeys("\u201c\u201d\u201e\u201f\u00ab\u00bb\u301d\u301e", "'\"'"),
    **dict.fromkeys("\u2018\u2019\u201a\u201b\u2032\u00b4", '"\'"'),
    **dict.fromkeys("\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63", "'-'"),
    **dict.fromkeys(("\u00a0", "\u1680", *map(chr, range(0x2000, 0x200B)), "\u202f", "\u205f", "\u3000"), "a space"),
    **dict.fromkeys(map(chr, (*range(0x200B, 0x2010), *range(0x202A, 0x202F), *range(0x2066, 0x206A))), ""),
    **dict.fromkeys("\u00ad\u2060\ufeff", ""),
    **dict.fromkeys("\u2028\u2029\u0085", "a line break"),
    **dict.fromkeys("\ufe55\ua789\u2236\ufe13\ufe30", "':'"),
    **dict.fromkeys("\u3001\u060c", "','"),
    **dict.fromkeys("\u3010\u3014\u3016", "'['"),
    **dict.fromkeys("\u3011\u3015\u3017", "']'"),
    **dict.fromkeys("\u300c\u300d\u300e\u300f", "'\"'"),
    **dict.fromkeys("\u3002\uff61\u2024", "'.'"),
    **{chr(code): repr(chr(code - 0xFEE0)) for code in range(0xFF01, 0xFF5F)},  # the full-width forms of ASCII
}
_SIGN = re.compile(f"[{re.escape(''.join(_REPLACEMENTS))}]")
_COMMENT = re.compile(r"(?:^|(?<=[ \t]))#[^\n]*", re.MULTILINE)


def find(text: str) -> Optional[tuple[int, str]]:
    """Return the line, counted from 1, of the first such character outside of comments, and the problem; or None."""
    plain = _COMMENT.sub("", text)
    found = _SIGN.search(plain)
    if found is None:
        return None
    line = plain.count("\n", 0, found.start()) + 1
    replacement = _REPLACEMENTS[found[0]]
    hint = f"replace the character with {replacement}" if replacement else "remove the character"
    return line, f"invalid character {describe_character(found[0])} ({hint})"


def occurrences(text: str) -> Iterator[tuple[int, str]]:
    """Yield the place of each such character outside of comments, and the ASCII text that replaces it."""
    plain = _COMMENT.sub(lambda comment: " " * len(comment[0]), text)
    for found in _SIGN.finditer(plain):
        replacement = _REPLACEMENTS[found[0]]
        literal = {"a space": " ", "a line break": "\n"}.get(replacement, replacement[1:-1])
        yield found.start(), literal[-1:]  # repr() escapes a backslash


def describe_character(sign: str) -> str:
    """Return a character in a form that people can look up: U+FF1A (FULLWIDTH COLON)."""
    name = unicodedata.name(sign, "")
    return f"U+{ord(sign):04X}{f' ({name})' if name else ''}"
