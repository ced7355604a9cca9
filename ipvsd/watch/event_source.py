"""What an event source is, where it delivers its events, and what it is to watch after a look."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from ipvsd.model.events import Event
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

    def on_event(self, event: Event) -> None:
        """Take an event."""

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
