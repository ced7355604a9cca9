"""The registry of managed items: their desired state, status, back-off, contention and recent writes.

It is the only place that remembers items from one check to the next.
"""

from __future__ import annotations

import enum
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from typing import Callable, NamedTuple, Optional, Union

from ipvsd.decide import backoff
from ipvsd.decide.aggregate import reported
from ipvsd.decide.attribution import ObservedWrite, WriteLog, attributed
from ipvsd.decide.backoff import Failure
from ipvsd.decide.contention import Contention, Limit
from ipvsd.decide.health import is_last_verdict_valid, unreadable, want
from ipvsd.decide.planner import plan, without_followers
from ipvsd.model.report import UNKNOWN, Attribution, Repair
from ipvsd.model.types import (
    Action,
    Desired,
    DesiredModule,
    DesiredSysctl,
    Finding,
    Kernel,
    ModuleFinding,
    ModuleState,
    Observed,
    Parameter,
    Plan,
    Policy,
    Reading,
    SysctlFinding,
    Want,
    WriteSysctl,
)
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reconcile import changes
from ipvsd.reconcile.changes import Change
from ipvsd.reconcile.observation import Known
from ipvsd.reconcile.rounds import ReconcileResult

_REMEMBERED = 16  # judgements of one item

Judgement = Union[Action, bool]  # the action, or whether the item is compliant
AnyReading = Union[Reading, Parameter, ModuleState, None]


class Standing(enum.Enum):
    COMPLIANT = "compliant"  # at the last successful read
    DRIFTED = "drifted"  # and not repaired yet


class Item:
    """One managed item: a module, a sysctl, or if `is_parameter` a parameter of a module.

    `standing` includes the desired value at that time, because a value that is not desired any more cannot drift.
    """

    def __init__(self, finding: Finding, kernel: Kernel, is_parameter: bool) -> None:
        self.finding, self._kernel, self.is_parameter = finding, kernel, is_parameter
        self.standing: Optional[tuple[Standing, Optional[Want]]] = None
        self.failure: Optional[Failure] = None
        self.contention: Optional[Contention] = None
        self._judgements: dict[AnyReading, Judgement] = {}

    @property
    def desired(self) -> changes.DesiredItem:
        return self.finding.desired

    @property
    def contended(self) -> bool:
        return self.contention is not None and self.contention.contended

    @property
    def repairable(self) -> bool:
        """Whether an event may cause an immediate repair: it was compliant at the last read, and is not contended.

        An unreadable item counts as compliant while its last verdict is valid.
        """
        return (self.finding.compliant or is_last_verdict_valid(self.finding)) and not self.contended

    def check(self, finding: Finding, kernel: Kernel, same_kernel: bool) -> None:
        """Enter the finding of a check. Judgements stay valid for the same desired state and kernel."""
        if finding.desired != self.finding.desired or not same_kernel:
            self._judgements.clear()
        self.finding, self._kernel = finding, kernel

    def judge(self, reading: AnyReading) -> Judgement:
        """Return the planner's judgement of a reading of this item alone. The last judgements are cached."""
        known = self._judgements.get(reading)
        if known is None:
            if len(self._judgements) >= _REMEMBERED:
                self._judgements.clear()
            planned = self._plan(reading)
            known = planned.actions[0] if planned.actions else planned.findings[0].compliant
            self._judgements[reading] = known
        return known

    def _plan(self, reading: AnyReading) -> Plan:
        desired = self.desired
        if isinstance(desired, DesiredModule):
            states = {desired.name: reading} if isinstance(reading, ModuleState) else {}
            return plan(Desired((desired,), ()), Observed(self._kernel, states, {}))
        if isinstance(reading, Parameter):
            return plan(Desired((), (), (desired,)), Observed(self._kernel, {}, {}, {desired.key: reading}))
        assert reading is not None
        assert not isinstance(reading, ModuleState)
        return plan(Desired((), (desired,)), Observed(self._kernel, {}, {desired.key: reading}))


class FastRepair(NamedTuple):
    """A repair by an event, and those of the sysctls that it `brought`. Times are CLOCK_MONOTONIC, in seconds."""

    item: changes.DesiredItem
    action: Action
    since: float
    read: float  # time after which the drifted value had been read
    until: float
    write: Optional[ObservedWrite] = None
    brought: tuple[FastRepair, ...] = ()


