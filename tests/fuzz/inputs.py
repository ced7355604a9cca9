"""Inputs as bytes: generated from a grammar, damaged, and arbitrary."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzz.properties import SECONDS

MOST = 1 << (16 if SECONDS else 12)  # maximum bytes of an input
_TIMES = (2, 3, 30, 1000, MOST)

# Terminators, escapes and separators of programs, text that is not UTF-8, and control sequences of terminals.
STRANGE = (
    b"\0", b"\xff", b"\xc3", b"\xed\xb2\x80", b"\xef\xbb\xbf", b"\xe2\x80\xa8", b"\xc2\x85", b"\xc3\xa9", b"\x1b[31m",
    b"\x9b31m", b"\r", b"\r\n", b"\n\r", b"\v", b"\f", b"\x1c", b"\t", b" ", b"\\", b"\\\n", b'"', b"'", b"#", b";",
    b"=", b":", b",", b"-", b"*", b"?", b"[", b"]", b"[z-a]", b"[^", b"{", b"}", b"%", b"$", b"${x}", b"/", b"..",
    b"\n\n",
    b"0x", b"9" * 30, b"9" * 5000, b"-1", b"1e999", b"NaN", b"a" * 300,
)  # fmt: skip

Damage = Callable[[DrawFn, bytes], bytes]


def span(draw: DrawFn, data: bytes) -> tuple[int, int]:
    """Draw the bounds of a part of the data."""
    start, end = sorted(draw(st.tuples(st.integers(0, len(data)), st.integers(0, len(data)))))
    return start, end


def flipped(draw: DrawFn, data: bytes) -> bytes:
    at, _ = span(draw, data)
    return data[:at] + bytes(byte ^ 1 << draw(st.integers(0, 7)) for byte in data[at : at + 1]) + data[at + 1 :]


def cut(draw: DrawFn, data: bytes) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def without(draw: DrawFn, data: bytes) -> bytes:
    start, end = span(draw, data)
    return data[:start] + data[end:]


def with_strange(draw: DrawFn, data: bytes) -> bytes:
    start, end = span(draw, data)
    return data[:start] + draw(st.sampled_from(STRANGE)) + data[draw(st.sampled_from((start, end))) :]


def repeated(draw: DrawFn, data: bytes) -> bytes:
    start, end = span(draw, data)
    part = data[start:end]
    times = min(draw(st.sampled_from(_TIMES)), (MOST - len(data)) // max(1, len(part)))
    return data[:start] + part * max(1, times) + data[end:]


def nested(draw: DrawFn, data: bytes) -> bytes:
    start, end = span(draw, data)
    before, after = draw(
        st.sampled_from(((b"[", b"]"), (b"{a: ", b"}"), (b"(", b")"), (b"${", b"}"), (b'{"a":', b"}")))
    )
    times = draw(st.sampled_from((1, 100, 5000)))
    return data[:start] + before * times + data[start:end] + after * times + data[end:]


def with_long_line(draw: DrawFn, data: bytes) -> bytes:
    at, _ = span(draw, data)
    return data[:at] + draw(st.sampled_from((b"a", b"9", b" ", b"-", b"\\", b"*", b"a*", b'"', b"\xff"))) * MOST


def with_other_ends(draw: DrawFn, data: bytes) -> bytes:
    return data.replace(b"\n", draw(st.sampled_from((b"\r\n", b"\r", b"\n\n", b"\0", b"\\\n"))))


_DAMAGES: Sequence[Damage] = (flipped, cut, without, with_strange, repeated, nested, with_long_line, with_other_ends)


@st.composite
def _damaged(draw: DrawFn, whole: SearchStrategy[bytes]) -> bytes:
    data = draw(whole)
    for damage in draw(st.lists(st.sampled_from(_DAMAGES), min_size=1, max_size=3)):
        data = damage(draw, data)[:MOST]
    return data


def encoded(grammar: SearchStrategy[Any]) -> SearchStrategy[bytes]:
    """Encode texts as bytes. A lone surrogate stays one byte that is not UTF-8."""
    return grammar.map(lambda text: text if isinstance(text, bytes) else text.encode("utf-8", "surrogateescape"))


def hostile(grammar: SearchStrategy[Any]) -> SearchStrategy[bytes]:
    """Return inputs of a format: complete, damaged, and arbitrary bytes."""
    whole = encoded(grammar)
    return st.one_of(whole, _damaged(whole), _damaged(whole), st.binary(max_size=100))


def text(data: bytes) -> str:
    """Return a file's text as ipvsd reads it."""
    return data.decode("utf-8", "replace")


def lines(*kinds: SearchStrategy[str], most: int = 8) -> SearchStrategy[str]:
    """Return texts that consist of these kinds of lines."""
    return st.lists(st.one_of(*kinds), max_size=most).map(lambda found: "".join(f"{line}\n" for line in found))


def words(*known: str, apart: str = " ", most: int = 5) -> SearchStrategy[str]:
    """Return texts that consist of known words and a few others."""
    other = st.text(st.characters(exclude_categories=["Cs"]), max_size=6)
    return st.lists(st.one_of(st.sampled_from(known), other), max_size=most).map(apart.join)
