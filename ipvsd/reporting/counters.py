"""What has happened since the start: drifts, repairs and failures, each counted once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Callable, NamedTuple

from ipvsd.decide.attribution import Turned
from ipvsd.decide.health import unreadable, want
from ipvsd.decide.planner import leading
from ipvsd.model.report import Histogram, Repair, Tally
from ipvsd.model.types import NOTHING, Finding, LoadModule, SysctlFinding, WriteSysctl
from ipvsd.reconcile.reconciler import Reconciled

# Seconds; from a repair by inotify on a fast machine to one by the periodic look.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

_NO_TIMES = Histogram((0,) * (len(BUCKETS) + 1))
EMPTY = Tally({}, {}, {}, {}, {}, {}, _NO_TIMES, 0, _NO_TIMES)


class Ledger(NamedTuple):
    """`held` were right when last there to be seen; `lost` were once, and have not been repaired yet.

    Each has what was wanted of it: a value that is not wanted any more has not drifted.
    """

    tally: Tally = EMPTY
    held: Mapping[str, object] = NOTHING
    lost: Mapping[str, object] = NOTHING

    def book(self, done: Reconciled, since: float, now: float, wall: float) -> tuple[Ledger, tuple[Repair, ...]]:
        """Return the ledger after a reconciliation, and the repairs that it made.

        `since` and `now` are monotonic seconds, of the event and of the proof; `wall` the time of the latter.
        """
        acted = {outcome.action.name for outcome in done.outcomes}
        wrong = {finding.name for finding in done.before.findings if not finding.right and not _unseen(finding)}
        actions = done.before.actions
        followed = {action.name for action in actions} - {action.name for action in leading(actions)}
        wanted = {finding.name: want(finding) for finding in (*done.before.findings, *done.after.findings)}
        # A value that the kernel changes by itself with another one is no drift of its own.
        drifted = _same(self.held, wanted) & ((wrong - followed) | acted)
        right = {finding.name for finding in done.after.findings if finding.right}
        broken = _same(self.lost, wanted) | drifted
        repairs = tuple(
            Repair(action.name, *_change(action), time=wall, seconds=now - since)
            for action in done.proved
            if action.name in broken
        )
        # An item that is no longer wanted leaves no trace: an interface that is gone, a key that was dropped.
        held = {name: want for name, want in self.held.items() if name in wanted and name not in drifted}
        held.update((name, wanted[name]) for name in right)
        lost = {name: wanted[name] for name in broken - right}
        return Ledger(self._tally(done, drifted, repairs), held, lost), repairs

    def turned(self, turned: Sequence[Turned], wall: float) -> tuple[Ledger, list[Repair]]:
        """Return the ledger after drifts that were turned back between two looks, and their repairs."""
        old, times = self.tally, self.tally.repair_seconds
        repairs = []
        for item in turned:
            seconds = item.until - item.since
            times = _observe(times, seconds)
            repairs.append(Repair(item.action.name, *_change(item.action), time=wall, seconds=seconds))
        modules = [item.action.name for item in turned if isinstance(item.action, LoadModule)]
        # By the pattern that fitted it then: its interface may be gone by now.
        labels = [item.group or item.action.name for item in turned if isinstance(item.action, WriteSysctl)]
        tally = old._replace(
            loads=_add(old.loads, modules),
            unloads=_add(old.unloads, modules),
            drifts=_add(old.drifts, labels),
            repairs=_add(old.repairs, labels),
            repair_seconds=times,
        )
        return self._replace(tally=tally), repairs

    def looked(self, seconds: float) -> Ledger:
        """Return the ledger with one more reconciliation, which took `seconds`."""
        old = self.tally
        tally = old._replace(looks=old.looks + 1, look_seconds=_observe(old.look_seconds, seconds))
        return self._replace(tally=tally)

    def _tally(self, done: Reconciled, drifted: frozenset[str], repairs: tuple[Repair, ...]) -> Tally:
        old = self.tally
        modules = {finding.name for finding in done.before.modules}
        label = _labels(done)
        proved = {action.name for action in done.proved}
        tries = [outcome.action for outcome in done.outcomes]
        loads = {action.name for action in tries if isinstance(action, LoadModule)}
        writes = {action.name for action in tries if isinstance(action, WriteSysctl)}
        # A try that the history does not hold against the item was at a module just passing through.
        failed = set(done.history) - proved
        times = old.repair_seconds
        for repair in repairs:
            times = _observe(times, repair.seconds)
        return old._replace(
            loads=_add(old.loads, proved & loads),
            load_failures=_add(old.load_failures, loads & failed),
            unloads=_add(old.unloads, drifted & modules),
            drifts=_add(old.drifts, map(label, drifted - modules)),
            repairs=_add(old.repairs, (label(repair.name) for repair in repairs if repair.name not in modules)),
            repair_failures=_add(old.repair_failures, map(label, writes & failed)),
            repair_seconds=times,
        )


def _labels(done: Reconciled) -> Callable[[str], str]:
    """Return what gives the name under which a sysctl is counted: that of its pattern, if it has one."""
    groups = {
        finding.name: finding.wanted.group
        for finding in (*done.before.sysctls, *done.after.sysctls)
        if finding.wanted.group
    }
    return lambda name: groups.get(name, name)


def _unseen(finding: Finding) -> bool:
    return unreadable(finding) or (isinstance(finding, SysctlFinding) and finding.missing)


def _same(then: Mapping[str, object], now: Mapping[str, object]) -> frozenset[str]:
    """Return the names of which the same is wanted now."""
    return frozenset(name for name, want in then.items() if name in now and now[name] == want)


def _change(action: object) -> tuple[str, str]:
    return (action.found, action.value) if isinstance(action, WriteSysctl) else ("unloaded", "live")


def _add(counts: Mapping[str, int], names: Iterable[str]) -> Mapping[str, int]:
    total = Counter(counts)
    total.update(names)
    return dict(total)


def _observe(histogram: Histogram, seconds: float) -> Histogram:
    bucket = sum(seconds > bound for bound in BUCKETS)
    counts = list(histogram.counts)
    counts[bucket] += 1
    return Histogram(tuple(counts), histogram.total + seconds)
