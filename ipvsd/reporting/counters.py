"""The counters since the start, computed from the changes that the reconciler reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping
from typing import Any

from ipvsd.model.report import CounterValues, Histogram
from ipvsd.model.types import DesiredModule
from ipvsd.reconcile.changes import (
    Applied,
    Change,
    DesiredItem,
    Drifted,
    Repaired,
    RepairFailed,
    VirtualServicesLost,
    WriteRefused,
    label,
)

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
        refused, times = Counter(self.refused), self.values.repair_seconds
        tables_lost = self.values.tables_lost
        counts: dict[str, Any] = {}

        def count(of_module: str, of_sysctl: str, item: DesiredItem) -> None:
            name = of_module if isinstance(item, DesiredModule) else of_sysctl
            if name not in counts:
                counts[name] = Counter(getattr(self.values, name))
            counts[name][label(item)] += 1

        for change in changes:
            if isinstance(change, Drifted):
                count("unloads", "drifts", change.item)
            elif isinstance(change, Repaired):
                count("loads", "repairs", change.item)
                times = _observe(times, change.repair.seconds)
            elif isinstance(change, Applied) and isinstance(change.item, DesiredModule):
                count("loads", "", change.item)
            elif isinstance(change, RepairFailed):
                count("load_failures", "repair_failures", change.item)
            elif isinstance(change, WriteRefused):
                refused[change.name] += change.times
            elif isinstance(change, VirtualServicesLost):
                tables_lost += 1
        self.refused = refused
        self.values = self.values._replace(repair_seconds=times, tables_lost=tables_lost, **counts)

    def observe_round(self, seconds: float) -> None:
        times = _observe(self.values.reconciliation_seconds, seconds)
        self.values = self.values._replace(
            reconciliations=self.values.reconciliations + 1, reconciliation_seconds=times
        )


def _observe(histogram: Histogram, seconds: float) -> Histogram:
    bucket = sum(seconds > bound for bound in BUCKETS)
    counts = list(histogram.counts)
    counts[bucket] += 1
    return Histogram(tuple(counts), histogram.total + seconds)
