"""The cgroups of units: those that exist, and each new one when systemd creates it, before it starts a process there.

The cgroup of a unit is a directory in that of its slice.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Set
from typing import Callable, Optional

from ipvsd.runtime.event_loop import EventLoop
from ipvsd.watch import inotify

_GONE = (FileNotFoundError, NotADirectoryError)


class UnitCgroups:
    """Lists the cgroups of some units, without raising. Without inotify, it knows only those of the last listing."""

    def __init__(self, loop: EventLoop, cgroup_root: str, on_created: Callable[[int], None]) -> None:
        """`cgroup_root` is the mount point of cgroup version 2. `on_created` receives the ID of each new cgroup."""
        self._loop, self._cgroup_root, self._on_created = loop, cgroup_root, on_created
        self._units: Set[str] = frozenset()
        self._inotify: Optional[inotify.Inotify] = None
        self._slices: dict[int, str] = {}
        self._known: tuple[int, ...] = ()
        self.lost = 0  # number of times that the kernel had no room for the events of new cgroups

    def groups(self, units: Set[str]) -> tuple[int, ...]:
        """Return the IDs of the current cgroups of these units. `on_created` reports later ones."""
        if units != self._units:
            self._units, self._known = units, ()
        if not units:
            self.close()
            return ()
        if self._inotify is None:
            with contextlib.suppress(OSError):
                self._inotify = inotify.Inotify(self._loop, self._on_event)
        self._slices = {}
        with contextlib.suppress(OSError):  # as long as this fails, the former list stays valid
            self._known = tuple(self._below(self._cgroup_root))
        return self._known

    def _below(self, group: str) -> Iterator[int]:
        with contextlib.suppress(OSError):
            if self._inotify:  # before the listing, so that no cgroup is missed in between
                self._slices[self._inotify.add(group, inotify.CREATE | inotify.ONLY_DIRECTORY)] = group
        with contextlib.suppress(*_GONE):
            for name in os.listdir(group):
                yield from self._ids(group, name)

    def _ids(self, group: str, name: str) -> Iterator[int]:
        path = os.path.join(group, name)
        if name in self._units:
            with contextlib.suppress(*_GONE):
                yield os.stat(path).st_ino
        if name.endswith(".slice"):
            yield from self._below(path)

    def _on_event(self, watch: int, mask: int, name: str) -> None:
        if mask & inotify.OVERFLOW:
            self.lost += 1
            for identity in self.groups(self._units):
                self._on_created(identity)
        elif watch in self._slices:
            with contextlib.suppress(OSError):  # the next listing contains it
                for identity in self._ids(self._slices[watch], name):
                    self._on_created(identity)

    def close(self) -> None:
        if self._inotify:
            self._inotify.close()
            self._inotify = None
