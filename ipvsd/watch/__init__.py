"""The sources of reasons to look: one file each. A source that cannot start says so, and tries again when armed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import NamedTuple, Protocol

from ipvsd.report import SourceState


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


class Source(Protocol):
    """Wakes a mailbox; given what to watch after each look in which something came or went."""

    def arm(self, targets: Targets) -> None:
        """Watch these from now on; start again if dead. Never raises OSError."""

    def state(self) -> SourceState:
        """Say whether it is alive."""

    def close(self) -> None:
        """Stop and release everything."""
