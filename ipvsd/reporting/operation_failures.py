"""Failures of ipvsd's own operations, while the node can be compliant. The beginning and the end are logged once."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Callable

from ipvsd.model.report import Operation
from ipvsd.model.value_texts import text_of
from ipvsd.runtime.journal import log


class OperationFailures:
    """`current` contains the errors of the operations whose last attempt failed, by the value of the Operation."""

    def __init__(self) -> None:
        self.current: Mapping[str, str] = {}

    def attempt(self, operation: Operation, action: Callable[[], object]) -> None:
        """Call `action`, and record the OSError that it raises."""
        try:
            action()
        except OSError as error:
            cause = error.strerror or str(error)
            self.record(operation, f"{error.filename}: {cause}" if error.filename else cause)
        else:
            self.record(operation)

    def record(self, operation: Operation, error: str = "") -> None:
        """Record the result of an operation. Without an error, it succeeded."""
        if error == self.current.get(operation.value, ""):
            return
        others = {known: text for known, text in self.current.items() if known != operation.value}
        self.current = {**others, operation.value: error} if error else others
        if error:
            log("warning", f"cannot {text_of(operation)}: {error} (ipvsd retries)")
        else:
            log("info", f"ipvsd can {text_of(operation)} again")
