"""Notes about the node beyond its managed items. Each is logged when it is new."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from ipvsd.boot import drop_in_files
from ipvsd.config.schema import Config
from ipvsd.decide import remedies
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.report import InstalledKernel, NoteKind, Report
from ipvsd.model.types import Kernel, Plan
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reconcile.rounds import ReconcileResult
from ipvsd.reporting import router_advertisements
from ipvsd.runtime import rootfs
from ipvsd.runtime.journal import log

NOT_AS_CONFIGURED = "does not match the configuration (run 'ipvsd apply --persist')"


class PersistedFiles(NamedTuple):
    """The files of `apply --persist`. `current` is None if there are none, or if they cannot all be compared."""

    current: Optional[bool] = None
    outdated: tuple[str, ...] = ()  # a note for each file that differs from the configuration
    unreadable: tuple[str, ...] = ()

    @property
    def notes(self) -> tuple[str, ...]:
        return (*self.outdated, *self.unreadable)


def check_persisted(root: str, config: Config, kernel: Kernel, plan: Plan) -> PersistedFiles:
    """Compare the existing files of `apply --persist` with the configuration.

    If a sysctl cannot be read, the file of sysctls is not compared.
    """
    try:
        if not drop_in_files.any_exists(root):  # otherwise, their content is not needed
            return PersistedFiles()
        texts = dict(drop_in_files.build(config, kernel, plan))
        whole = not any(finding.verdict is SysctlVerdict.UNREADABLE for finding in plan.sysctls)
        if not whole:
            del texts[drop_in_files.SYSCTL]
        stale = drop_in_files.find_outdated(root, texts)
    except rootfs.UnreadableError as error:
        return PersistedFiles(unreadable=(str(error),))
    outdated = tuple(remedies.for_root(f"{path} {NOT_AS_CONFIGURED}", root) for path in stale)
    return PersistedFiles(False if outdated else True if whole else None, outdated)


class Notices:
    """`by_kind` contains the notes of the last update. Those about persisted files have no kind."""

    def __init__(self, root: str, host: LinuxHost) -> None:
        self._root, self._host = root, host
        self.by_kind: Mapping[Optional[NoteKind], tuple[str, ...]] = {}
        self._persisted = PersistedFiles()

    @property
    def notes(self) -> tuple[str, ...]:
        return tuple(note for notes in self.by_kind.values() for note in notes)

    def complete(self, report: Report) -> Report:
        """Return the report with the results of the last update."""
        for kind, notes in self.by_kind.items():
            report = report.add_notes(kind, notes)
        return report._replace(persisted_files_current=self._persisted.current)

    def update(self, config: Config, done: ReconcileResult, kernels: Sequence[InstalledKernel] = ()) -> None:
        """Check the persisted files, interfaces that lose their route to forwarding, and the running kernel's boot."""
        previous = self.notes
        routes: tuple[str, ...] = ()
        unreadable: tuple[str, ...] = ()
        try:
            routes = router_advertisements.notes(self._host, done.after)
        except rootfs.UnreadableError as error:
            unreadable = (str(error),)
        persisted = self._persisted = check_persisted(self._root, config, done.kernel, done.after)
        self.by_kind = {
            NoteKind.ROUTES_IGNORED: routes,
            None: persisted.outdated,  # persisted_files_current is False
            NoteKind.CHECK_FAILED: (*unreadable, *persisted.unreadable),
            NoteKind.BOOT_LINE_FAILS: tuple(note for kernel in kernels if kernel.running for note in kernel.notes),
        }
        for note in self.notes:
            if note not in previous:
                log("warning", note)
