"""One daemon for each root: a lock that ends with the process that holds it, however that ends."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from ipvsd.runtime import rootfs
from ipvsd.runtime.journal import log

PATH = "run/ipvsd/daemon.lock"
_PRIVATE_DIRECTORIES = ("run/ipvsd", "var/lib/ipvsd")  # where nobody else writes


class _LockedError(Exception):
    """Another process holds the lock; the text names it."""


@contextlib.contextmanager
def hold(root: str) -> Iterator[bool]:
    """Hold the lock of a root for as long as the context lasts; yield False if another process does, and log which.

    Where no lock can be made the log says so, and the answer is True: the node comes first. With the lock, what
    killed daemons have left of their files is removed.
    """
    descriptor = -1
    try:
        descriptor = _open_locked(root)
    except _LockedError as error:
        log("error", f"cannot run the daemon: {error} (lock: {os.path.join(root, PATH)})")
        yield False
        return
    except OSError as error:
        log("warning", f"cannot lock {PATH}: {error.strerror or error}; a second daemon could start")
    else:
        for directory in _PRIVATE_DIRECTORIES:
            with contextlib.suppress(OSError):  # the next start does it
                rootfs.remove_temporary_files(root, directory)
    try:
        yield True
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _open_locked(root: str) -> int:
    """Return the descriptor that holds the lock. Raises _HeldError, and OSError if there is no lock to be had."""
    rootfs.make_directory(root, os.path.dirname(PATH))
    # The file is never removed: a lock on a file that is gone would keep nobody out.
    descriptor = rootfs.open_private(root, PATH)
    try:
        _lock(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _lock(descriptor: int) -> None:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        holder = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
        owner = f"process {holder}" if holder.isdecimal() else "another process"
        raise _LockedError(f"{owner} runs it already") from None
    # Any process that can open the file can hold the lock, and keep the daemon from starting.
    os.fchmod(descriptor, 0o600)
    with contextlib.suppress(OSError):  # a full /run: the report only lacks the process
        os.ftruncate(descriptor, 0)
        os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
