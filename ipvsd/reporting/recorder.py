"""Record the changes of each reconciliation once: in the counters, the log and the history."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import TYPE_CHECKING, Any, Callable, Optional

from ipvsd.model.report import Operation, Repair
from ipvsd.reconcile.changes import Change, Repaired
from ipvsd.reporting.counters import Counters
from ipvsd.reporting.messages import describe
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.runtime.journal import log

if TYPE_CHECKING:
    from ipvsd.state.repair_history import RepairHistory

SHOWN_REPAIRS = 50
_AT_ONCE = 16  # repairs that are encoded before other work, which takes about as long as one repair


class Recorder:
    """`repairs` are the last ones, the oldest first."""

    def __init__(self, root: str, failures: OperationFailures) -> None:
        self._root, self._failures = root, failures
        self._history: Optional[RepairHistory] = None
        self.counters = Counters()
        self.repairs: tuple[Repair, ...] = ()

    def record(
        self, changes: Sequence[Change], contended: Collection[str], meanwhile: Callable[[], None] = lambda: None
    ) -> None:
        """Record the changes. For sysctls that are `contended` now, log only the contention.

        Hundreds of changes take long, so this calls `meanwhile` repeatedly, for repairs that are due.
        """
        self.counters.count(changes)
        meanwhile()
        for line in describe(changes, contended):
            log(line.level, line.text, line.fields)
        repairs = [change.repair for change in changes if isinstance(change, Repaired)]
        self.repairs = (*self.repairs, *repairs)[-SHOWN_REPAIRS:]
        if repairs or (self._history and self._history.unwritten):
            self._keep(repairs, meanwhile)

    def _keep(self, repairs: Sequence[Repair], meanwhile: Callable[[], None]) -> None:
        from ipvsd.reporting import status_document  # no repair comes before READY=1
        from ipvsd.state import repair_history

        history = self._history = self._history or repair_history.RepairHistory(self._root)
        items: list[dict[str, Any]] = []
        for number, repair in enumerate(repairs[-repair_history.MAX_REPAIRS :]):
            if number % _AT_ONCE == 0:
                meanwhile()
            items.append(status_document.encode_repair(repair))
        meanwhile()
        self._failures.attempt(Operation.WRITE_HISTORY, lambda: history.add(items))
