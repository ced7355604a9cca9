"""A lock that allows one daemon for each root. The kernel releases it when its process ends for any reason."""

from __future__ import annotations

import contextlib
import fcntl
import os
from collections.abc import Iterator

from ipvsd.runtime import rootfs
from ipvsd.runtime.journal import log

PATH = "run/ipvsd/daemon.lock"
_PRIVATE_DIRECTORIES = ("run/ipvsd", "var/lib/ipvsd")  # only ipvsd writes here


class _LockedError(Exception):
    """Another process holds the lock; the text names it."""


@contextlib.contextmanager
def hold(root: str) -> Iterator[bool]:
    """Hold the lock of a root while the context lasts. Yield False and log the holder if another process has it.

    If the lock cannot be created, log a warning and yield True, because keeping the node compliant comes first.
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
            with contextlib.suppress(OSError):  # the next start repeats it
                rootfs.remove_temporary_files(root, directory)
    try:
        yield True
    finally:
        if descriptor >= 0:
            os.close(descriptor)


def _open_locked(root: str) -> int:
    """Return the descriptor that holds the lock. Raises _LockedError and OSError."""
    rootfs.make_directory(root, os.path.dirname(PATH))
    # The file is never removed, because a lock on a removed file would exclude nobody.
    descriptor = rootfs.open_private(root, PATH)
    with contextlib.ExitStack() as stack:
        stack.callback(os.close, descriptor)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            raise _LockedError(f"{holder(descriptor)} is already running the daemon") from None
        # Any process that can open the file could hold the lock, and so keep the daemon from starting.
        os.fchmod(descriptor, 0o600)
        with contextlib.suppress(OSError):  # if /run is full, the message only lacks the process
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
        stack.pop_all()
    return descriptor


def holder(descriptor: int) -> str:
    """Return the process that holds the lock. The text names no process if the file cannot be read."""
    number = ""
    with contextlib.suppress(OSError):
        number = os.pread(descriptor, 20, 0).decode("ascii", "replace").strip()
    return f"process {number}" if number.isdecimal() else "another process"
