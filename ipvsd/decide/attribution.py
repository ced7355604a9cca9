"""Who wrote what, as far as it was seen: kept for a moment, to explain a drift and never to cause a repair."""

from __future__ import annotations

from typing import Callable, NamedTuple, Optional

from ipvsd.model.report import UNKNOWN, Attribution, Repair, Writer
from ipvsd.model.types import Action
from ipvsd.sysctl import values

KEPT = 16  # writes to one sysctl
_FRESH = 1.0  # seconds: a write that was heard of may not have been stored yet


class Seen(NamedTuple):
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


class Turned(NamedTuple):
    """One drift that was turned back at once, between two looks; times are CLOCK_MONOTONIC, in seconds.

    `group` is the pattern that fits the sysctl, if it is not wanted by its own name.
    """

    action: Action
    since: float
    read: float  # when what was wrong had been read
    until: float
    seen: Optional[Seen] = None
    group: str = ""


class _Heard(NamedTuple):
    seen: Seen
    at: float  # when it, or the same again, was heard of here: maybe long after it was made
    left: int  # how often it was made, without those that are known to have made a drift


class Evidence:
    """What was heard of lately, by the names of sysctls and modules."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._heard: dict[str, list[_Heard]] = {}
        self._missed = float("-inf")
        self._clock = clock

    def missed(self) -> None:
        """Take note that writes before now may have gone unheard."""
        self._missed = self._clock()

    def add(self, name: str, seen: Seen, times: int = 1) -> None:
        """Keep this, which was made so often; what one writer does again is kept once, as it was made at first."""
        others, now = self._heard.get(name, []), self._clock()
        last = others[-1] if others else None
        if last and _same(last.seen, seen):
            others, seen, times = others[:-1], last.seen, last.left + times
        heard = [*others, _Heard(seen, now, times)]
        if len(heard) > KEPT:
            first = next((item for item in heard if not item.left), heard[0])
            heard.remove(first)
            if first.left:
                self.missed()
        self._heard[name] = heard

    def explain(self, name: str, found: str, by: float = float("inf")) -> Optional[Seen]:
        """Return what made a drift, as `of` does; a write that made it for certain makes no other."""
        seen = self.of(name, found, by)
        if seen and seen.attribution is Attribution.CERTAIN:
            heard = self._heard[name]
            self._heard[name] = [
                item._replace(left=item.left - 1) if item.left and _same(item.seen, seen) else item for item in heard
            ]
        return seen

    def of(self, name: str, found: str, by: float = float("inf")) -> Optional[Seen]:
        """Return what was seen last of how the value that was found came about, or of the module's unloading.

        `by` is when that value had been read (CLOCK_MONOTONIC, seconds): a write is told of before it is stored,
        so that one that was made later is not it. The process that unloads a module is found afterwards. A write
        that may have been in another network namespace counts only if there was none that was in ours.
        """
        heard = [
            item
            for item in self._heard.get(name, [])
            if item.seen.value is None or (item.seen.at <= by and values.same(name, item.seen.value, found))
        ]
        if not heard:
            return None
        fitting = [item.seen for item in heard if item.left] or [item.seen for item in heard]
        last = next((seen for seen in reversed(fitting) if seen.ours), fitting[-1])
        alone = last.at > self._missed and len({seen.writer for seen in fitting}) == 1
        if last.ours:
            how = Attribution.CERTAIN if alone and last.value is not None else Attribution.LIKELY
        else:
            # A process that floods another network namespace is among several, or the only one for whom there was room.
            how = Attribution.LIKELY if alone else Attribution.UNKNOWN
        return last._replace(attribution=how)

    def settle(self, names: Callable[[str], bool], now: float) -> None:
        """Forget what explains nothing that comes: what was heard earlier of these came to nothing, or is over."""
        for name in filter(names, list(self._heard)):
            kept = [heard for heard in self._heard[name] if heard.at > now - _FRESH]
            if kept:
                self._heard[name] = kept
            else:
                del self._heard[name]


def _same(one: Seen, other: Seen) -> bool:
    return (one.value, one.writer, one.ours) == (other.value, other.writer, other.ours)


def attributed(repair: Repair, seen: Optional[Seen], everything: bool) -> Repair:
    """Return the repair with who made the drift.

    `everything` says that what no process was seen to do, the kernel did itself.
    """
    if seen is None and everything:  # or a process, over netlink (IFLA_INET_CONF)
        return repair._replace(who="the kernel", attribution=Attribution.LIKELY)
    if seen is None or not seen.named:
        return repair._replace(who=UNKNOWN)
    return repair._replace(before=seen.before, who=seen.named, writer=seen.writer, attribution=seen.attribution)
