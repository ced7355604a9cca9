"""The account of a soak test: the result of each injected drift, according to the kernel and to ipvsd.

Each value is written only once to a sysctl, so the value that a repair found identifies the write. All times are
CLOCK_MONOTONIC, in seconds.
"""

from __future__ import annotations

import bisect
from collections import Counter, defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple

# Seconds until a drift that is not contended must be repaired. A reconciliation of hundreds of interfaces takes
# seconds in an emulated machine with a part of two processors. A resync comes every 60 s, so a drift that only a
# resync finds is late.
LIMIT = 20.0
AT_ONCE = 1.0  # seconds

# The kernel copies writes to the first to every interface, and the value of the second to each new one.
FORWARD, DEFAULT = "net.ipv4.ip_forward", "net.ipv4.conf.default.forwarding"


class Injected(NamedTuple):
    """A non-compliant value that a program wrote. `at` is the time before the write."""

    key: str
    value: str
    at: float


class Event(NamedTuple):
    """A write from `begun` to `at`, or with `gone` the end of an interface and its sysctls."""

    at: float
    begun: float
    key: str
    value: str
    ours: bool
    gone: bool = False


class Period(NamedTuple):
    """The period in which ipvsd reported a sysctl as contended."""

    key: str
    begun: float
    ended: float


class Account(NamedTuple):
    """The numbers of injected drifts by result. `unexplained` has a line for each of the rest and each surplus repair.

    Further repairs: `passed_on` are those of values that the kernel copied to an interface. `again` are those of
    values that the kernel stored more than once: while interfaces change, it restarts a write to ip_forward, and
    restores the former value. `longest` is the longest time in seconds of a drift without contention.
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
    """Return the account. `repairs` are the sysctls that ipvsd reports as repaired, with the drifted values.

    `restarted` are the sysctls for which the kernel restarted writes. `unread` are the times from which repairs may
    be missing.
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
        # The order of two writes at the same time is unknown.
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
        """Return whether another program wrote after ipvsd's write, before ipvsd could verify it."""
        return any(not event.ours and event.at - rest[0].at <= LIMIT for event in rest[1:])

    def _within_a_repair(self, events: Sequence[Event], this: Event, ours: Event) -> bool:
        """Return whether ipvsd had read another value before, and overwrote this one because of that.

        It immediately repeats a write that a read does not confirm, and all these writes are one repair.
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
    """Return whether a sysctl was contended, or shortly before or after: the next reconciliation reports it."""
    return any(item.key == key and item.begun - LIMIT <= at <= item.ended + LIMIT for item in periods)


def is_of_interface(key: str) -> bool:
    """Return whether a sysctl follows every change of ip_forward (net/ipv4/devinet.c, inet_forward_change())."""
    return key.startswith("net.ipv4.conf.") and key.endswith(".forwarding")


def _by_key(events: Sequence[Event]) -> Mapping[str, list[Event]]:
    """Return the events of each sysctl, in order. An event of ip_forward is also one of the interfaces' sysctls."""
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
    """A module that was loaded, or with `gone` unloaded."""

    at: float
    name: str
    ours: bool
    gone: bool


class Modules(NamedTuple):
    """Unloadings, and what followed each: a load by ipvsd, or by another program."""

    unloaded: int
    repaired: int
    superseded: int
    longest: float
    unexplained: tuple[str, ...]


def balance_modules(changes: Iterable[Change]) -> Modules:
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
