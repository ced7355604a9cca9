"""Writes to sysctls: inotify on files that are pinned by an open descriptor.

A write raises MODIFY; a read does not, so that our own looks wake nobody. Without the open
descriptor the kernel drops a watch in silence when it reclaims the directory entry. A key that
went away and came back (its module was reloaded) is another file: its inode number differs, and
fstat() of the old one fails with ENOENT.
Writes through another mount of procfs (a container's) and the kernel's own are not seen here.
"""

from __future__ import annotations

import os
from typing import NamedTuple, Optional

from ipvsd.model.report import SourceState
from ipvsd.reconcile.fast_path import Reflex
from ipvsd.runtime import resources
from ipvsd.runtime.event_loop import Mailbox, ReasonKind
from ipvsd.watch import inotify
from ipvsd.watch.event_source import Targets


class _Pin(NamedTuple):
    path: str
    descriptor: int
    watch: int
    identity: tuple[int, int]


class Sysctls:
    """Has the reflex turn back a write to one of the watched files; wakes the mailbox for what is left."""

    def __init__(self, mailbox: Mailbox, reflex: Reflex) -> None:
        self._mailbox, self._reflex = mailbox, reflex
        self._inotify: Optional[inotify.Inotify] = None
        self._pins: dict[str, _Pin] = {}
        self._keys: dict[int, str] = {}
        self._unwatched = self._lost = 0
        self._full = False  # each file that is watched takes a descriptor
        self._detail = "not started"

    def arm(self, targets: Targets) -> None:
        if self._inotify is None:
            try:
                self._inotify = inotify.Inotify(self._mailbox, self._told)
            except OSError as error:
                self._detail = f"cannot use inotify: {error.strerror}"
                return
        for key in [key for key in self._pins if not self._same(key, targets.sysctls.get(key))]:
            self._drop(self._inotify, key)
        self._full = False
        wanted = targets.sysctls.items()
        added = [key for key, path in wanted if key not in self._pins and self._add(self._inotify, key, path)]
        if added:
            # A write may have come between the last look and the watch.
            self._mailbox.put(ReasonKind.SYSCTL, "newly watched")
        self._unwatched = len(targets.sysctls) - len(self._pins)
        self._detail = f"inotify on {len(self._pins)} of {len(targets.sysctls)} files"
        if self._full:
            self._detail += "; the other descriptors are for repairs (raise LimitNOFILE=)"

    def _same(self, key: str, path: Optional[str]) -> bool:
        try:
            return path is not None and _identity(os.stat(path)) == self._pins[key].identity
        except OSError:
            return False

    def _add(self, instance: inotify.Inotify, key: str, path: str) -> bool:
        if self._full:
            return False
        try:
            descriptor = _open(path)
        except OSError:
            return False
        if not resources.plenty(descriptor):
            os.close(descriptor)
            self._full = True
            return False
        return self._watch(instance, key, path, descriptor)

    def _watch(self, instance: inotify.Inotify, key: str, path: str, descriptor: int) -> bool:
        try:
            identity = _identity(os.fstat(descriptor))
            watch = instance.add(path, inotify.MODIFY)
        except OSError:  # it went away after the open
            os.close(descriptor)
            return False
        self._pins[key] = _Pin(path, descriptor, watch, identity)
        self._keys[watch] = key
        return True

    def _drop(self, instance: inotify.Inotify, key: str) -> None:
        os.close(self._unwatch(instance, key).descriptor)

    def _unwatch(self, instance: inotify.Inotify, key: str) -> _Pin:
        pin = self._pins.pop(key)
        self._keys.pop(pin.watch, None)
        instance.remove(pin.watch)
        return pin

    def _told(self, watch: int, mask: int, name: str) -> None:  # noqa: ARG002 -- only files are watched
        if mask & inotify.OVERFLOW:
            self._lost += 1
            self._mailbox.put(ReasonKind.LOST, "inotify")
        elif mask & inotify.MODIFY and watch in self._keys:
            self._changed(self._keys[watch])

    def _changed(self, key: str) -> None:
        if not self._reflex.told(key):
            self._mailbox.put(ReasonKind.SYSCTL, key)

    def pinned(self, key: str) -> Optional[int]:
        """Return the descriptor of a watched file, or None."""
        pin = self._pins.get(key)
        return pin.descriptor if pin else None

    def renewed(self, key: str) -> Optional[int]:
        """Return a descriptor of the file that has the path of a watched one by now, and watch that next; or None."""
        pin = self._pins.get(key)
        if pin is None or self._inotify is None:
            return None
        try:
            descriptor = _open(pin.path)
        except OSError:
            self._drop(self._inotify, key)
            return None
        os.close(pin.descriptor)
        self._pins[key] = new = pin._replace(descriptor=descriptor)
        self._mailbox.later(0.0, lambda: self._follow(key, new))  # what is wrong is written first
        return descriptor

    def _follow(self, key: str, pin: _Pin) -> None:
        """Watch a file that was renewed, unless it was let go meanwhile."""
        if self._inotify is None or self._pins.get(key) is not pin:
            return
        self._unwatch(self._inotify, key)
        # A write may have come between the renewal and the watch.
        if self._watch(self._inotify, key, pin.path, pin.descriptor):
            self._changed(key)

    def state(self) -> SourceState:
        up = self._inotify is not None and not self._unwatched
        return SourceState("sysctls", up, self._detail, self._lost)

    def close(self) -> None:
        if self._inotify is not None:
            for key in list(self._pins):
                self._drop(self._inotify, key)
            self._inotify.close()
            self._inotify = None


def _open(path: str) -> int:
    flags = os.O_NOFOLLOW | os.O_CLOEXEC
    try:
        return os.open(path, os.O_RDWR | flags)  # the reflex writes through it
    except OSError:
        return os.open(path, os.O_RDONLY | flags)


def _identity(status: os.stat_result) -> tuple[int, int]:
    return status.st_dev, status.st_ino
