"""assess(findings): the verdict on the node, as one word, one line and one exit code."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Optional

from ipvsd.decide.contention import Contention
from ipvsd.model.printable import line
from ipvsd.model.report import Health, InstalledKernel, Repair, State
from ipvsd.model.types import Finding, ModuleFinding, ModuleVerdict, Need, SysctlVerdict, Want

# Problems that the line names, and names for each of them; the rest is counted.
_SHOWN = 2
_NAMED = 6


def assess(
    findings: Sequence[Finding],
    last: Optional[Repair],
    now: float,
    fights: Mapping[str, Contention] = {},
    more: str = "",
) -> Health:
    """Return the health of a node; `last` is its last repair and `now` the time, in seconds since the epoch.

    `more` says where to see the problems for which the line has no room.

    A sysctl that is fought over is a blemish even while it is right; one that was yielded is none.
    """
    failures = [finding for finding in findings if _fails(finding)]
    degradations = [finding for finding in findings if not (_fails(finding) or harmless(finding))]
    counts = _counts(findings)
    repaired = f"; last repair {last}, {ago(now - last.time)}" if last else ""
    if failures:
        code = 2 if all(map(unreadable, failures)) else 1
        return Health(State.FAILED, line(f"failed: {_list_problems(failures, more)}"), code)
    shown = {finding.name for finding in degradations}
    contended_names = [name for name, fight in fights.items() if not fight.yielded and name not in shown]
    if degradations or contended_names:
        contended = [f"{name} contended {fights[name].by}" for name in contended_names[:_SHOWN]]
        problems = "; ".join([*([_list_problems(degradations, more)] if degradations else []), *contended])
        return Health(State.DEGRADED, line(f"degraded: {counts}{repaired}; {problems}"), 0)
    return Health(State.READY, line(f"ready: {counts}{repaired}"), 0)


def _fails(finding: Finding) -> bool:
    return required(finding) and not (finding.compliant or is_last_verdict_valid(finding))


def obtainable(finding: ModuleFinding) -> bool:
    """Tell whether the kernel has the module, loaded or not."""
    return finding.verdict in (ModuleVerdict.LIVE, ModuleVerdict.BUILT_IN, ModuleVerdict.LOADABLE)


def required(finding: Finding) -> bool:
    """Tell whether the node has failed if this is not right."""
    if isinstance(finding, ModuleFinding):
        return finding.wanted.need is Need.REQUIRED
    return finding.wanted.required


def want(finding: Finding) -> Optional[Want]:
    """Return the value that is wanted; of a module there is none."""
    return None if isinstance(finding, ModuleFinding) else finding.wanted.want


def unreadable(finding: Finding) -> bool:
    """Tell whether nothing is known of this, since it cannot be read."""
    return finding.verdict in (ModuleVerdict.UNREADABLE, SysctlVerdict.UNREADABLE)


def is_last_verdict_valid(finding: Finding) -> bool:
    """Tell whether this cannot be read, and was right not long ago: it is no failure yet, and nothing is ready."""
    return finding.last is not None and finding.last.valid


def outdated(age: float, interval: float) -> bool:
    """Tell whether a verdict of this age is none any more: two periodic looks had to replace it."""
    return age > 2 * interval


def harmless(finding: Finding) -> bool:
    """Tell whether nothing is wrong with this: it is right, or not to be had here and not required."""
    if isinstance(finding, ModuleFinding):
        absent = finding.verdict in (ModuleVerdict.ABSENT, ModuleVerdict.NOT_BUILT, ModuleVerdict.NO_SUPPORT)
        return finding.compliant or (absent and finding.wanted.need is Need.IF_SHIPPED)
    if finding.verdict is SysctlVerdict.YIELDED:
        return not finding.wanted.required
    return finding.compliant or (finding.missing and not finding.wanted.required)


def could_be_ready(kernel: InstalledKernel) -> bool:
    """Tell whether a node could be right under this kernel."""
    return all(obtainable(finding) for finding in kernel.modules if required(finding))


def ago(seconds: float) -> str:
    """Return an age as a person says it; nothing finer than a minute, since the line stands for one."""
    minutes = int(max(0.0, seconds) // 60)
    if minutes < 1:
        return "under 1 min ago"
    if minutes < 120:
        return f"{minutes} min ago"
    return f"{minutes // 60} h ago" if minutes < 2880 else f"{minutes // 1440} days ago"


def _counts(findings: Sequence[Finding]) -> str:
    right = [finding for finding in findings if finding.compliant]
    modules = sum(isinstance(finding, ModuleFinding) for finding in right)
    # A pattern counts as one: how many it fits changes with every interface.
    return f"{_count(modules, 'module')}, {_count(len(right) - modules, 'sysctl')} right"


def _count(number: int, noun: str) -> str:
    return f"{number} {noun}{'' if number == 1 else 's'}"


def _list_problems(findings: Sequence[Finding], more: str) -> str:
    # One cause often shows as many findings; those with the same remedy are told once.
    names_by_problem: dict[str, list[str]] = {}
    for finding in findings:
        names_by_problem.setdefault(f"{finding.verdict.value}: {finding.remedy}", []).append(finding.name)
    parts = [f"{shorten_names(names)} {text}" for text, names in list(names_by_problem.items())[:_SHOWN]]
    if len(names_by_problem) > _SHOWN:
        parts.append(f"and {len(names_by_problem) - _SHOWN} more{more}")
    return "; ".join(parts)


def shorten_names(names: Sequence[str]) -> str:
    """Return some of the names for one line, and how many more there are."""
    more = len(names) - _NAMED
    return f"{', '.join(names[:_NAMED])} and {more} more" if more > 0 else ", ".join(names)
