"""Notes about the node beyond its managed items. Each is logged when it is new."""

from __future__ import annotations

from collections.abc import Sequence

from ipvsd.boot import drop_in_files
from ipvsd.config.schema import Config
from ipvsd.decide import remedies
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.report import InstalledKernel
from ipvsd.model.types import Kernel, Plan, SysctlVerdict
from ipvsd.reconcile.rounds import ReconcileResult
from ipvsd.reporting import router_advertisements
from ipvsd.runtime import rootfs
from ipvsd.runtime.journal import log

NOT_AS_CONFIGURED = "does not match the configuration (run 'ipvsd apply --persist')"


def check_persisted(root: str, config: Config, kernel: Kernel, plan: Plan) -> tuple[str, ...]:
    """Return a note for each existing file of `apply --persist` that differs from the configuration or is unreadable.

    If a sysctl cannot be read, the file of sysctls is not compared.
    """
    try:
        if not drop_in_files.any_exists(root):  # otherwise, their content is not needed
            return ()
        texts = dict(drop_in_files.build(config, kernel, plan))
        if any(finding.verdict is SysctlVerdict.UNREADABLE for finding in plan.sysctls):
            del texts[drop_in_files.SYSCTL]
        stale = drop_in_files.find_outdated(root, texts)
    except rootfs.UnreadableError as error:
        return (str(error),)
    return tuple(remedies.for_root(f"{path} {NOT_AS_CONFIGURED}", root) for path in stale)


class Notices:
    """`notes` is the result of the last update."""

    def __init__(self, root: str, host: LinuxHost) -> None:
        self._root, self._host = root, host
        self.notes: tuple[str, ...] = ()

    def update(self, config: Config, done: ReconcileResult, kernels: Sequence[InstalledKernel] = ()) -> None:
        """Check the persisted files, interfaces that lose their route to forwarding, and the running kernel's boot."""
        previous = self.notes
        try:
            routes = router_advertisements.notes(self._host, done.after)
        except rootfs.UnreadableError as error:
            routes = (str(error),)
        failing = [note for kernel in kernels if kernel.running for note in kernel.notes]
        self.notes = (*routes, *check_persisted(self._root, config, done.kernel, done.after), *failing)
        for note in self.notes:
            if note not in previous:
                log("warning", note)
