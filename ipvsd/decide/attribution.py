"""Attribute drift to writers, with the recent writes as evidence. They explain drift and never cause a repair."""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

from typing import Callable, NamedTuple, Optional

from ipvsd.model.report import UNKNOWN, Attribution, Repair, Writer
from ipvsd.sysctl import values

KEPT = 16  # writes to one sysctl
_FRESH = 1.0  # seconds: the kernel may not have stored a reported write yet


class ObservedWrite(NamedTuple):
    """A write, or an unloading (None), that was about to happen. `ours`: certainly in ipvsd's network namespace."""

    value: Optional[str]
    writer: Writer
    before: str  # the value that it replaces
    at: float  # CLOCK_MONOTONIC time of the write, in seconds
    ours: bool = False
    attribution: Attribution = Attribution.LIKELY

    @property
    def named(self) -> str:
        return "" if self.attribution is Attribution.UNKNOWN else str(self.writer)


class _Record(NamedTuple):
    write: ObservedWrite
    at: float  # time of arrival of the last repetition, possibly long after the write
    left: int  # number of repetitions that have not been attributed to drift yet


class WriteLog:
    """The recent writes, by the names of sysctls and modules."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._records: dict[str, list[_Record]] = {}
        self._missed = float("-inf")
        self._clock = clock

    def missed(self) -> None:
        self._missed = self._clock()

    def add(self, name: str, write: ObservedWrite, times: int = 1) -> None:
        """Add a write that happened `times` times. Repetitions by one writer are stored once, with the first time."""
        others, now = self._records.get(name, []), self._clock()
        last = others[-1] if others else None
        if last and _same(last.write, write):
            others, write, times = others[:-1], last.write, last.left + times
        records = [*others, _Record(write, now, times)]
        if len(records) > KEPT:
            first = next((record for record in records if not record.left), records[0])
            records.remove(first)
            if first.left:
                self.missed()
        self._records[name] = records

    def explain(self, name: str, found: str, by: float = float("inf")) -> Optional[ObservedWrite]:
        """Return the write that caused the drift, like `of`. One that certainly caused it explains no later drift."""
        write = self.of(name, found, by)
        if write and write.attribution is Attribution.CERTAIN:
            self._records[name] = [
                record._replace(left=record.left - 1) if record.left and _same(record.write, write) else record
                for record in self._records[name]
            ]
        return write

    def of(self, name: str, found: str, by: float = float("inf")) -> Optional[ObservedWrite]:
        """Return the last write that can have caused the value, or the unloading of the module, or None.

        `by` is the time at which the value had been read (CLOCK_MONOTONIC, seconds). The kernel reports a write
        before it stores the value, so a later write is not the cause. The process that unloads a module is
        identified afterwards. A write that can be in another network namespace counts only if there is none in
        ipvsd's.
        """

        def fits(write: ObservedWrite) -> bool:
            return write.value is None or (write.at <= by and values.equivalent(name, write.value, found))

        records = [record for record in self._records.get(name, []) if fits(record.write)]
        if not records:
            return None
        matching = [record.write for record in records if record.left] or [record.write for record in records]
        last = next((write for write in reversed(matching) if write.ours), matching[-1])
        alone = last.at > self._missed and len({write.writer for write in matching}) == 1
        if last.ours:
            how = Attribution.CERTAIN if alone and last.value is not None else Attribution.LIKELY
        else:  # a process of another network namespace may be the only one that fitted into the buffer
            how = Attribution.LIKELY if alone else Attribution.UNKNOWN
        return last._replace(attribution=how)

    def expire(self, names: Callable[[str], bool], now: float) -> None:
        """Remove the writes to these names that are too old to explain a later drift."""
        for name in filter(names, list(self._records)):
            kept = [record for record in self._records[name] if record.at > now - _FRESH]
            if kept:
                self._records[name] = kept
            else:
                del self._records[name]


def _same(one: ObservedWrite, other: ObservedWrite) -> bool:
    return (one.value, one.writer, one.ours) == (other.value, other.writer, other.ours)


def attributed(repair: Repair, write: Optional[ObservedWrite], complete: bool) -> Repair:
    """Return the repair with the writer of the drift: the kernel if the log is `complete` and has no write."""
    if write is None and complete:  # or a process over netlink (IFLA_INET_CONF)
        return repair._replace(writer_text="the kernel", attribution=Attribution.LIKELY)
    if write is None or not write.named:
        return repair._replace(writer_text=UNKNOWN)
    repair = repair._replace(before=write.before, writer_text=write.named, writer=write.writer)
    return repair._replace(attribution=write.attribution)
