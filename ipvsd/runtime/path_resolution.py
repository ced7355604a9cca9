"""Resolve a path inside a directory as if that were /. Links, even absolute ones, and `..` never lead outside.

openat2(2) with RESOLVE_IN_ROOT does this (Linux 5.6). If the kernel lacks it, or a seccomp filter forbids it, this
module opens one component after the other without following links, except for the magic links of procfs.
"""

from __future__ import annotations

import errno
import functools
import os
import struct
from collections.abc import Sequence
from stat import S_ISDIR, S_ISLNK
from typing import Callable, NoReturn

_RESOLVE_IN_ROOT = 0x10  # <linux/openat2.h>
_PATH_FLAGS = os.O_PATH | os.O_CLOEXEC
_MAX_LINKS = 40  # the kernel's own limit (path_resolution(7))
_TRIES = 10


def open_in_root(top: int, path: str, flags: int) -> int:
    """Open a path inside the directory `top`, which takes the place of /. Raises OSError."""
    for _ in range(_TRIES):
        try:
            return open_by_openat2(top, path, flags)
        except OSError as error:
            # EPERM comes from a seccomp filter, as in older container runtimes.
            if error.errno in (errno.ENOSYS, errno.EPERM):
                break
            # EAGAIN: something was renamed while the kernel resolved a `..` (openat2(2)).
            if error.errno not in (errno.EAGAIN, errno.EINTR):
                raise
    return open_by_steps(top, path, flags)


def open_by_openat2(top: int, path: str, flags: int) -> int:
    """Open a path inside `top` with openat2. Raises OSError."""
    how = struct.pack("=QQQ", flags, 0, _RESOLVE_IN_ROOT)  # struct open_how
    return _openat2()(top, os.fsencode(path), how)


@functools.lru_cache(maxsize=1)
def _openat2() -> Callable[[int, bytes, bytes], int]:
    import ctypes  # not needed for the root /

    system_call = ctypes.CDLL(None, use_errno=True).syscall
    system_call.restype = ctypes.c_long
    number = 547 if os.uname().machine == "alpha" else 437

    def call(top: int, path: bytes, how: bytes) -> int:
        if b"\0" in path:
            raise ValueError("embedded null byte")
        place = ctypes.c_int(top), ctypes.c_char_p(path)
        found = system_call(ctypes.c_long(number), *place, how, ctypes.c_size_t(len(how)))
        if found < 0:
            _fail(ctypes.get_errno())
        return int(found)

    return call


def open_by_steps(top: int, path: str, flags: int) -> int:
    """Open a path inside `top` without openat2. Raises OSError."""
    pending, links = path.split("/")[::-1], 0
    opened, steps, directory = [top], ["."], True
    try:
        while pending:
            part = pending.pop()
            if part in ("", ".", ".."):
                if not directory:
                    _fail(errno.ENOTDIR)
                if part == ".." and len(opened) > 1:
                    os.close(opened.pop())
                    steps.pop()
                continue
            opened.append(os.open(part, _PATH_FLAGS | os.O_NOFOLLOW, dir_fd=opened[-1]))
            steps.append(part)
            mode = os.fstat(opened[-1]).st_mode
            directory = S_ISDIR(mode)
            if S_ISLNK(mode):
                target = os.readlink("", dir_fd=opened[-1])
                target_fd = 1 if target.startswith("/") else len(opened) - 1
                _close(opened[target_fd:])
                opened, steps, directory, links = opened[:target_fd], steps[:target_fd], True, links + 1
                if links > _MAX_LINKS:
                    _fail(errno.ELOOP)
                pending.extend(target.split("/")[::-1])
        return os.open(steps[-1], flags | os.O_NOFOLLOW, dir_fd=opened[-2:][0])
    finally:
        _close(opened[1:])


def _close(descriptors: Sequence[int]) -> None:
    for fd in descriptors:
        os.close(fd)


def _fail(number: int) -> NoReturn:
    raise OSError(number, os.strerror(number))
