"""Parse files with sections and `key=value` line by line, as used by systemd, TuneD, firewalld and NetworkManager."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Optional

from ipvsd.conflicts.file_tree import FileTree

_MAX_LINE = 1 << 20  # LONG_LINE_MAX, after which systemd skips the rest of a file
_TRUE = ("1", "yes", "y", "true", "t", "on")
_FALSE = ("0", "no", "n", "false", "f", "off")


@dataclass(frozen=True)
class Entry:
    section: str
    key: str
    value: str
    origin: str  # FILE:LINE

    def __str__(self) -> str:
        return f"{self.key}={self.value}"


def entries(name: str, text: str) -> Iterator[Entry]:
    """Yield the entries of a file, in order. Invalid lines are ignored. The first section is empty."""
    section = ""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if stripped.startswith("[") and stripped.endswith("]"):
            section = stripped[1:-1]
        elif stripped and stripped[0] not in "#;":
            key, equals, value = stripped.partition("=")
            if equals and key.strip():
                yield Entry(section, key.strip(), value.strip(), f"{name}:{number}")


def read(tree: FileTree, files: Iterable[str]) -> list[Entry]:
    return [entry for file in files for entry in entries(tree.shown(file), tree.read(file) or "")]


def systemd_lines(name: str, text: str) -> Iterator[tuple[str, str]]:
    """Yield the lines of a file of names or sysctls that are no comments, like systemd, each with its origin."""
    for number, line in enumerate(re.split(r"\r\n?|\n\r?|\0", text), 1):
        if len(line) >= _MAX_LINE:
            return
        stripped = line.strip(" \t\n\r")
        if stripped and stripped[0] not in "#;":
            yield stripped, f"{name}:{number}"


def last(found: Iterable[Entry], section: str, key: str) -> Optional[Entry]:
    """Return the last entry with this key, which overrides the others, or None."""
    matching = [entry for entry in found if (entry.section, entry.key) == (section, key)]
    return matching[-1] if matching else None


def parse_boolean(text: str) -> Optional[bool]:
    """Return the value of a boolean of systemd.syntax(7), or None. The other programs accept some of the words."""
    word = text.strip().lower()
    return True if word in _TRUE else False if word in _FALSE else None
