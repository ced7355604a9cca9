"""Who a process is: what /proc tells of it while it lives, without being allowed to trace it.

Its command line is not read: everybody may read what we tell, and others' command lines are root's alone.
"""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Optional

from ipvsd.kernel import cgroups
from ipvsd.model.printable import line
from ipvsd.model.report import Writer
from ipvsd.runtime import rootfs

_NEWEST = 8  # processes among which the one that unloads a module is looked for
_UNLOADERS = ("rmmod", "modprobe", "kmod", "firewalld")
_GROUPS_KEPT = 64


class ProcessResolver:
    """Names processes. Unknown fields stay empty; nothing raises."""

    def __init__(self, root: str = "/", cgroup_root: str = "") -> None:
        """`cgroup_root` is where version 2 of the control groups is mounted, if it is."""
        self._root, self._cgroup_root = root, cgroup_root
        self._groups: dict[int, str] = {}
        self._init_cgroup = cgroups.parse_path(self._text("1/cgroup"))

    def resolve(self, pid: int, comm: str, group: int) -> Writer:
        """Return who wrote, by the ids of the process and of its control group at that time."""
        cgroup = cgroups.parse_path(self._text(f"{pid}/cgroup")) if pid else ""
        if pid and not comm:
            comm = self._text(f"{pid}/comm").strip()
        # It may have ended, have gone to another group, or be another process of the same number.
        if not cgroup or self._is_other(cgroup, group):
            cgroup = self._cgroup_path(group)
        return self._describe(pid, comm, cgroup)

    def own_group(self) -> Sequence[int]:
        """Return the id of the control group that this process has, if it is one below the root."""
        cgroup = cgroups.parse_path(self._text(f"{os.getpid()}/cgroup"))
        try:
            return (os.stat(self._cgroup_root + cgroup).st_ino,) if cgroup and self._cgroup_root else ()
        except OSError:
            return ()

    def find_unloader(self) -> Optional[Writer]:
        """Return the process that is about to unload a module, if one of the newest looks like it.

        The kernel tells of an unloading before the system call ends, so that its process still lives.
        """
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
        """Tell whether a path is one of version 2, and of another group."""
        try:
            return os.stat(self._cgroup_root + cgroup).st_ino != group if self._cgroup_root else False
        except OSError:
            return False  # of version 1

    def _cgroup_path(self, identity: int) -> str:
        """Return the path of a control group by its id, which is its directory's inode number."""
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
        except OSError:  # it has ended
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
