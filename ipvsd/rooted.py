"""Files below a root: links are followed as if the root were /, so that those of an image lead nowhere else."""

from __future__ import annotations

import os
import stat
from typing import Optional

MAX_BYTES = 1 << 20
_MAX_LINKS = 40  # as the kernel's own limit (path_resolution(7))


def resolve(root: str, path: str) -> str:
    """Return the file that a path means if the root is /.

    Raises OSError if its links go round in circles.
    """
    if root == "/":
        return os.path.join(root, path)
    left, found, links = path.split("/")[::-1], list[str](), 0
    while left:
        part = left.pop()
        if part == "..":
            found = found[:-1]
        if part in ("", ".", ".."):
            continue
        try:
            target = os.readlink(os.path.join(root, *found, part))
        except (OSError, ValueError):  # no link, or nothing at all
            found.append(part)
            continue
        links += 1
        if links > _MAX_LINKS:
            raise OSError("too many symbolic links")
        found = [] if target.startswith("/") else found
        left.extend(target.split("/")[::-1])
    return os.path.join(root, *found)


def exists(root: str, path: str) -> bool:
    """Tell whether a path below a root leads to something."""
    try:
        return os.path.exists(resolve(root, path))
    except (OSError, ValueError):
        return False


def read(path: str, limit: int = MAX_BYTES) -> Optional[bytes]:
    """Return the content of a regular file; None if it is something else, as a link to /dev/null.

    Raises OSError, and ValueError if there is too much of it.
    """
    # A FIFO must not hold us up, and a terminal not become ours.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with os.fdopen(os.dup(fd), "rb") as file:
            data = file.read(limit + 1)  # /proc tells no sizes beforehand
    finally:
        os.close(fd)
    if len(data) > limit:
        raise ValueError(f"is larger than {limit} bytes")
    return data


def text(root: str, path: str, limit: int = MAX_BYTES) -> Optional[str]:
    """Return the text of a regular file below a root, or None if it cannot be read."""
    try:
        data = read(resolve(root, path), limit)
    except (OSError, ValueError):
        return None
    return None if data is None else data.decode("utf-8", "replace")
