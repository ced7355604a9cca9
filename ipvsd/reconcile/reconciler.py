"""The reconciler: an event reconciles one item, a resync reconciles all items, and both report changes.

Both read, plan, act and read again, with the same planner and the same `rounds.act`. A reconciliation of all items
follows that of one item soon: it reports the repair, and handles every item that could not be repaired at once.
"""

from __future__ import annotations

import functools
import time
from collections.abc import Collection, Iterator, Sequence
from typing import Callable, NamedTuple, Optional, Protocol, Union

from ipvsd.config.schema import Config
from ipvsd.decide import backoff, remedies
from ipvsd.decide.attribution import KEPT, ObservedWrite
from ipvsd.decide.contention import Limit
from ipvsd.kernel.host import Host
from ipvsd.kernel.virtual_services import VirtualServiceCounter
from ipvsd.model.events import Event, Write
from ipvsd.model.report import Attribution
from ipvsd.model.types import DesiredModule, DesiredSysctl, WriteSysctl
from ipvsd.reconcile import changes
from ipvsd.reconcile.changes import Change, WriteRefused
from ipvsd.reconcile.item_registry import AnyReading, FastRepair, Item, Registry
from ipvsd.reconcile.last_seen import LastSeen
from ipvsd.reconcile.rounds import FirstRound, ReconcileResult, act, reconcile
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind
from ipvsd.sysctl.sysctl_names import ALIASES

# The reconciliation of all items waits for a pause between repairs, so that it does not delay the next one.
LULL, LONGEST = 0.25, 10.0  # seconds: of the pause, and of the longest wait for one
MOST = 256  # repairs by events after which it does not wait for a pause, because each uses memory until it is reported
# The kernel reports a write just before it stores the value.
STORED = (0.0005, 0.003, 0.02, 0.1)  # seconds between the reads of the sysctl after such a report

# The reasons for a resync, which writes contended sysctls as well.
_FULL_CHECK_REASONS = (ReasonKind.START, ReasonKind.RESYNC, ReasonKind.RELOAD)


class Sources(Protocol):
    def drain(self) -> None:
        """Deliver every write that has been reported so far."""

    def monitored(self) -> Collection[str]:
        """Return the sysctls for which no report of a write was lost since the last call."""


class Reconciliation(NamedTuple):
    result: ReconcileResult
    changes: tuple[Change, ...]


