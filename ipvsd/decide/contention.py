"""Contention: ipvsd writes a sysctl that another program changes repeatedly only at a resync."""

from __future__ import annotations

from typing import NamedTuple, Optional

from ipvsd.model.report import Attribution


class Limit(NamedTuple):
    """More than `repairs` within `window` are contention. It ends after `quiet` without drift. Times are in seconds.

    The count is a leaky bucket: it loses `repairs` in each window, and contention begins when it overflows.
    """

    repairs: int = 20
    window: float = 60.0
    quiet: float = 300.0


class Contention(NamedTuple):
    """The repairs of one sysctl, contended or not. Times are monotonic seconds.

    `level` is that of the bucket at `last`, the last repair. `since` is the time at which it overflowed.
    """

    level: float = 0.0
    last: float = 0.0
    conflicting_program: str = "an unknown writer"  # the last one that was seen
    since: Optional[float] = None
    wrong: float = 0.0  # time of the last non-compliant reading
    yielded: bool = False
    attribution: Attribution = Attribution.UNKNOWN  # how sure it is that that program wrote it

    @property
    def by(self) -> str:
        return self.attribution.describe(self.conflicting_program)

    @property
    def contended(self) -> bool:
        return self.since is not None

    def suspended(self, full: bool) -> bool:
        """Return whether the sysctl must not be written now. `full` means that this is a resync."""
        return self.contended and (self.yielded or not full)

    def repaired(
        self,
        limit: Limit,
        now: float,
        conflicting_program: str,
        yields: bool = False,
        attribution: Attribution = Attribution.LIKELY,
    ) -> Contention:
        """Return the state after one more repair. An empty `conflicting_program` is taken for the one before it."""
        level = self._level(limit, now) + 1.0
        since = now if self.since is None and level > limit.repairs else self.since
        yielded = self.yielded or (yields and since is not None)
        if not conflicting_program:
            conflicting_program, attribution = self.conflicting_program, self.attribution
        return Contention(level, now, conflicting_program, since, now, yielded, attribution)

    def checked(self, limit: Limit, compliant: bool, now: float) -> Optional[Contention]:
        """Return the state after a check, or None if it has ended."""
        if not compliant:
            return self._replace(wrong=now)
        lasts = now - self.wrong < limit.quiet if self.contended else self._level(limit, now) > 0.0
        return self if self.yielded or lasts else None

    def _level(self, limit: Limit, now: float) -> float:
        return max(0.0, self.level - (now - self.last) * limit.repairs / limit.window)
