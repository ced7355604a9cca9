"""What a reconciliation is worth saying in the log: every change we made, every problem once."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

from ipvsd.health import harmless, required
from ipvsd.model import Finding, LoadModule, ModuleFinding, Repair
from ipvsd.reconcile import Reconciled

Line = tuple[str, str]  # level, text


def narrate(before: Sequence[Finding], done: Reconciled, repairs: Sequence[Repair]) -> Iterator[Line]:
    """Yield the lines for a reconciliation; `before` are the findings that were last told of."""
    yield from _changes(done, {repair.name: repair for repair in repairs})
    known = {finding.name: (finding.verdict, finding.evidence) for finding in before}
    proved = {action.name for action in done.proved}
    for finding in done.after.findings:
        if known.get(finding.name) == (finding.verdict, finding.evidence) or finding.name in proved:
            continue
        if not finding.right:
            yield _problem(finding)
        elif finding.name in known and not _was_right(before, finding.name):
            yield "info", f"{finding.name} is right again: {finding.evidence}"


def _changes(done: Reconciled, repairs: Mapping[str, Repair]) -> Iterator[Line]:
    for action in done.proved:
        repair = repairs.get(action.name)
        how = f"; it had drifted, repaired in {repair.seconds * 1000:.1f} ms, by whom is unknown" if repair else ""
        if isinstance(action, LoadModule):
            yield "info", f"loaded module {action.name}: found not loaded, wanted live{how}"
        else:
            yield "info", f"wrote {action.name}: found '{action.found}', wanted '{action.value}'{how}"


def _problem(finding: Finding) -> Line:
    kind = "module" if isinstance(finding, ModuleFinding) else "sysctl"
    level = "info" if harmless(finding) else "warning"
    weight = "" if required(finding) else " (not required)"
    remedy = f" ({finding.remedy})" if finding.remedy and level == "warning" else ""
    return level, f"{kind} {finding.name}{weight} {finding.verdict.value}: {finding.evidence}{remedy}"


def _was_right(before: Sequence[Finding], name: str) -> bool:
    return any(finding.name == name and finding.right for finding in before)
