"""/run/ipvsd/history.jsonl: the last repairs, one JSON object a line, kept over a restart of the daemon.

A line is added with one write, so that a crash can cost the last line alone; a reader passes over
what it cannot read.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable, Sequence
from typing import Any

from ipvsd.printable import as_json

PATH = "run/ipvsd/history.jsonl"
KEPT = 200
_LONGEST = 2 * KEPT  # lines, before the file is made anew
_LARGEST = 1 << 20  # bytes that are read of it


def read(root: str) -> list[dict[str, Any]]:
    """Return the last repairs, the oldest first; what is damaged is left out."""
    try:
        with open(os.path.join(root, PATH), "rb") as file:
            file.seek(max(0, os.fstat(file.fileno()).st_size - _LARGEST))
            lines = file.read().splitlines()
    except OSError:
        return []
    return [item for line in lines for item in _item(line)][-KEPT:]


class History:
    """Adds to the file, and keeps it short."""

    def __init__(self, root: str) -> None:
        self._root, self._path = root, os.path.join(root, PATH)
        self._lines = _LONGEST  # unknown: the first addition makes it anew

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """Add repairs. Raises OSError."""
        if self._lines + len(items) > _LONGEST:
            kept = [*read(self._root), *items][-KEPT:]
            beside = f"{self._path}.new"
            _write(beside, os.O_TRUNC, kept)
            os.replace(beside, self._path)
            self._lines = len(kept)
        elif items:
            _write(self._path, os.O_APPEND, items)
            self._lines += len(items)


def _write(path: str, flag: int, items: Iterable[dict[str, Any]]) -> None:
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | flag, 0o644)
    try:
        os.fchmod(descriptor, 0o644)
        os.write(descriptor, "".join(f"{as_json(item)}\n" for item in items).encode())
    finally:
        os.close(descriptor)


def _item(line: bytes) -> list[dict[str, Any]]:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError):
        return []
    return [found] if isinstance(found, dict) else []