class Registry:
    """The managed items. `plan` contains the findings of the last reconciliation. `known` is input of the next one."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self.items: Mapping[str, Item] = {}
        self.writes = WriteLog(clock)
        self.known: Optional[Known] = None
        self.plan = Plan((), (), ())
        self._reported: tuple[Finding, ...] = ()
        self._announced: frozenset[str] = frozenset()  # the sysctls that are reported as contended

    def failures(self) -> Mapping[str, Failure]:
        return {name: item.failure for name, item in self.items.items() if item.failure}

    def contended(self) -> Mapping[str, Contention]:
        return {name: item.contention for name, item in self.items.items() if item.contention and item.contended}

    def is_repairable(self, name: str) -> bool:
        item = self.items.get(name)
        return item is not None and item.repairable

    def reset(self) -> None:
        """End all back-off and contention, because a reload is a person's request to retry."""
        failures = backoff.reset_pauses(self.failures())
        for name, item in self.items.items():
            item.failure, item.contention = failures.get(name), None

    def update(
        self,
        result: ReconcileResult,
        fast: Sequence[FastRepair],
        since: float,
        now: float,
        wall: float,
        monitored: Collection[str],
        limit: Limit,
    ) -> list[Change]:
        """Enter the result of a reconciliation and the repairs before it. Return the changes, the earlier ones first.

        `since` is the time of the first event that caused the reconciliation, `now` that of its end (CLOCK_MONOTONIC),
        and `wall` the latter in seconds since the epoch. The log of writes is complete for the `monitored` sysctls.
        """
        monitored = {finding.name for finding in result.after.sysctls if finding.name in monitored}
        before, self._reported = self._reported, _to_report(self._reported, result)
        findings = {finding.name: finding for finding in (*result.before.findings, *result.after.findings)}
        drifted = self._drifted(result, self._standing(Standing.COMPLIANT, findings))
        broken = {*drifted, *self._standing(Standing.DRIFTED, findings)}
        desired = {name: finding.desired for name, finding in findings.items()}
        reconfigured = _reconfigured(before, self._reported)

        def proved(action: Action) -> Union[changes.Repaired, changes.Applied]:
            item = desired[action.name]
            if action.name not in broken:
                return changes.Applied(item, action, changes.label(item) in reconfigured)
            repair = Repair(action.name, *_values(action), time=wall, seconds=now - since)
            write = self.writes.explain(repair.name, repair.actual, result.read[repair.name])
            return changes.Repaired(item, action, attributed(repair, write, repair.name in monitored))

        found: list[Change] = [change for repair in fast for change in _at_once(repair, wall, monitored)]
        found += [changes.Drifted(desired[name]) for name in drifted]
        actions = [proved(action) for action in result.proved]
        found += actions
        names = {action.name for action in result.proved}
        last = {outcome.action.name: outcome for outcome in result.outcomes}
        failed = [name for name in last if name in result.history and name not in names]
        found += [changes.RepairFailed(desired[name], last[name]) for name in failed]
        self._enter(result, broken)
        repairs = [change.repair for change in actions if isinstance(change, changes.Repaired)]
        found += self._contend(result, fast, repairs, now, limit)
        found += self._announce(limit)
        found += _problems(before, self._reported, names | self._announced)
        compliant = {finding.name: finding.compliant for finding in result.after.findings}
        self.writes.expire(lambda name: compliant.get(name, True), now)
        return found

    def _announce(self, limit: Limit) -> Iterator[Change]:
        """Yield the contentions that have started or ended since the last call."""
        contended, before = self.contended(), self._announced
        self._announced = frozenset(contended)
        for name in sorted(contended.keys() - before):
            yield changes.ContentionStarted(name, contended[name], limit)
        for name in sorted(before - contended.keys()):
            yield changes.ContentionEnded(name)

    def _standing(self, standing: Standing, findings: Mapping[str, Finding]) -> list[str]:
        known = ((name, item.standing) for name, item in self.items.items() if name in findings)
        return [name for name, seen in known if seen == (standing, want(findings[name]))]

    def _drifted(self, result: ReconcileResult, compliant: Iterable[str]) -> list[str]:
        acted = {outcome.action.name for outcome in result.outcomes}
        # A value that the kernel changes together with another one is not a separate drift.
        actions = result.before.actions
        followed = {action.name for action in actions} - {action.name for action in without_followers(actions)}
        wrong = {finding.name for finding in result.before.findings if not finding.compliant and not _unseen(finding)}
        drifted = (wrong - followed) | acted
        return [name for name in compliant if name in drifted]

    def _enter(self, result: ReconcileResult, broken: Collection[str]) -> None:
        """Replace the items, and forget those that are not desired any more, such as those of a removed interface."""
        same_kernel = self.known is not None and self.known.kernel == result.kernel
        items: dict[str, Item] = {}
        after = result.after
        others: tuple[Finding, ...] = (*after.modules, *after.sysctls)
        for is_parameter, findings in ((False, others), (True, after.parameters)):
            for finding in findings:
                item = self.items.get(finding.name)
                if item is None or item.is_parameter is not is_parameter:
                    item = Item(finding, result.kernel, is_parameter)
                item.check(finding, result.kernel, same_kernel)
                items[finding.name] = item
                if finding.compliant:
                    item.standing = (Standing.COMPLIANT, want(finding))
                elif finding.name in broken:
                    item.standing = (Standing.DRIFTED, want(finding))
                elif item.standing and item.standing[0] is Standing.DRIFTED:
                    item.standing = None
                item.failure = result.history.get(finding.name)
        self.items, self.known, self.plan = items, result.known, after

    def _contend(
        self, result: ReconcileResult, fast: Iterable[FastRepair], repairs: Iterable[Repair], now: float, limit: Limit
    ) -> Iterator[Change]:
        """Count the repairs for contention with the writers of the drifts, and yield the overwritten values."""
        findings = {finding.name: finding for finding in (*result.after.sysctls, *result.after.parameters)}
        acted = {action.name for action in (*result.proved, *(item.action for item in fast))}
        loaded = acted - findings.keys()
        kept = Counter(outcome.action.name for outcome in result.outcomes if outcome.kept)
        # A sysctl that comes back with its module has the kernel's default, and no conflicting program.
        programs = {
            repair.name: ("" if repair.writer_text == UNKNOWN else repair.writer_text, repair.attribution)
            for repair in repairs
            if repair.name in findings and findings[repair.name].desired.provider not in loaded
        }
        # Overwritten before the read that verifies it, unless the sysctl disappeared.
        for name, finding in findings.items():
            if name in kept and finding.actual is not None and not finding.compliant:
                write = self.writes.of(name, finding.actual)
                programs[name] = (write.named, write.attribution) if write else ("", Attribution.UNKNOWN)
                yield changes.Overwritten(finding.desired, kept[name])
        for name, (program, how) in programs.items():
            for _ in range(max(1, kept[name])):  # each write of ipvsd that was overwritten counts
                self.contend(name, now, program, how, limit)
        for name, finding in findings.items():
            item = self.items[name]
            if item.contention and not finding.compliant and finding.actual is None and not unreadable(finding):
                item.contention = None
            elif item.contention:
                item.contention = item.contention.checked(limit, finding.compliant, now)

    def contend(self, name: str, now: float, program: str, how: Attribution, limit: Limit) -> None:
        item = self.items[name]
        desired = item.desired
        yields = isinstance(desired, DesiredSysctl) and desired.policy is Policy.YIELD
        item.contention = (item.contention or Contention()).repaired(limit, now, program, yields, how)


