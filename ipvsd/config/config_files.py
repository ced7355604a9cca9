"""The configuration's files: which of them count, whether they can be trusted, and the last good ones.

/etc/ipvsd/ipvsd.yaml comes first, then the drop-ins of three conf.d directories in the order of
their names; a drop-in masks one of the same name in a directory below, as in sysctl.d(5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from typing import NamedTuple, Optional

from ipvsd.config.parser import ConfigError, parse
from ipvsd.config.schema import Config
from ipvsd.config.yaml_tree import MAX_BYTES
from ipvsd.runtime import rootfs

MAIN = "etc/ipvsd/ipvsd.yaml"
DROP_INS = ("etc/ipvsd/conf.d", "run/ipvsd/conf.d", "usr/lib/ipvsd/conf.d")  # the first one masks the others
_TRIES = 10  # to read a set of files of which none is removed in between

# Seconds after the last change from which on an open file is no longer taken for one that is being written: a program
# may keep it open for ever, and NFS version 4 says so of every file (nfs4_add_lease() in fs/nfs/nfs4proc.c).
MAX_WRITE_SECONDS = 300.0

BEING_WRITTEN = "a program has it open for writing (it is read when it is closed)"

Files = tuple[tuple[str, bytes], ...]


class Snapshot(NamedTuple):
    """The files of one moment, the errors of those that cannot be used, and those that are being written."""

    files: Files
    errors: tuple[str, ...] = ()
    being_written: tuple[str, ...] = ()

    def require_complete(self) -> Files:
        """Return the files. Raises ConfigError if one of them cannot be used, or is being written."""
        errors = (*self.errors, *(f"{path}: cannot be read: {BEING_WRITTEN}" for path in self.being_written))
        if errors:
            raise ConfigError(errors)
        return self.files


def main_path(root: str) -> str:
    """Return the path of the main file."""
    return os.path.join(root, MAIN)


def directories(root: str) -> tuple[str, ...]:
    """Return the directories in which a file of the configuration may appear."""
    return tuple(os.path.join(root, path) for path in (os.path.dirname(MAIN), *DROP_INS))


def read(root: str, config_path: Optional[str] = None) -> Files:
    """Return (name, content) of the files at work, or of the one file that was asked for. Raises ConfigError.

    A person who asks for a file means it as it is, even if a program has it open.
    """
    found = snapshot(root, config_path)
    return (found if config_path is None else found._replace(being_written=())).require_complete()


def snapshot(root: str, config_path: Optional[str] = None) -> Snapshot:
    """Return the files at work, or the one file that was asked for, as they are now.

    On the system's own paths a file must belong to root and be writable by nobody else.
    A file that is removed meanwhile is as one that never was. No program opens a file for writing while it is read.
    """
    found = Snapshot(())
    for _ in range(_TRIES):
        errors: list[str] = []
        places = _active_files(root, errors) if config_path is None else [_named_file(config_path)]
        found, gone = _contents(places, config_path is None and root == "/", errors)
        if not gone:  # Else it may have masked another file, which only a new list can tell.
            break
    return found


def load(root: str, config_path: Optional[str] = None) -> Config:
    """Return the configuration at work. Raises ConfigError."""
    return parse(read(root, config_path))


class _ConfigFile(NamedTuple):
    """Where a file is, and its name as it is told."""

    root: str
    path: str
    name: str


class _UntrustedError(Exception):
    """The file must not be believed."""


class _GoneError(Exception):
    """The file was removed since it was listed."""


def _named_file(name: str) -> _ConfigFile:
    """Return the place of a file that was named by a person, in the system that this process sees."""
    return _ConfigFile("/", os.path.join(os.getcwd(), name), name)


def _active_files(root: str, errors: list[str]) -> list[_ConfigFile]:
    chosen: dict[str, _ConfigFile] = {}
    for directory in DROP_INS:
        try:
            names = rootfs.listing(root, directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            errors.append(f"{os.path.join(root, directory)}: cannot be listed: {error.strerror}")
            continue
        for name in names:
            if name.endswith(".yaml") and not name.startswith("."):
                chosen.setdefault(name, _place(root, f"{directory}/{name}"))
    return [_place(root, MAIN), *(chosen[name] for name in sorted(chosen))]


def _place(root: str, path: str) -> _ConfigFile:
    return _ConfigFile(root, path, os.path.join(root, path))


def _contents(places: list[_ConfigFile], trusted_only: bool, errors: list[str]) -> tuple[Snapshot, bool]:
    """Return these files, and whether one of them is gone."""
    files: list[tuple[str, bytes]] = []
    written: list[str] = []
    gone = False
    for place in places:
        try:
            data, open_for_writing = _read(place, trusted_only)
            files += [] if data is None else [(place.name, data)]
            written += [place.name] if open_for_writing else []
        except OSError as error:
            errors.append(f"{place.name}: cannot be read: {error.strerror or error}")
        except _UntrustedError as error:
            errors.append(f"{place.name}: {error}")
        except _GoneError:
            if place.path != MAIN:  # which is not listed: it need not be there
                errors.append(f"{place.name}: cannot be read: {os.strerror(errno.ENOENT)}")
                gone = True
    return Snapshot(tuple(files), tuple(errors), tuple(written)), gone


def _read(place: _ConfigFile, trusted_only: bool) -> tuple[Optional[bytes], bool]:
    """Return the content, or None for a link to /dev/null, which masks a drop-in; and whether it is being written."""
    try:
        with rootfs.open_file(place.root, place.path) as fd:
            status = os.fstat(fd)
            if trusted_only and not rootfs.trusted(status):
                raise _UntrustedError("can be written by others than root (run: chown root:root, chmod 0644)")
            if status.st_size > MAX_BYTES:
                raise _UntrustedError(f"is larger than {MAX_BYTES} bytes")
            written = _open_for_writing(fd) and abs(time.time() - os.fstat(fd).st_mtime) < MAX_WRITE_SECONDS
            return rootfs.read_at_most(fd, MAX_BYTES + 1), written
    except rootfs.IrregularError as error:
        found = rootfs.status(place.root, place.path)
        if found is not None and stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3):
            return None, False
        raise _UntrustedError(error.strerror) from None
    except FileNotFoundError:
        target = rootfs.read_link(place.root, place.path)
        if target == "/dev/null":  # in an image, whose /dev is empty
            return None, False
        if target is None:
            raise _GoneError from None
        raise


def _open_for_writing(fd: int) -> bool:
    """Tell whether a program has the file open for writing; if not, let none open it until `fd` is closed.

    Both are a lease (fcntl(2)), which the owner of the file may take. Where the file system has none, nothing is
    known, and the answer is no.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # A program that has to wait raises it; SIGIO would end us.
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
