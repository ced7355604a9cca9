"""What an event source is, and what it is to watch after a look."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence
from typing import NamedTuple, Protocol

from ipvsd.decide.health import stands
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.report import SourceState
from ipvsd.reconcile.reconciler import Reconciled
from ipvsd.sysctl import sysctl_names


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


_NO_LINKS = ("all", "default", "lo")  # below net.ipv4.conf, beside those of interfaces


def targets(
    host: LinuxHost,
    done: Reconciled,
    left_alone: Collection[str],
    directories: Sequence[str],
    allowed: Sequence[str],
) -> Targets:
    """Return what to watch.

    An item that is left alone is not watched, nor one that is wrong and waits for its retry: many writes wake nobody.
    """
    return Targets(
        _modules(done),
        _paths(host, done, left_alone),
        tuple(directories),
        links=_links(done),
        guarded=frozenset(finding.name for finding in done.after.sysctls if finding.wanted.guard),
        allowed=tuple(allowed),
    )


def _paths(host: LinuxHost, done: Reconciled, left_alone: Collection[str]) -> Mapping[str, str]:
    # What cannot be read keeps its guard, and its watch while its last verdict stands.
    there = [finding for finding in done.after.sysctls if not (finding.missing or finding.name == finding.wanted.group)]
    held = [finding.name for finding in there if finding.right or stands(finding) or finding.wanted.guard]
    paths: dict[str, str] = {}
    for name in held:
        if name not in left_alone:
            with contextlib.suppress(OSError):  # a link in a tree leads to it by now
                paths[name] = host.sysctl_path(name)
    for alias, name in sysctl_names.ALIASES.items():
        if name in paths and os.path.exists(host.sysctl_path(alias)):
            paths[alias] = host.sysctl_path(alias)
    for finding in done.after.parameters:
        if (finding.right or stands(finding)) and finding.name not in left_alone:
            with contextlib.suppress(OSError):
                paths[finding.name] = host.parameter_path(finding.name)
    return paths


def _modules(done: Reconciled) -> frozenset[str]:
    """Return every module whose coming or going matters, whoever loads it."""
    names = {name for finding in done.after.modules for name in (*finding.wanted.any_of, finding.module)}
    settings = (*done.after.sysctls, *done.after.parameters)
    return frozenset(names) | {finding.wanted.provider for finding in settings if finding.wanted.provider}


def _links(done: Reconciled) -> bool:
    """Tell whether interfaces that come and go bring or take wanted sysctls."""
    names = (finding.wanted.group or finding.name for finding in done.after.sysctls)
    parts = (name.split(".") for name in names)
    return any(len(part) > 3 and part[2] in ("conf", "neigh") and part[3] not in _NO_LINKS for part in parts)
