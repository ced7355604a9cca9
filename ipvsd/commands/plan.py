"""ipvsd plan: what `apply` would do and why, as a diff; changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator

from ipvsd import configfiles
from ipvsd.commands import text
from ipvsd.host import LinuxHost
from ipvsd.model import Action, LoadModule, Plan
from ipvsd.reconcile import look


def run(root: str, only: str | None, output: str, exit_code: bool) -> int:
    """Exit 0; with `exit_code`, 1 if there is anything to do or anything that waits for it."""
    _, plan = look(LinuxHost(root), configfiles.load(root, only))
    origins = {finding.name: finding.wanted.origin for finding in plan.findings}
    waiting = [finding for finding in plan.sysctls if finding.missing and finding.remedy.startswith("load ")]
    if output == "json":
        print(json.dumps([_values(action, origins[action.name]) for action in plan.actions], indent=2))
    else:
        print("\n".join(_lines(plan, origins)) or "nothing to do")
    return 1 if exit_code and (plan.actions or any(item.wanted.required for item in waiting)) else 0


def _values(action: Action, origin: str) -> dict[str, str]:
    if isinstance(action, LoadModule):
        return {"action": "load", "name": action.name, "found": "not loaded", "wanted": "live", "origin": origin}
    return {"action": "write", "name": action.name, "found": action.found, "wanted": action.value, "origin": origin}


def _lines(plan: Plan, origins: dict[str, str]) -> Iterator[str]:
    for action in plan.actions:
        yield f"# {origins[action.name]}"
        if isinstance(action, LoadModule):
            yield text.colour(f"+ module {action.name}", "32")
        else:
            yield text.colour(f"- {action.name} = {action.found}", "31")
            yield text.colour(f"+ {action.name} = {action.value}", "32")
    loading = {action.name for action in plan.actions if isinstance(action, LoadModule)}
    for finding in plan.sysctls:
        if finding.missing and finding.wanted.provider in loading:
            yield f"# {origins[finding.name]}; its file comes with {finding.wanted.provider}"
            yield text.colour(f"+ {finding.name} = {finding.wanted.want}", "32")
    for item in (found for found in plan.findings if not found.right and found.name not in origins_of(plan)):
        yield f"! {item.name} {item.verdict.value}: {item.evidence}"


def origins_of(plan: Plan) -> frozenset[str]:
    """Return the names that the plan touches, or will when the modules are there."""
    loading = {action.name for action in plan.actions}
    later = {finding.name for finding in plan.sysctls if finding.missing and finding.wanted.provider in loading}
    return frozenset(loading | later)
