"""A YAML document as a tree with line numbers. Its size, depth and aliases are limited. No tag creates an object."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple, Optional, Union

MAX_BYTES = 1 << 20


class DocumentError(Exception):
    """The text is not a usable YAML document. `line` and `column` count from 1, or are 0."""

    def __init__(self, line: int, text: str, column: int = 0) -> None:
        super().__init__(text)
        self.line, self.column = line, column


class Span(NamedTuple):
    """The part of the source that contains a value: `start` and `end` count characters.

    `style` is the first character of a quoted or block scalar, `{` or `[` of a flow collection, or empty.
    """

    start: int
    end: int
    style: str


NOWHERE = Span(0, 0, "")


class Scalar(NamedTuple):
    """`kind` is str, int, float, bool, null or another YAML type. `text` is the text in the source."""

    kind: str
    text: str
    line: int
    span: Span = NOWHERE


class Sequence(NamedTuple):
    items: tuple[Node, ...]
    line: int
    span: Span = NOWHERE


class Mapping(NamedTuple):
    """Keys in the order of the source, including duplicates."""

    items: tuple[tuple[Scalar, Node], ...]
    line: int
    span: Span = NOWHERE


Node = Union[Scalar, Sequence, Mapping]


def parse(data: bytes) -> Optional[Node]:
    """Return the tree of the one document in `data`, or None if it is empty. Raises DocumentError."""
    if len(data) > MAX_BYTES:
        raise DocumentError(0, f"the file is larger than {MAX_BYTES} bytes")
    if is_blank(data):
        return None
    from ipvsd.config import yaml_parser  # the shipped file has only comments, and a start need not wait for PyYAML

    return yaml_parser.parse(data)


def documents(text: str) -> Iterator[Optional[Node]]:
    """Yield the tree of each document in `text`, with spans. An empty document yields None. Raises DocumentError.

    Characters that resemble ASCII characters are permitted.
    """
    from ipvsd.config import yaml_parser

    return yaml_parser.documents(text)


def is_blank(data: bytes) -> bool:
    """Return whether there are only comments and empty lines, all of printable ASCII."""
    if len(data) > MAX_BYTES or not data.isascii():
        return False
    lines = data.decode("ascii").split("\n")
    return all(line.isprintable() and line.lstrip(" ")[:1] in ("", "#") for line in lines)
