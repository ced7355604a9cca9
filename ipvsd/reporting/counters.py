"""The counters since the start, computed from the changes that the reconciler reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from ipvsd.model.report import CounterValues, Histogram
from ipvsd.model.types import DesiredModule
from ipvsd.reconcile.changes import Applied, Change, Drifted, Repaired, RepairFailed, WriteRefused, label

# Seconds: from a repair by inotify on a fast machine to one by the resync.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 60.0)

_NO_TIMES = Histogram((0,) * (len(BUCKETS) + 1))
EMPTY = CounterValues({}, {}, {}, {}, {}, {}, _NO_TIMES, 0, _NO_TIMES)


class Counters:
    """`values` are replaced and never changed. `refused` contains the number of refused writes to each sysctl."""

    def __init__(self) -> None:
        self.values = EMPTY
        self.refused: Mapping[str, int] = {}

    def count(self, changes: Iterable[Change]) -> None:
        """Count each change once. An item of a pattern is counted under the pattern's name."""
        old = self.values
        loads, load_failures, unloads = Counter(old.loads), Counter(old.load_failures), Counter(old.unloads)
        drifts, repairs, repair_failures = Counter(old.drifts), Counter(old.repairs), Counter(old.repair_failures)
        refused, times = Counter(self.refused), old.repair_seconds
        for change in changes:
            if isinstance(change, Drifted):
                (unloads if isinstance(change.item, DesiredModule) else drifts)[label(change.item)] += 1
            elif isinstance(change, Repaired):
                (loads if isinstance(change.item, DesiredModule) else repairs)[label(change.item)] += 1
                times = _observe(times, change.repair.seconds)
            elif isinstance(change, Applied) and isinstance(change.item, DesiredModule):
                loads[label(change.item)] += 1
            elif isinstance(change, RepairFailed):
                (load_failures if isinstance(change.item, DesiredModule) else repair_failures)[label(change.item)] += 1
            elif isinstance(change, WriteRefused):
                refused[change.name] += change.times
        self.refused = dict(refused)
        self.values = old._replace(
            loads=dict(loads),
            load_failures=dict(load_failures),
            unloads=dict(unloads),
            drifts=dict(drifts),
            repairs=dict(repairs),
            repair_failures=dict(repair_failures),
            repair_seconds=times,
        )

    def observe_round(self, seconds: float) -> None:
        """Count a reconciliation of all items, which took `seconds`."""
        old = self.values
        self.values = old._replace(
            reconciliations=old.reconciliations + 1,
            reconciliation_seconds=_observe(old.reconciliation_seconds, seconds),
        )


def _observe(histogram: Histogram, seconds: float) -> Histogram:
    bucket = sum(seconds > bound for bound in BUCKETS)
    counts = list(histogram.counts)
    counts[bucket] += 1
    return Histogram(tuple(counts), histogram.total + seconds)
