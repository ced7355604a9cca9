"""Count the virtual services of IPVS. They are lost when the module is unloaded, even if it is loaded again."""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Optional

from ipvsd.runtime import rootfs

_MAX_BYTES = 1 << 18  # bytes that are read of the table, which can have megabytes
MODULE = "ip_vs"


class Table(NamedTuple):
    """The table of virtual services. If it is not `complete`, there are more than `services`."""

    services: int
    complete: bool = True

    def __str__(self) -> str:
        return str(self.services) if self.complete else f"at least {self.services}"


def read_table(root: str) -> Optional[Table]:
    """Return the table, or None if there is none: IPVS is not loaded. Raises OSError if it cannot be read."""
    try:
        with rootfs.open_file(root, "proc/net/ip_vs") as fd:
            text = rootfs.read_at_most(fd, _MAX_BYTES)
    except (FileNotFoundError, NotADirectoryError, rootfs.IrregularError):
        return None
    # Only the line of a service is not indented. The first lines are a header.
    count = sum(line.startswith((b"TCP ", b"UDP ", b"SCTP ", b"FWM ")) for line in text.splitlines())
    return Table(count, len(text) < _MAX_BYTES)


class VirtualServiceCounter:
    def __init__(self, root: str) -> None:
        self._root = root
        self._known = ""

    def update(self) -> None:
        """Count the virtual services. Without a table, keep the last count."""
        self._known = self._count() or self._known

    def describe_loss(self, loaded: Collection[str]) -> Optional[str]:
        """Return a message about the loss of the table after these modules were loaded again, or None."""
        if MODULE not in loaded:
            return None
        before, now = self._known or "unknown", self._count() or "unknown"
        self._known = now
        if before == "0":
            return None  # the table was empty
        return (
            f"all IPVS virtual services were lost with module ip_vs: {before} before, {now} now "
            "(kube-proxy writes them again in its next sync period)"
        )

    def _count(self) -> str:
        try:
            table = read_table(self._root)
        except OSError:  # keep the last count
            return ""
        return "" if table is None else str(table)
