"""The sysctls that one pattern fits, told of as one: how many are right, and the worst."""

from __future__ import annotations

from collections.abc import Iterable

from ipvsd.decide.health import is_last_verdict_valid, unreadable
from ipvsd.model.types import Finding, Plan, SysctlFinding, SysctlVerdict

_WORST_FIRST = (
    SysctlVerdict.REFUSED,
    SysctlVerdict.CONTENDED,
    SysctlVerdict.NOT_KEPT,
    SysctlVerdict.NEEDS_RELOAD,
    SysctlVerdict.UNREADABLE,
    SysctlVerdict.WRONG,
    SysctlVerdict.YIELDED,
    SysctlVerdict.PENDING,
    SysctlVerdict.UNSUPPORTED,
    SysctlVerdict.RIGHT,
)


def by_pattern(findings: Iterable[SysctlFinding]) -> tuple[SysctlFinding, ...]:
    """Return the findings with one in place of all those of a pattern, in the order of their first."""
    groups: dict[str, list[SysctlFinding]] = {}
    for finding in findings:
        groups.setdefault(finding.wanted.pattern or finding.name, []).append(finding)
    return tuple(_aggregate(found) if found[0].wanted.pattern else found[0] for found in groups.values())


def _aggregate(found: list[SysctlFinding]) -> SysctlFinding:
    wanted = found[0].wanted._replace(key=found[0].wanted.pattern)
    members = [finding for finding in found if finding.name != finding.wanted.pattern]
    if not members:  # nothing fits the pattern
        return found[0]
    right = sum(finding.compliant for finding in members)
    # Of a boot to come there are those that files name, and the pattern for all others, which is counted nowhere. So
    # is a pattern of which nobody can tell what it fits.
    worst = min(found, key=_severity)
    evidence = f"{right} of {len(members)} right"
    if not worst.compliant:
        others = "others:" if unreadable(worst) else "all that files do not name:"
        which = others if worst.name == worst.wanted.pattern else worst.name
        evidence = f"{evidence}; {which} {worst.evidence}"
    return SysctlFinding(wanted, worst.found, worst.verdict, evidence, worst.remedy, (right, len(members)), worst.last)


def _severity(finding: SysctlFinding) -> float:
    """Return what orders findings: one whose last verdict stands hides none that is wrong now."""
    return _WORST_FIRST.index(finding.verdict) if not is_last_verdict_valid(finding) else len(_WORST_FIRST) - 1.5


def reported(plan: Plan) -> tuple[Finding, ...]:
    """Return the findings of a plan as they are reported: those of one pattern as one."""
    return (*plan.modules, *plan.parameters, *by_pattern(plan.sysctls))
