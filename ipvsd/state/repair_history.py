"""/run/ipvsd/history.jsonl: the last repairs, one JSON object per line, kept across restarts of the daemon.

One write adds a line, so a crash can damage only the last line. A reader skips and counts damaged lines.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

from ipvsd.model.printable import as_json
from ipvsd.runtime import rootfs
from ipvsd.state import stored_json

PATH = "run/ipvsd/history.jsonl"
MAX_REPAIRS = 200
_MAX_LINES = 2 * MAX_REPAIRS  # lines, before the file is rewritten
_MAX_BYTES = 1 << 20  # bytes that are read of the file


class StoredRepairs(NamedTuple):
    """The last repairs, the oldest first, and the number of damaged lines, which are left out."""

    repairs: list[dict[str, Any]]
    damaged: int


def read(root: str) -> StoredRepairs:
    """Return the stored repairs. Raises stored_json.UnusableError and rootfs.UnreadableError."""
    lines = _read_lines(root)
    repairs = [item for line in lines for item in _item(line)]
    return StoredRepairs(repairs[-MAX_REPAIRS:], len(lines) - len(repairs))


def _read_lines(root: str) -> list[bytes]:
    data = stored_json.read(root, PATH, _MAX_BYTES, tail=True) or b""
    lines = data.split(b"\n")
    if len(data) == _MAX_BYTES:
        del lines[0]  # its beginning may be missing
    return [stripped for line in lines if (stripped := line.strip())]


class RepairHistory:
    """Appends to the file, and limits its length. `unwritten` are the repairs that could not be added yet."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._lines = _MAX_LINES  # unknown: the first addition rewrites the file
        self.unwritten: list[dict[str, Any]] = []

    def add(self, items: Sequence[dict[str, Any]]) -> None:
        """Add repairs. Raises OSError, and leaves the file unchanged. The next call then adds these repairs as well."""
        self.unwritten = [*self.unwritten, *items][-MAX_REPAIRS:]
        if self._lines + len(self.unwritten) > _MAX_LINES or not self._append():
            self._rewrite()
        self.unwritten = []

    def _append(self) -> bool:
        if self.unwritten:
            try:
                rootfs.append(self._root, PATH, b"".join(_lines(self.unwritten)))
            except FileNotFoundError:
                return False
            self._lines += len(self.unwritten)
        return True

    def _rewrite(self) -> None:
        try:  # not as objects, which would fragment the daemon's memory
            before = [line + b"\n" for line in _read_lines(self._root) if _item(line)]
        except stored_json.UnusableError:
            before = []
        stored = [*before, *_lines(self.unwritten)][-MAX_REPAIRS:]
        rootfs.write(self._root, PATH, b"".join(stored))
        self._lines = len(stored)


def _lines(items: Iterable[dict[str, Any]]) -> list[bytes]:
    return [f"{as_json(item)}\n".encode() for item in items]


def _item(line: bytes) -> list[dict[str, Any]]:
    try:
        found = stored_json.parse(line)
    except stored_json.UnusableError:
        return []
    return [found] if isinstance(found, dict) else []
