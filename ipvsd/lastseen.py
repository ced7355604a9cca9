"""What was known of an item before it could not be read any more."""

from __future__ import annotations

from typing import Callable, Optional, TypeVar

from ipvsd.health import unreadable
from ipvsd.model import ModuleFinding, Plan, SysctlFinding
from ipvsd.present import timestamp
from ipvsd.report import Report

FIRST_PAUSE = 0.25  # seconds

_Found = TypeVar("_Found", ModuleFinding, SysctlFinding)


class LastSeen:
    """Remembers the last verdict on each item that cannot be read, and when it was given.

    `due` is when to look at them again, on the clock, or None: soon, and ever less often while that is in vain.
    """

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._was: dict[str, str] = {}
        self._pause = 0.0
        self.due: Optional[float] = None

    def told(self, plan: Plan, before: Optional[Report], longest: float) -> Plan:
        """Return the plan in which what cannot be read has its last verdict; `before` tells of the look before.

        `longest` is the longest pause, in seconds.
        """
        unread = {finding.name for finding in plan.findings if unreadable(finding)}
        if not unread:
            self._pause, self.due = 0.0, None
        elif self.due is None or self._clock() >= self.due:
            self._pause = min(longest, 2 * self._pause or FIRST_PAUSE)
            self.due = self._clock() + self._pause
        self._was = {name: text for name, text in self._was.items() if name in unread}
        for finding in before.findings if before and unread else ():
            if finding.name in unread and not unreadable(finding):
                assert before
                self._was[finding.name] = f"{finding.verdict.value} at {timestamp(before.time)[:19]}Z"
        if not self._was:
            return plan
        return plan._replace(
            modules=tuple(map(self._dated, plan.modules)),
            sysctls=tuple(map(self._dated, plan.sysctls)),
            parameters=tuple(map(self._dated, plan.parameters)),
        )

    def _dated(self, finding: _Found) -> _Found:
        was = self._was.get(finding.name)
        return finding._replace(evidence=f"{finding.evidence}; was {was}") if was else finding
