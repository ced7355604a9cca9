"""The event sources of the running daemon: started, armed and drained together."""

from __future__ import annotations

import contextlib
from collections.abc import Collection
from typing import TYPE_CHECKING, Optional

from ipvsd.kernel.host import LinuxHost
from ipvsd.model.report import SourceState
from ipvsd.runtime.event_loop import EventLoop
from ipvsd.watch.event_source import EventSink, Source, Targets

if TYPE_CHECKING:
    from ipvsd.watch.sysctl_bpf import SysctlBpf
    from ipvsd.watch.sysctl_inotify import SysctlInotify


class EventSources:
    """Initially empty; `add` adds a source."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._sources: list[Source] = []
        self._bpf: Optional[SysctlBpf] = None
        self._inotify: Optional[SysctlInotify] = None
        self._targets = Targets(frozenset(), {}, ())

    def start(self, loop: EventLoop, host: LinuxHost, sink: EventSink) -> None:
        """Start the sources, and give up the capabilities that only this requires.

        These imports take as long as loading some modules, so they take place while another thread does that.
        """
        from ipvsd.kernel.processes import ProcessResolver
        from ipvsd.runtime import capabilities
        from ipvsd.watch.sysctl_bpf import SysctlBpf
        from ipvsd.watch.sysctl_inotify import SysctlInotify
        from ipvsd.watch.uevents import Uevents

        self._bpf = SysctlBpf(loop, sink, self._root)
        self._inotify = SysctlInotify(loop, sink, host.fds)
        uevents = Uevents(loop, sink, ProcessResolver(self._root))
        uevents.arm(self._targets)
        if self._root == "/" and self._bpf.attach():
            with contextlib.suppress(OSError):  # not as the service, and without the capabilities from the beginning
                capabilities.drop(capabilities.BPF, capabilities.PERFMON)
        self._sources = [uevents, self._inotify, self._bpf]

    @property
    def started(self) -> bool:
        return bool(self._sources)

    def add(self, source: Source) -> None:
        source.arm(self._targets)
        self._sources.append(source)

    def arm(self, targets: Targets) -> None:
        self._targets = targets
        for source in self._sources:
            source.arm(targets)

    def drain(self) -> None:
        if self._bpf:
            self._bpf.drain()

    def monitored(self) -> Collection[str]:
        """Return the sysctls for which no report of a write was lost since the last call."""
        return self._bpf.monitored() if self._bpf else ()

    def states(self) -> tuple[SourceState, ...]:
        return tuple(source.state() for source in self._sources)

    def backend(self) -> str:
        """Return the mechanism that reports writes to sysctls: bpf, inotify, or periodic for the resync alone."""
        if self._bpf and self._bpf.state().up:
            return "bpf"
        return "inotify" if self._inotify and self._inotify.state().up else "periodic"

    def describe_backend(self) -> str:
        """Return a sentence for the log that names this mechanism, and why no better one is active."""
        assert self._bpf
        assert self._inotify
        backend = self.backend()
        why = "" if backend == "bpf" else f"; {self._bpf.detail}"
        why += f"; {self._inotify.state().detail}" if backend == "periodic" else ""
        return f"watch backend: {backend}{why}"

    def notes(self) -> tuple[str, ...]:
        if self._targets.guarded and self._bpf and not self._bpf.guards:
            return (f"'guard' has no effect: {self._bpf.detail}",)
        return ()

    def close(self) -> None:
        for source in self._sources:
            source.close()
