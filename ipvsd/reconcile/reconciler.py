"""Look, decide, act, look again: one finished reconciliation, as values."""

from __future__ import annotations

import contextlib
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Callable, NamedTuple, Optional

from ipvsd.config.desired_state import candidates, desired, patterns
from ipvsd.config.schema import Config
from ipvsd.decide import backoff, remedies, verdicts
from ipvsd.decide.backoff import Failure, History
from ipvsd.decide.contention import Fight, Fights
from ipvsd.decide.planner import leading, plan
from ipvsd.kernel.host import Host
from ipvsd.kernel.module_loader import BlacklistedError, LoadError
from ipvsd.model.types import (
    NOTHING,
    PASSING,
    Action,
    Desired,
    Kernel,
    LoadModule,
    Missing,
    ModuleFinding,
    ModuleState,
    ModuleVerdict,
    Observed,
    Outcome,
    Plan,
    Reading,
    SysctlFinding,
    SysctlVerdict,
    Unreadable,
    WantedModule,
    WantedSysctl,
    WriteParameter,
    WriteSysctl,
)
from ipvsd.sysctl import values

UNSETTLED = (0.01, 0.05, 0.25)  # seconds until the next looks at a module on its way in or out


ROUNDS = 3
# Of a value that is not there afterwards, until it is the kernel that does not keep it: a rival that writes a thousand
# times a second is often in between, where that takes half a millisecond.
_WRITES = 10


class Known(NamedTuple):
    """What a look found of what seldom changes: the kernel, and by each pattern the sysctls that it fits."""

    kernel: Kernel
    members: Mapping[str, Collection[str]] = NOTHING


class Reconciled(NamedTuple):
    """`before` is the first look's plan, `after` the last one's; `proved` were acted upon and are right now.

    `read` tells of each that was acted upon by when it had been found wrong, on the clock of the reconciliation.
    """

    known: Known
    before: Plan
    after: Plan
    outcomes: tuple[Outcome, ...]
    proved: tuple[Action, ...]
    history: History
    read: Mapping[str, float]

    @property
    def kernel(self) -> Kernel:
        return self.known.kernel

    @property
    def unsettled(self) -> bool:
        """Whether a look is due in a moment: a module is on its way in or out, or work is left that never failed."""
        return bool(backoff.passing(self.after) or self.unfinished)

    @property
    def unfinished(self) -> tuple[Action, ...]:
        """What is left to do and never failed: the next look does it."""
        return tuple(action for action in self.after.actions if action.name not in self.history)


def look(
    host: Host, config: Config, history: Optional[History] = None, known: Optional[Known] = None
) -> tuple[Kernel, Plan]:
    """Observe what the configuration is about, and judge it; of alternatives, one that failed is passed over.

    Where something cannot be read, what was `known` before stands, and nothing is concluded from what is missing.
    """
    names = candidates(config)
    kernel, modules = _seen(host, names, known)
    fitting, unlisted = _listed(host, patterns(config), known.members if known else NOTHING)
    want = desired(config, kernel, modules, fitting)
    absent = lacking(want, kernel, modules)
    if absent and not kernel.unreadable:
        kernel, modules = _explained(host, kernel, modules, absent)
    if kernel.aliases:
        want = want._replace(parameters=tuple(_resolved(wanted, kernel) for wanted in want.parameters))
    readings = {wanted.key: unlisted.get(wanted.key) or host.read_sysctl(wanted.key) for wanted in want.sysctls}
    parameters = {wanted.key: host.read_parameter(wanted.key) for wanted in want.parameters}
    failed = {
        name: failure.outcome.action.module
        for name, failure in (history or {}).items()
        if isinstance(failure.outcome.action, LoadModule)
    }
    return kernel, plan(_still_there(want, readings), Observed(kernel, modules, readings, parameters, failed))


Modules = Mapping[str, ModuleState]
# Called before each action with the names of all that are acted upon. Those were found wrong before, so that whoever
# writes next has not made it; and what else drifts need not wait for the last action, as each may take long.
Meanwhile = Callable[[Collection[str]], None]
_NOTHING = Kernel("", "", 1, True, True, frozenset(), frozenset())


def _seen(host: Host, names: Collection[str], known: Optional[Known]) -> tuple[Kernel, Modules]:
    try:
        kernel = host.kernel(names)
    except OSError as error:
        if known is None or not known.kernel.release:  # then it is not known what is wanted of the modules
            return _NOTHING._replace(unreadable=_unread(error)), {}
        kernel = known.kernel._replace(unreadable=_unread(error))
    try:
        return kernel, host.modules(names)
    except OSError as error:
        return kernel._replace(unreadable=_unread(error)), {}


