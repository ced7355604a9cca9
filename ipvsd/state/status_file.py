"""/run/ipvsd/status.json: the report of the last reconciliation, readable by all users and replaced atomically."""

from __future__ import annotations

import contextlib
from typing import Any, Optional

from ipvsd import __version__
from ipvsd.model.printable import as_json
from ipvsd.runtime import rootfs
from ipvsd.state import stored_json

PATH = "run/ipvsd/status.json"
_MAX_BYTES = 1 << 24

_FINDING = {
    "name": str,
    "required": bool,
    "verdict": str,
    "compliant": bool,
    "tolerated": bool,
    "evidence": str,
    "remedy": str,
}
_VALUE = {**_FINDING, "origin": str, "desired": str, "actual": (str,), "members": ({"compliant": int, "total": int},)}
_REPAIR = {"name": str, "actual": (str,), "desired": str, "time": str, "seconds": float, "writer_text": str}
# The part of the document that ipvsd reads (docs/status.md). Later versions only add keys.
_SHAPE: stored_json.Shape = {
    "boottime": float,
    "state": str,
    "summary": str,
    "kernel": str,
    "notes": [str],
    "modules": [{**_FINDING, "module": str}],
    "parameters": [_VALUE],
    "sysctls": [_VALUE],
    "contended": [{"name": str, "conflicting_program": str}],
    "repairs": [_REPAIR],
    "failures": [{"operation": str, "error": str}],
    "backend": str,
    "events_lost": float,
    "sources": [{"name": str, "up": bool, "events_lost": (float,), "detail": str}],
    "ipvs": {"up": (bool,), "version": str, "table_size": int, "detail": str},
    "config": {"hash": str, "files": [str], "interval": float, "errors": [str]},
}


def write(root: str, document: dict[str, Any]) -> None:
    """Replace the file, readable by all users with any umask. Raises OSError, and leaves the former file unchanged."""
    rootfs.write(root, PATH, as_json(document).encode())


def remove(root: str) -> None:
    """Remove the file, because nothing updates it any more."""
    with contextlib.suppress(OSError):
        rootfs.remove(root, PATH)


def exists(root: str) -> bool:
    """Return whether a daemon has left a file, even an unusable one. Raises rootfs.UnreadableError."""
    return rootfs.lexists(root, PATH)


def read(root: str) -> Optional[dict[str, Any]]:
    """Return the document, or None if it is absent. Raises stored_json.UnusableError and rootfs.UnreadableError."""
    data = stored_json.read(root, PATH, _MAX_BYTES)
    if data is None:
        return None
    found: Any = stored_json.parse(data)
    try:
        stored_json.check(found, _SHAPE)
    except stored_json.UnusableError as error:
        version = found.get("version") if isinstance(found, dict) else None
        if isinstance(version, str) and version != __version__:
            mismatch = f"version mismatch: the file is from ipvsd {version}, this command is version {__version__}"
            raise stored_json.UnusableError(f"{mismatch}: {error}") from None
        raise
    document: dict[str, Any] = found
    return document
