"""What a reconciliation is worth saying in the log: every change we made, every problem once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Optional

from ipvsd.groups import collapsed
from ipvsd.health import harmless, required
from ipvsd.model import Action, Finding, LoadModule, ModuleFinding, Plan, Repair, SysctlVerdict
from ipvsd.reconcile import Reconciled

Line = tuple[str, str]  # level, text

_EACH = 3  # changes to the sysctls of one pattern that are told one by one


def told(plan: Plan) -> tuple[Finding, ...]:
    """Return the findings of a plan as they are told of: those of one pattern as one."""
    return (*plan.modules, *plan.parameters, *collapsed(plan.sysctls))


def narrate(before: Sequence[Finding], done: Reconciled, repairs: Sequence[Repair]) -> Iterator[Line]:
    """Yield the lines for a reconciliation; `before` are the findings that were last told of."""
    yield from _changes(done, {repair.name: repair for repair in repairs})
    known = {finding.name: _said(finding) for finding in before}
    proved = {action.name for action in done.proved}
    for finding in told(done.after):
        if known.get(finding.name) == _said(finding) or finding.name in proved:
            continue
        if not finding.right:
            yield _problem(finding)
        elif finding.name in known and not _was_right(before, finding.name):
            yield "info", f"{finding.name} is right again: {finding.evidence}"


def _said(finding: Finding) -> tuple[object, str]:
    # How many of a pattern are right changes with every interface, how many use a module with every service.
    counts = not isinstance(finding, ModuleFinding) and (
        finding.members != (0, 0) or finding.verdict is SysctlVerdict.NEEDS_RELOAD
    )
    return finding.verdict, "" if counts else finding.evidence


def _changes(done: Reconciled, repairs: Mapping[str, Repair]) -> Iterator[Line]:
    groups = {finding.name: finding.wanted.group for finding in done.after.sysctls if finding.wanted.group}
    together: dict[str, list[Action]] = {}
    for action in done.proved:
        together.setdefault(groups.get(action.name, action.name), []).append(action)
    for name, actions in together.items():
        for action in actions[:_EACH]:
            yield "info", _change(action, repairs.get(action.name))
        if len(actions) > _EACH:
            drifted = sum(action.name in repairs for action in actions)
            yield "info", f"wrote {len(actions)} sysctls of {name} in all, {drifted} of which had drifted"


def _change(action: Action, repair: Optional[Repair]) -> str:
    how = f"; it had drifted, repaired in {repair.seconds * 1000:.1f} ms, by whom is unknown" if repair else ""
    if isinstance(action, LoadModule):
        which = f"{action.module} for {action.name}" if action.module else action.name
        options = f" with {' '.join(action.options)}" if action.options else ""
        return f"loaded module {which}: found not loaded, wanted live{options}{how}"
    return f"wrote {action.name}: found '{action.found}', wanted '{action.value}'{how}"


def _problem(finding: Finding) -> Line:
    kind = "module" if isinstance(finding, ModuleFinding) else "sysctl"
    level = "info" if harmless(finding) else "warning"
    weight = "" if required(finding) else " (not required)"
    remedy = f" ({finding.remedy})" if finding.remedy and level == "warning" else ""
    return level, f"{kind} {finding.name}{weight} {finding.verdict.value}: {finding.evidence}{remedy}"


def _was_right(before: Sequence[Finding], name: str) -> bool:
    return any(finding.name == name and finding.right for finding in before)
