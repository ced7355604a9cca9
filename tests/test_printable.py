"""Hostile texts in output: printable, on one line, limited; and JSON that every reader accepts."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.model import printable

# Every possible character, including lone surrogates, with a higher share of harmful ones.
TEXTS = st.text(
    st.one_of(st.characters(), st.sampled_from("\0\a\b\t\n\r\x1b\x7f\x85\x9b\u2028\u202e\u2066\udcff\ud800"))
)


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        pytest.param("net.ipv4.ip_forward", "net.ipv4.ip_forward", id="plain"),
        pytest.param("\u00e9\u6f22", "\u00e9\u6f22", id="letters of any script"),
        pytest.param(r"back\s", r"back\s", id="a backslash"),
        pytest.param("\x1b[2J", r"\x1b[2J", id="ESC"),
        pytest.param("\x9b2J", r"\x9b2J", id="C1"),
        pytest.param("a\nb\r\tc", r"a\nb\r\tc", id="a line that ends"),
        pytest.param("\x0b\x0c\x1c\x85\u2028", r"\x0b\x0c\x1c\x85\u2028", id="other ends of lines"),
        pytest.param("\0\a\b\x7f", r"\x00\x07\x08\x7f", id="C0 and DEL"),
        pytest.param("\u202eevil\u2066", r"\u202eevil\u2066", id="bidi overrides"),
        pytest.param("\u200b\ufeff\u00ad", r"\u200b\ufeff\xad", id="invisible"),
        pytest.param(b"br\xff\x80".decode("utf-8", "surrogateescape"), r"br\xff\x80", id="bytes that are not UTF-8"),
        pytest.param("\ud800\udc00", r"\ud800\udc00", id="lone surrogates"),
        pytest.param("\U000e0041", r"\U000e0041", id="beyond the first plane"),
    ],
)
def test_an_unprintable_character_becomes_an_escape(text: str, shown: str) -> None:
    assert printable.line(text) == shown


@given(TEXTS, st.integers(3, 60))
def test_a_line_is_printable_and_limited_and_stays_unchanged(text: str, most: int) -> None:
    line = printable.line(text, most)
    assert line.isprintable()
    assert len(line) <= most
    assert printable.line(line, most) == line
    assert printable.ascii_line(text, most).isascii()
    assert len(printable.ascii_line(text, most)) <= most


def test_a_truncated_text_is_marked() -> None:
    assert printable.line("a" * 11, 10) == "aaaaaaa..."
    assert printable.line("a" * 12, 11) == "aaaaaaaa..."
    assert printable.line("a" * 10, 10) == "a" * 10
    assert printable.line("\x1b" * 10, 10) == r"\x1b\x1..."


# --- JSON -------------------------------------------------------------------------------

DOCUMENTS = st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), TEXTS),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(TEXTS, inner, max_size=3)),
    max_leaves=6,
)


def texts(value: Any) -> Iterator[str]:
    if isinstance(value, str):
        yield value
    if isinstance(value, dict):
        yield from value
    if isinstance(value, (list, dict)):
        for item in value if isinstance(value, list) else value.values():
            yield from texts(item)


def refuse(constant: str) -> None:
    raise AssertionError(f"{constant} is no JSON")


def strictly(text: str) -> Any:
    """Parse a document as strictly as readers in other languages."""
    value = json.loads(text, parse_constant=refuse)
    for found in texts(value):
        found.encode()
    return value


@given(DOCUMENTS)
def test_every_document_becomes_json_that_every_reader_takes(document: Any) -> None:
    text = printable.as_json(document)
    assert text.isascii()
    assert text.isprintable()
    strictly(text)
    assert all(map(str.isprintable, texts(printable.clean_document(document))))


@given(st.text(max_size=60))
def test_json_keeps_every_character_of_a_text_in_unicode(text: str) -> None:
    assert strictly(printable.as_json({text: [text]})) == {text: [text]}


@pytest.mark.parametrize(
    ("value", "found"),
    [
        pytest.param(float("nan"), None, id="NaN"),
        pytest.param(float("-inf"), None, id="an infinite number"),
        pytest.param((1, 2.5, True, None), [1, 2.5, True, None], id="what JSON has"),
        pytest.param("\udcff \ud800", r"\xff \ud800", id="surrogates"),
        pytest.param("a" * 20_000, "a" * (printable.MAX_TEXT - 3) + "...", id="a text without end"),
        pytest.param(
            "\u00e9" * 20_000, "\u00e9" * (printable.MAX_TEXT - 3) + "...", id="a text without end, not ASCII"
        ),
    ],
)
def test_values_that_json_lacks_are_replaced(value: object, found: object) -> None:
    assert strictly(printable.as_json([value])) == [found]


@pytest.mark.parametrize(("levels", "kept"), [(32, True), (33, False)])
def test_a_document_has_32_levels(levels: int, kept: bool) -> None:
    in_list: Any = "a"
    in_dict: Any = "a"
    for _ in range(levels):
        in_list, in_dict = [in_list], {"": in_dict}
    assert ('"a"' in printable.as_json(in_list)) is ('"a"' in printable.as_json(in_dict)) is kept


def test_endless_nesting_does_not_exhaust_the_stack() -> None:
    value: list[Any] = []
    for _ in range(100_000):
        value = [value]
    assert len(printable.as_json(value)) < 1000
