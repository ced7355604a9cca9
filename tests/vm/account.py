"""The account of a soak test: what became of each drift that was injected, by what the kernel and ipvsd each say.

Each value that is written is written to its sysctl once, so that the value a repair found names the write. All times
are CLOCK_MONOTONIC, in seconds.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

# Seconds within which a drift is repaired that is not contended. A look at hundreds of interfaces takes seconds in an
# emulated machine that has a part of two processors. The periodic look comes every 60 s: what it alone finds is late.
LIMIT = 20.0
AT_ONCE = 1.0  # seconds

# What is written to the first is passed on to every interface, and what the second is to each that is made.
FORWARD, DEFAULT = "net.ipv4.ip_forward", "net.ipv4.conf.default.forwarding"


class Injected(NamedTuple):
    """A wrong value that a program wrote; `at` is before it did so."""

    key: str
    value: str
    at: float


class Event(NamedTuple):
    """A write that took from `begun` until `at`, or, with `gone`, the end of an interface and its sysctls."""

    at: float
    begun: float
    key: str
    value: str
    ours: bool
    gone: bool = False


class Period(NamedTuple):
    """From when until when ipvsd said that a sysctl is contended."""

    key: str
    begun: float
    ended: float


class Account(NamedTuple):
    """How many injected drifts became what; `unexplained` has a line for each of the rest, and for more.

    Repairs besides: `passed_on` are those of what the kernel passed on to an interface, and `again` those of a value
    that the kernel stored more than once: it begins a write to ip_forward again while interfaces are changed, and puts
    the value back that it had found. `longest` is how many seconds a drift stood that was not contended.
    """

    injected: int
    repaired: int
    contended: int
    superseded: int
    passed_on: int
    again: int
    longest: float
    unexplained: tuple[str, ...]

    @property
    def balances(self) -> bool:
        return not self.unexplained and self.injected == self.repaired + self.contended + self.superseded


def balance(
    injected: Sequence[Injected],
    events: Iterable[Event],
    repairs: Iterable[tuple[str, str]],
    periods: Collection[Period] = (),
    restarted: Collection[str] = (),
    unread: Collection[tuple[float, float]] = (),
) -> Account:
    """Return the account; `repairs` are the sysctls that ipvsd says it repaired, with the values that it found.

    `restarted` are those of which the kernel began writes again, and `unread` the times from which repairs may be
    missing.
    """
    return _Books(injected, events, repairs, periods, restarted, unread).close()


class _Books:
    def __init__(
        self,
        injected: Sequence[Injected],
        events: Iterable[Event],
        repairs: Iterable[tuple[str, str]],
        periods: Collection[Period],
        restarted: Collection[str],
        unread: Collection[tuple[float, float]],
    ) -> None:
        self._injected, self._periods, self._restarted, self._unread = injected, periods, restarted, unread
        self._events = _by_key(sorted(events))
        self._repairs = Counter(repairs)
        self._found = frozenset(self._repairs)
        self._values = {item[:2] for item in injected}
        self._counts: Counter[str] = Counter()
        self._unexplained: list[str] = []
        self._longest = 0.0

    def close(self) -> Account:
        for item in self._injected:
            self._enter(item)
        for (key, value), times in self._repairs.items():
            self._besides(key, value, times)
        counts = self._counts
        return Account(
            len(self._injected),
            counts["repaired"],
            counts["contended"],
            counts["superseded"],
            counts["passed on"],
            counts["again"],
            self._longest,
            tuple(self._unexplained),
        )

    def _enter(self, item: Injected) -> None:
        events = self._events.get(item.key, [])
        this = next((event for event in events if event[2:5] == (item.key, item.value, False)), None)
        if this is None:
            self._refuse(item, "the kernel was not seen to store it")
            return
        # Of two writes at the same time it is not known which one came first.
        rest = [event for event in events if event.at > this.begun and event is not this]
        contended = is_contended(self._periods, item.key, this.at)
        if self._repairs[item.key, item.value]:
            self._repairs[item.key, item.value] -= 1
            ours = next((event for event in rest if event.ours), None)
            if ours is None:
                self._refuse(item, "repaired, but no write of ipvsd's was seen")
            else:
                self._settle(item, "repaired", ours.at - this.at, contended)
        elif contended:
            self._counts["contended"] += 1
        elif not rest:
            self._refuse(item, "nothing was written to it afterwards")
        elif not rest[0].ours or self._within_a_repair(events, this, rest[0]) or self._overtaken(rest):
            self._settle(item, "superseded", rest[0].at - this.at, contended)
        elif any(begun <= rest[0].at <= ended for begun, ended in self._unread):
            self._settle(item, "repaired", rest[0].at - this.at, contended)
        else:
            self._refuse(item, "ipvsd wrote over it, and counted no repair")

    def _settle(self, item: Injected, how: str, stood: float, contended: bool) -> None:
        if not contended:
            if stood > LIMIT:
                self._refuse(item, f"{how} after {stood:.1f} s only")
                return
            self._longest = max(self._longest, stood)
        self._counts[how] += 1

    @staticmethod
    def _overtaken(rest: Sequence[Event]) -> bool:
        """Tell whether somebody else wrote after ipvsd's write before that could be proved."""
        return any(not event.ours and event.at - rest[0].at <= LIMIT for event in rest[1:])

    def _within_a_repair(self, events: Sequence[Event], this: Event, ours: Event) -> bool:
        """Tell whether ipvsd had read another value by then, and wrote over this one for that.

        It writes again at once what is not there afterwards, and all that is one repair.
        """
        for event in reversed([event for event in events if event.begun < this.at and event is not this]):
            if event.ours:
                if ours.at - event.at > AT_ONCE:
                    return False
                ours = event
            elif this.at - event.at > LIMIT:
                return False
            elif (event.key, event.value) in self._found:
                return True
        return False

    def _besides(self, key: str, value: str, times: int) -> None:
        if times <= 0:
            return
        if is_of_interface(key) and {(FORWARD, value), (DEFAULT, value)} & self._values:
            self._counts["passed on"] += times
        elif key in self._restarted and (key, value) in self._values:
            self._counts["again"] += times
        else:
            self._unexplained.append(f"{key}: {times} repairs of '{value}' too many")

    def _refuse(self, item: Injected, why: str) -> None:
        self._unexplained.append(f"{item.key}: '{item.value}' written at {item.at:.3f}: {why}")


