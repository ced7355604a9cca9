"""The targets of the event sources: modules, files of sysctls, interfaces, directories of the configuration."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Collection, Mapping, Sequence

from ipvsd.decide.health import is_last_verdict_valid
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.types import Plan
from ipvsd.sysctl import sysctl_names
from ipvsd.watch.event_source import Targets

_NO_LINKS = ("all", "default", "lo")  # under net.ipv4.conf; these never appear or disappear


def watch_targets(
    host: LinuxHost, plan: Plan, contended: Collection[str], directories: Sequence[str], allowed: Sequence[str]
) -> Targets:
    """Return the targets. Many writes to contended items and to those in back-off must not wake the loop."""
    return Targets(
        _modules(plan),
        _paths(host, plan, contended),
        tuple(directories),
        links=_links(plan),
        guarded=frozenset(finding.name for finding in plan.sysctls if finding.desired.guard),
        allowed=tuple(allowed),
    )


def _paths(host: LinuxHost, plan: Plan, contended: Collection[str]) -> Mapping[str, str]:
    # Unreadable items keep their guard, and their watch while the last verdict is valid.
    there = [finding for finding in plan.sysctls if not (finding.missing or finding.name == finding.desired.pattern)]
    paths: dict[str, str] = {}
    for finding in there:
        watched = finding.compliant or is_last_verdict_valid(finding) or finding.desired.guard
        if watched and finding.name not in contended:
            with contextlib.suppress(OSError):  # a symbolic link in a tree leads to it now
                paths[finding.name] = host.sysctl_path(finding.name)
    for alias, name in sysctl_names.ALIASES.items():
        with contextlib.suppress(OSError):
            if name in paths and os.path.exists(host.sysctl_path(alias)):
                paths[alias] = host.sysctl_path(alias)
    for finding in plan.parameters:
        if (finding.compliant or is_last_verdict_valid(finding)) and finding.name not in contended:
            with contextlib.suppress(OSError):
                paths[finding.name] = host.parameter_path(finding.name)
    return paths


def _modules(plan: Plan) -> frozenset[str]:
    """Return every module whose loading or removal matters, whatever program causes it."""
    names = {name for finding in plan.modules for name in (*finding.desired.any_of, finding.module)}
    settings = (*plan.sysctls, *plan.parameters)
    return frozenset(names) | {finding.desired.provider for finding in settings if finding.desired.provider}


def _links(plan: Plan) -> bool:
    """Return whether interfaces that appear or disappear affect managed sysctls."""
    names = (finding.desired.pattern or finding.name for finding in plan.sysctls)
    parts = (name.split(".") for name in names)
    return any(len(part) > 3 and part[2] in ("conf", "neigh") and part[3] not in _NO_LINKS for part in parts)
