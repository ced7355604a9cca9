"""The control groups that may write what is guarded, as the program reads them at any moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ipvsd.bpf import sysctl_program


class Slots(Protocol):
    """Shared memory as numbers."""

    def __setitem__(self, slot: int, identity: int, /) -> None: ...


class Allowlist:
    """A unit that stays allowed is so at every moment: single stores change the list, which ends at its first 0."""

    def __init__(self, slots: Slots) -> None:
        """`slots` are `sysctl_program.MAX_ALLOWED` numbers, all 0, each of which is stored at once."""
        self._slots = slots
        self._listed: list[int] = []

    def replace(self, identities: Iterable[int]) -> None:
        """List these, the first ones if there is no room for all, and no others."""
        wanted = list(dict.fromkeys(identities))[: sysctl_program.MAX_ALLOWED]
        removed = [slot for slot, identity in enumerate(self._listed) if identity not in wanted]
        for identity in wanted:
            if identity not in self._listed:
                self._store(removed.pop() if removed else len(self._listed), identity)
        for slot in reversed(removed):
            last = self._listed.pop()
            if slot < len(self._listed):
                self._store(slot, last)
            self._slots[len(self._listed)] = 0

    def add(self, identity: int) -> None:
        """List one more, until all are replaced; the last one has to give way if there is no room."""
        if identity not in self._listed:
            self._store(min(len(self._listed), sysctl_program.MAX_ALLOWED - 1), identity)

    def _store(self, slot: int, identity: int) -> None:
        self._slots[slot] = identity
        self._listed[slot : slot + 1] = [identity]
