"""Files under a root: paths are resolved as if the root were /, and nothing outside is read or written.

Links stay inside (see `path_resolution`). If the root is /, paths are opened directly. A path that cannot be read is
not absent: EMFILE, ENFILE, ENOMEM, EACCES and EIO do not prove that nothing is there. The functions that read differ
in what a caller does about that: `read` raises, `content` and `text` return None only for an absent file, and
`text_if_permitted` also for a forbidden one. `write` is the only atomic writer.
"""

from __future__ import annotations

import contextlib
import errno
import os
import time
from collections.abc import Iterator, Sequence
from stat import S_ISDIR, S_ISREG, S_IWGRP, S_IWOTH
from typing import Callable, NoReturn, Optional, TypeVar, Union

from ipvsd.runtime import path_resolution

_Result = TypeVar("_Result")

MAX_BYTES = 1 << 20
_CHUNK = 1 << 16
TEMPORARY_FILE_AGE = 60.0  # seconds after which no writer still uses its temporary file
_TRIES = 10

# The path leads to nothing, or to nothing that a program reads. ENODEV: a file of /sys disappeared after the open.
_ABSENT_ERRNOS = (errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG, errno.EFBIG, errno.ENODEV)

# A FIFO must not block the caller, nor a terminal become the controlling one. O_PATH excludes both flags (openat2(2)).
_OPEN_FLAGS = os.O_CLOEXEC | os.O_NONBLOCK | os.O_NOCTTY


class UnreadableError(OSError):
    """The path cannot be read, and it is unknown whether anything is there. `filename` is the path for people."""

    def __str__(self) -> str:
        return f"cannot read {self.filename}: {self.strerror}"


class IrregularError(OSError):
    """The path leads to something other than a regular file."""


def trusted(status: os.stat_result) -> bool:
    """Return whether only root can have written this file."""
    others = status.st_mode & (S_IWOTH | (S_IWGRP if status.st_gid else 0))
    return status.st_uid == 0 and not others


# --- reading ----------------------------------------------------------------------------


def read(root: str, path: str, limit: int = MAX_BYTES) -> bytes:
    """Return the content of a regular file. Raises OSError, with EFBIG if it is larger than `limit` bytes."""
    with open_file(root, path) as fd:
        size = os.fstat(fd).st_size  # 0 for files of /proc
        data = read_at_most(fd, limit + 1) if size <= limit else b""
    if max(size, len(data)) > limit:
        raise OSError(errno.EFBIG, f"the file is larger than {limit} bytes", os.path.join(root, path))
    return data


def content(root: str, path: str, limit: int = MAX_BYTES) -> Optional[bytes]:
    """Return the content of a regular file, or None if it is absent or too large. Raises UnreadableError."""
    try:
        return read(root, path, limit)
    except OSError as error:
        _raise_unless_absent(error, root, path)
        return None


def text(root: str, path: str, limit: int = MAX_BYTES) -> Optional[str]:
    """Return the text of a file like `content`. Bytes that are not UTF-8 are kept (PEP 383). Raises UnreadableError."""
    data = content(root, path, limit)
    return None if data is None else data.decode("utf-8", "surrogateescape")


def text_if_permitted(root: str, path: str) -> Optional[str]:
    """Return the text of a file, or None if it is absent or forbidden, which proves nothing. Raises UnreadableError."""
    try:
        return text(root, path)
    except UnreadableError as error:
        if error.errno != errno.EACCES:
            raise
        return None


@contextlib.contextmanager
def open_file(root: str, path: str) -> Iterator[int]:
    """Open a regular file for reading, without blocking. Raises OSError, and IrregularError for any other type."""
    # Opening a FIFO or a device can have side effects (watchdog(4)), so this checks the type first.
    if not S_ISREG(_status(root, path).st_mode):
        raise _irregular_error(root, path)
    fd = open_path(root, path)
    try:
        if not S_ISREG(os.fstat(fd).st_mode):  # it was replaced in between
            raise _irregular_error(root, path)
        yield fd
    finally:
        os.close(fd)


def read_at_most(fd: int, limit: int) -> bytes:
    """Return at most `limit` bytes from the current position. Raises OSError."""
    chunks, remaining = [], limit
    while remaining:
        chunk = os.read(fd, min(remaining, _CHUNK))
        if not chunk:
            break
        chunks.append(chunk)
        remaining -= len(chunk)
    return b"".join(chunks)


def status(root: str, path: str) -> Optional[os.stat_result]:
    """Return the status of a path, or None if it leads to nothing. Raises UnreadableError."""
    try:
        return _status(root, path)
    except OSError as error:
        _raise_unless_absent(error, root, path)
        return None


def exists(root: str, path: str) -> bool:
    """Return whether a path leads to something. Raises UnreadableError."""
    return status(root, path) is not None


