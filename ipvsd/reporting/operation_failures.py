"""What ipvsd itself fails at, while the node may be right: told once when it begins, and once when it is over."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from ipvsd.model.report import Operation
from ipvsd.runtime.journal import log

_DESCRIPTIONS = {
    Operation.LISTEN: "listen on every address of 'web.listen'",
    Operation.KEEP_CONFIGURATION: "keep the last good configuration",
    Operation.WRITE_STATUS: "write the status file",
    Operation.WRITE_HISTORY: "write the history",
}


class OperationFailures:
    """`current` are the errors of what failed when it was last tried, by the value of the Operation."""

    def __init__(self) -> None:
        self.current: Mapping[str, str] = {}

    def attempt(self, operation: Operation, action: Callable[[], object]) -> None:
        """Do this, and take note of the OSError that it raises."""
        try:
            action()
        except OSError as error:
            cause = error.strerror or str(error)
            self.record(operation, f"{error.filename}: {cause}" if error.filename else cause)
        else:
            self.record(operation)

    def record(self, operation: Operation, error: str = "") -> None:
        """Take note of what came of an operation; without an error it is done."""
        before = self.current.get(operation.value, "")
        if error == before:
            return
        others = {known: text for known, text in self.current.items() if known != operation.value}
        self.current = {**others, operation.value: error} if error else others
        if error:
            log("warning", f"cannot {_DESCRIPTIONS[operation]}: {error} (ipvsd tries again by itself)")
        else:
            log("info", f"ipvsd can {_DESCRIPTIONS[operation]} again")
