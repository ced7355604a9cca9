"""Build the report of each reconciliation from the registry and the recorder, and publish it."""

from __future__ import annotations

import time
from typing import Optional

from ipvsd.decide.aggregate import by_pattern, reported
from ipvsd.decide.health import assess
from ipvsd.model.report import ContendedSysctl, Operation, Report, SourceState
from ipvsd.model.types import Kernel, Plan
from ipvsd.reconcile.item_registry import Registry
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.reporting.recorder import Recorder

_MORE = " (run 'ipvsd status')"


def build_report(kernel: Kernel, plan: Plan, registry: Registry, recorder: Recorder, backend: str) -> Report:
    """Return the report of a reconciliation with this result. `backend` is the mechanism that reports writes."""
    wall, repairs, contended = time.time(), recorder.repairs, registry.contended()
    return Report(
        time=wall,
        boottime=time.clock_gettime(time.CLOCK_BOOTTIME),
        kernel=kernel,
        modules=plan.modules,
        sysctls=by_pattern(plan.sysctls),
        parameters=plan.parameters,
        health=assess(reported(plan), repairs[-1] if repairs else None, wall, contended, _MORE),
        counters=recorder.counters.values,
        repairs=repairs,
        backend=backend,
        contended=tuple(
            ContendedSysctl(name, item.conflicting_program, item.yielded, item.attribution)
            for name, item in contended.items()
        ),
        refusals=recorder.counters.refused,
    )


class Publisher:
    """`report` is replaced and never changed, because other threads read it."""

    def __init__(self, root: str, failures: OperationFailures) -> None:
        self._root, self._failures = root, failures
        self.report: Optional[Report] = None

    def publish(self, report: Report) -> None:
        """Publish a report with ipvsd's own failures, and write the status file."""
        from ipvsd.reporting import status_document  # after READY=1
        from ipvsd.state import status_file

        failures = self._failures.current
        # If the status file can be written, it need not report that failure.
        others = {key: error for key, error in failures.items() if key != Operation.WRITE_STATUS.value}
        self.report = report._replace(failures=failures)
        document = status_document.build_document(report._replace(failures=others))
        self._failures.attempt(Operation.WRITE_STATUS, lambda: status_file.write(self._root, document))
        self.report = report._replace(failures=self._failures.current)

    def show_sources(self, sources: tuple[SourceState, ...]) -> None:
        """Replace the states of the event sources in the report, for requests before the next report."""
        if self.report:
            self.report = self.report._replace(sources=sources)

    def close(self) -> None:
        from ipvsd.state import status_file

        status_file.remove(self._root)