def is_file(root: str, path: str) -> bool:
    """Return whether a path leads to a regular file. Raises UnreadableError."""
    found = status(root, path)
    return found is not None and S_ISREG(found.st_mode)


def is_directory(root: str, path: str) -> bool:
    """Return whether a path leads to a directory. Raises UnreadableError."""
    found = status(root, path)
    return found is not None and S_ISDIR(found.st_mode)


def lexists(root: str, path: str) -> bool:
    """Return whether the path exists, even as a link that leads to nothing. Raises UnreadableError."""
    try:
        _call_on_name(root, path, lambda name, place: os.stat(name, dir_fd=place, follow_symlinks=False))
    except OSError as error:
        _raise_unless_absent(error, root, path)
        return False
    return True


def read_link(root: str, path: str) -> Optional[str]:
    """Return the target of a symbolic link as stored, or None if the path is not one. Raises UnreadableError."""
    try:
        return _call_on_name(root, path, lambda name, place: os.readlink(name, dir_fd=place))
    except OSError as error:
        if error.errno != errno.EINVAL:
            _raise_unless_absent(error, root, path)
        return None


def names(root: str, path: str) -> Sequence[str]:
    """Return the names in a directory, unsorted, or nothing if it is absent. Raises UnreadableError."""
    try:
        return listing(root, path)
    except OSError as error:
        _raise_unless_absent(error, root, path)
        return ()


def listing(root: str, path: str) -> list[str]:
    """Return the names in a directory, unsorted. Raises OSError."""
    return _call_on_path(root, path, os.O_DIRECTORY, lambda place: os.listdir(place))  # noqa: PLW0108 -- overloads


def walk(root: str, path: str) -> Iterator[tuple[str, Sequence[str]]]:
    """Yield each directory from `path` down, without following links, and its other names. Raises UnreadableError."""
    pending = [path]
    while pending:
        directory = pending.pop()
        try:
            fd = open_path(root, directory, os.O_DIRECTORY)
        except OSError as error:
            _raise_unless_absent(error, root, directory)
            continue
        files = []
        try:
            with os.scandir(fd) as entries:
                for entry in entries:
                    if entry.is_dir(follow_symlinks=False):
                        pending.append(os.path.join(directory, entry.name))
                    else:
                        files.append(entry.name)
        finally:
            os.close(fd)
        yield directory, files


# --- writing ----------------------------------------------------------------------------


def write(root: str, path: str, data: bytes, durable: bool = False, mode: int = 0o644) -> None:
    """Replace a file atomically, with this mode for any umask. Raises OSError, and then nothing has changed.

    The last of several writers wins. `durable` means that the content is the old or the new one after a crash.
    """
    with _parent(root, path, os.O_DIRECTORY) as (parent, name):
        temporary, fd = _create_temporary(parent, name)
        try:
            try:
                _write_all(fd, data)
                os.fchmod(fd, mode)
                if durable:
                    os.fsync(fd)
            finally:
                os.close(fd)
            os.rename(temporary, name, src_dir_fd=parent, dst_dir_fd=parent)
        except BaseException:
            with contextlib.suppress(OSError):
                os.unlink(temporary, dir_fd=parent)
            raise
        if durable:
            os.fsync(parent)


def remove_temporary_files(root: str, directory: str, names: str = "", age: float = 0.0) -> None:
    """Remove temporary files of killed writers for names that begin with `names`, at least `age` seconds old.

    Without an age, no other process may be writing. Raises OSError.
    """
    fd = open_path(root, directory, os.O_DIRECTORY)
    try:
        for entry in os.listdir(fd):
            if entry.startswith(f".{names}") and entry.endswith(".new"):
                with contextlib.suppress(FileNotFoundError):  # another process removed it first
                    written = os.stat(entry, dir_fd=fd, follow_symlinks=False).st_mtime
                    if time.time() - written >= age:
                        os.unlink(entry, dir_fd=fd)
    finally:
        os.close(fd)


def append(root: str, path: str, data: bytes) -> None:
    """Append to an existing regular file, without following a link. Raises OSError, and then nothing was appended."""
    fd = _open_regular(root, path, os.O_WRONLY | os.O_APPEND)
    try:
        size = os.fstat(fd).st_size
        try:
            _write_all(fd, data)
        except OSError:
            os.ftruncate(fd, size)
            raise
    finally:
        os.close(fd)


def open_private(root: str, path: str) -> int:
    """Open a file for reading and writing, or create it for this user alone. Raises OSError, also for a link."""
    return _open_regular(root, path, os.O_RDWR | os.O_CREAT)


def _open_regular(root: str, path: str, flags: int) -> int:
    with _parent(root, path, os.O_DIRECTORY) as (parent, name):
        with contextlib.suppress(FileNotFoundError):
            if not S_ISREG(os.stat(name, dir_fd=parent, follow_symlinks=False).st_mode):
                raise _irregular_error(root, path)
        return os.open(name, flags | os.O_NOFOLLOW | _OPEN_FLAGS, 0o600, dir_fd=parent)