def _explained(host: Host, kernel: Kernel, modules: Modules, absent: Collection[str]) -> tuple[Kernel, Modules]:
    """Return the kernel with what keeps `absent` out, and the states of the modules that these names stand for, too."""
    try:
        kernel = host.explain(kernel, absent)
        return kernel, {**modules, **host.modules(kernel.aliases.values())} if kernel.aliases else modules
    except OSError as error:
        return kernel._replace(unreadable=_unread(error)), modules


def _listed(
    host: Host, wanted: Collection[str], known: Mapping[str, Collection[str]]
) -> tuple[Mapping[str, Collection[str]], Mapping[str, Unreadable]]:
    """Return what each pattern fits, and those of which that cannot be told: what was known, and the pattern itself."""
    try:
        return host.expand(wanted), {}
    except OSError:  # one of them at least
        pass
    fitting: dict[str, Collection[str]] = {}
    unlisted: dict[str, Unreadable] = {}
    for pattern in wanted:
        try:
            fitting.update(host.expand([pattern]))
        except OSError as error:
            fitting[pattern] = (*known.get(pattern, ()), pattern)
            unlisted[pattern] = Unreadable(f"cannot read {_unread(error)}", error.errno in PASSING)
    return fitting, unlisted


def _unread(error: OSError) -> str:
    return f"{error.filename or 'the kernel'}: {error.strerror or error}"


def judged_module(kernel: Kernel, wanted: WantedModule, state: Optional[ModuleState]) -> Plan:
    """Judge one module by itself, by its state of this moment; of the kernel is known what a look found."""
    return plan(Desired((wanted,), ()), Observed(kernel, {wanted.name: state} if state else {}, {}))


def judged_sysctl(kernel: Kernel, wanted: WantedSysctl, reading: Reading) -> Plan:
    """Judge one sysctl by itself, by what was just read."""
    return plan(Desired((), (wanted,)), Observed(kernel, {}, {wanted.key: reading}))


def _resolved(wanted: WantedSysctl, kernel: Kernel) -> WantedSysctl:
    """Return a parameter as that of the module itself, where it was wanted of an alias."""
    name, _, parameter = wanted.key.partition(".")
    module = kernel.module(name)
    return wanted._replace(key=f"{module}.{parameter}", provider=module)


def lacking(want: Desired, kernel: Kernel, modules: Mapping[str, ModuleState]) -> tuple[str, ...]:
    """Return the names of wanted modules that are neither live nor built in."""
    names = (name for wanted in want.modules for name in wanted.any_of or (wanted.name,))
    return tuple(name for name in names if name not in kernel.built_in and modules.get(name) is not ModuleState.LIVE)


def _still_there(want: Desired, readings: Mapping[str, Reading]) -> Desired:
    """Return what is wanted without the sysctls of patterns whose interface went away since they were listed."""
    there = tuple(
        wanted
        for wanted in want.sysctls
        if wanted.group in ("", wanted.key) or not isinstance(readings[wanted.key], Missing)
    )
    return want._replace(sysctls=there)


def reconcile(
    host: Host,
    config: Config,
    history: History,
    clock: Callable[[], float],
    fights: Fights = Fights(),
    periodic: bool = True,
    meanwhile: Meanwhile = lambda _: None,
    known: Optional[Known] = None,
) -> Reconciled:
    """Bring the host to what the configuration wants, as far as it lets itself be brought.

    Ends with a look after which nothing is left to do, or after three rounds of acting. A
    failure is a value in the result, and backs off in its history; `clock` is monotonic, in seconds.
    A contended sysctl is left alone but for the periodic look. `known` is what the last reconciliation found.
    """
    left_alone = fights.left_alone(periodic)

    def looked(known: Optional[Known]) -> tuple[Kernel, Plan]:
        kernel, found = look(host, config, history, known)
        return kernel, _without(found, left_alone)

    kernel, first = looked(known)
    history = backoff.remember(history, first, first, (), clock(), config.interval)
    latest, outcomes, read = first, list[Outcome](), dict[str, float]()
    for _ in range(ROUNDS):
        actions = leading(backoff.allowed(latest, history, clock()))
        if not actions:
            break
        read.update(dict.fromkeys((action.name for action in actions), clock()))
        acted = list(_acted(host, actions, meanwhile))
        outcomes += acted
        before = latest
        kernel, latest = looked(Known(kernel, _members(latest)))
        history = backoff.remember(history, before, latest, acted, clock(), config.interval)
    explained = _explain(kernel, latest, history, fights.contended())
    known = Known(kernel, _members(latest))
    return Reconciled(known, first, explained, tuple(outcomes), _proved(outcomes, explained), history, read)


