"""Record the changes of each reconciliation once: in the counters, the log and the history."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Optional

from ipvsd.model.report import Operation, Repair
from ipvsd.reconcile.changes import Change, Repaired
from ipvsd.reporting.counters import Counters
from ipvsd.reporting.messages import describe
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.runtime.journal import log

if TYPE_CHECKING:
    from ipvsd.state.repair_history import RepairHistory

SHOWN_REPAIRS = 50


class Recorder:
    """`repairs` are the last ones, the oldest first."""

    def __init__(self, root: str, failures: OperationFailures) -> None:
        self._root, self._failures = root, failures
        self._history: Optional[RepairHistory] = None
        self.counters = Counters()
        self.repairs: tuple[Repair, ...] = ()

    def record(self, changes: Sequence[Change], contended: Collection[str]) -> None:
        """Record the changes. For sysctls that are `contended` now, log only the contention."""
        self.counters.count(changes)
        for line in describe(changes, contended):
            log(line.level, line.text, line.fields)
        repairs = [change.repair for change in changes if isinstance(change, Repaired)]
        self.repairs = (*self.repairs, *repairs)[-SHOWN_REPAIRS:]
        if repairs or (self._history and self._history.unwritten):
            self._keep(repairs)

    def _keep(self, repairs: Sequence[Repair]) -> None:
        from ipvsd.reporting import status_document  # no repair comes before READY=1
        from ipvsd.state import repair_history

        history = self._history = self._history or repair_history.RepairHistory(self._root)
        items = [status_document.encode_repair(repair) for repair in repairs[-repair_history.MAX_REPAIRS :]]
        self._failures.attempt(Operation.WRITE_HISTORY, lambda: history.add(items))
