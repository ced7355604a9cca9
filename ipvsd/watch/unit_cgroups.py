"""The control groups of units: which there are, and each new one in the moment in which systemd makes it.

A unit's group is a directory in that of its slice, made before the unit's first process is started.
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
    """Lists the groups of some units; nothing raises. Without inotify it knows those of the last listing alone."""

    def __init__(self, loop: EventLoop, cgroup_root: str, on_created: Callable[[int], None]) -> None:
        """`cgroup_root` is where cgroup version 2 is mounted; `on_created` is given the id of each new group."""
        self._loop, self._cgroup_root, self._on_created = loop, cgroup_root, on_created
        self._units: Set[str] = frozenset()
        self._inotify: Optional[inotify.Inotify] = None
        self._slices: dict[int, str] = {}
        self._known: tuple[int, ...] = ()
        self.lost = 0  # times that the kernel had no room for the events of new groups

    def groups(self, units: Set[str]) -> tuple[int, ...]:
        """Return the ids of the groups that these units have now; what they get later is told of."""
        if units != self._units:
            self._units, self._known = units, ()
        if not units:
            self.close()
            return ()
        if self._inotify is None:
            with contextlib.suppress(OSError):
                self._inotify = inotify.Inotify(self._loop, self._on_event)
        self._slices = {}
        with contextlib.suppress(OSError):  # who was allowed stays so while that cannot be read
            self._known = tuple(self._below(self._cgroup_root))
        return self._known

    def _below(self, group: str) -> Iterator[int]:
        with contextlib.suppress(OSError):
            if self._inotify:  # before it is listed, so that nothing is made unseen in between
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
            with contextlib.suppress(OSError):  # the next listing has it
                for identity in self._ids(self._slices[watch], name):
                    self._on_created(identity)

    def close(self) -> None:
        if self._inotify:
            self._inotify.close()
            self._inotify = None
