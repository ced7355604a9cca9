"""ipvsd plan: the actions of `apply` with reasons, as a diff. It changes nothing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Optional

from ipvsd.commands import formatting
from ipvsd.commands.check import adapt_remedies, observe
from ipvsd.commands.output import EX_CANNOT_TELL, print_json, print_lines
from ipvsd.config import config_files
from ipvsd.decide.health import required
from ipvsd.decide.planner import without_followers
from ipvsd.kernel.roots import classify_root
from ipvsd.model.types import Action, LoadModule, Plan, SysctlFinding
from ipvsd.model.value_texts import text_of
from ipvsd.sysctl.values import value_to_write


def run(root: str, config_path: str | None, output: str, exit_code: bool) -> int:
    """Exit 0, or 2 for an image without a kernel. With `exit_code`, exit 1 for an action or a required problem."""
    found = observe(root, config_files.load(root, config_path))
    if found is None:
        return EX_CANNOT_TELL
    plan = adapt_remedies(found.plan, root)
    # The kernel's default of a sysctl whose module will be loaded can be compliant.
    loading = {action.name for action in plan.actions if isinstance(action, LoadModule)}
    later = [finding for finding in plan.sysctls if finding.missing and finding.desired.provider in loading]
    if output == "json":
        actions = [_values(action, plan) for action in without_followers(plan.actions)]
        actions += [_later_values(finding) for finding in later]
        print_json({"actions": actions, "notes": list(found.notes)})
    else:
        head = {"root_kind": classify_root(root).value, "kernel": found.kernel.release}
        print_lines(*formatting.situation(head), *(list(_lines(plan, later)) or ["nothing to do"]))
        print_lines(*formatting.notes({"notes": found.notes}))
    open_work = plan.actions or any(required(finding) and not finding.compliant for finding in plan.findings)
    return 1 if exit_code and open_work else 0


def _origin(action: Action, plan: Plan) -> str:
    return next(finding.desired.origin for finding in plan.findings if finding.name == action.name)


def _values(action: Action, plan: Plan) -> dict[str, Optional[str]]:
    origin = _origin(action, plan)
    if isinstance(action, LoadModule):
        return {"action": "load", "name": action.name, "actual": "unloaded", "desired": "live", "origin": origin}
    return {"action": "write", "name": action.name, "actual": action.actual, "desired": action.value, "origin": origin}


def _later_values(finding: SysctlFinding) -> dict[str, Optional[str]]:
    wanted = finding.desired
    value = {"action": "write", "name": finding.name, "actual": None, "desired": value_to_write(wanted.want, "")}
    return {**value, "origin": wanted.origin, "after": wanted.provider}


def _lines(plan: Plan, later: Sequence[SysctlFinding]) -> Iterator[str]:
    for action in without_followers(plan.actions):
        yield f"# {_origin(action, plan)}"
        if isinstance(action, LoadModule):
            yield formatting.colour(f"+ module {action.name}", "32")
        else:
            yield formatting.colour(f"- {action.name} = {action.actual}", "31")
            yield formatting.colour(f"+ {action.name} = {action.value}", "32")
    for finding in later:
        condition = f"after module {finding.desired.provider} is loaded, if the value differs"
        yield from formatting.folded(f"# {finding.desired.origin}; written {condition}")
        yield formatting.colour(f"+ {finding.name} = {value_to_write(finding.desired.want, '')}", "32")
    # An action that the kernel performs itself has no line.
    touched = {action.name for action in plan.actions} | {finding.name for finding in later}
    remaining = [item for item in plan.findings if not item.compliant and item.name not in touched]
    for names, example in formatting.group_alike(remaining):
        yield from formatting.folded(f"! {names} {text_of(example.verdict)}: {example.evidence}")
        if example.remedy:
            yield from formatting.indented(f"-> {example.remedy}", 2, 4)
