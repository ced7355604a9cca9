"""What came of each look, entered once: counted, attributed, told in the log and remembered."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Collection, Iterable, Sequence

from ipvsd.decide.attribution import Evidence, Turned, attributed
from ipvsd.decide.contention import Fights
from ipvsd.decide.health import unreadable
from ipvsd.model.report import UNKNOWN, Attribution, Contended, Operation, Refusal, Repair, Tally
from ipvsd.model.types import Finding, Policy, WantedSysctl
from ipvsd.reconcile.reconciler import Reconciled
from ipvsd.reporting import status_document
from ipvsd.reporting.counters import Ledger
from ipvsd.reporting.messages import Line, fought, narrate, refused, told_of, turned
from ipvsd.reporting.operation_failures import OwnFailures
from ipvsd.runtime.journal import log
from ipvsd.state import repair_history

SHOWN_REPAIRS = 50


class Books:
    """`repairs` are the last ones, the oldest first; `fights` what came of those that `enter` was given.

    `refusals` counts the writes to each sysctl that were refused.
    """

    def __init__(self, root: str, failures: OwnFailures) -> None:
        self._failures = failures
        self._history = repair_history.History(root)
        self._ledger = Ledger()
        self._told: tuple[Finding, ...] = ()
        self.refusals: Counter[str] = Counter()
        self.repairs: tuple[Repair, ...] = ()
        self.fights = Fights()

    @property
    def tally(self) -> Tally:
        return self._ledger.tally

    def enter(
        self,
        done: Reconciled,
        at_once: Sequence[Turned],
        since: float,
        evidence: Evidence,
        watched: Collection[str],
        fights: Fights,
    ) -> tuple[Repair, ...]:
        """Enter a look, and what was turned back at once since the one before it; return the repairs of both.

        `since` is when the first event came that led to it (CLOCK_MONOTONIC); `watched` are those to which no
        process's write went unseen since the look before it. Of what is not wrong now the evidence is dropped,
        in time.
        """
        now, wall = time.monotonic(), time.time()
        self._ledger, turned_back = self._ledger.turned(at_once, wall)
        self._ledger, found = self._ledger.book(done, since, now, wall)
        written = {finding.name for finding in done.after.sysctls if finding.name in watched}
        swift = [attributed(item, how.seen, item.name in written) for item, how in zip(turned_back, at_once)]
        slow = [
            attributed(item, evidence.explain(item.name, item.found, done.read[item.name]), item.name in written)
            for item in found
        ]
        before, self.fights = self.fights, _fought(fights, done, at_once, slow, evidence, now)
        _log(fought(before.contended(), self.fights.contended(), fights.limit))
        _log(turned([item.action for item in at_once], swift, self.fights.contended()))
        known, self._told = self._told, told_of(self._told, done)
        _log(narrate(known, self._told, done, slow, self.fights.contended()))
        self._remember((*swift, *slow))
        wrong = {finding.name for finding in done.after.findings if not finding.right}
        evidence.settle(lambda name: name not in wrong, now)
        return (*swift, *slow)

    def refused(self, refusals: Iterable[Refusal]) -> None:
        """Enter writes that were refused for a guard."""
        for item in refusals:
            self.refusals[item.name] += item.times
            _log([refused(item.name, item.value, item.writer, item.times)])

    def looked(self, seconds: float) -> None:
        """Count a look, which took so long."""
        self._ledger = self._ledger.looked(seconds)

    def contended(self) -> tuple[Contended, ...]:
        """Return what is fought over."""
        fights = self.fights.contended().items()
        return tuple(Contended(name, fight.rival, fight.yielded, fight.attribution) for name, fight in fights)

    def _remember(self, repairs: tuple[Repair, ...]) -> None:
        self.repairs = (*self.repairs, *repairs)[-SHOWN_REPAIRS:]
        items = [status_document.repair(repair) for repair in repairs[-repair_history.KEPT :]]
        if items or self._history.unwritten:
            self._failures.attempt(Operation.WRITE_HISTORY, lambda: self._history.add(items))


def _log(lines: Iterable[Line]) -> None:
    for line in lines:
        log(line.level, line.text, line.fields)


def _fought(
    fights: Fights,
    done: Reconciled,
    at_once: Sequence[Turned],
    repairs: Iterable[Repair],
    evidence: Evidence,
    now: float,
) -> Fights:
    findings = (*done.after.sysctls, *done.after.parameters)
    wanted: dict[str, WantedSysctl] = {finding.name: finding.wanted for finding in findings}
    loaded = {action.name for action in (*done.proved, *(item.action for item in at_once))} - wanted.keys()
    right = {finding.name for finding in findings if finding.right}
    wrong = {finding.name: finding.found for finding in findings if finding.found is not None and not finding.right}
    unread = {finding.name for finding in findings if unreadable(finding)}  # no fight ends for that
    kept = Counter(outcome.action.name for outcome in done.outcomes if outcome.kept)
    # A sysctl that comes back with its module has the kernel's default, and no rival.
    rivals = {
        repair.name: ("" if repair.who == UNKNOWN else repair.who, repair.attribution)
        for repair in repairs
        if repair.name in wanted and wanted[repair.name].provider not in loaded
    }
    # Written over before the look that was to prove it; but what went away since then was not.
    for name in wrong.keys() & kept.keys():
        seen = evidence.of(name, wrong[name])
        rivals[name] = (seen.named, seen.attribution) if seen else ("", Attribution.UNKNOWN)
    for name, (rival, how) in rivals.items():
        for _ in range(max(1, kept[name])):  # each of our writes that was undone is one
            fights = fights.repaired(name, now, rival, wanted[name].policy is Policy.YIELD, how)
    return fights.looked(right, wrong.keys() | unread, now)