def remove(root: str, path: str) -> None:
    """Remove a file, or a link but not its target. Raises OSError."""
    with _parent(root, path, os.O_DIRECTORY) as (parent, name):
        os.unlink(name, dir_fd=parent)


def make_directory(root: str, path: str) -> None:
    """Create a directory and its parents with mode 0755, if they are absent. Raises OSError."""
    if not path or exists(root, path):
        return
    make_directory(root, path.rpartition("/")[0])
    with _parent(root, path, os.O_DIRECTORY) as (parent, name):
        try:
            os.mkdir(name, 0o755, dir_fd=parent)
        except FileExistsError:  # created meanwhile, or a link to nothing, which the write reports
            return
        os.chmod(name, 0o755, dir_fd=parent)  # noqa: S103 -- the same mode for any umask, as for the files in it


def _create_temporary(parent: int, name: str) -> tuple[str, int]:
    """Return the name and a descriptor of a new file. systemd, libkmod and procps ignore such a name."""
    for _ in range(_TRIES):
        temporary = f".{name}.{os.urandom(6).hex()}.new"
        with contextlib.suppress(FileExistsError):
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            return temporary, os.open(temporary, flags, 0o600, dir_fd=parent)
    raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST))


def _write_all(fd: int, data: bytes) -> None:
    remaining = memoryview(data)
    while remaining:  # a full file system stores a part, and rejects the rest
        remaining = remaining[os.write(fd, remaining) :]


# --- resolving --------------------------------------------------------------------------


def open_path(root: str, path: str, flags: int = os.O_RDONLY) -> int:
    """Open a path for reading, or with O_PATH to resolve it. The caller closes it. Raises OSError."""
    flags |= os.O_CLOEXEC if flags & os.O_PATH else _OPEN_FLAGS
    try:
        if root == "/":
            return os.open(os.path.join(root, path), flags)
        top = os.open(root, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            return path_resolution.open_in_root(top, path or ".", flags)
        finally:
            os.close(top)
    except ValueError:
        _raise_not_found(root, path)
    except OSError as error:
        error.filename = os.path.join(root, path)
        raise


def _status(root: str, path: str) -> os.stat_result:
    return _call_on_path(root, path, os.O_PATH, os.stat)


def _call_on_path(root: str, path: str, flags: int, function: Callable[[Union[str, int]], _Result]) -> _Result:
    """Call a function with the name of a path if the root is /, otherwise with a descriptor opened with `flags`."""
    if root == "/":
        try:
            return function(os.path.join(root, path))
        except ValueError:
            _raise_not_found(root, path)
    fd = open_path(root, path, flags)
    try:
        return function(fd)
    finally:
        os.close(fd)


def _call_on_name(root: str, path: str, function: Callable[[str, Optional[int]], _Result]) -> _Result:
    """Call a function with the last component of a path and a descriptor of its directory, or None if the root is /."""
    if root == "/":
        try:
            return function(os.path.join(root, path), None)
        except ValueError:
            _raise_not_found(root, path)
    with _parent(root, path, os.O_PATH | os.O_DIRECTORY) as (parent, name):
        return function(name, parent)


@contextlib.contextmanager
def _parent(root: str, path: str, flags: int) -> Iterator[tuple[int, str]]:
    """Open the parent directory of a path. Raises OSError with the whole path, also for errors of the body."""
    directory, _, name = path.rpartition("/")
    if name in ("", ".", ".."):  # the parent of `..` can be outside
        raise OSError(errno.EINVAL, os.strerror(errno.EINVAL), os.path.join(root, path))
    fd = open_path(root, directory, flags)
    try:
        yield fd, name
    except ValueError:
        _raise_not_found(root, path)
    except OSError as error:
        error.filename, error.filename2 = os.path.join(root, path), None
        raise
    finally:
        os.close(fd)


def proves_absence(error: OSError) -> bool:
    """Return whether an error means that nothing can be read at a path, as opposed to a failed attempt."""
    return error.errno in _ABSENT_ERRNOS or isinstance(error, IrregularError)


def _raise_unless_absent(error: OSError, root: str, path: str) -> None:
    """Raise UnreadableError unless the error means that nothing can be read there."""
    if not proves_absence(error):
        raise UnreadableError(error.errno, error.strerror, os.path.join(root, path)) from error


def _irregular_error(root: str, path: str) -> IrregularError:
    return IrregularError(errno.EINVAL, "not a regular file", os.path.join(root, path))


def _raise_not_found(root: str, path: str) -> NoReturn:
    """Raise FileNotFoundError: no file name contains a NUL, or a character that the encoding lacks."""
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.path.join(root, path)) from None
