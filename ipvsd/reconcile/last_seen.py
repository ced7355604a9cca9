"""The last verdicts on items that cannot be read any more."""

from __future__ import annotations

import time
from collections.abc import Mapping
from typing import Callable, Optional, TypeVar, Union

from ipvsd.decide.aggregate import by_pattern
from ipvsd.decide.health import outdated, unreadable, want
from ipvsd.model.types import LastVerdict, ModuleFinding, Plan, SysctlFinding
from ipvsd.model.value_texts import text_of
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict

FIRST_PAUSE = 0.25  # seconds
_RIGHT = (ModuleVerdict.LIVE, ModuleVerdict.BUILT_IN, SysctlVerdict.COMPLIANT)

_Found = TypeVar("_Found", ModuleFinding, SysctlFinding)
_Seen = tuple[Union[ModuleVerdict, SysctlVerdict], object]  # the verdict, and the desired value


class LastSeen:
    """Remembers the last verdicts. `due` is the time of the next read of unreadable items on the clock, or None."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._seen: Mapping[str, _Seen] = {}
        self._at = self._since = 0.0
        self._was: dict[str, tuple[_Seen, float, float]] = {}
        self._unread: frozenset[str] = frozenset()
        self._pause = 0.0
        self.due: Optional[float] = None

    def complete(self, plan: Plan, wall: float, boottime: float, longest: float) -> Plan:
        """Return the plan of a reconciliation, in which unreadable items have their last verdict.

        `wall` is in seconds since the epoch, and `boottime` includes suspended time. `longest` is the interval of the
        resync, which limits the delay.
        """
        # Findings of a pattern are reported as one, and its matches may be unknown.
        groups = (finding for finding in by_pattern(plan.sysctls) if finding.desired.pattern)
        found = {finding.name: finding for finding in (*plan.findings, *groups)}
        unread = frozenset(name for name, finding in found.items() if unreadable(finding))
        self._plan_next(unread, longest)
        known = {name: self._was[name] for name in unread & self._was.keys()}
        new = {name: (self._seen[name], self._at, self._since) for name in unread & self._seen.keys()}
        self._was = {**known, **new}
        pairs: dict[_Seen, _Seen] = {}  # shares equal pairs, because there can be thousands
        seen = {name: (item.verdict, want(item)) for name, item in found.items() if name not in unread}
        self._seen = {name: pairs.setdefault(pair, pair) for name, pair in seen.items()}
        self._at, self._since = wall, boottime
        if not self._was:
            return plan

        def dated(finding: _Found) -> _Found:
            was = self._was.get(finding.name)
            if was is None or was[0][1] != want(finding):
                return finding
            (verdict, _), at, since = was
            stands = verdict in _RIGHT and not outdated(boottime - since, longest)
            seen_at = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at))
            evidence = f"{finding.evidence}; last verdict {text_of(verdict)}, at {seen_at}"
            return finding._replace(evidence=evidence, last_verdict=LastVerdict(verdict, at, stands))

        return plan._replace(
            modules=tuple(map(dated, plan.modules)),
            sysctls=tuple(map(dated, plan.sysctls)),
            parameters=tuple(map(dated, plan.parameters)),
        )

    def _plan_next(self, unread: frozenset[str], longest: float) -> None:
        if not unread <= self._unread:
            self._pause, self.due = 0.0, None  # the cause can end soon for newly unreadable items
        self._unread = unread
        if not unread:
            self._pause, self.due = 0.0, None
        elif self.due is None or self._clock() >= self.due:
            self._pause = min(longest, 2 * self._pause or FIRST_PAUSE)
            self.due = self._clock() + self._pause
