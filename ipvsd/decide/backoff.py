"""Back off after failures: what cannot be done now is not tried again at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from ipvsd.model.types import Action, ModuleVerdict, Outcome, Plan, WriteSysctl

FIRST_PAUSE = 1.0  # seconds; doubles with each failure in a row, up to the periodic look


class Failure(NamedTuple):
    """How often in a row an item failed, how, and the monotonic time before which it is let be."""

    outcome: Outcome
    times: int
    not_before: float


BackoffState = Mapping[str, Failure]


def allowed(plan: Plan, state: BackoffState, now: float) -> tuple[Action, ...]:
    """Return the actions of the plan that are not backing off."""
    waiting = {name for name, failure in state.items() if failure.not_before > now}
    return tuple(action for action in plan.actions if action.name not in waiting)


def transitioning_modules(plan: Plan) -> frozenset[str]:
    """Return the modules that are on their way in or out of the kernel."""
    states = (ModuleVerdict.LOADING, ModuleVerdict.UNLOADING)
    return frozenset(finding.name for finding in plan.modules if finding.verdict in states)


def record_outcomes(
    state: BackoffState, before: Plan, after: Plan, outcomes: Sequence[Outcome], now: float, max_pause: float
) -> BackoffState:
    """Return the history after these outcomes, between the plans of the looks before and after them.

    An item that the later plan does not want to touch is forgotten. One that was acted upon and is
    still in the plan failed, even if the kernel returned no error; but a module that was caught
    on its way out may fail to load until it is gone, which is nobody's failure; nor is a value that
    another one wrote over ours. A value that the kernel does not keep is tried again at periodic looks only.
    """
    unfinished = {action.name for action in after.actions}
    excused = transitioning_modules(before) | transitioning_modules(after)
    failures = {name: failure for name, failure in state.items() if name in unfinished and name not in excused}
    for outcome in {outcome.action.name: outcome for outcome in outcomes}.values():
        name = outcome.action.name
        if name in unfinished and name not in excused and not outcome.kept:
            times = failures[name].times + 1 if name in failures else 1
            clamped = isinstance(outcome.action, WriteSysctl) and not outcome.error
            pause = max_pause if clamped else min(max_pause, FIRST_PAUSE * 2.0 ** min(times - 1, 30))
            failures[name] = Failure(outcome, times, now + pause)
    return failures


def reset_pauses(state: BackoffState) -> BackoffState:
    """Return the history with every pause ended: a reload is a person's wish to try again."""
    return {name: failure._replace(not_before=0.0) for name, failure in state.items()}


def next_try(state: BackoffState) -> Optional[float]:
    """Return the earliest monotonic time at which something may be tried again, or None."""
    return min((failure.not_before for failure in state.values()), default=None)
