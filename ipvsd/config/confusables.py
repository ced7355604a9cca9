"""Characters that resemble ASCII characters, as inserted by word processors, web pages and input methods."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping
from typing import Optional

_QUOTES = "\u201c\u201d\u201e\u201f\u00ab\u00bb\u301d\u301e"
_APOSTROPHES = "\u2018\u2019\u201a\u201b\u2032\u00b4"
_DASHES = "\u2010\u2011\u2012\u2013\u2014\u2015\u2212\ufe63"
_BLANKS = "\u00a0\u1680\u2000\u2001\u2002\u2003\u2004\u2005\u2006\u2007\u2008\u2009\u200a\u202f\u205f\u3000"
_INVISIBLE = "\u200b\u200c\u200d\u2060\u00ad\ufeff\u200e\u200f\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
_ENDS = "\u2028\u2029\u0085"
_COLONS = "\ufe55\ua789\u2236\ufe13\ufe30"
_COMMAS = "\u3001\u060c"
_BRACKETS = {**dict.fromkeys("\u3010\u3014\u3016", "'['"), **dict.fromkeys("\u3011\u3015\u3017", "']'")}
_MORE_QUOTES = "\u300c\u300d\u300e\u300f"
_STOPS = "\u3002\uff61\u2024"

# The ASCII replacement of each character, or an empty text for an invisible one. YAML treats the characters as parts of
# words.
_REPLACEMENTS: Mapping[str, str] = {
    **dict.fromkeys(_QUOTES, "'\"'"),
    **dict.fromkeys(_APOSTROPHES, '"\'"'),
    **dict.fromkeys(_DASHES, "'-'"),
    **dict.fromkeys(_BLANKS, "a space"),
    **dict.fromkeys(_INVISIBLE, ""),
    **dict.fromkeys(_ENDS, "a line break"),
    **dict.fromkeys(_COLONS, "':'"),
    **dict.fromkeys(_COMMAS, "','"),
    **_BRACKETS,
    **dict.fromkeys(_MORE_QUOTES, "'\"'"),
    **dict.fromkeys(_STOPS, "'.'"),
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


def describe_character(sign: str) -> str:
    """Return a character in a form that people can look up: U+FF1A (FULLWIDTH COLON)."""
    name = unicodedata.name(sign, "")
    return f"U+{ord(sign):04X}{f' ({name})' if name else ''}"
