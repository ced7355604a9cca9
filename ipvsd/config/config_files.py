"""The files of the configuration: which of them apply, and whether they can be trusted.

/etc/ipvsd/ipvsd.yaml comes first, then the drop-ins of three conf.d directories, sorted by name. A drop-in masks
those of the same name in later directories, as in sysctl.d(5).
"""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple, Optional

from ipvsd.config.parser import ConfigError, parse
from ipvsd.config.schema import Config
from ipvsd.config.yaml_tree import MAX_BYTES
from ipvsd.runtime import rootfs

MAIN = "etc/ipvsd/ipvsd.yaml"
DROP_INS = ("etc/ipvsd/conf.d", "run/ipvsd/conf.d", "usr/lib/ipvsd/conf.d")  # an earlier one masks later ones
_TRIES = 10  # attempts to read a set of files while none is removed

# An open file counts as being written only for this time after its last change. A program can keep a file open
# forever, and NFS version 4 reports every file as open (nfs4_add_lease() in fs/nfs/nfs4proc.c).
MAX_WRITE_SECONDS = 300.0

BEING_WRITTEN = "a program has the file open for writing (ipvsd reads the file once the program closes it)"

Files = tuple[tuple[str, bytes], ...]


class Snapshot(NamedTuple):
    """The files at one moment, the errors of unusable ones, and the files that are being written.

    If it is `unreadable`, an error does not prove that the file is absent or unusable.
    """

    files: Files
    errors: tuple[str, ...] = ()
    being_written: tuple[str, ...] = ()
    unreadable: bool = False

    def require_complete(self) -> Files:
        """Return the files. Raises ConfigError if one of them is unusable or is being written."""
        errors = (*self.errors, *(f"{path}: cannot read the file: {BEING_WRITTEN}" for path in self.being_written))
        if errors:
            raise ConfigError(errors, self.unreadable)
        return self.files


def main_path(root: str) -> str:
    return os.path.join(root, MAIN)


def directories(root: str) -> tuple[str, ...]:
    return tuple(os.path.join(root, path) for path in (os.path.dirname(MAIN), *DROP_INS))


def read(root: str, config_path: Optional[str] = None) -> Files:
    """Return (name, content) of the active files, or of the one that a person requests. Raises ConfigError."""
    found = snapshot(root, config_path)
    # A requested file is used as it is, even if a program has it open.
    return (found if config_path is None else found._replace(being_written=())).require_complete()


def snapshot(root: str, config_path: Optional[str] = None) -> Snapshot:
    """Return the current active files, or the one requested file. A file that is removed meanwhile is absent.

    If the root is /, a file must belong to root, and only root may be able to write it. No program can open a file for
    writing while it is read.
    """
    found = Snapshot(())
    for _ in range(_TRIES):
        errors: list[str] = []
        unlisted = False
        if config_path is None:
            places = _active_files(root, errors)
            unlisted = bool(errors)
        else:  # in the file system of this process
            places = [_ConfigFile("/", os.path.join(os.getcwd(), config_path), config_path)]
        found, gone = _contents(places, config_path is None and root == "/", errors)
        found = found._replace(unreadable=found.unreadable or unlisted)
        if not gone:  # A removed file may have masked another one, so the list has to be read again.
            break
    return found


def load(root: str, config_path: Optional[str] = None) -> Config:
    """Return the active configuration. Raises ConfigError."""
    return parse(read(root, config_path))


class _ConfigFile(NamedTuple):
    root: str
    path: str
    name: str


class UntrustedError(Exception):
    """The file is not usable. The text is the reason, with the remedy."""


class _GoneError(Exception):
    """The file was removed since it was listed."""


def _active_files(root: str, errors: list[str]) -> list[_ConfigFile]:
    chosen: dict[str, _ConfigFile] = {}
    for directory in DROP_INS:
        try:
            names = rootfs.listing(root, directory)
        except FileNotFoundError:
            continue
        except OSError as error:
            errors.append(f"{os.path.join(root, directory)}: cannot list the directory: {error.strerror}")
            continue
        for name in names:
            if name.endswith(".yaml") and not name.startswith("."):
                chosen.setdefault(name, _place(root, f"{directory}/{name}"))
    return [_place(root, MAIN), *(chosen[name] for name in sorted(chosen))]


def _place(root: str, path: str) -> _ConfigFile:
    return _ConfigFile(root, path, os.path.join(root, path))


def _contents(places: list[_ConfigFile], trusted_only: bool, errors: list[str]) -> tuple[Snapshot, bool]:
    files: list[tuple[str, bytes]] = []
    written: list[str] = []
    gone = unreadable = False
    for place in places:
        try:
            data, open_for_writing = _read(place, trusted_only)
            files += [] if data is None else [(place.name, data)]
            written += [place.name] if open_for_writing else []
        except OSError as error:
            errors.append(f"{place.name}: cannot read the file: {error.strerror or error}")
            unreadable = unreadable or not rootfs.proves_absence(error)
        except UntrustedError as error:
            errors.append(f"{place.name}: {error}")
        except _GoneError:
            if place.path != MAIN:  # it was not listed, and is optional
                errors.append(f"{place.name}: cannot read the file: {os.strerror(errno.ENOENT)}")
                gone = True
    return Snapshot(tuple(files), tuple(errors), tuple(written), unreadable), gone


@contextmanager
def open_trusted(root: str, path: str, name: str, trusted_only: bool, mode: str = "0644") -> Iterator[int]:
    """Open a regular file of at most MAX_BYTES. Raises OSError and UntrustedError.

    With `trusted_only`, only root can have written it. The remedy names the file `name`, and `mode` for chmod(1).
    """
    with rootfs.open_file(root, path) as fd:
        status = os.fstat(fd)
        if trusted_only and not rootfs.trusted(status):
            import shlex  # needed only for the message

            file = shlex.quote(name)
            remedy = f"run 'chown root:root {file}' and 'chmod {mode} {file}'"
            raise UntrustedError(f"users other than root can write the file ({remedy})")
        if status.st_size > MAX_BYTES:
            raise UntrustedError(f"the file is larger than {MAX_BYTES} bytes")
        yield fd


def _read(place: _ConfigFile, trusted_only: bool) -> tuple[Optional[bytes], bool]:
    """Return the content, or None for a link to /dev/null, and whether the file is being written."""
    try:
        with open_trusted(place.root, place.path, place.name, trusted_only) as fd:
            written = _open_for_writing(fd) and abs(time.time() - os.fstat(fd).st_mtime) < MAX_WRITE_SECONDS
            return rootfs.read_at_most(fd, MAX_BYTES + 1), written
    except rootfs.IrregularError as error:
        found = rootfs.status(place.root, place.path)
        if found is not None and stat.S_ISCHR(found.st_mode) and found.st_rdev == os.makedev(1, 3):
            return None, False
        raise UntrustedError(error.strerror) from None
    except FileNotFoundError:
        target = rootfs.read_link(place.root, place.path)
        if target == "/dev/null":  # in an image, whose /dev is empty
            return None, False
        if target is None:
            raise _GoneError from None
        raise


def _open_for_writing(fd: int) -> bool:
    """Return whether a program has the file open for writing. If not, block such opens until `fd` is closed.

    Both use a lease (fcntl(2)). Return False if the file system does not support it.
    """
    try:
        fcntl.fcntl(fd, fcntl.F_SETSIG, signal.SIGURG)  # sent if a program has to wait; SIGIO would end us
        fcntl.fcntl(fd, fcntl.F_SETLEASE, fcntl.F_RDLCK)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