def _at_once(done: FastRepair, wall: float, monitored: Collection[str]) -> Iterator[Change]:
    repair = Repair(done.action.name, *_values(done.action), time=wall, seconds=done.until - done.since)
    yield changes.Drifted(done.item)
    repair = attributed(repair, done.write, repair.name in monitored)
    yield changes.Repaired(done.item, done.action, repair, at_once=True)


def _unseen(finding: Finding) -> bool:
    return unreadable(finding) or (isinstance(finding, SysctlFinding) and finding.missing)


def _values(action: Action) -> tuple[str, str]:
    return (action.actual, action.value) if isinstance(action, WriteSysctl) else ("unloaded", "live")


def _to_report(before: Sequence[Finding], result: ReconcileResult) -> tuple[Finding, ...]:
    """Return the findings to report: the new ones, or those `before` of sysctls whose next check follows soon."""
    soon = {action.name for action in result.unfinished if isinstance(action, WriteSysctl)}
    return (
        *(finding for finding in reported(result.after) if finding.name not in soon),
        *(finding for finding in before if finding.name in soon),
    )


def _problems(before: Sequence[Finding], now: Sequence[Finding], reported_otherwise: Collection[str]) -> list[Change]:
    """Return the problems that appeared or cleared. Actions and contention are separate changes."""
    known = {finding.name: finding for finding in before}
    found = list[Change]()
    for finding in now:
        was = known.get(finding.name)
        if (was and _gist(was) == _gist(finding)) or finding.name in reported_otherwise:
            continue
        if not finding.compliant:
            found.append(changes.ProblemAppeared(finding))
        elif was and not was.compliant:
            found.append(changes.ProblemCleared(finding))
    return found


def _gist(finding: Finding) -> tuple[object, str]:
    # The number of compliant matches changes with every interface, and that of a module's users with every service.
    counts = not isinstance(finding, ModuleFinding) and (
        finding.members != (0, 0) or finding.verdict is SysctlVerdict.NEEDS_MODULE_RELOAD
    )
    return finding.verdict, "" if counts else finding.evidence


def _reconfigured(before: Sequence[Finding], now: Sequence[Finding]) -> frozenset[str]:
    was, new = (
        {item.name: (item.desired.want, item.desired.policy) for item in findings if isinstance(item, SysctlFinding)}
        for findings in (before, now)
    )
    return frozenset(name for name in was.keys() & new.keys() if was[name] != new[name])
