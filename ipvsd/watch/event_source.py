"""What an event source is, where it delivers its events, and what it is to watch after a look."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple, Optional, Protocol

from ipvsd.model.events import Write
from ipvsd.model.report import SourceState


class Targets(NamedTuple):
    """What is held now: module names, the files of sysctls that exist by key, the configuration's directories.

    The kernel is to refuse what others write to those of `sysctls` that are `guarded`, but for the units in `allowed`.
    `links` says that a network interface which comes, goes or is renamed brings or takes sysctls that count.
    """

    modules: frozenset[str]
    sysctls: Mapping[str, str]
    directories: tuple[str, ...]
    links: bool = False
    guarded: frozenset[str] = frozenset()
    allowed: tuple[str, ...] = ()


class EventSink(Protocol):
    """Where a source delivers its events; it knows nothing else of who takes them."""

    def on_event(
        self, name: str, at: float, stored: bool = True, writes: Optional[Callable[[], Sequence[Write]]] = None
    ) -> None:
        """Take an event: the item of this name may have changed, and is to be read.

        It arrived at `at` (CLOCK_MONOTONIC, seconds). `stored` is False for a write that the kernel reports before it
        stores the value. `writes` returns those that led to it, oldest first, if they are known.
        """

    def on_loss(self) -> None:
        """Take note that writes before now may not be among the events."""


class Source(Protocol):
    """Delivers events, or wakes the loop; given what to watch after each look in which something came or went."""

    def arm(self, targets: Targets) -> None:
        """Watch these from now on; start again if dead. Never raises OSError."""

    def state(self) -> SourceState:
        """Say whether it is alive."""

    def close(self) -> None:
        """Stop and release everything."""
