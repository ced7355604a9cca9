"""The daemon's reconciler and counters on a fake kernel, with a clock and event sources of the test."""

from __future__ import annotations

from collections.abc import Collection
from typing import Optional

from ipvsd.config.schema import Config
from ipvsd.decide.backoff import BackoffState
from ipvsd.kernel.host import Host
from ipvsd.model.events import Event, Write
from ipvsd.model.report import Writer
from ipvsd.reconcile.changes import Change, Repaired
from ipvsd.reconcile.reconciler import Reconciler
from ipvsd.reconcile.rounds import ReconcileResult, reconcile
from ipvsd.reporting.counters import Counters
from ipvsd.runtime.event_loop import Reason, ReasonKind
from tests.configured import config
from tests.fake_kernel import FORWARD, FakeKernel
from tests.timers import Timers

AGENT, SYSCTL = Writer(7, "agent", "agent.service"), Writer(8, "sysctl")
FORWARDING = "profiles: []\nsysctls: {net.ipv4.ip_forward: 1}"
# No contention: only its own tests need it.
PEACE = "\ncontention: {repairs: 1000}"


def settle(
    host: Host, made: Config | str = "", now: float = 0.0, history: Optional[BackoffState] = None,
    known: Optional[ReconcileResult] = None,
) -> ReconcileResult:  # fmt: skip
    made = config(made) if isinstance(made, str) else made
    return reconcile(host, made, history or {}, lambda: now, known=known.known if known else None)


class Reports:
    """Event sources. `undelivered` are the events that `drain` delivers, and `complete` the fully monitored sysctls."""

    def __init__(self) -> None:
        self.undelivered: list[Event] = []
        self.complete: Collection[str] = ()
        self.drains = 0
        self.node: Optional[Node] = None

    def drain(self) -> None:
        self.drains += 1
        events, self.undelivered = self.undelivered, []
        for event in events:
            assert self.node
            self.node.reconciler.on_event(*event)

    def monitored(self) -> Collection[str]:
        return self.complete


class Node:
    """A node after its start. `changes` are those of the last round."""

    def __init__(self, text: str = "", kernel: Optional[FakeKernel] = None, peace: str = PEACE) -> None:
        self.kernel, self.loop, self.sources = kernel or FakeKernel(), Timers(), Reports()
        self.sources.node = self
        self._peace = peace
        made = config(f"{text}{peace}")
        self.reconciler = Reconciler(self.kernel, self.loop, self.sources, made, clock=lambda: self.loop.now)
        self.counters = Counters()
        self.changes: tuple[Change, ...] = ()

    # --- the daemon's part ----------------------------------------------------------------

    def round(self, kind: ReasonKind = ReasonKind.SYSCTL, ago: float = 0.0) -> ReconcileResult:
        """Reconcile all items for an event that is `ago` seconds old, and count the changes."""
        done, self.changes = self.reconciler.reconcile_all([Reason(kind, "", self.loop.now - ago)])
        self.counters.count(self.changes)
        return done

    def configure(self, text: str) -> ReconcileResult:
        """Use another configuration, as after a reload."""
        self.reconciler.configure(config(f"{text}{self._peace}"))
        return self.round(ReasonKind.RELOAD)

    # --- events ---------------------------------------------------------------------------

    def event(self, name: str = FORWARD) -> bool:
        """Deliver an event. Return False if the item is left to a reconciliation of all items."""
        before = len(self.loop.reasons)
        self.reconciler.on_event(name, self.loop.now)
        return len(self.loop.reasons) == before

    def drift(self, value: str = "0") -> bool:
        """Change ip_forward, and deliver the event."""
        self.kernel.values[FORWARD] = value
        return self.event()

    def write(self, value: str = "0", writer: Writer = AGENT, name: str = FORWARD, ours: bool = True) -> Event:
        """Return the event for a write that is about to be stored."""
        now = self.loop.now
        return Event(name, now, stored=False, writes=lambda: [Write(value, lambda: writer, "1", now, ours)])

    def written(self, value: str = "0", writer: Writer = AGENT, name: str = FORWARD, ours: bool = True) -> None:
        self.reconciler.on_event(*self.write(value, writer, name, ours))

    def unloaded(self, name: str, writer: Writer = AGENT) -> None:
        """Unload a module, and deliver the event with the process that unloads it."""
        self.kernel.unload(name)
        now = self.loop.now
        self.reconciler.on_event(name, now, writes=lambda: [Write(None, lambda: writer, "", now)])

    # --- results ----------------------------------------------------------------------------

    @property
    def repaired(self) -> list[Repaired]:
        """The repairs among the changes of the last round."""
        return [change for change in self.changes if isinstance(change, Repaired)]

    def at_once(self) -> list[Repaired]:
        """Reconcile all items, and return the earlier repairs."""
        self.round()
        return [change for change in self.repaired if change.at_once]

    def repaired_at_once(self) -> list[str]:
        return [change.action.name for change in self.at_once()]


def started(text: str = "", peace: str = PEACE) -> Node:
    """Return a node after its first round."""
    node = Node(text, peace=peace)
    node.round(ReasonKind.START)
    node.loop.looks()
    return node
