"""Combine the findings of all sysctls that match one pattern: the number of compliant ones, and the worst."""

from __future__ import annotations

from collections.abc import Iterable

from ipvsd.decide.health import is_last_verdict_valid, unreadable
from ipvsd.model.types import Finding, Plan, SysctlFinding
from ipvsd.model.verdicts import SysctlVerdict

_WORST_FIRST = (
    SysctlVerdict.WRITE_FAILED,
    SysctlVerdict.CONTENDED,
    SysctlVerdict.NOT_KEPT,
    SysctlVerdict.NEEDS_MODULE_RELOAD,
    SysctlVerdict.UNREADABLE,
    SysctlVerdict.NONCOMPLIANT,
    SysctlVerdict.YIELDED,
    SysctlVerdict.PENDING,
    SysctlVerdict.UNSUPPORTED,
    SysctlVerdict.COMPLIANT,
)


def by_pattern(findings: Iterable[SysctlFinding]) -> tuple[SysctlFinding, ...]:
    """Return the findings, with one in place of all those of a pattern, in the order of the first of each."""
    groups: dict[str, list[SysctlFinding]] = {}
    for finding in findings:
        groups.setdefault(finding.desired.pattern or finding.name, []).append(finding)
    return tuple(_aggregate(found) if found[0].desired.pattern else found[0] for found in groups.values())


def _aggregate(found: list[SysctlFinding]) -> SysctlFinding:
    wanted = found[0].desired._replace(key=found[0].desired.pattern)
    members = [finding for finding in found if finding.name != finding.desired.pattern]
    if not members:  # nothing matches the pattern
        return found[0]
    right = sum(finding.compliant for finding in members)
    # If the matches are unknown, as for a future boot, the pattern itself represents them and is not counted.
    worst = min(found, key=_severity)
    evidence = f"{right} of {len(members)} compliant"
    if not worst.compliant:
        others = "others" if unreadable(worst) else "sysctls that no file names"
        which = others if worst.name == worst.desired.pattern else worst.name
        evidence = f"{evidence}; {which}: {worst.evidence}"
    return SysctlFinding(
        wanted, worst.actual, worst.verdict, evidence, worst.remedy, (right, len(members)), worst.last_verdict
    )


def _severity(finding: SysctlFinding) -> float:
    """Return the sort key of findings. A valid last verdict does not hide a finding that is not compliant now."""
    return _WORST_FIRST.index(finding.verdict) if not is_last_verdict_valid(finding) else len(_WORST_FIRST) - 1.5


def reported(plan: Plan) -> tuple[Finding, ...]:
    """Return the findings of a plan as they are reported, with those of one pattern combined."""
    return (*plan.modules, *plan.parameters, *by_pattern(plan.sysctls))
