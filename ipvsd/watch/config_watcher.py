"""Watch the directories of the configuration with watchdog. This is the only user of that library.

An event only causes the daemon to read the files again, because libraries and editors differ in the events that they
cause. Reading must not cause another event.
"""

from __future__ import annotations

import contextlib
import os
from typing import Any, Optional

from ipvsd.model.report import SourceState
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.watch.event_source import Targets

# Later versions of watchdog also report openings, which reading the configuration would cause.
_CHANGES = ("created", "modified", "moved", "closed", "deleted")


class ConfigWatcher:
    """Wakes the event loop if a *.yaml file, or an entry with a leading `..`, may have changed in a directory."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop
        self._observer: Optional[Any] = None
        self._watched: dict[str, tuple[int, int]] = {}
        self._detail = "not started"

    def arm(self, targets: Targets) -> None:
        # The watch of a removed and recreated directory is dead, and the observer does not report it.
        present = {path: identity for path in targets.directories for identity in [self._identity(path)] if identity}
        if self._observer is None or not self._observer.is_alive() or present != self._watched:
            self.close()
            self._start(present)

    def _start(self, present: dict[str, tuple[int, int]]) -> None:
        from watchdog.observers import Observer  # 10 MB and 0.1 s, for which the node need not wait

        observer: Any = Observer(timeout=3600)  # type: ignore[no-untyped-call,unused-ignore] # watchdog 1.0 wakes up that often without need
        loop = self._loop

        class Handler:
            def dispatch(self, event: Any) -> None:
                paths = (os.fsdecode(event.src_path), os.fsdecode(getattr(event, "dest_path", "") or ""))
                relevant = event.is_directory or any(map(_counts, paths))
                if event.event_type in _CHANGES and relevant:
                    loop.post(ReasonKind.CONFIG, paths[0])

        before = _opened()
        try:
            for path in present:
                observer.schedule(Handler(), path, recursive=False)
            observer.start()
        except (OSError, RuntimeError) as error:  # RuntimeError: no new thread can be started
            self._detail = f"cannot watch the configuration: {getattr(error, 'strerror', None) or error}"
            _end(observer)  # some of its threads may have started
            now = _opened()
            if before is not None and now is not None:
                for descriptor in now - before:  # watchdog leaks the descriptor of a failed watch or thread
                    os.close(descriptor)
            return
        self._observer, self._watched = observer, present
        self._detail = f"inotify on {', '.join(present) or 'no directory'}"
        loop.post(ReasonKind.CONFIG, "newly watched")

    def _identity(self, path: str) -> Optional[tuple[int, int]]:
        """Return the identity of a directory, which changes when it is recreated, or None if it is absent."""
        try:
            status = os.stat(path)
        except (FileNotFoundError, NotADirectoryError):
            return None
        except OSError:  # it can exist nevertheless
            return self._watched.get(path)
        return status.st_dev, status.st_ino

    def state(self) -> SourceState:
        alive = self._observer is not None and self._observer.is_alive()
        # watchdog ignores the event that reports an overflow.
        return SourceState("config_files", alive, self._detail, None)

    def close(self) -> None:
        if self._observer is not None:
            _end(self._observer)
            self._observer = None


def _opened() -> Optional[frozenset[int]]:
    """Return the descriptors of the kinds that watchdog opens, or None if they cannot be listed."""
    found = set()
    try:
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(FileNotFoundError):  # the descriptor of this listing
                if os.readlink(f"/proc/self/fd/{name}").startswith(("anon_inode:inotify", "pipe:")):
                    found.add(int(name))
    except OSError:
        return None
    return frozenset(found)


def _counts(path: str) -> bool:
    """Return whether a file is a part of the configuration, or the link that replaces a Kubernetes volume (..data)."""
    return path.endswith(".yaml") or os.path.basename(path).startswith("..")


def _end(observer: Any) -> None:
    # watchdog 1.0 raises an error for the watch of a removed directory, and then stops nothing else.
    for thread in (*observer.emitters, observer):
        with contextlib.suppress(OSError):
            thread.stop()
    for emitter in observer.emitters:
        if emitter.is_alive():
            emitter.join()
    if observer.is_alive():
        # Before 2.1.7, it sleeps until its timeout. An item without an owner wakes it.
        observer.event_queue.put((None, None))
        observer.join()
