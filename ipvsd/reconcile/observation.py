"""Observe the host, and plan: one reading of the whole desired state, and the resulting actions."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Optional

from ipvsd.config.desired_state import build_desired, candidates, patterns
from ipvsd.config.schema import Config
from ipvsd.decide.backoff import BackoffState
from ipvsd.decide.planner import plan
from ipvsd.kernel.host import Host, PartlyUnreadableError
from ipvsd.model.types import (
    NOTHING,
    TRANSIENT_ERRNOS,
    Desired,
    DesiredSysctl,
    Kernel,
    LoadModule,
    Missing,
    ModuleState,
    Observed,
    Plan,
    Reading,
    Unreadable,
)
from ipvsd.sysctl.patterns import Matches, merge


class Known(NamedTuple):
    """Results of an observation that seldom change: the kernel, and the matching sysctls of each pattern."""

    kernel: Kernel
    members: Mapping[str, Collection[str]] = NOTHING


def observe_and_plan(
    host: Host,
    config: Config,
    history: Optional[BackoffState] = None,
    known: Optional[Known] = None,
    kernel: Optional[Kernel] = None,
) -> tuple[Kernel, Plan]:
    """Observe the desired items, and plan. Among alternatives, one that failed before is skipped.

    If something cannot be read, the results in `known` apply, and a missing item is not treated as absent. `kernel`
    is the result of a recent `read_kernel`.
    """
    names = candidates(config)
    kernel = read_kernel(host, config, known) if kernel is None or kernel.unreadable else kernel
    kernel, modules = _read_modules(host, names, kernel)
    matching, unlisted = _listed(host, patterns(config), known.members if known else NOTHING)
    want = build_desired(config, kernel, modules, matching)
    absent = lacking(want, kernel, modules)
    if absent and not kernel.unreadable:
        kernel, modules = _explained(host, kernel, modules, absent)
    if kernel.aliases:
        want = want._replace(parameters=tuple(_resolved(wanted, kernel) for wanted in want.parameters))
    readings = {wanted.key: unlisted.get(wanted.key) or host.read_sysctl(wanted.key) for wanted in want.sysctls}
    parameters = {wanted.key: host.read_parameter(wanted.key) for wanted in want.parameters}
    failed = {
        name: failure.outcome.action.module
        for name, failure in (history or {}).items()
        if isinstance(failure.outcome.action, LoadModule)
    }
    return kernel, plan(_still_there(want, readings), Observed(kernel, modules, readings, parameters, failed))


Modules = Mapping[str, ModuleState]
_NOTHING = Kernel("", "", 1, True, True, frozenset(), frozenset())


def read_kernel(host: Host, config: Config, known: Optional[Known] = None) -> Kernel:
    """Return the kernel, or the one in `known` if it cannot be read."""
    try:
        return host.kernel(candidates(config))
    except OSError as error:
        return (known.kernel if known else _NOTHING)._replace(unreadable=_unread(error))


def _read_modules(host: Host, names: Collection[str], kernel: Kernel) -> tuple[Kernel, Modules]:
    if not kernel.release:  # then it is unknown which modules are desired
        return kernel, {}
    try:
        return kernel, host.modules(names)
    except OSError as error:
        return kernel._replace(unreadable=_unread(error)), {}


def _explained(host: Host, kernel: Kernel, modules: Modules, absent: Collection[str]) -> tuple[Kernel, Modules]:
    try:
        kernel = host.explain(kernel, absent)
        return kernel, {**modules, **host.modules(kernel.aliases.values())} if kernel.aliases else modules
    except OSError as error:
        return kernel._replace(unreadable=_unread(error)), modules


def _listed(
    host: Host, wanted: Collection[str], known: Mapping[str, Collection[str]]
) -> tuple[Mapping[str, Collection[str]], Mapping[str, Unreadable]]:
    """Return the matches of each pattern, and the error of each unreadable one, which keeps its last matches."""
    try:
        return host.expand(wanted), {}
    except PartlyUnreadableError as error:
        found, errors = error.matches, error.errors
    except OSError as error:
        found, errors = Matches(wanted, {}), dict.fromkeys(wanted, error)
    unread = [(number, pattern) for number, pattern in enumerate(found.patterns) if pattern in errors]
    kept = ((name, 1 << number) for number, pattern in unread for name in (*known.get(pattern, ()), pattern))
    unlisted = {
        pattern: Unreadable(f"cannot read {_unread(error)}", error.errno in TRANSIENT_ERRNOS)
        for pattern, error in errors.items()
    }
    return Matches(found.patterns, merge((*found.masks.items(), *kept))), unlisted


def _unread(error: OSError) -> str:
    return f"{error.filename or 'the kernel'}: {error.strerror or error}"


def _resolved(wanted: DesiredSysctl, kernel: Kernel) -> DesiredSysctl:
    name, _, parameter = wanted.key.partition(".")
    module = kernel.module(name)
    return wanted._replace(key=f"{module}.{parameter}", provider=module)


def lacking(want: Desired, kernel: Kernel, modules: Mapping[str, ModuleState]) -> tuple[str, ...]:
    names = (name for wanted in want.modules for name in wanted.any_of or (wanted.name,))
    return tuple(name for name in names if name not in kernel.built_in and modules.get(name) is not ModuleState.LIVE)


def _still_there(want: Desired, readings: Mapping[str, Reading]) -> Desired:
    """Return the desired state without sysctls of patterns whose interface has disappeared since the listing."""
    there = tuple(
        wanted
        for wanted in want.sysctls
        if wanted.pattern in ("", wanted.key) or not isinstance(readings[wanted.key], Missing)
    )
    return want._replace(sysctls=there)
