"""Rounds of observing, planning and acting until no action is left: one finished reconciliation, as values."""

from __future__ import annotations

import _thread
import contextlib
import errno
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Callable, NamedTuple, Optional

from ipvsd.config.schema import Config
from ipvsd.decide import backoff, remedies, verdicts
from ipvsd.decide.backoff import BackoffState, Failure
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
    Outcome,
    Plan,
    SysctlFinding,
    WriteParameter,
    WriteSysctl,
)
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reconcile.observation import Known, observe_and_plan, read_kernel
from ipvsd.sysctl import values

if TYPE_CHECKING:
    from ipvsd.decide.contention import Contention

UNSETTLED = (0.01, 0.05, 0.25)  # seconds until the next reconciliations while a module is being loaded or unloaded
ROUNDS = 3
# Writes of a value that a read does not confirm, before ipvsd concludes that the kernel does not keep it. A program
# that writes a thousand times a second often intervenes if a write and a read take half a millisecond.
_WRITES = 10

# Called before each action, which can take long, with the names of all items in the round.
Meanwhile = Callable[[Collection[str]], None]


class ReconcileResult(NamedTuple):
    """The result of a reconciliation: the plans before and after it, and the actions.

    `proved` are the actions whose items are compliant now. `read` is the time on the reconciliation's clock by which
    each of these items had been found non-compliant.
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
        """Whether a reconciliation is due soon: a module is in transition, or actions remain that never failed."""
        return bool(backoff.transitioning_modules(self.after) or self.unfinished)

    @property
    def unfinished(self) -> tuple[Action, ...]:
        """The remaining actions that have never failed. The next reconciliation performs them."""
        return tuple(action for action in self.after.actions if action.name not in self.history)


class FirstRound:
    """The first round of the daemon: an observation, and the actions, which another thread begins.

    The kernel loads modules without the interpreter's lock. So the daemon can import and start its other parts. Then
    both threads load the remaining modules.
    """

    def __init__(self, host: Host, config: Config, clock: Callable[[], float]) -> None:
        """Observe the host, and begin to act. `clock` is monotonic, in seconds."""
        self.begun = clock()
        self.kernel = read_kernel(host, config)
        self.observed = observe_and_plan(host, config, kernel=self.kernel)
        self.read = clock()  # the time by which each item had been found non-compliant
        plan = self.observed[1]
        self.actions = _due(plan, backoff.record_outcomes({}, plan, plan, (), self.read, config.interval), self.read)
        self._host = host
        special = (n for n, action in enumerate(self.actions) if not isinstance(action, LoadModule) or action.options)
        # Two threads would run an install command twice. One could load a module with parameters as a dependency,
        # without them. The load that follows opens libkmod for both.
        alone = len(self.actions) if self.observed[0].install_commands else max(special, default=-1) + 2
        self._alone = self.actions[:alone]
        self._shared = iter(self.actions[alone:])  # the interpreter's lock gives each action to one thread
        self._outcomes: list[Outcome] = []
        self._error: Optional[BaseException] = None
        # `threading` would be one more import before READY=1.
        self._sharing, self._done = _thread.allocate_lock(), _thread.allocate_lock()
        self._sharing.acquire()
        self._done.acquire()
        try:
            _thread.start_new_thread(self._act, ())
        except RuntimeError:  # the limit of threads is reached
            self._act()

    def _act(self) -> None:
        try:
            try:
                self._perform(self._alone)
            finally:
                self._sharing.release()
            self._perform(self._shared)
        except BaseException as error:  # noqa: BLE001 -- `outcomes` raises it
            self._error = error
        finally:
            self._done.release()

    def _perform(self, actions: Iterable[Action]) -> None:
        for action in actions:
            self._outcomes.append(act(self._host, action))

    def outcomes(self) -> list[Outcome]:
        """Load a part of the modules, wait for the other thread, and return the outcomes in the order of the actions.

        It can be called once. Raises the error of a wrong program.
        """
        self._sharing.acquire()
        try:
            self._perform(self._shared)
        finally:
            self._done.acquire()
        if self._error:
            raise self._error
        made = sorted(self._outcomes, key=lambda outcome: self.actions.index(outcome.action))
        return [act(self._host, outcome.action) if _is_busy(outcome) else outcome for outcome in made]


def reconcile(
    host: Host,
    config: Config,
    history: BackoffState,
    clock: Callable[[], float],
    contended: Mapping[str, Contention] = NOTHING,
    full: bool = True,
    meanwhile: Meanwhile = lambda _: None,
    known: Optional[Known] = None,
    first: Optional[FirstRound] = None,
) -> ReconcileResult:
    """Reconcile the host with the configuration, until no action remains or three rounds have acted.

    A failure is a value in the result, and causes back-off in its history. `clock` is monotonic, in seconds. A
    contended sysctl is written only in a `full` check. `known` contains results of the last reconciliation. `first`
    is the first of the rounds, if it has begun already; at least one observation follows it.
    """
    suspended = {name for name, contention in contended.items() if contention.suspended(full)}
    kernel_once = first.kernel if first else read_kernel(host, config, known)

    def observe(known: Optional[Known]) -> tuple[Kernel, Plan]:
        kernel, found = observe_and_plan(host, config, history, known, kernel_once)
        # A retry of a suspended item, which never takes place, would always be due.
        actions = tuple(action for action in found.actions if action.name not in suspended)
        return kernel, found._replace(actions=actions)

    kernel, initial = first.observed if first else observe(known)
    history = backoff.record_outcomes(history, initial, initial, (), clock(), config.interval)
    latest, outcomes, read = initial, list[Outcome](), dict[str, float]()
    for _ in range(ROUNDS):
        now = first.read if first else clock()
        actions = first.actions if first else _due(latest, history, now)
        if not actions and not first:
            break
        read.update(dict.fromkeys((action.name for action in actions), now))
        acted = first.outcomes() if first else list(_acted(host, actions, meanwhile))
        first = None
        outcomes += acted
        before = latest
        kernel, latest = observe(Known(kernel, _members(latest)))
        history = backoff.record_outcomes(history, before, latest, acted, clock(), config.interval)
    explained = _explain(kernel, latest, history, contended)
    known = Known(kernel, _members(latest))
    return ReconcileResult(known, initial, explained, tuple(outcomes), _proved(outcomes, explained), history, read)


def _is_busy(outcome: Outcome) -> bool:
    """Return whether the other thread was loading a dependency at that time, and failed."""
    return isinstance(outcome.action, LoadModule) and outcome.errno == errno.EBUSY


def _due(found: Plan, history: BackoffState, now: float) -> Sequence[Action]:
    return without_followers(backoff.allowed(found, history, now))


def _acted(host: Host, actions: Sequence[Action], meanwhile: Meanwhile) -> Iterator[Outcome]:
    names = frozenset(action.name for action in actions)
    for action in actions:
        meanwhile(names)
        yield act(host, action)


def _members(found: Plan) -> Mapping[str, Collection[str]]:
    members: dict[str, list[str]] = {}
    for finding in found.sysctls:
        if finding.desired.pattern not in ("", finding.name):
            members.setdefault(finding.desired.pattern, []).append(finding.name)
    return members


def act(host: Host, action: Action) -> Outcome:
    try:
        if isinstance(action, LoadModule):
            host.load_module(action.module or action.name, action.options)
        elif isinstance(action, WriteParameter):
            host.write_parameter(action.name, action.value)
        else:
            return Outcome(action, kept=_kept(host, action))
    except BlacklistedError:
        return Outcome(action, "blacklisted in modprobe.d")
    except LoadError as error:
        return Outcome(action, str(error), error.errno, error.built_for)
    except OSError as error:
        _undo(host, action)
        return Outcome(action, error.strerror or str(error), error.errno or 0)
    return Outcome(action)


def _kept(host: Host, action: WriteSysctl) -> Optional[bool]:
    """Write a value until a read confirms it, and return whether one did, or None if there is nothing to read."""
    for _ in range(_WRITES):
        host.write_sysctl(action.name, action.value)
        now = host.read_sysctl(action.name)
        if not isinstance(now, str):
            return None
        if values.equivalent(action.name, now, action.value):
            return True
    return False


def _undo(host: Host, action: Action) -> None:
    """Restore a value that a failed write has changed, such as a list of which the kernel accepted a part."""
    if isinstance(action, WriteSysctl) and not isinstance(action, WriteParameter):
        now = host.read_sysctl(action.name)
        if isinstance(now, str) and now != action.actual:
            with contextlib.suppress(OSError):
                host.write_sysctl(action.name, action.actual)


def _proved(outcomes: list[Outcome], after: Plan) -> tuple[Action, ...]:
    right: Mapping[str, bool] = {finding.name: finding.compliant for finding in after.findings}
    last = {outcome.action.name: outcome.action for outcome in outcomes}
    return tuple(action for name, action in last.items() if right.get(name))


def _explain(kernel: Kernel, latest: Plan, history: BackoffState, contended: Mapping[str, Contention]) -> Plan:
    def explained(finding: SysctlFinding) -> SysctlFinding:
        contention = contended.get(finding.name)
        if contention and finding.verdict is SysctlVerdict.NONCOMPLIANT:
            return _explain_contention(finding, contention)
        return _explain_sysctl(finding, history.get(finding.name))

    return Plan(
        latest.actions,
        tuple(_explain_module(finding, history.get(finding.name), kernel) for finding in latest.modules),
        tuple(map(explained, latest.sysctls)),
        tuple(map(explained, latest.parameters)),
    )


def _explain_contention(finding: SysctlFinding, contention: Contention) -> SysctlFinding:
    verdict, remedy = SysctlVerdict.CONTENDED, remedies.CONTENDED.format(contention.conflicting_program)
    if contention.yielded:
        verdict, remedy = SysctlVerdict.YIELDED, remedies.YIELDED
    evidence = f"{finding.evidence}; changed repeatedly {contention.by}"
    return finding._replace(verdict=verdict, evidence=evidence, remedy=remedies.for_sysctl(finding.desired, remedy))


def _explain_module(finding: ModuleFinding, failure: Optional[Failure], kernel: Kernel) -> ModuleFinding:
    if failure is None or finding.verdict is not ModuleVerdict.LOADABLE:
        return finding
    action = failure.outcome.action
    if finding.desired.any_of and isinstance(action, LoadModule) and action.module != finding.module:
        return finding  # the next alternative is tried
    if failure.outcome.errno in TRANSIENT_ERRNOS:
        return finding._replace(evidence=f"loading failed: {failure.outcome.error}", remedy=remedies.TRANSIENT)
    return verdicts.explain(finding, failure.outcome, kernel)


def _explain_sysctl(finding: SysctlFinding, failure: Optional[Failure]) -> SysctlFinding:
    action = failure and failure.outcome.action
    if not failure or finding.verdict is not SysctlVerdict.NONCOMPLIANT or not isinstance(action, WriteSysctl):
        return finding
    if not failure.outcome.error and not failure.outcome.clamped:
        return finding  # the written sysctl disappeared, and this is a new one
    verdict, remedy = SysctlVerdict.NOT_KEPT, remedies.NOT_KEPT
    evidence = f"wrote {action.value!r}, reads back {finding.actual!r}"
    if failure.outcome.error:
        verdict, remedy = SysctlVerdict.WRITE_FAILED, remedies.REFUSED
        evidence = f"{finding.evidence}; writing failed: {failure.outcome.error}"
        if failure.outcome.errno in TRANSIENT_ERRNOS:
            return finding._replace(evidence=evidence, remedy=remedies.TRANSIENT, transient=True)
    return finding._replace(verdict=verdict, evidence=evidence, remedy=remedies.for_sysctl(finding.desired, remedy))
