"""Back off after failures: a failed action is not retried at once."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from ipvsd.model.types import Action, Outcome, Plan
from ipvsd.model.verdicts import ModuleVerdict

FIRST_PAUSE = 1.0  # seconds; doubles with each consecutive failure, up to the interval of the resync


class Failure(NamedTuple):
    """The last failure of an item, the number of consecutive failures, and the monotonic time of the next attempt."""

    outcome: Outcome
    times: int
    not_before: float


BackoffState = Mapping[str, Failure]


def allowed(plan: Plan, state: BackoffState, now: float) -> tuple[Action, ...]:
    waiting = {name for name, failure in state.items() if failure.not_before > now}
    return tuple(action for action in plan.actions if action.name not in waiting)


def transitioning_modules(plan: Plan) -> frozenset[str]:
    states = (ModuleVerdict.LOADING, ModuleVerdict.UNLOADING)
    return frozenset(finding.name for finding in plan.modules if finding.verdict in states)


def record_outcomes(
    state: BackoffState, before: Plan, after: Plan, outcomes: Sequence[Outcome], now: float, max_pause: float
) -> BackoffState:
    """Return the back-off state after these outcomes, given the plans before and after them.

    - An item without an action in the later plan is removed.
    - An item with an action in both has failed, even if the kernel returned no error.
    - A module that is being unloaded cannot be loaded until it is gone. This is not a failure.
    - A value that another program has overwritten is not a failure.
    - A value that the kernel does not keep is retried only at a resync.
    """
    unfinished = {action.name for action in after.actions}
    excused = transitioning_modules(before) | transitioning_modules(after)
    failures = {name: failure for name, failure in state.items() if name in unfinished and name not in excused}
    for outcome in {outcome.action.name: outcome for outcome in outcomes}.values():
        name = outcome.action.name
        if name in unfinished and name not in excused and not outcome.kept:
            times = failures[name].times + 1 if name in failures else 1
            pause = max_pause if outcome.clamped else min(max_pause, FIRST_PAUSE * 2.0 ** min(times - 1, 30))
            failures[name] = Failure(outcome, times, now + pause)
    return failures


def reset_pauses(state: BackoffState) -> BackoffState:
    """Return the back-off state without waiting times. A reload is a person's request to retry."""
    return {name: failure._replace(not_before=0.0) for name, failure in state.items()}


def next_try(state: BackoffState) -> Optional[float]:
    return min((failure.not_before for failure in state.values()), default=None)
