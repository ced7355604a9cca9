"""/run/ipvsd/status.json: the latest look, for everyone to read, replaced in one step."""

from __future__ import annotations

import contextlib
from typing import Any, Optional

from ipvsd import __version__, rooted, stored
from ipvsd.printable import as_json

PATH = "run/ipvsd/status.json"
_LARGEST = 1 << 24

_FINDING = {
    "name": str,
    "required": bool,
    "verdict": str,
    "right": bool,
    "harmless": bool,
    "evidence": str,
    "remedy": str,
}
_VALUE = {**_FINDING, "wanted": str, "found": (str,), "members": ({"right": int, "total": int},)}
_REPAIR = {"name": str, "found": (str,), "wanted": str, "time": str, "seconds": float, "who": str}
# The part of the document that is read (docs/status.md); keys are only ever added.
_SHAPE: stored.Shape = {
    "boottime": float,
    "state": str,
    "line": str,
    "kernel": str,
    "notes": [str],
    "modules": [{**_FINDING, "module": str}],
    "parameters": [_VALUE],
    "sysctls": [_VALUE],
    "contended": [{"name": str, "rival": str}],
    "repairs": [_REPAIR],
    "failures": [{"operation": str, "error": str}],
    "backend": str,
    "lost": float,
    "sources": [{"name": str, "up": bool, "lost": (float,), "detail": str}],
    "ipvs": {"up": (bool,), "version": str, "table_size": int, "detail": str},
    "config": {"hash": str, "files": [str], "interval": float, "errors": [str]},
}


def write(root: str, document: dict[str, Any]) -> None:
    """Replace the file, readable by everyone whatever the umask. Raises OSError, and then the former one is there."""
    rooted.write(root, PATH, as_json(document).encode())


def remove(root: str) -> None:
    """Remove the file: nothing looks any more."""
    with contextlib.suppress(OSError):
        rooted.remove(root, PATH)


def exists(root: str) -> bool:
    """Tell whether a daemon has left a file, usable or not. Raises rooted.UnreadableError."""
    return rooted.lexists(root, PATH)


def read(root: str) -> Optional[dict[str, Any]]:
    """Return the document, or None if there is none. Raises stored.UnusableError and rooted.UnreadableError."""
    data = stored.read(root, PATH, _LARGEST)
    if data is None:
        return None
    found: Any = stored.value(data)
    try:
        stored.check(found, _SHAPE)
    except stored.UnusableError as error:
        version = found.get("version") if isinstance(found, dict) else None
        if isinstance(version, str) and version != __version__:
            raise stored.UnusableError(f"ipvsd {version!a} wrote it, and this is {__version__}: {error}") from None
        raise
    document: dict[str, Any] = found
    return document
