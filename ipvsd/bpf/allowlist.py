"""The list of cgroups that may write guarded sysctls. The BPF program can read it at any moment."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Protocol

from ipvsd.bpf import sysctl_program


class Slots(Protocol):
    def __setitem__(self, slot: int, identity: int, /) -> None: ...


class Allowlist:
    """A list that ends at its first 0. Single stores change it, so an entry that stays is listed at every moment."""

    def __init__(self, slots: Slots) -> None:
        """`slots` are `sysctl_program.MAX_ALLOWED` numbers, all 0. Each store of a number is atomic."""
        self._slots = slots
        self._listed: list[int] = []

    def replace(self, identities: Iterable[int]) -> None:
        """List exactly these cgroups, or the first ones if there are too many."""
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
        """List another cgroup until the next `replace`. If the list is full, it replaces the last one."""
        if identity not in self._listed:
            self._store(min(len(self._listed), sysctl_program.MAX_ALLOWED - 1), identity)

    def _store(self, slot: int, identity: int) -> None:
        self._slots[slot] = identity
        self._listed[slot : slot + 1] = [identity]
