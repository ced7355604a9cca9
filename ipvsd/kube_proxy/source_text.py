"""Parts of a file as kube-proxy sees them, with the place of each character in the file.

kube-proxy's configuration can be the content of a scalar in a ConfigMap: a block scalar with an indentation, or a
quoted string with escapes. A finding needs its line and column in the file, and a correction the text to replace.
"""

from __future__ import annotations

import bisect
import re
from collections.abc import Collection, Iterable, Sequence
from typing import NamedTuple, Optional

from ipvsd.config.yaml_tree import Scalar

_ENDS = re.compile(r"\r\n|\n|\r")
_ESCAPES = {"x": 2, "u": 4, "U": 8}  # hexadecimal digits


class Edit(NamedTuple):
    """The replacement of a part of the file."""

    start: int
    end: int
    text: str


def lines_of(text: str) -> list[str]:
    """Return the lines with their ends. str.splitlines() also splits at other control characters."""
    return re.findall(r"[^\r\n]*(?:\r\n|\n|\r)|[^\r\n]+", text)


def apply(text: str, corrections: Iterable[Collection[Edit]]) -> str:
    """Return the text after all corrections. A correction that overlaps an earlier one, or itself, is left out."""
    accepted: list[Edit] = []
    for edits in corrections:
        together = sorted({*accepted, *edits})
        if all(before.end <= after.start for before, after in zip(together, together[1:])):
            accepted = together
    parts, done = [], 0
    for edit in accepted:
        parts += [text[done : edit.start], edit.text]
        done = edit.end
    return "".join((*parts, text[done:]))


class SourceText:
    """A text, and the offset in the file of each of its characters. The default is the whole file."""

    def __init__(
        self, content: str, whole: Optional[SourceText] = None, offsets: Sequence[int] = (), quote: str = ""
    ) -> None:
        self.content = content
        self._offsets, self._quote = offsets, quote
        self._ends: Sequence[int] = whole._ends if whole else [match.end() for match in _ENDS.finditer(content)]
        self.line_break: str = whole.line_break if whole else "\r\n" if "\r\n" in content else "\n"
        self._whole = whole or self

    def offset(self, place: int) -> int:
        """Return the offset in the file."""
        return self._offsets[min(place, len(self._offsets) - 1)] if self._offsets else place

    def position(self, place: int) -> tuple[int, int]:
        """Return the line and the column in the file, which count from 1."""
        offset = self.offset(place)
        line = bisect.bisect_right(self._ends, offset)
        return line + 1, offset - (self._ends[line - 1] if line else 0) + 1

    def edit(self, start: int, end: int, text: str) -> Edit:
        """Return the edit of the file that replaces a part of this text."""
        first = self.offset(start)
        # The last character can be followed by an indentation, which is not a part of this text.
        last = first if end <= start else max(first, self.offset(end))
        return Edit(first, last, self._encoded(text))

    def _encoded(self, text: str) -> str:
        if self._quote == '"':
            return text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n").replace("\t", "\\t")
        if self._quote == "'":
            return text.replace("'", "''").replace("\n", "\n\n")
        return text.replace("\n", f"{self.line_break}{self._quote}")

    def embedded(self, scalar: Scalar) -> SourceText:
        """Return the text that a scalar of this text contains."""
        source = self.content[scalar.span.start : scalar.span.end]
        style, quote = scalar.span.style, ""
        if style in ("|", ">"):
            quote, characters = _in_block(source, scalar.text)
        elif style == '"':
            quote, characters = style, _in_double_quotes(source)
        elif style == "'":
            quote, characters = style, _in_single_quotes(source)
        else:
            characters = list(zip(source, range(len(source))))
        places = _align(characters, scalar.text, len(source))
        offsets = [self.offset(scalar.span.start + place) for place in places]
        return SourceText(scalar.text, self._whole, offsets, quote)

    def selected(self, content: str, places: Sequence[int]) -> SourceText:
        """Return another content for the characters at these places of this text."""
        offsets = [self.offset(place) for place in (*places, len(self.content))]
        return SourceText(content, self._whole, offsets, self._quote)

    def line_start(self, place: int) -> int:
        """Return the place of the first character of the line."""
        return max(self.content.rfind("\n", 0, place), self.content.rfind("\r", 0, place)) + 1

    def line_end(self, place: int) -> int:
        """Return the place of the line break, or of the end of the text."""
        match = _ENDS.search(self.content, place)
        return match.start() if match else len(self.content)

    def insert_line(self, place: int, line: str) -> Edit:
        """Return the edit that inserts a line after the line at this place."""
        end = self.line_end(place)
        return self.edit(end, end, f"\n{line}")

    def delete_lines(self, start: int, end: int) -> Edit:
        """Return the edit that removes the lines from `start` to `end`."""
        first, last = self.line_start(start), self.line_end(max(start, end - 1))
        if first:
            before = first - (2 if self.content[first - 2 : first] == "\r\n" else 1)
            return self.edit(before, last, "")
        after = _ENDS.match(self.content, last)
        return self.edit(first, after.end() if after else last, "")


# A character of the source with its offset. None stands for an escape, which can be any character.
_Character = tuple[Optional[str], int]


def _in_block(source: str, value: str) -> tuple[str, list[_Character]]:
    """Return the indentation of a block scalar, and the characters of its content."""
    header = _ENDS.search(source)
    start = header.end() if header else len(source)
    lines = lines_of(source[start:])
    first = next((line for line in lines if line.strip()), "")
    extra = next((line for line in value.split("\n") if line.strip()), "")  # an explicit indentation leaves blanks
    indent = max(0, (len(first) - len(first.lstrip(" "))) - (len(extra) - len(extra.lstrip(" "))))
    characters: list[_Character] = []
    for line in lines:
        skipped = min(indent, len(line) - len(line.lstrip(" ")))
        characters += zip(line[skipped:], range(start + skipped, start + len(line)))
        start += len(line)
    return " " * indent, characters


def _in_double_quotes(source: str) -> list[_Character]:
    characters: list[_Character] = []
    place = 1
    while place < len(source) - 1:
        if source[place] != "\\":
            characters.append((source[place], place))
            place += 1
        elif source[place + 1] in "\r\n":  # continued on the next line
            rest = source[place + 1 :]
            place += 1 + len(rest) - len(rest.lstrip())
        else:
            characters.append((None, place))
            place += 2 + _ESCAPES.get(source[place + 1], 0)
    return [*characters, ("", len(source) - 1)]


def _in_single_quotes(source: str) -> list[_Character]:
    characters: list[_Character] = [
        (match[0][0], match.start()) for match in re.finditer(r"''|[^']", source[1:-1], re.DOTALL)
    ]
    return [(character, place + 1) for character, place in [*characters, ("", len(source) - 2)]]


def _align(characters: Sequence[_Character], value: str, end: int) -> list[int]:
    """Return the offset of each character of a value, and the end. A fold can replace line breaks and blanks."""
    offsets, at, last = [], 0, end
    if characters and characters[-1][0] == "":
        last, characters = characters[-1][1], characters[:-1]
    for character in value:
        while at < len(characters) and characters[at][0] not in (character, None):
            found = characters[at][0] or ""
            if found not in " \t\r\n" or (found in "\r\n" and character in " \n"):
                break
            at += 1
        if at == len(characters):
            offsets.append(last)
            continue
        offsets.append(characters[at][1])
        following = characters[at + 1][0] if at + 1 < len(characters) else ""
        at += 2 if (characters[at][0], following) == ("\r", "\n") else 1
    after = characters[at][1] if at < len(characters) else last
    return [*offsets, after]