def is_contended(periods: Iterable[Period], key: str, at: float) -> bool:
    """Tell whether a sysctl was contended, or about to be or just after it: that is told at the next look."""
    return any(item.key == key and item.begun - LIMIT <= at <= item.ended + LIMIT for item in periods)


def is_of_interface(key: str) -> bool:
    """Tell whether a sysctl follows ip_forward whenever that changes (net/ipv4/devinet.c, inet_forward_change())."""
    return key.startswith("net.ipv4.conf.") and key.endswith(".forwarding")


def _by_key(events: Sequence[Event]) -> Mapping[str, list[Event]]:
    """Return what happened to each sysctl, in order; what changes ip_forward changes those of interfaces, too."""
    own: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        own[event.key].append(event)
    forwards = [event._replace(ours=False) for event in own.get(FORWARD, ())]
    if forwards:
        for key, found in own.items():
            if is_of_interface(key):
                for event in forwards:
                    bisect.insort(found, event)
    return own


class Change(NamedTuple):
    """A module that was loaded or, with `gone`, unloaded."""

    at: float
    name: str
    ours: bool
    gone: bool


class Modules(NamedTuple):
    """Unloadings, and what followed each: ipvsd's load, or another one's."""

    unloaded: int
    repaired: int
    superseded: int
    longest: float
    unexplained: tuple[str, ...]


def balance_modules(changes: Iterable[Change]) -> Modules:
    """Return what became of the modules that were unloaded."""
    by_name: dict[str, list[Change]] = defaultdict(list)
    for change in sorted(changes):
        by_name[change.name].append(change)
    counts: Counter[str] = Counter()
    unexplained, longest = [], 0.0
    for name, found in by_name.items():
        for this, then in zip(found, [*found[1:], None]):
            if not this.gone:
                continue
            counts["unloaded"] += 1
            if then is None or then.gone or then.at - this.at > LIMIT:
                unexplained.append(f"module {name}, unloaded at {this.at:.3f}: not loaded again within {LIMIT:g} s")
                continue
            counts["repaired" if then.ours else "superseded"] += 1
            longest = max(longest, then.at - this.at)
    return Modules(counts["unloaded"], counts["repaired"], counts["superseded"], longest, tuple(unexplained))
