from __future__ import annotations

import pytest

from ipvsd.decide import backoff
from ipvsd.decide.backoff import BackoffState, Failure
from ipvsd.model.types import LoadModule, Outcome, Plan, WriteSysctl
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from tests.samples import module, sysctl

LOAD = LoadModule("ip_vs")
FAILED = Outcome(LOAD, "no")
TODO = Plan((LOAD,), (module(ModuleVerdict.LOADABLE),), ())
DONE = Plan((), (module(ModuleVerdict.LIVE),), ())
WRITE = WriteSysctl("net.ipv4.ip_forward", "0", "1")
WRONG = Plan((WRITE,), (), (sysctl(SysctlVerdict.NONCOMPLIANT, found="0"),))


def fail(history: BackoffState, now: float, longest: float = 60.0) -> BackoffState:
    return backoff.record_outcomes(history, TODO, TODO, [FAILED], now, longest)


@pytest.mark.parametrize(("later", "allowed"), [(0.0, False), (0.9, False), (1.0, True), (99.0, True)])
def test_a_failed_action_is_not_retried_for_a_second(later: float, allowed: bool) -> None:
    assert bool(backoff.allowed(TODO, fail({}, 100.0), 100.0 + later)) is allowed


def test_the_delay_doubles_with_each_failure_up_to_the_resync() -> None:
    history: BackoffState = {}
    pauses = []
    for _ in range(8):
        history = fail(history, 0.0, longest=60.0)
        pauses.append(history["ip_vs"].not_before)
    assert pauses == [1.0, 2.0, 4.0, 8.0, 16.0, 32.0, 60.0, 60.0]


def test_endless_failures_do_not_overflow() -> None:
    history: BackoffState = {"ip_vs": Failure(FAILED, 100_000, 0.0)}
    assert fail(history, 0.0)["ip_vs"].not_before == 60.0


def test_another_item_is_not_delayed() -> None:
    other = LoadModule("ip_vs_sh")
    plan = Plan((LOAD, other), TODO.modules, ())
    assert backoff.allowed(plan, fail({}, 0.0), 0.5) == (other,)


def test_an_action_that_is_still_planned_without_an_error_has_failed() -> None:
    history = backoff.record_outcomes({}, TODO, TODO, [Outcome(LOAD)], 0.0, 60.0)
    assert history["ip_vs"].times == 1


@pytest.mark.parametrize(
    ("outcome", "due"),
    [
        pytest.param(Outcome(WRITE, "Operation not permitted", 1), 101.0, id="failed"),
        pytest.param(Outcome(WRITE, kept=False), 160.0, id="not kept by the kernel, retried only at a resync"),
        pytest.param(Outcome(WRITE, kept=None), 101.0, id="of an interface that disappeared, and returned"),
        pytest.param(Outcome(WRITE, kept=True), 100.0, id="overwritten by another program, which is not a failure"),
    ],
)
def test_a_write_that_did_not_help_is_delayed(outcome: Outcome, due: float) -> None:
    history = backoff.record_outcomes({}, WRONG, WRONG, [outcome], 100.0, 60.0)
    assert {name: (failure.times, failure.not_before) for name, failure in history.items()} == (
        {} if outcome.kept else {WRITE.name: (1, due)}
    )
    assert backoff.allowed(WRONG, history, due) == (WRITE,)


@pytest.mark.parametrize("outcomes", [[Outcome(LOAD)], []], ids=["by an action", "by itself"])
def test_a_failure_ends_when_the_item_becomes_compliant(outcomes: list[Outcome]) -> None:
    assert backoff.record_outcomes(fail({}, 0.0), TODO, DONE, outcomes, 5.0, 60.0) == {}


def test_an_item_without_an_attempt_keeps_its_delay() -> None:
    history = fail({}, 0.0)
    assert backoff.record_outcomes(history, TODO, TODO, [], 0.5, 60.0) == history


@pytest.mark.parametrize("verdict", [ModuleVerdict.UNLOADING, ModuleVerdict.LOADING])
def test_a_module_that_is_on_its_way_has_not_failed(verdict: ModuleVerdict) -> None:
    passing = Plan((LOAD,), (module(verdict),), ())
    assert backoff.record_outcomes({}, passing, TODO, [FAILED], 0.0, 60.0) == {}
    assert backoff.record_outcomes({}, TODO, passing, [FAILED], 0.0, 60.0) == {}


def test_a_reload_ends_every_delay() -> None:
    history = backoff.reset_pauses(fail(fail({}, 0.0), 0.0))
    assert backoff.allowed(TODO, history, 0.0) == (LOAD,)
    assert history["ip_vs"].times == 2


def test_the_next_try_is_the_earliest() -> None:
    history = {"a": Failure(FAILED, 1, 7.0), "b": Failure(FAILED, 1, 5.0)}
    assert backoff.next_try(history) == 5.0
    assert backoff.next_try({}) is None