class Reconciler:
    """Reconciles items, only in the loop's thread. `registry` contains the managed items."""

    def __init__(
        self,
        host: Host,
        loop: EventLoop,
        sources: Sources,
        config: Config,
        services: Optional[VirtualServiceCounter] = None,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._host, self._loop, self._sources, self._clock = host, loop, sources, clock
        self._config, self._services = config, services
        self.registry = Registry(clock)
        self._last_seen = LastSeen(clock)
        self._draining = False
        # Events whose writes are not recorded yet, each with the value that was repaired at once.
        self._arrived: list[tuple[Event, Optional[str]]] = []
        self._unreported: list[FastRepair] = []
        self._repairs: list[FastRepair] = []
        self._refusals: dict[str, WriteRefused] = {}
        self._expected: dict[str, object] = {}  # the last write to each that may not be stored yet
        self._acted_on: frozenset[str] = frozenset()  # by the current reconciliation of all items
        self._first = self._last = 0.0
        self._is_due = False

    def configure(self, config: Config) -> None:
        """Use another configuration, and end all back-off and contention."""
        self._config = config
        self.registry.reset()

    @property
    def next_try(self) -> Optional[float]:
        """The earliest time on the clock at which an item may be retried or read again, or None."""
        dues = (self._last_seen.due, backoff.next_try(self.registry.failures()))
        return min((due for due in dues if due is not None), default=None)

    @property
    def unreported(self) -> bool:
        return bool(self._repairs or self._unreported)

    @property
    def _limit(self) -> Limit:
        return Limit(self._config.contention_repairs, self._config.contention_window, self._config.contention_quiet)

    # --- all items ----------------------------------------------------------------------

    def reconcile_all(self, reasons: Sequence[Reason], first: Optional[FirstRound] = None) -> Reconciliation:
        """Reconcile all items for these reasons. Return the result, and all changes since the last call.

        `first` is the first round, if it has begun already.
        """
        full = not {reason.kind for reason in reasons}.isdisjoint(_FULL_CHECK_REASONS)
        self._attribute()
        fast, self._repairs, self._is_due = self._repairs, [], False
        # The items are compliant, so their recorded writes are in the past or in another network namespace.
        self.registry.writes.expire(self.registry.is_repairable, self._clock())
        failures, contended = self.registry.failures(), self.registry.contended()
        others, known = self._repair_others, self.registry.known
        result = reconcile(self._host, self._config, failures, self._clock, contended, full, others, known, first)
        wall, boottime = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
        after = remedies.adapt(result.after, "/", daemon=True)
        result = result._replace(after=self._last_seen.complete(after, wall, boottime, self._config.interval))
        since, now = min(reason.at for reason in reasons), self._clock()
        monitored = self._sources.monitored()
        found = self.registry.update(result, fast, since, now, time.time(), monitored, self._limit)
        self._acted_on = frozenset()
        refusals, self._refusals = self._refusals.values(), {}
        return Reconciliation(result, (*found, *self._lost_services(found, full), *refusals))

    def _repair_others(self, names: Collection[str]) -> None:
        """Process the events that have arrived, except for these items, on which the current reconciliation acts."""
        self._acted_on = self._acted_on.union(names)
        if not self.registry.items:
            return  # no item was compliant before the first reconciliation
        self._drain()
        self._loop.run_ready()

    def _drain(self) -> None:
        """Let the sources deliver events, and record them, without writing to any item."""
        self._draining = True
        try:
            self._sources.drain()
        finally:
            self._draining = False
        self._record()

    def _lost_services(self, found: Sequence[Change], full: bool) -> Iterator[Change]:
        if self._services is None:
            return
        lost = self._services.describe_loss(
            {change.action.name for change in found if isinstance(change, changes.Repaired)}
        )
        if lost:
            yield changes.VirtualServicesLost(lost)
        elif full:
            self._services.update()

    # --- one item -----------------------------------------------------------------------

    def on_event(
        self, name: str, at: float, stored: bool = True, writes: Optional[Callable[[], Sequence[Write]]] = None
    ) -> None:
        """Reconcile the item of an event, or else request a reconciliation of all items, and record its writes."""
        name = ALIASES.get(name, name)
        done = not self._draining and self.reconcile_one(name, at)
        if stored and not done:
            self._loop.post(ReasonKind.SYSCTL, name)
        if writes:
            if not self._arrived and not self._draining:
                self._loop.call_later(0.0, self._attribute)  # other repairs that are due come first
            action = done.action if isinstance(done, FastRepair) else None
            repaired = action.actual if isinstance(action, WriteSysctl) else None
            self._arrived.append((Event(name, at, stored, writes), repaired))

    def on_loss(self) -> None:
        self.registry.writes.missed()

    def reconcile_one(self, name: str, since: float) -> Union[FastRepair, bool]:
        """Read one item, and repair it if necessary and if a fresh read can prove the repair at once.

        Return the repair, True if the item needs no action, and False if it cannot be repaired at once.
        """
        if name in self._acted_on:
            return True
        item = self.registry.items.get(name)
        if item is None or not item.repairable:
            return False
        done = self._repair(item, since)
        if isinstance(done, bool):
            return done
        if isinstance(item.desired, DesiredModule):
            done = done._replace(brought=tuple(self._repair_brought(name, since)))
        self._expected.pop(name, None)
        if not self._unreported:
            self._loop.call_later(0.0, self._attribute)
        self._unreported.append(done)
        return done

    def _repair(self, item: Item, since: float) -> Union[FastRepair, bool]:
        try:
            action = item.judge(self._read(item))
            if isinstance(action, bool):
                return action
            read = self._clock()
            outcome = act(self._host, action)
            proved = outcome.kept or (not outcome.error and item.judge(self._read(item)) is True)
        except OSError:  # the item is unreadable
            return False
        return proved and FastRepair(item.desired, action, since, read, self._clock())

    def _repair_brought(self, module: str, since: float) -> Iterator[FastRepair]:
        """Write the sysctls that appeared with a module and have the kernel's defaults. These are not contention."""
        for name, item in self.registry.items.items():
            brought = isinstance(item.desired, DesiredSysctl) and item.desired.provider == module
            if brought and item.repairable and name not in self._acted_on:
                done = self._repair(item, since)
                if isinstance(done, FastRepair):
                    yield done

    def _read(self, item: Item) -> AnyReading:
        """Read the current state of an item. Raises OSError."""
        if isinstance(item.desired, DesiredModule):
            return self._host.module_state(item.desired.name)
        if item.is_parameter:
            return self._host.read_parameter(item.desired.key)
        return self._host.read_sysctl(item.desired.key)

    def _recheck(self, name: str, since: float) -> None:
        """Repair an item as soon as the kernel has stored a reported write."""
        self._expected[name] = this = object()
        self._try(name, this, since, 0)

    def _try(self, name: str, this: object, since: float, tries: int) -> None:
        if self._expected.get(name) is not this:
            return  # it was repaired meanwhile, or written again
        done = self.reconcile_one(name, since)
        if name not in self._expected:
            return
        if tries < len(STORED):
            self._loop.call_later(STORED[tries], lambda: self._try(name, this, since, tries + 1))
            return
        del self._expected[name]
        if done is False:
            self._loop.post(ReasonKind.SYSCTL, name)

    # --- writes, and the repairs that they explain ----------------------------------------

    def _record(self, recheck_now: bool = False) -> None:
        """Record the writes of the events. Recheck each item that one of them can still make non-compliant.

        With `recheck_now`, the first recheck precedes the lookups of the writers, which take longer than a repair.
        """
        arrived, self._arrived = self._arrived, []
        recorded: list[tuple[str, Sequence[Write], Sequence[Write]]] = []
        for event, repaired in arrived:
            writes = event.writes()
            wrong = [write for write in writes if self._drifts(event.name, write)]
            recorded.append((event.name, writes, wrong))
            if wrong and not event.stored and not _is_over(repaired, writes):
                if recheck_now:
                    self._recheck(event.name, event.at)
                else:
                    self._loop.call_later(0.0, functools.partial(self._recheck, event.name, event.at))
        for name, found, drifting in recorded:
            if len(drifting) > KEPT:
                self.registry.writes.missed()
            for write in drifting[-KEPT:]:
                observed = ObservedWrite(write.value, write.writer(), write.before, write.at, write.ours)
                self.registry.writes.add(name, observed, write.times)
            self._refuse(name, [write for write in found if write.refused])

    def _drifts(self, name: str, write: Write) -> bool:
        if write.refused:
            return False
        item = self.registry.items.get(name)
        if write.value is None or item is None or not item.repairable or isinstance(item.desired, DesiredModule):
            return True
        return item.judge(write.value) is not True

    def _refuse(self, name: str, writes: Sequence[Write]) -> None:
        if writes:
            last = writes[-1]
            before = self._refusals[name].times if name in self._refusals else 0
            times = before + sum(write.times for write in writes)
            self._refusals[name] = WriteRefused(name, last.value or "", last.writer(), times)
            self._request_soon()

    def _attribute(self) -> None:
        """Find the writers of the repairs since the last call, and request a reconciliation that reports them."""
        unreported, self._unreported = self._unreported, []
        # The recorded writes before the first drift of a sysctl are kept for its later drifts.
        firsts = {repair.action.name: repair.since for repair in reversed(unreported)}
        for name, since in firsts.items():
            self.registry.writes.expire(name.__eq__, since)
        if unreported:
            self._drain()
        else:
            self._record(recheck_now=True)
        for repair in unreported:
            self._explain(repair)

    def _explain(self, repair: FastRepair) -> None:
        """Find the writer of drift that was repaired at once, and count the repair for contention."""
        action = repair.action
        found = action.actual if isinstance(action, WriteSysctl) else ""
        write = self.registry.writes.explain(action.name, found, repair.read)
        self._repairs += (repair._replace(write=write), *repair.brought)
        self._request_soon()
        if isinstance(repair.item, DesiredModule) or action.name not in self.registry.items:
            return
        program, how = (write.named, write.attribution) if write else ("", Attribution.UNKNOWN)
        self.registry.contend(action.name, repair.until, program, how, self._limit)
        if self.registry.items[action.name].contended:
            self._loop.post(ReasonKind.SYSCTL, action.name)

    def _request_soon(self) -> None:
        now = self._last = self._clock()
        if not self._is_due:
            self._is_due, self._first = True, now
            self._loop.call_later(LULL, self._request)

    def _request(self) -> None:
        if not self._is_due:
            return  # another reason has caused it meanwhile
        now = self._clock()
        due = min(self._last + LULL, self._first + LONGEST)
        if now >= due or len(self._repairs) >= MOST:
            self._loop.post(ReasonKind.SYSCTL, "repaired")
        else:
            self._loop.call_later(due - now, self._request)


def _is_over(repaired: Optional[str], writes: Sequence[Write]) -> bool:
    only = writes[0]
    alone = len(writes) == 1 and only.times == 1
    return alone and repaired is not None and repaired != only.before and repaired == only.value
