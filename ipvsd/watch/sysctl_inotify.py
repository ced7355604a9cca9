"""Report writes to sysctls through inotify, on files that the host keeps open.

A write causes MODIFY and a read does not. Without an open descriptor, the kernel silently drops a watch when it
reclaims the directory entry. inotify reports neither writes through another mount of procfs, such as a container's,
nor changes by the kernel itself.
"""

from __future__ import annotations

import time
from typing import NamedTuple, Optional

from ipvsd.kernel.fd_cache import FdCache
from ipvsd.model.report import SourceState
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.watch import inotify
from ipvsd.watch.event_source import EventSink, Targets


class _Watch(NamedTuple):
    number: int
    identity: tuple[int, int]


class SysctlInotify:
    def __init__(self, loop: EventLoop, sink: EventSink, fds: FdCache) -> None:
        self._loop, self._sink, self._fds = loop, sink, fds
        self._inotify: Optional[inotify.Inotify] = None
        self._watches: dict[str, _Watch] = {}
        self._keys: dict[int, str] = {}
        self._unwatched = self._lost = 0
        self._detail = "not started"
        # A repair writes the file before it is watched.
        fds.on_reopen(lambda key: loop.call_later(0.0, lambda: self._follow(key)))

    def arm(self, targets: Targets) -> None:
        if self._inotify is None:
            try:
                self._inotify = inotify.Inotify(self._loop, self._on_event)
            except OSError as error:
                self._detail = f"cannot use inotify: {error.strerror}"
                return
        self._fds.keep(targets.sysctls)
        for key in [key for key in self._watches if not self._is_open(key)]:
            self._unwatch(self._inotify, key)
        added = [key for key in targets.sysctls if key not in self._watches and self._watch(self._inotify, key)]
        if added:
            # A write can have happened between the last reconciliation and the watch.
            self._loop.post(ReasonKind.SYSCTL, "newly watched")
        self._unwatched = len(targets.sysctls) - len(self._watches)
        self._detail = f"inotify on {len(self._watches)} of {len(targets.sysctls)} files"
        if self._fds.full:
            self._detail += "; the other descriptors are reserved (raise LimitNOFILE=)"

    def _is_open(self, key: str) -> bool:
        file = self._fds.get(key)
        return file is not None and file.identity == self._watches[key].identity

    def _watch(self, instance: inotify.Inotify, key: str) -> bool:
        file = self._fds.get(key)
        if file is None:
            return False
        try:
            number = instance.add(file.path, inotify.MODIFY)
        except OSError:  # it disappeared after the open
            return False
        self._watches[key] = _Watch(number, file.identity)
        self._keys[number] = key
        return True

    def _unwatch(self, instance: inotify.Inotify, key: str) -> None:
        watch = self._watches.pop(key)
        self._keys.pop(watch.number, None)
        instance.remove(watch.number)

    def _on_event(self, watch: int, mask: int, name: str) -> None:  # noqa: ARG002 -- only files are watched
        if mask & inotify.OVERFLOW:
            self._lost += 1
            self._loop.post(ReasonKind.LOST, "inotify")
        elif mask & inotify.MODIFY and watch in self._keys:
            self._deliver(self._keys[watch])

    def _deliver(self, key: str) -> None:
        self._sink.on_event(key, time.monotonic())

    def _follow(self, key: str) -> None:
        """Watch the file that is kept open now, unless the sysctl was dropped meanwhile."""
        if self._inotify is None or key not in self._watches:
            return
        self._unwatch(self._inotify, key)
        # A write can have happened between the open and the watch.
        if self._watch(self._inotify, key):
            self._deliver(key)

    def state(self) -> SourceState:
        up = self._inotify is not None and not self._unwatched
        return SourceState("sysctl_inotify", up, self._detail, self._lost)

    def close(self) -> None:
        if self._inotify is not None:
            for key in list(self._watches):
                self._unwatch(self._inotify, key)
            self._inotify.close()
            self._inotify = None
