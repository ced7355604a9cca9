"""The files below a root: read once, bounded in size, and never outside, wherever a link in an image may lead."""

from __future__ import annotations

import os
import stat
from collections.abc import Collection, Mapping
from typing import Optional

MAX_BYTES = 1 << 20
_MAX_LINKS = 40  # as the kernel's own limit (path_resolution(7))

# The first directory masks a file of the same name in the others, as in sysctl.d(5); /lib where it is not /usr/lib.
PLACES = ("etc", "run", "usr/local/lib", "usr/lib", "lib")
_UNITS = ("etc/systemd/system", "run/systemd/system", "usr/lib/systemd/system", "lib/systemd/system")


class Tree:
    """One root at one moment. Paths are relative to it."""

    def __init__(self, root: str) -> None:
        self.root = root
        self._texts: dict[str, Optional[str]] = {}
        self._unread: dict[str, str] = {}

    @property
    def unread(self) -> Mapping[str, str]:
        """The files that are there and could not be read, each with the reason."""
        return self._unread

    def shown(self, path: str) -> str:
        """Return the path as it is told."""
        return os.path.join(self.root, path)

    def read(self, path: str) -> Optional[str]:
        """Return the text of a regular file, or None; a device, as a link to /dev/null, is no file."""
        if path not in self._texts:
            try:
                self._texts[path] = _text(self.inside(path))
            except (FileNotFoundError, NotADirectoryError):
                self._texts[path] = None
            except (OSError, ValueError) as error:
                self._texts[path] = None
                self._unread[self.shown(path)] = getattr(error, "strerror", None) or str(error)
        return self._texts[path]

    def names(self, directory: str) -> Collection[str]:
        """Return the names in a directory; none if there is none."""
        try:
            return os.listdir(self.inside(directory))
        except (FileNotFoundError, NotADirectoryError):
            return ()
        except OSError as error:
            self._unread[self.shown(directory)] = error.strerror or str(error)
            return ()

    def merged(self, directories: Collection[str], *suffixes: str, hidden: bool = False) -> list[str]:
        """Return the files of several directories in the order of their names, of one name the first directory's.

        Those that end in one of the suffixes; without any, in `.conf`. systemd and libkmod pass over names with a dot
        in front, which some other programs read (`hidden`).
        """
        chosen: dict[str, str] = {}
        for directory in directories:
            for name in self.names(directory):
                if name.endswith(suffixes or ".conf") and (hidden or not name.startswith(".")):
                    chosen.setdefault(name, os.path.join(directory, name))
        return [chosen[name] for name in sorted(chosen)]

    def first(self, paths: Collection[str]) -> Optional[str]:
        """Return the first of these files that can be read."""
        return next((path for path in paths if self.read(path) is not None), None)

    def enabled(self, unit: str) -> bool:
        """Tell whether systemd starts a unit at boot, as far as links tell: some other unit wants it."""
        for place in _UNITS:
            for name in self.names(place):
                if name.endswith((".wants", ".requires")) and unit in self.names(os.path.join(place, name)):
                    return not self._masked(unit)
        return False

    def _masked(self, unit: str) -> bool:
        return any(
            os.path.islink(link) and os.readlink(link) == "/dev/null"
            for link in (os.path.join(self.root, place, unit) for place in _UNITS[:2])
        )

    def inside(self, path: str) -> str:
        """Return the file that a path means if the root is /: links are followed, and lead nowhere else.

        Raises OSError if they go round in circles.
        """
        left, found, links = path.split("/")[::-1], list[str](), 0
        while left:
            part = left.pop()
            if part == "..":
                found = found[:-1]
            if part in ("", ".", ".."):
                continue
            try:
                target = os.readlink(os.path.join(self.root, *found, part))
            except (OSError, ValueError):  # no link, or nothing at all
                found.append(part)
                continue
            links += 1
            if links > _MAX_LINKS:
                raise OSError("too many symbolic links")
            found = [] if target.startswith("/") else found
            left.extend(target.split("/")[::-1])
        return os.path.join(self.root, *found)


def _text(path: str) -> Optional[str]:
    """Return the content. Raises OSError, and ValueError if there is too much of it."""
    # A FIFO must not hold us up, and a terminal not become ours.
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY)
    try:
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            return None
        with os.fdopen(os.dup(fd), "rb") as file:
            data = file.read(MAX_BYTES + 1)  # /proc tells no sizes beforehand
    finally:
        os.close(fd)
    if len(data) > MAX_BYTES:
        raise ValueError(f"is larger than {MAX_BYTES} bytes")
    return data.decode("utf-8", "replace")
