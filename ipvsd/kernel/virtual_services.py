"""The virtual services of IPVS, counted: they are gone when its module was unloaded, whoever loads it again."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from ipvsd.runtime import rootfs

_MAX_BYTES = 1 << 18  # bytes that are read of the table; a node may have megabytes of it
MODULE = "ip_vs"


class VirtualServiceCounter:
    """Remembers how many there were when that was last looked at."""

    def __init__(self, root: str) -> None:
        self._root = root
        self._known = ""

    def update(self) -> None:
        """Count them; where there is no table, what was known stays."""
        self._known = self._count() or self._known

    def describe_loss(self, loaded: Collection[str]) -> Optional[str]:
        """Return what is to be said after these modules were loaded again, or None if the table was not lost."""
        if MODULE not in loaded:
            return None
        before, now = self._known or "an unknown number of", self._count() or "an unknown number of"
        self._known = now
        if before == "0":
            return None  # nothing was in it
        return (
            f"the IPVS table was lost with module ip_vs: {before} virtual services before, {now} now; "
            "kube-proxy must resync (it does at its next sync period)"
        )

    def _count(self) -> str:
        try:
            with rootfs.open_file(self._root, "proc/net/ip_vs") as fd:
                text = rootfs.read_at_most(fd, _MAX_BYTES)
        except OSError:  # then what was known stays
            return ""
        # A service stands at the margin, its real servers behind an arrow; the first lines are a heading.
        count = sum(line.startswith((b"TCP ", b"UDP ", b"SCTP ", b"FWM ")) for line in text.splitlines())
        return f"at least {count}" if len(text) == _MAX_BYTES else str(count)
