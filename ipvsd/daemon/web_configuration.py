"""The web configuration file while the daemon runs: changes become active, and an invalid file leaves the old settings.

Without old settings, as at the start, the endpoint stays closed, so that it never serves without the protection that
the file demands. The daemon keeps the node compliant meanwhile.

A certificate and its key change one after the other, so new files become active after a short time without changes.
"""

from __future__ import annotations

import os
from typing import Callable, Optional

from ipvsd.config.parser import ConfigError
from ipvsd.model.report import Operation
from ipvsd.reporting import web_security
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.reporting.web_security import Files
from ipvsd.runtime.event_loop import EventLoop
from ipvsd.runtime.http_security import OPEN, Security
from ipvsd.runtime.journal import log
from ipvsd.watch.inotify import Inotify

SETTLE = 0.5  # seconds without changes before new files become active
# <sys/inotify.h>: a file was written, moved, removed or created (as a link), or its mode was changed.
_IGNORED = 0x8000  # the directory was removed, so the watch is dead
_CHANGES = 0x4 | 0x8 | 0x40 | 0x80 | 0x100 | 0x200


class WebConfiguration:
    """`security` is active, or None if no file was valid yet.

    `on_change` is called after each change of it, and after each failure, but not at a start without a file.
    """

    def __init__(self, root: str, loop: EventLoop, failures: OperationFailures, on_change: Callable[[], None]) -> None:
        self._root, self._loop, self._failures, self._on_change = root, loop, failures, on_change
        self.security: Optional[Security] = None
        self._path: Optional[str] = None
        self._loaded, self._tried = Files(), Files()
        self._inotify: Optional[Inotify] = None
        self._watched: tuple[str, ...] = ()
        self._changes = 0

    def use(self, path: Optional[str]) -> None:
        """Use this file from now on, or none."""
        if path is None and self._path is None:
            self.security = OPEN
        elif path != self._path or self.security is None:
            self._path = path
            self._tried = Files()
            self._load(web_security.read(self._root, path))

    def check(self) -> None:
        """Use the files if they have changed."""
        if self._path is not None:
            files = web_security.read(self._root, self._path)
            if files != self._tried:
                self._load(files)
            else:
                self._watch(files)  # a directory may exist only now

    def _load(self, files: Files) -> None:
        self._tried = files
        self._watch(files)
        try:
            security = web_security.load(self._root, self._path, files)
        except ConfigError as error:
            if error.unreadable:  # the files need not change for the next attempt to succeed
                self._tried = Files()
            more = f" and {len(error.errors) - 1} more" if len(error.errors) > 1 else ""
            self._failures.record(Operation.LOAD_WEB_CONFIGURATION, f"{error.errors[0]}{more}")
        else:
            self._failures.record(Operation.LOAD_WEB_CONFIGURATION)
            if self._loaded.contents and files.contents:
                log("info", "web configuration file loaded")
            self._loaded, self.security = files, security
        self._on_change()

    def _watch(self, files: Files) -> None:
        """Watch the directories of the files. Without inotify, each resync still finds the changes."""
        directories = tuple(sorted({os.path.dirname(path) for path in files.paths}))
        if directories == self._watched:
            return
        self.close()
        try:
            if directories:
                self._inotify = Inotify(self._loop, self._on_event)
                for directory in directories:
                    self._inotify.add(os.path.join(self._root, directory.lstrip("/")), _CHANGES)
            self._watched = directories
        except OSError:
            self.close()

    def _on_event(self, watch: int, mask: int, name: str) -> None:  # noqa: ARG002 -- every event causes the same read
        if mask & _IGNORED:
            self._watched = ()
        self._changes += 1
        changes = self._changes
        self._loop.call_later(SETTLE, lambda: self.check() if changes == self._changes else None)

    def close(self) -> None:
        if self._inotify is not None:
            self._inotify.close()
            self._inotify = None
        self._watched = ()
