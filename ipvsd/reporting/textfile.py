"""The metrics in a file for the textfile collector of node_exporter."""

from __future__ import annotations

import contextlib
from typing import Optional

from ipvsd.model.report import Operation, Report
from ipvsd.reporting import metrics
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.runtime import rootfs


class Textfile:
    """Writes the file of `use`, and removes a former one."""

    def __init__(self, root: str, failures: OperationFailures) -> None:
        self._root, self._failures = root, failures
        self._path: Optional[str] = None
        self._report: Optional[Report] = None
        self._text = metrics.exposition(lambda: self._report, process=False)

    def use(self, path: Optional[str]) -> None:
        """Write this file from now on, or none."""
        path = path and path.lstrip("/")
        if path == self._path:
            return
        self.remove()
        self._path = path
        if path is None:
            self._failures.record(Operation.WRITE_TEXTFILE)
        else:
            directory, _, name = path.rpartition("/")
            with contextlib.suppress(OSError):  # those of a killed daemon; writing reports the error
                rootfs.remove_temporary_files(self._root, directory, name, rootfs.TEMPORARY_FILE_AGE)

    def write(self, report: Report) -> None:
        """Replace the file. A failure is recorded."""
        if self._path is not None:
            path, self._report = self._path, report
            text = self._text()
            self._failures.attempt(Operation.WRITE_TEXTFILE, lambda: rootfs.write(self._root, path, text))

    def remove(self) -> None:
        """Remove the file, so that nobody mistakes its last values for current ones."""
        if self._path is not None:
            with contextlib.suppress(OSError):
                rootfs.remove(self._root, self._path)
