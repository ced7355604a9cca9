"""The configuration's files: which of them count, whether they can be trusted, and the last good ones.

/etc/ipvsd/ipvsd.yaml comes first, then the drop-ins of three conf.d directories in the order of
their names; a drop-in masks one of the same name in a directory below, as in sysctl.d(5).
"""

from __future__ import annotations

import json
import os
import stat
from typing import Optional

from ipvsd.config import Config, ConfigError, parse
from ipvsd.document import MAX_BYTES

MAIN = "etc/ipvsd/ipvsd.yaml"
DROP_INS = ("etc/ipvsd/conf.d", "run/ipvsd/conf.d", "usr/lib/ipvsd/conf.d")  # the first one masks the others
LAST_GOOD = "var/lib/ipvsd/last-good.json"
_TRIES = 10  # to read a set of files of which none is removed in between

Files = tuple[tuple[str, bytes], ...]


def directories(root: str) -> tuple[str, ...]:
    """Return the directories in which a file of the configuration may appear."""
    return tuple(os.path.join(root, path) for path in (os.path.dirname(MAIN), *DROP_INS))


def read(root: str, only: Optional[str] = None) -> Files:
    """Return (name, content) of the files at work, or of the one file that was asked for.

    On the system's own paths a file must belong to root and be writable by nobody else.
    A file that is removed meanwhile is as one that never was. Raises ConfigError.
    """
    errors: list[str] = []
    for _ in range(_TRIES):
        errors = []
        paths = _at_work(root, errors) if only is None else [only]
        files, gone = _contents(paths, only is None and root == "/", errors)
        if not gone:  # Else it may have masked another file, which only a new list can tell.
            break
    if errors:
        raise ConfigError(errors)
    return tuple(files)


def load(root: str, only: Optional[str] = None) -> Config:
    """Return the configuration at work. Raises ConfigError."""
    return parse(read(root, only))


def trusted(status: os.stat_result) -> bool:
    """Tell whether nobody but root can have written this file."""
    others = status.st_mode & (stat.S_IWOTH | (stat.S_IWGRP if status.st_gid else 0))
    return status.st_uid == 0 and not others


def keep(root: str, files: Files) -> None:
    """Remember these files as the last good ones. Raises OSError; nothing is lost by a crash."""
    path = os.path.join(root, LAST_GOOD)
    text = json.dumps([[name, data.decode("utf-8", "surrogateescape")] for name, data in files])
    if _text(path) == text:
        return
    beside = f"{path}.new"
    with open(beside, "w", encoding="utf-8") as file:
        file.write(text)
        file.flush()
        os.fsync(file.fileno())
    os.replace(beside, path)


def last_good(root: str) -> Optional[Files]:
    """Return the files that `keep` remembered, or None if there are none or they are damaged."""
    try:
        pairs = json.loads(_text(os.path.join(root, LAST_GOOD)) or "")
        if not isinstance(pairs, list):
            return None
        files = tuple((str(name), str(text).encode("utf-8", "surrogateescape")) for name, text in pairs)
        parse(files)
    except (ValueError, TypeError, RecursionError, ConfigError):
        return None
    return files


class _UntrustedError(Exception):
    """The file must not be believed."""


def _at_work(root: str, errors: list[str]) -> list[str]:
    main = os.path.join(root, MAIN)
    chosen: dict[str, str] = {}
    for directory in DROP_INS:
        path = os.path.join(root, directory)
        try:
            names = os.listdir(path)
        except FileNotFoundError:
            continue
        except OSError as error:
            errors.append(f"{path}: cannot be listed: {error.strerror}")
            continue
        for name in names:
            if name.endswith(".yaml") and not name.startswith("."):
                chosen.setdefault(name, os.path.join(path, name))
    return [path for path in (main,) if os.path.lexists(path)] + [chosen[name] for name in sorted(chosen)]


def _contents(paths: list[str], trusted_only: bool, errors: list[str]) -> tuple[list[tuple[str, bytes]], bool]:
    """Return (name, content) of these files, and whether one of them is gone."""
    files: list[tuple[str, bytes]] = []
    gone = False
    for path in paths:
        try:
            data = _read(path, trusted_only)
            files += [] if data is None else [(path, data)]
        except OSError as error:
            errors.append(f"{path}: cannot be read: {error.strerror or error}")
            gone = gone or (isinstance(error, FileNotFoundError) and not os.path.islink(path))
        except _UntrustedError as error:
            errors.append(f"{path}: {error}")
    return files, gone


def _read(path: str, trusted_only: bool) -> Optional[bytes]:
    """Return the content, or None for a link to /dev/null, which masks a drop-in."""
    fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    try:
        status = os.fstat(fd)
        if stat.S_ISCHR(status.st_mode) and status.st_rdev == os.makedev(1, 3):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise _UntrustedError("is not a regular file")
        if trusted_only and not trusted(status):
            raise _UntrustedError("can be written by others than root (run: chown root:root, chmod 0644)")
        if status.st_size > MAX_BYTES:
            raise _UntrustedError(f"is larger than {MAX_BYTES} bytes")
        with os.fdopen(os.dup(fd), "rb") as file:
            return file.read(MAX_BYTES + 1)
    finally:
        os.close(fd)


def _text(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None
