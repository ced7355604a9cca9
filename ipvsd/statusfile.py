"""/run/ipvsd/status.json: the latest look, for everyone to read, replaced in one step."""

from __future__ import annotations

import contextlib
import json
import os
from typing import Any, Optional

from ipvsd.printable import as_json

PATH = "run/ipvsd/status.json"


def write(root: str, document: dict[str, Any]) -> None:
    """Replace the file, readable by everyone whatever the umask. Raises OSError."""
    path = os.path.join(root, PATH)
    beside = f"{path}.new"
    with open(beside, "w", encoding="utf-8") as file:
        os.fchmod(file.fileno(), 0o644)
        file.write(as_json(document))
    os.replace(beside, path)


def remove(root: str) -> None:
    """Remove the file: nothing looks any more."""
    with contextlib.suppress(OSError):
        os.unlink(os.path.join(root, PATH))


def read(root: str) -> Optional[dict[str, Any]]:
    """Return the document, or None if there is no usable one."""
    try:
        with open(os.path.join(root, PATH), encoding="utf-8") as file:
            found = json.load(file)
    except (OSError, ValueError):
        return None
    return found if isinstance(found, dict) else None
