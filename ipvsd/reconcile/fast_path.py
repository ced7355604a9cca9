"""Turn back a single drift in the moment of its event, by the judgement of a look at that one item.

The whole node is looked at soon after, and that look alone says what the node is like: what is done
here only shortens the time in which it was wrong. Whatever is not plainly right or turned back is
left to that look.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from typing import Any, NamedTuple, Optional, Union

from ipvsd.decide.attribution import Evidence, Turned
from ipvsd.decide.contention import Fights
from ipvsd.decide.health import stands
from ipvsd.kernel.host import Host
from ipvsd.model.report import Attribution
from ipvsd.model.types import Action, Finding, Kernel, Plan, Policy, WantedModule, WantedSysctl, WriteSysctl
from ipvsd.reconcile.reconciler import Reconciled, act, judged_module, judged_sysctl
from ipvsd.runtime.event_loop import Mailbox, ReasonKind
from ipvsd.sysctl.sysctl_names import ALIASES

# The whole look waits for a lull, so that it does not stand in the way of the next repair.
LULL, LONGEST = 0.25, 10.0  # seconds
MOST = 256  # that are turned back meanwhile; each takes memory until it is told
# A write is told of just before it is stored.
STORED = (0.0005, 0.003, 0.02, 0.1)  # seconds between the looks at its sysctl

_REMEMBERED = 16  # judgements on one item

Wanted = Union[WantedModule, WantedSysctl]
Judgement = Union[Action, bool]  # what is to be done, or whether it is right


class _Held(NamedTuple):
    """What is to stay right, the kernel in which it was found so, and the judgements on what was found since."""

    wanted: Wanted
    kernel: Kernel
    judged: dict[object, Judgement]

    @property
    def group(self) -> str:
        return self.wanted.group if isinstance(self.wanted, WantedSysctl) else ""

    def judge(self, found: object, look: Callable[[Kernel, Any, Any], Plan]) -> Judgement:
        """Return the verdict on what was found, by the judgement of every look; the last ones are remembered."""
        known = self.judged.get(found)
        if known is None:
            if len(self.judged) >= _REMEMBERED:
                self.judged.clear()
            plan = look(self.kernel, self.wanted, found)
            known = self.judged[found] = plan.actions[0] if plan.actions else plan.findings[0].right
        return known

    def judge_now(self, host: Host) -> Judgement:
        """Do so with what is there at this moment."""
        if isinstance(self.wanted, WantedModule):
            return self.judge(host.module_state(self.wanted.name), judged_module)
        return self.judge(host.read_sysctl(self.wanted.key), judged_sysctl)


class Reflex:
    """For the loop's thread alone. `evidence` and `fights` are what the whole look goes on with.

    `hear` may be given: what adds to the evidence all that was told of by now.
    """

    def __init__(self, host: Host, mailbox: Mailbox, clock: Callable[[], float] = time.monotonic) -> None:
        self._host, self._mailbox, self._clock = host, mailbox, clock
        self.hear: Callable[[], None] = lambda: None
        self._held: dict[str, _Held] = {}
        self._turned: list[Turned] = []
        self._unnamed: list[tuple[Wanted, Turned, Collection[Turned]]] = []
        self._expected: dict[str, object] = {}  # the last write to each that was told of and may not be stored yet
        self._first = self._last = 0.0
        self._looking = False
        self._left: frozenset[str] = frozenset()
        self.evidence = Evidence(clock)
        self.fights = Fights()

    def arm(self, done: Reconciled, left_alone: Collection[str]) -> None:
        """Hold what was right at the last look, or cannot be read since then, but for what is to be left alone."""
        findings: tuple[Finding, ...] = (*done.after.modules, *done.after.sysctls)
        before, self._held, self._left = self._held, {}, frozenset()
        for finding in findings:
            if (finding.right or stands(finding)) and finding.name not in left_alone:
                old, new = before.get(finding.name), _Held(finding.wanted, done.kernel, {})
                self._held[finding.name] = old if old and old[:2] == new[:2] else new

    def take(self) -> tuple[Turned, ...]:
        """Return what was turned back since this was last asked, for a look that begins now."""
        self._name()
        turned, self._turned = tuple(self._turned), []
        self._looking = False
        # A held value is right, so that the recorded writes are over, or were in another network namespace.
        self.evidence.settle(self._held.__contains__, self._clock())
        return turned

    def turn_back_others(self, names: Collection[str]) -> None:
        """Do what is due by now, but nothing about these until the look that acts upon them has ended."""
        self._left = self._left.union(names)
        self.hear()
        self._mailbox.serve()

    @property
    def untold(self) -> bool:
        """Tell whether there is something to take."""
        return bool(self._turned or self._unnamed)

    def told(self, name: str) -> bool:
        """Turn back what an event tells of; return whether that was done or nothing was to be done."""
        return self._turn(ALIASES.get(name, name), self._clock()) is not False

    def turn_back(self, name: str) -> Optional[str]:
        """Turn back what a sysctl is just now; return the value that was found, or None if nothing was turned back."""
        turned = self._turn(ALIASES.get(name, name), self._clock())
        action = turned.action if isinstance(turned, Turned) else None
        return action.found if isinstance(action, WriteSysctl) else None

    def wanted(self, name: str, value: str) -> bool:
        """Tell whether a value that is about to be written is right, so that there is nothing to turn back."""
        held = self._held.get(ALIASES.get(name, name))
        if held is None or not isinstance(held.wanted, WantedSysctl):
            return False
        return held.judge(value, judged_sysctl) is True

    def expect(self, name: str) -> None:
        """Turn back a write that is about to be stored, as soon as it is; what cannot be is left to the whole look."""
        name = ALIASES.get(name, name)
        self._expected[name] = this = object()
        self._try(name, this, self._clock(), 0)

    def _try(self, name: str, this: object, since: float, tries: int) -> None:
        if self._expected.get(name) is not this:
            return  # it was turned back meanwhile, or written again
        done = self._turn(name, since)
        if name not in self._expected:
            return
        if tries < len(STORED):
            self._mailbox.later(STORED[tries], lambda: self._try(name, this, since, tries + 1))
            return
        del self._expected[name]
        if done is False:
            self._mailbox.put(ReasonKind.SYSCTL, name)

    def _turn(self, name: str, since: float) -> Union[Turned, bool]:
        """Turn back what is not right; False is for the whole look."""
        if name in self._left:
            return True
        held = self._held.get(name)
        if held is None:
            return False
        turned = self._turn_held(held, since)
        if isinstance(turned, bool):
            return turned
        brought = self._bring(name, since) if isinstance(held.wanted, WantedModule) else []
        self._expected.pop(name, None)
        self._unnamed.append((held.wanted, turned, brought))
        self._mailbox.later(0.0, self._name)  # another repair that is due comes first
        return turned

    def _bring(self, module: str, since: float) -> list[Turned]:
        """Write the sysctls that came with a module at the kernel's defaults; that is no fight with anybody."""
        brought = []
        for held in self._held.values():
            wanted = held.wanted
            if isinstance(wanted, WantedSysctl) and wanted.provider == module and wanted.key not in self._left:
                turned = self._turn_held(held, since)
                if not isinstance(turned, bool):
                    brought.append(turned)
        return brought

    def _turn_held(self, held: _Held, since: float) -> Union[Turned, bool]:
        """Return what was done and is proved, or whether it is right without; what was not kept is not."""
        try:
            action = held.judge_now(self._host)
            if isinstance(action, bool):
                return action
            read = self._clock()
            outcome = act(self._host, action)
            kept = outcome.kept or (not outcome.error and held.judge_now(self._host) is True)
        except OSError:  # it cannot be read
            return False
        return kept and Turned(action, since, read, self._clock(), group=held.group)

    def _name(self) -> None:
        unnamed, self._unnamed = self._unnamed, []
        if not unnamed:
            return
        # The evidence of the first drift of each is kept for the others, too.
        firsts = {turned.action.name: turned.since for _, turned, _ in reversed(unnamed)}
        for name, since in firsts.items():
            self.evidence.settle(name.__eq__, since)
        self.hear()
        for wanted, turned, brought in unnamed:
            self._after(wanted, turned, brought)

    def _after(self, wanted: Wanted, turned: Turned, brought: Collection[Turned]) -> None:
        """Name who made a drift that was turned back, and count it in the fight that it may be."""
        action = turned.action
        found = action.found if isinstance(action, WriteSysctl) else ""
        seen = self.evidence.explain(action.name, found, turned.read)
        self._turned += (turned._replace(seen=seen), *brought)
        self.look_soon()
        if isinstance(wanted, WantedModule):
            return
        rival, how = (seen.named, seen.attribution) if seen else ("", Attribution.UNKNOWN)
        self.fights = self.fights.repaired(action.name, turned.until, rival, wanted.policy is Policy.YIELD, how)
        if action.name in self.fights.left_alone(periodic=False):
            self._held.pop(action.name, None)
            self._mailbox.put(ReasonKind.SYSCTL, action.name)

    def look_soon(self) -> None:
        """Have the whole looked at after a lull."""
        now = self._last = self._clock()
        if not self._looking:
            self._looking, self._first = True, now
            self._mailbox.later(LULL, self._look)

    def _look(self) -> None:
        if not self._looking:
            return  # there was a look meanwhile
        now = self._clock()
        due = min(self._last + LULL, self._first + LONGEST)
        if now >= due or len(self._turned) >= MOST:
            self._mailbox.put(ReasonKind.SYSCTL, "turned back")
        else:
            self._mailbox.later(due - now, self._look)