def _acted(host: Host, actions: Sequence[Action], meanwhile: Meanwhile) -> Iterator[Outcome]:
    names = frozenset(action.name for action in actions)
    for action in actions:
        meanwhile(names)
        yield act(host, action)


def _members(found: Plan) -> Mapping[str, Collection[str]]:
    """Return the sysctls that each pattern fits."""
    members: dict[str, list[str]] = {}
    for finding in found.sysctls:
        if finding.wanted.group not in ("", finding.name):
            members.setdefault(finding.wanted.group, []).append(finding.name)
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
        return Outcome(action, str(error), error.errno, error.made_for)
    except OSError as error:
        _undo(host, action)
        return Outcome(action, error.strerror or str(error), error.errno or 0)
    return Outcome(action)


def _kept(host: Host, action: WriteSysctl) -> bool:
    """Write a value until it is there afterwards; return whether it is. What cannot be read back is written once."""
    for _ in range(_WRITES):
        host.write_sysctl(action.name, action.value)
        now = host.read_sysctl(action.name)
        if not isinstance(now, str) or values.same(action.name, now, action.value):
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
    right: Mapping[str, bool] = {finding.name: finding.right for finding in after.findings}
    last = {outcome.action.name: outcome.action for outcome in outcomes}
    return tuple(action for name, action in last.items() if right.get(name))


def _without(found: Plan, left_alone: Collection[str]) -> Plan:
    """Return the plan with nothing to do to these: a retry that is never made would be due for ever."""
    actions = tuple(action for action in found.actions if action.name not in left_alone)
    return found._replace(actions=actions)


def _explain(kernel: Kernel, latest: Plan, history: History, fights: Mapping[str, Fight]) -> Plan:
    """Return the plan with what the kernel said to earlier tries in place of 'to be done'."""

    def explained(finding: SysctlFinding) -> SysctlFinding:
        fight = fights.get(finding.name)
        if fight and finding.verdict is SysctlVerdict.WRONG:
            return _explain_fight(finding, fight)
        return _explain_sysctl(finding, history.get(finding.name))

    return Plan(
        latest.actions,
        tuple(_explain_module(finding, history.get(finding.name), kernel) for finding in latest.modules),
        tuple(map(explained, latest.sysctls)),
        tuple(map(explained, latest.parameters)),
    )


def _explain_fight(finding: SysctlFinding, fight: Fight) -> SysctlFinding:
    verdict, remedy = SysctlVerdict.CONTENDED, remedies.CONTENDED.format(fight.rival)
    if fight.yielded:
        verdict, remedy = SysctlVerdict.YIELDED, remedies.YIELDED
    evidence = f"{finding.evidence}; changed again and again {fight.by}"
    return finding._replace(verdict=verdict, evidence=evidence, remedy=remedies.of_sysctl(finding.wanted, remedy))


def _explain_module(finding: ModuleFinding, failure: Optional[Failure], kernel: Kernel) -> ModuleFinding:
    if failure is None or finding.verdict is not ModuleVerdict.LOADABLE:
        return finding
    action = failure.outcome.action
    if finding.wanted.any_of and isinstance(action, LoadModule) and action.module != finding.module:
        return finding  # another one of the alternatives is to be tried
    if failure.outcome.errno in PASSING:
        return finding._replace(evidence=f"loading failed: {failure.outcome.error}", remedy=remedies.PASSING)
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
        if failure.outcome.errno in PASSING:
            return finding._replace(evidence=evidence, remedy=remedies.PASSING)
        remedy = remedies.of_sysctl(finding.wanted, remedies.REFUSED)
        return SysctlFinding(finding.wanted, finding.found, SysctlVerdict.REFUSED, evidence, remedy)
    evidence = f"wrote {failure.outcome.action.value!r}, reads back {finding.found!r}"
    remedy = remedies.of_sysctl(finding.wanted, remedies.NOT_KEPT)
    return SysctlFinding(finding.wanted, finding.found, SysctlVerdict.NOT_KEPT, evidence, remedy)
