"""Who wrote what, as far as it was seen: kept for a moment, to explain a drift and never to cause a repair."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from ipvsd.model.report import UNKNOWN, Attribution, Repair, Writer
from ipvsd.sysctl import values

KEPT = 16  # writes to one sysctl
_FRESH = 1.0  # seconds: a write that was heard of may not have been stored yet


class ObservedWrite(NamedTuple):
    """A write, or a module's unloading, that was about to happen; `value` is None for the latter.

    `ours` says that the sysctl is the one of our network namespace for sure. `attribution` is of a drift to it.
    """

    value: Optional[str]
    writer: Writer
    before: str  # the value that it replaces
    at: float  # when it was made: CLOCK_MONOTONIC, seconds
    ours: bool = False
    attribution: Attribution = Attribution.LIKELY

    @property
    def named(self) -> str:
        """The process, or an empty text if nobody is to be named."""
        return "" if self.attribution is Attribution.UNKNOWN else str(self.writer)


class _Record(NamedTuple):
    write: ObservedWrite
    at: float  # when it, or the same again, arrived here: maybe long after it was made
    left: int  # how often it was made, without those that are known to have made a drift


class WriteLog:
    """The recent writes, by the names of sysctls and modules."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._records: dict[str, list[_Record]] = {}
        self._missed = float("-inf")
        self._clock = clock

    def missed(self) -> None:
        """Take note that writes before now may have gone unrecorded."""
        self._missed = self._clock()

    def add(self, name: str, write: ObservedWrite, times: int = 1) -> None:
        """Keep this, which was made so often; what one writer does again is kept once, as it was made at first."""
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
        """Return the write that made a drift, as `of` does; one that made it for certain makes no other."""
        write = self.of(name, found, by)
        if write and write.attribution is Attribution.CERTAIN:
            self._records[name] = [
                record._replace(left=record.left - 1) if record.left and _same(record.write, write) else record
                for record in self._records[name]
            ]
        return write

    def of(self, name: str, found: str, by: float = float("inf")) -> Optional[ObservedWrite]:
        """Return the last write that can have made the value that was found, or the module's unloading.

        `by` is when that value had been read (CLOCK_MONOTONIC, seconds): the kernel reports a write before it stores
        the value, so that one that was made later is not it. The process that unloads a module is found afterwards. A
        write that may have been in another network namespace counts only if there was none that was in ours.
        """
        records = [
            record
            for record in self._records.get(name, [])
            if record.write.value is None
            or (record.write.at <= by and values.equivalent(name, record.write.value, found))
        ]
        if not records:
            return None
        matching = [record.write for record in records if record.left] or [record.write for record in records]
        last = next((write for write in reversed(matching) if write.ours), matching[-1])
        alone = last.at > self._missed and len({write.writer for write in matching}) == 1
        if last.ours:
            how = Attribution.CERTAIN if alone and last.value is not None else Attribution.LIKELY
        else:
            # A process that floods another network namespace is among several, or the only one for whom there was room.
            how = Attribution.LIKELY if alone else Attribution.UNKNOWN
        return last._replace(attribution=how)

    def expire(self, names: Callable[[str], bool], now: float) -> None:
        """Drop the writes to these that cannot explain a later drift: those that are no longer fresh."""
        for name in filter(names, list(self._records)):
            kept = [record for record in self._records[name] if record.at > now - _FRESH]
            if kept:
                self._records[name] = kept
            else:
                del self._records[name]


def _same(one: ObservedWrite, other: ObservedWrite) -> bool:
    return (one.value, one.writer, one.ours) == (other.value, other.writer, other.ours)


def attributed(repair: Repair, write: Optional[ObservedWrite], complete: bool) -> Repair:
    """Return the repair with who made the drift.

    If `complete`, a drift without a recorded write is attributed to the kernel: every write of a process is recorded.
    """
    if write is None and complete:  # or a process, over netlink (IFLA_INET_CONF)
        return repair._replace(who="the kernel", attribution=Attribution.LIKELY)
    if write is None or not write.named:
        return repair._replace(who=UNKNOWN)
    return repair._replace(before=write.before, who=write.named, writer=write.writer, attribution=write.attribution)
