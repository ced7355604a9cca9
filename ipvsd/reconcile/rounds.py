"""Rounds of observing, planning and acting, until nothing is left to do: one finished reconciliation, as values."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Callable, NamedTuple, Optional

from ipvsd.config.schema import Config
from ipvsd.decide import backoff, remedies, verdicts
from ipvsd.decide.backoff import BackoffState, Failure
from ipvsd.decide.contention import Contention
from ipvsd.decide.planner import without_followers
from ipvsd.kernel.host import Host
from ipvsd.kernel.module_loader import BlacklistedError, LoadError
from ipvsd.model.types import (
    NOTHING,
    TRANSIENT_ERRNOS,
    Action,
    Kernel,
    LoadModule,
    ModuleFinding,
    ModuleVerdict,
    Outcome,
    Plan,
    SysctlFinding,
    SysctlVerdict,
    WriteParameter,
    WriteSysctl,
)
from ipvsd.reconcile.observation import Known, observe_and_plan
from ipvsd.sysctl import values

UNSETTLED = (0.01, 0.05, 0.25)  # seconds until the next looks at a module on its way in or out


ROUNDS = 3
# Of a value that is not there afterwards, until it is the kernel that does not keep it: a rival that writes a thousand
# times a second is often in between, where that takes half a millisecond.
_WRITES = 10


# Called before each action with the names of all items that the round acts on. These were wrong before, so that no
# later writer made them so. Another item that drifts need not wait for the last action, because each may take long.
Meanwhile = Callable[[Collection[str]], None]


class ReconcileResult(NamedTuple):
    """`before` is the first look's plan, `after` the last one's; `proved` were acted upon and are right now.

    `read` tells of each that was acted upon by when it had been found wrong, on the clock of the reconciliation.
    """

    known: Known
    before: Plan
    after: Plan
    outcomes: tuple[Outcome, ...]
    proved: tuple[Action, ...]
    history: BackoffState
    read: Mapping[str, float]

    @property
    def kernel(self) -> Kernel:
        return self.known.kernel

    @property
    def unsettled(self) -> bool:
        """Whether a look is due in a moment: a module is on its way in or out, or work is left that never failed."""
        return bool(backoff.transitioning_modules(self.after) or self.unfinished)

    @property
    def unfinished(self) -> tuple[Action, ...]:
        """What is left to do and never failed: the next look does it."""
        return tuple(action for action in self.after.actions if action.name not in self.history)


def reconcile(
    host: Host,
    config: Config,
    history: BackoffState,
    clock: Callable[[], float],
    contended: Mapping[str, Contention] = NOTHING,
    full: bool = True,
    meanwhile: Meanwhile = lambda _: None,
    known: Optional[Known] = None,
) -> ReconcileResult:
    """Bring the host to what the configuration wants, as far as it lets itself be brought.

    Ends with an observation after which nothing is left to do, or after three rounds of acting. A
    failure is a value in the result, and backs off in its history; `clock` is monotonic, in seconds.
    A contended sysctl is written only if this is a `full` check. `known` is what the last
    reconciliation found.
    """
    suspended = {name for name, contention in contended.items() if contention.suspended(full)}

    def observe(known: Optional[Known]) -> tuple[Kernel, Plan]:
        kernel, found = observe_and_plan(host, config, history, known)
        return kernel, _without(found, suspended)

    kernel, first = observe(known)
    history = backoff.record_outcomes(history, first, first, (), clock(), config.interval)
    latest, outcomes, read = first, list[Outcome](), dict[str, float]()
    for _ in range(ROUNDS):
        actions = without_followers(backoff.allowed(latest, history, clock()))
        if not actions:
            break
        read.update(dict.fromkeys((action.name for action in actions), clock()))
        acted = list(_acted(host, actions, meanwhile))
        outcomes += acted
        before = latest
        kernel, latest = observe(Known(kernel, _members(latest)))
        history = backoff.record_outcomes(history, before, latest, acted, clock(), config.interval)
    explained = _explain(kernel, latest, history, contended)
    known = Known(kernel, _members(latest))
    return ReconcileResult(known, first, explained, tuple(outcomes), _proved(outcomes, explained), history, read)


def _acted(host: Host, actions: Sequence[Action], meanwhile: Meanwhile) -> Iterator[Outcome]:
    names = frozenset(action.name for action in actions)
    for action in actions:
        meanwhile(names)
        yield act(host, action)


def _members(found: Plan) -> Mapping[str, Collection[str]]:
    """Return the sysctls that each pattern fits."""
    members: dict[str, list[str]] = {}
    for finding in found.sysctls:
        if finding.wanted.pattern not in ("", finding.name):
            members.setdefault(finding.wanted.pattern, []).append(finding.name)
    return members


def act(host: Host, action: Action) -> Outcome:
    """Do one thing, and return what the kernel said to it."""
    try:
        if isinstance(action, LoadModule):
            host.load_module(action.module or action.name, action.options)
        elif isinstance(action, WriteParameter):
            host.write_parameter(action.name, action.value)
        else:
            return Outcome(action, kept=_kept(host, action))
    except BlacklistedError:
        return Outcome(action, "the loader found it blacklisted in modprobe.d")
    except LoadError as error:
        return Outcome(action, str(error), error.errno, error.built_for)
    except OSError as error:
        _undo(host, action)
        return Outcome(action, error.strerror or str(error), error.errno or 0)
    return Outcome(action)


def _kept(host: Host, action: WriteSysctl) -> bool:
    """Write a value until it is there afterwards; return whether it is. What cannot be read back is written once."""
    for _ in range(_WRITES):
        host.write_sysctl(action.name, action.value)
        now = host.read_sysctl(action.name)
        if not isinstance(now, str) or values.equivalent(action.name, now, action.value):
            return isinstance(now, str)
    return False


def _undo(host: Host, action: Action) -> None:
    """Put back what a write that failed has changed all the same, as a list of which the kernel took a part."""
    if isinstance(action, WriteSysctl) and not isinstance(action, WriteParameter):
        now = host.read_sysctl(action.name)
        if isinstance(now, str) and now != action.found:
            with contextlib.suppress(OSError):
                host.write_sysctl(action.name, action.found)


def _proved(outcomes: list[Outcome], after: Plan) -> tuple[Action, ...]:
    right: Mapping[str, bool] = {finding.name: finding.compliant for finding in after.findings}
    last = {outcome.action.name: outcome.action for outcome in outcomes}
    return tuple(action for name, action in last.items() if right.get(name))


def _without(found: Plan, suspended: Collection[str]) -> Plan:
    """Return the plan with nothing to do to these: a retry that is never made would be due for ever."""
    actions = tuple(action for action in found.actions if action.name not in suspended)
    return found._replace(actions=actions)


def _explain(kernel: Kernel, latest: Plan, history: BackoffState, contended: Mapping[str, Contention]) -> Plan:
    """Return the plan with what the kernel said to earlier tries in place of 'to be done'."""

    def explained(finding: SysctlFinding) -> SysctlFinding:
        contention = contended.get(finding.name)
        if contention and finding.verdict is SysctlVerdict.WRONG:
            return _explain_contention(finding, contention)
        return _explain_sysctl(finding, history.get(finding.name))

    return Plan(
        latest.actions,
        tuple(_explain_module(finding, history.get(finding.name), kernel) for finding in latest.modules),
        tuple(map(explained, latest.sysctls)),
        tuple(map(explained, latest.parameters)),
    )


def _explain_contention(finding: SysctlFinding, contention: Contention) -> SysctlFinding:
    verdict, remedy = SysctlVerdict.CONTENDED, remedies.CONTENDED.format(contention.rival)
    if contention.yielded:
        verdict, remedy = SysctlVerdict.YIELDED, remedies.YIELDED
    evidence = f"{finding.evidence}; changed again and again {contention.by}"
    return finding._replace(verdict=verdict, evidence=evidence, remedy=remedies.for_sysctl(finding.wanted, remedy))


def _explain_module(finding: ModuleFinding, failure: Optional[Failure], kernel: Kernel) -> ModuleFinding:
    if failure is None or finding.verdict is not ModuleVerdict.LOADABLE:
        return finding
    action = failure.outcome.action
    if finding.wanted.any_of and isinstance(action, LoadModule) and action.module != finding.module:
        return finding  # another one of the alternatives is to be tried
    if failure.outcome.errno in TRANSIENT_ERRNOS:
        return finding._replace(evidence=f"loading failed: {failure.outcome.error}", remedy=remedies.TRANSIENT)
    return verdicts.explain(finding, failure.outcome, kernel)


def _explain_sysctl(finding: SysctlFinding, failure: Optional[Failure]) -> SysctlFinding:
    if (
        failure is None
        or finding.verdict is not SysctlVerdict.WRONG
        or not isinstance(failure.outcome.action, WriteSysctl)
    ):
        return finding
    if failure.outcome.error:
        evidence = f"{finding.evidence}; writing failed: {failure.outcome.error}"
        if failure.outcome.errno in TRANSIENT_ERRNOS:
            return finding._replace(evidence=evidence, remedy=remedies.TRANSIENT)
        remedy = remedies.for_sysctl(finding.wanted, remedies.REFUSED)
        return SysctlFinding(finding.wanted, finding.found, SysctlVerdict.REFUSED, evidence, remedy)
    evidence = f"wrote {failure.outcome.action.value!r}, reads back {finding.found!r}"
    remedy = remedies.for_sysctl(finding.wanted, remedies.NOT_KEPT)
    return SysctlFinding(finding.wanted, finding.found, SysctlVerdict.NOT_KEPT, evidence, remedy)
