"""Open descriptors of sysctls. Reading or writing through one takes a fraction of the time of an open.

A sysctl that disappears and returns is another file with another inode number; the old descriptor yields ENOENT.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from typing import Callable, NamedTuple, Optional

from ipvsd.runtime import resources


class OpenFile(NamedTuple):
    """`identity` is the device and the inode number."""

    path: str
    descriptor: int
    identity: tuple[int, int]


class FdCache:
    """Keeps files open by key, for writing if permitted. `full` means that too few descriptors were free for some."""

    def __init__(self) -> None:
        self._files: dict[str, OpenFile] = {}
        self._listeners: list[Callable[[str], None]] = []
        self.full = False

    def keep(self, paths: Mapping[str, str]) -> None:
        """Keep open the files of exactly these keys, as far as they can be opened."""
        for key in [key for key, file in self._files.items() if not _is_at(file, paths.get(key))]:
            self._close(key)
        self.full = False
        for key, path in paths.items():
            if key not in self._files and not self.full:
                self._open(key, path)

    def get(self, key: str) -> Optional[OpenFile]:
        return self._files.get(key)

    def reopen(self, key: str) -> Optional[OpenFile]:
        """Open the current file at the path of a key again, and call the listeners with the key, or return None."""
        file = self._files.get(key)
        if file is None:
            return None
        self._close(key)
        try:
            self._files[key] = file = _opened(file.path)
        except OSError:
            return None
        for listener in self._listeners:
            listener(key)
        return file

    def on_reopen(self, listener: Callable[[str], None]) -> None:
        self._listeners.append(listener)

    def close(self) -> None:
        for key in list(self._files):
            self._close(key)

    def _open(self, key: str, path: str) -> None:
        try:
            file = _opened(path)
        except OSError:
            return
        if resources.has_headroom(file.descriptor):
            self._files[key] = file
        else:
            os.close(file.descriptor)
            self.full = True

    def _close(self, key: str) -> None:
        os.close(self._files.pop(key).descriptor)


def _opened(path: str) -> OpenFile:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        descriptor = os.open(path, os.O_RDWR | flags)
    except OSError:
        descriptor = os.open(path, os.O_RDONLY | flags)
    try:
        return OpenFile(path, descriptor, _identity(os.fstat(descriptor)))
    except OSError:  # it disappeared after the open
        os.close(descriptor)
        raise


def _is_at(file: OpenFile, path: Optional[str]) -> bool:
    try:
        return path is not None and _identity(os.stat(path)) == file.identity
    except OSError:
        return False


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
