"""The processes of a node by their files in /proc. A process can end at any moment, so everything can be missing."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import Optional

from ipvsd.runtime import rootfs

_MAX_ARGUMENTS = 1 << 17  # bytes
_MAX_FILE = 1 << 14
_STARTED = 19  # the field `starttime` of proc_pid_stat(5), counted from the one after the name
TICKS = 100  # per second: USER_HZ, which is 100 on every architecture for which distributions ship IPVS


def names(root: str) -> Iterator[tuple[int, str]]:
    """Yield the ID and the name (comm) of each process, in the order of the IDs."""
    for pid in sorted(int(name) for name in _listed(root) if re.fullmatch("[0-9]{1,9}", name)):
        comm = read(root, pid, "comm").decode("utf-8", "surrogateescape").removesuffix("\n")
        if comm:
            yield pid, comm


def _listed(root: str) -> Sequence[str]:
    try:
        return rootfs.listing(root, "proc")
    except OSError:
        return ()


def owned_by_root(root: str, pid: int) -> bool:
    """Return whether root runs a process. Any user can give a process any name. In a tree, owners mean nothing."""
    try:
        status = rootfs.status(root, f"proc/{pid}")
    except OSError:
        return False
    return status is not None and (root != "/" or status.st_uid == 0)


def arguments(root: str, pid: int) -> tuple[str, ...]:
    """Return the command line, or nothing if it cannot be read. It can contain secrets: use single options only."""
    data = read(root, pid, "cmdline", _MAX_ARGUMENTS).decode("utf-8", "surrogateescape")
    return tuple(data.removesuffix("\0").split("\0")) if data else ()


def age(root: str, pid: int) -> Optional[float]:
    """Return the seconds since a process has started, or None if that is unknown."""
    fields = read(root, pid, "stat").rpartition(b")")[2].split()
    uptime = _head(root, "proc/uptime").split()
    if len(fields) <= _STARTED or not uptime:
        return None
    try:
        return max(0.0, float(uptime[0]) - int(fields[_STARTED]) / TICKS)
    except (ValueError, OverflowError):
        return None


def network_namespace(root: str, pid: int) -> Optional[str]:
    """Return a text that identifies the network namespace of a process, or None if this user may not see it."""
    return _namespace(root, str(pid))


def own_network_namespace() -> Optional[str]:
    """Return the same text for this process."""
    return _namespace("/", "self")


def _namespace(root: str, process: str) -> Optional[str]:
    try:
        return rootfs.read_link(root, f"proc/{process}/ns/net")
    except OSError:
        return None


def read(root: str, pid: int, name: str, limit: int = _MAX_FILE) -> bytes:
    """Return the beginning of a file of a process, or nothing if it cannot be read."""
    return _head(root, f"proc/{pid}/{name}", limit)


def read_in_mount_namespace(root: str, pid: int, path: str, limit: int) -> Optional[bytes]:
    """Return a file as a process sees it, or None. Links in its file system do not lead outside. Raises OSError."""
    path = path.lstrip("/")
    top, inner = (f"/proc/{pid}/root", path) if root == "/" else (root, f"proc/{pid}/root/{path}")
    try:
        return rootfs.read(top, inner, limit)
    except (FileNotFoundError, NotADirectoryError, rootfs.IrregularError):
        return None


def _head(root: str, path: str, limit: int = _MAX_FILE) -> bytes:
    try:
        with rootfs.open_file(root, path) as fd:
            return rootfs.read_at_most(fd, limit)
    except OSError:
        return b""
