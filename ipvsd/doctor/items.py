"""Findings about the managed modules and sysctls: the verdicts of `check`, grouped by cause."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from ipvsd.decide.health import required, tolerated, unreadable
from ipvsd.doctor import sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.kube_proxy import log_errors
from ipvsd.model import types
from ipvsd.model.types import ModuleFinding, Plan
from ipvsd.model.value_texts import listed, text_of
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict

_SHOWN = 6  # lines of evidence for one group

_SECTIONS = {
    ModuleVerdict.ABSENT: sections.MODULE_NOT_FOUND,
    ModuleVerdict.FILE_MISSING: sections.MODULE_NOT_FOUND,
    ModuleVerdict.NO_INDEX: sections.MODULE_NOT_FOUND,
    ModuleVerdict.INDEX_STALE: sections.MODULE_NOT_FOUND,
    ModuleVerdict.MODULE_TREE_MISSING: sections.MODULE_NOT_FOUND,
    ModuleVerdict.NOT_BUILT: sections.MODULE_NOT_FOUND,
    ModuleVerdict.LOADABLE: log_errors.LOAD_MODULES,
    ModuleVerdict.MERGED: sections.MODULES_LOAD,
    ModuleVerdict.VERMAGIC_MISMATCH: sections.VERSION_MAGIC,
    ModuleVerdict.SIGNATURE_REFUSED: sections.UNSIGNED,
    ModuleVerdict.BLACKLISTED: sections.MODULE_BLOCKED,
    ModuleVerdict.OVERRIDDEN: sections.MODULE_BLOCKED,
    ModuleVerdict.INVALID_OPTIONS: sections.MODULE_BLOCKED,
    ModuleVerdict.MODULES_DISABLED: sections.MODULE_BLOCKED,
    ModuleVerdict.CAPABILITY_MISSING: sections.CONTAINER,
    ModuleVerdict.LOAD_FAILED: sections.MODULE_BLOCKED,
    SysctlVerdict.PENDING: sections.SYSCTL_MISSING,
    SysctlVerdict.UNSUPPORTED: sections.SYSCTL_MISSING,
    SysctlVerdict.NONCOMPLIANT: sections.SYSCTL_CHANGED,
    SysctlVerdict.CONTENDED: sections.SYSCTL_CHANGED,
    SysctlVerdict.NOT_KEPT: sections.SYSCTL_CHANGED,
    SysctlVerdict.YIELDED: sections.SYSCTL_CHANGED,
}


def findings(plan: Plan) -> Iterator[Finding]:
    """Yield one finding for all items with the same verdict and remedy.

    A sysctl that only waits for a module with a finding of its own adds nothing.
    """
    problems = [found for found in plan.findings if not tolerated(found)]
    missing = {found.name for found in problems if isinstance(found, ModuleFinding)}
    groups: dict[tuple[object, str, bool], list[types.Finding]] = {}
    for found in problems:
        if isinstance(found, ModuleFinding) or not (found.missing and found.desired.provider in missing):
            groups.setdefault((found.verdict, found.remedy, required(found)), []).append(found)
    for group in groups.values():
        yield _finding(group)


def _finding(group: Sequence[types.Finding]) -> Finding:
    first = group[0]
    kind = "module" if isinstance(first, ModuleFinding) else "sysctl"
    names = listed([found.name for found in group], _SHOWN)
    severity = Severity.WARNING if not required(first) else Severity.UNKNOWN if unreadable(first) else Severity.ERROR
    plural = "s" if len(group) > 1 else ""
    return Finding(
        f"{kind}_{first.verdict.value}",
        severity,
        f"{kind}{plural} {names}: {text_of(first.verdict)}",
        tuple(_evidence(group)),
        _explanation(first, len(group)),
        first.remedy,
        _SECTIONS.get(first.verdict, ""),
    )


def _evidence(group: Iterable[types.Finding]) -> Iterator[str]:
    lines = [found.evidence if isinstance(found, ModuleFinding) else _value(found) for found in group]
    yield from list(dict.fromkeys(lines))[:_SHOWN]


def _value(found: types.SysctlFinding) -> str:
    actual = "-" if found.actual is None else found.actual
    return f"{found.name} = {actual}, desired {found.desired.want} ({found.evidence})"


def _explanation(found: types.Finding, count: int) -> str:
    they = "they are" if count > 1 else "it is"
    need = "required" if required(found) else "optional"
    return f"{they} {need} ({found.desired.origin})"
