r"""Make texts safe for terminals, the log, systemd, metrics and JSON: printable, limited, and on one line if required.

Other programs choose the bytes of values, file names and process names, which could move a cursor or forge a line. An
unprintable character becomes an escape as in Python and C: `\n`, `\x1b`, `\u202e`. A byte that is not UTF-8 (in
Python a lone surrogate, PEP 383) becomes `\xff`. A backslash is unchanged.
"""

from __future__ import annotations

import math
from typing import Any, Callable, Optional

# Maximum characters: of a label; of a line of the log or a text of a report; of a printed line or a text in JSON.
MAX_LABEL = 400
MAX_LINE = 2_000
MAX_TEXT = 10_000

_MAX_DEPTH = 32  # levels of a document; ipvsd's have five


def line(text: str, max_length: int = MAX_LINE) -> str:
    """Return a text as one line of printable characters, at most `max_length`. Such a line is unchanged."""
    if text.isprintable() and len(text) <= max_length:
        return text
    return _cut("".join(map(_escaped, text[: max_length + 1])), max_length)


def ascii_line(text: str, max_length: int = MAX_LINE) -> str:
    """Return a text as such a line in ASCII."""
    return _cut(line(text, max_length).encode("ascii", "backslashreplace").decode(), max_length)


def clean_document(document: Any) -> Any:
    """Return a JSON document in which every text is such a line."""
    return _map_texts(document, line)


def as_json(document: Any, indent: Optional[int] = None) -> str:
    r"""Return a document as JSON in ASCII that every reader accepts, even if its values come from a damaged file.

    Lone surrogates become escapes as above, and texts are cut at MAX_TEXT characters. Numbers that JSON lacks, and
    values below the maximum depth, become null.
    """
    import json  # after READY=1

    return json.dumps(_map_texts(document, _encodable), indent=indent, allow_nan=False)


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    if "\udc80" <= character <= "\udcff":
        return f"\\x{ord(character) - 0xDC00:02x}"
    return character.encode("unicode_escape").decode()


def _encodable(text: str) -> str:
    if not text.isascii():
        text = "".join(_escaped(item) if "\ud800" <= item <= "\udfff" else item for item in text[: MAX_TEXT + 1])
    return _cut(text, MAX_TEXT)


def _cut(text: str, max_length: int) -> str:
    return text if len(text) <= max_length else f"{text[: max_length - 3]}..."


def _map_texts(value: Any, change: Callable[[str], str], depth: int = 0) -> Any:
    """Return a document in which each text is changed, and values that JSON lacks are null."""
    if isinstance(value, str):
        return change(value)
    if isinstance(value, (dict, list, tuple)):
        if depth >= _MAX_DEPTH:
            return None
        if isinstance(value, dict):
            return {change(str(key)): _map_texts(item, change, depth + 1) for key, item in value.items()}
        return [_map_texts(item, change, depth + 1) for item in value]
    return value if not isinstance(value, float) or math.isfinite(value) else None
