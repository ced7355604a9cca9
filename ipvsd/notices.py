"""What a person should know of the node besides what is held, each told in the log when it is new."""

from __future__ import annotations

from ipvsd import persist
from ipvsd.config import Config
from ipvsd.host import LinuxHost
from ipvsd.journal import log
from ipvsd.reconcile import Reconciled

NOT_AS_CONFIGURED = "is not as configured (run: ipvsd apply --persist)"


class Notices:
    """`found` is what the last look around has found."""

    def __init__(self, root: str, host: LinuxHost) -> None:
        self._root, self._host = root, host
        self.found: tuple[str, ...] = ()

    def look(self, config: Config, done: Reconciled) -> None:
        """Look at the persisted files, and at the interfaces that lose their route to forwarding."""
        from ipvsd import advertisements  # the node need not wait for it

        stale = persist.stale(self._root, persist.files(config, done.kernel, done.after))
        told, routes = self.found, advertisements.notes(self._host, done.after)
        self.found = (*routes, *(f"{path} {NOT_AS_CONFIGURED}" for path in stale))
        for note in self.found:
            if note not in told:
                log("warning", note)
