"""The protocols of event sources and of the sink for their events, and the targets to watch."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple, Optional, Protocol

from ipvsd.model.events import Write
from ipvsd.model.report import SourceState


class Targets(NamedTuple):
    """The items to watch: names of modules, the files of existing sysctls by key, the directories of the configuration.

    The kernel refuses writes of other programs, except for the units in `allowed`, to the `guarded` sysctls. `links`
    means that network interfaces that appear, disappear or are renamed affect managed sysctls.
    """

    modules: frozenset[str]
    sysctls: Mapping[str, str]
    directories: tuple[str, ...]
    links: bool = False
    guarded: frozenset[str] = frozenset()
    allowed: tuple[str, ...] = ()


class EventSink(Protocol):
    """The receiver of a source's events. A source knows nothing else about it."""

    def on_event(
        self, name: str, at: float, stored: bool = True, writes: Optional[Callable[[], Sequence[Write]]] = None
    ) -> None:
        """Receive an event: the item with this name may have changed and must be read.

        `at` is when the event arrived (CLOCK_MONOTONIC, seconds). `stored` is False for a write that the kernel reports
        before it stores the value. `writes` returns the writes that caused the event, oldest first, if known.
        """

    def on_loss(self) -> None:
        """Note that events for earlier writes may be missing."""


class Source(Protocol):
    """Delivers events, or wakes the loop. It receives the targets whenever they change."""

    def arm(self, targets: Targets) -> None:
        """Watch exactly these targets. Restart a dead source. Never raises OSError."""

    def state(self) -> SourceState:
        """Return whether the source works."""

    def close(self) -> None:
        """Stop, and release all resources."""
