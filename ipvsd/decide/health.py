"""Assess the health of the node: its state, one line and an exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from ipvsd.decide.contention import Contention
from ipvsd.model.printable import line
from ipvsd.model.report import Health, InstalledKernel, Repair, State
from ipvsd.model.types import Finding, ModuleFinding, Need, Want
from ipvsd.model.value_texts import listed, text_of
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict

# The number of problems that the line shows, and of names for each. It gives the number of the others.
_SHOWN = 2
_NAMED = 6


def assess(
    findings: Sequence[Finding],
    last: Optional[Repair],
    now: float,
    fights: Mapping[str, Contention] = {},
    more: str = "",
) -> Health:
    """Return the health of a node. `last` is its last repair, and `now` the time in seconds since the epoch.

    `more` names the place of further problems. A contended sysctl degrades the node even while it is compliant, but a
    yielded one does not.
    """
    failures = [finding for finding in findings if _fails(finding)]
    degradations = [finding for finding in findings if not (_fails(finding) or tolerated(finding))]
    right = [finding for finding in findings if finding.compliant]
    modules = sum(isinstance(finding, ModuleFinding) for finding in right)
    # A pattern counts as one, because the number of its matches changes with every interface.
    counts = f"{_count(modules, 'module')}, {_count(len(right) - modules, 'sysctl')} compliant"
    repaired = f"; last repair {last}, {ago(now - last.time)}" if last else ""
    if failures:
        code = 2 if all(map(unreadable, failures)) else 1
        return Health(State.FAILED, line(f"failed: {_list_problems(failures, more)}"), code)
    shown = {finding.name for finding in degradations}
    contended_names = [name for name, fight in fights.items() if not fight.yielded and name not in shown]
    if degradations or contended_names:
        contended = [f"{name} contended: changed {fights[name].by}" for name in contended_names[:_SHOWN]]
        problems = "; ".join([*([_list_problems(degradations, more)] if degradations else []), *contended])
        return Health(State.DEGRADED, line(f"degraded: {counts}{repaired}; {problems}"), 0)
    return Health(State.READY, line(f"ready: {counts}{repaired}"), 0)


def _fails(finding: Finding) -> bool:
    return required(finding) and not (finding.compliant or is_last_verdict_valid(finding))


def obtainable(finding: ModuleFinding) -> bool:
    """Return whether the kernel has the module, loaded or not."""
    return finding.verdict in (ModuleVerdict.LIVE, ModuleVerdict.BUILT_IN, ModuleVerdict.LOADABLE)


def required(finding: Finding) -> bool:
    """Return whether the node is failed if this item is not compliant."""
    if isinstance(finding, ModuleFinding):
        return finding.desired.need is Need.REQUIRED
    return finding.desired.required


def want(finding: Finding) -> Optional[Want]:
    return None if isinstance(finding, ModuleFinding) else finding.desired.want


def unreadable(finding: Finding) -> bool:
    return finding.verdict in (ModuleVerdict.UNREADABLE, SysctlVerdict.UNREADABLE)


def is_last_verdict_valid(finding: Finding) -> bool:
    """Return whether an unreadable item was compliant recently. It is not failed yet, but the node is not ready."""
    return finding.last_verdict is not None and finding.last_verdict.valid


def outdated(age: float, interval: float) -> bool:
    """Return whether a verdict of this age is too old: two resyncs should have replaced it."""
    return age > 2 * interval


def tolerated(finding: Finding) -> bool:
    """Return whether the finding is no problem: the item is compliant, or unavailable here and not required."""
    if isinstance(finding, ModuleFinding):
        absent = finding.verdict in (ModuleVerdict.ABSENT, ModuleVerdict.NOT_BUILT, ModuleVerdict.NO_MODULE_SUPPORT)
        return finding.compliant or (absent and finding.desired.need is Need.IF_SHIPPED)
    if finding.verdict is SysctlVerdict.YIELDED:
        return not finding.desired.required
    return finding.compliant or (finding.missing and not finding.desired.required)


def could_be_ready(kernel: InstalledKernel) -> bool:
    return all(obtainable(finding) for finding in kernel.modules if required(finding))


def ago(seconds: float) -> str:
    """Return an age for people. It is no finer than a minute, because the line stays unchanged for one."""
    minutes = int(max(0.0, seconds) // 60)
    if minutes < 1:
        return "under 1 min ago"
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 2880 else f"{minutes // 1440} days ago"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list_problems(findings: Sequence[Finding], more: str) -> str:
    # One cause often leads to many findings, so findings with the same remedy are combined.
    names_by_problem: dict[str, list[str]] = {}
    for finding in findings:
        names_by_problem.setdefault(f"{text_of(finding.verdict)}: {finding.remedy}", []).append(finding.name)
    parts = [f"{shorten_names(names)} {text}" for text, names in list(names_by_problem.items())[:_SHOWN]]
    if len(names_by_problem) > _SHOWN:
        parts.append(f"and {len(names_by_problem) - _SHOWN} more{more}")
    return "; ".join(parts)


def shorten_names(names: Sequence[str]) -> str:
    return listed(names, _NAMED)
