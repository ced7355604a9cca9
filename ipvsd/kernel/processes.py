"""Identify a process by its files in /proc while it runs, without permission to trace it.

Its command line is not read: it can contain secrets, and all users can read ipvsd's reports.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from ipvsd.kernel import cgroups
from ipvsd.model.printable import line
from ipvsd.model.report import Writer
from ipvsd.runtime import rootfs

_NEWEST = 8  # number of recent processes among which the one that unloads a module is searched
_UNLOADERS = ("rmmod", "modprobe", "kmod", "firewalld")
_GROUPS_KEPT = 64


class ProcessResolver:
    """Identifies processes. Unknown fields stay empty. The methods raise nothing."""

    def __init__(self, root: str = "/", cgroup_root: str = "") -> None:
        """`cgroup_root` is the mount point of cgroup version 2, or empty."""
        self._root, self._cgroup_root = root, cgroup_root
        self._groups: dict[int, str] = {}
        self._init_cgroup = cgroups.parse_path(self._text("1/cgroup"))

    def resolve(self, pid: int, comm: str, group: int) -> Writer:
        cgroup = cgroups.parse_path(self._text(f"{pid}/cgroup")) if pid else ""
        if pid and not comm:
            comm = self._text(f"{pid}/comm").strip()
        # The process may have ended or moved to another cgroup, or its ID may belong to another process now.
        if not cgroup or self._is_other(cgroup, group):
            cgroup = self._cgroup_path(group)
        return self._describe(pid, comm, cgroup)

    def own_group(self) -> Sequence[int]:
        """Return the ID of the cgroup of this process, or nothing if that is the root."""
        cgroup = cgroups.parse_path(self._text(f"{os.getpid()}/cgroup"))
        try:
            return (os.stat(self._cgroup_root + cgroup).st_ino,) if cgroup and self._cgroup_root else ()
        except OSError:
            return ()

    def find_unloader(self) -> Optional[Writer]:
        """Return the process that is unloading a module, if one of the newest seems to be it. It still exists then."""
        try:
            newest = int(self._text("loadavg").split()[-1])
        except (ValueError, IndexError):
            return None
        for pid in range(newest, max(0, newest - _NEWEST), -1):
            comm = self._text(f"{pid}/comm").strip()
            if comm in _UNLOADERS:
                return self._describe(pid, comm, cgroups.parse_path(self._text(f"{pid}/cgroup")))
        return None

    def _describe(self, pid: int, comm: str, cgroup: str) -> Writer:
        unit, container, pod = cgroups.identify(cgroups.relative_path(cgroup, self._init_cgroup))
        return Writer(pid, line(comm), unit, container, pod)

    def _is_other(self, cgroup: str, group: int) -> bool:
        """Return whether a path belongs to version 2 and is another cgroup."""
        try:
            return os.stat(self._cgroup_root + cgroup).st_ino != group if self._cgroup_root else False
        except OSError:
            return False  # version 1

    def _cgroup_path(self, identity: int) -> str:
        """Return the path of a cgroup by its ID, which is the inode number of its directory."""
        if identity not in self._groups and self._cgroup_root:
            if len(self._groups) >= _GROUPS_KEPT:
                self._groups.clear()
            self._groups[identity] = _find(self._cgroup_root, identity)
        return self._groups.get(identity, "")

    def _text(self, name: str) -> str:
        try:
            descriptor = rootfs.open_path(self._root, f"proc/{name}")
        except OSError:
            return ""
        try:
            return os.read(descriptor, 4096).decode("utf-8", "surrogateescape")
        except OSError:  # the process has ended
            return ""
        finally:
            os.close(descriptor)


def _find(root: str, identity: int) -> str:
    for directory, names, _ in os.walk(root):
        try:
            if os.stat(directory).st_ino == identity:
                return directory[len(root.rstrip("/")) :]
        except OSError:
            names.clear()
    return ""
