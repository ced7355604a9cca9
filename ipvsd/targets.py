"""What is to be watched after a look: the modules, sysctls and interfaces that matter, and where their files are."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence

from ipvsd import sysctls
from ipvsd.health import stands
from ipvsd.host import LinuxHost
from ipvsd.reconcile import Reconciled
from ipvsd.watch import Targets

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
    for alias, name in sysctls.ALIASES.items():
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
