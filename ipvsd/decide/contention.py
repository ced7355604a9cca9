"""Contention: a sysctl that another program changes again and again is written at full checks only."""

from __future__ import annotations

from typing import NamedTuple, Optional

from ipvsd.model.report import Attribution


class Limit(NamedTuple):
    """More than `repairs` within `window` are contention; it is over after `quiet` without a drift. Seconds.

    Counted as a bucket that leaks `repairs` in each window, and is contention when it runs over.
    """

    repairs: int = 20
    window: float = 60.0
    quiet: float = 300.0


class Contention(NamedTuple):
    """The repairs of one sysctl, whether they are contention yet or not. Times are monotonic seconds.

    `level` is that of the bucket at `last`, the last repair; `since` is when it ran over.
    """

    level: float = 0.0
    last: float = 0.0
    rival: str = "an unknown writer"  # the last one that was seen
    since: Optional[float] = None
    wrong: float = 0.0  # when it was last seen wrong
    yielded: bool = False
    attribution: Attribution = Attribution.UNKNOWN  # how sure it is that the rival wrote it

    @property
    def by(self) -> str:
        """The rival, in the words of a sentence."""
        return self.attribution.describe(self.rival)

    @property
    def contended(self) -> bool:
        return self.since is not None

    def suspended(self, full: bool) -> bool:
        """Tell whether the sysctl must not be written now; `full` says that this is a full check."""
        return self.contended and (self.yielded or not full)

    def repaired(
        self,
        limit: Limit,
        now: float,
        rival: str,
        yields: bool = False,
        attribution: Attribution = Attribution.LIKELY,
    ) -> Contention:
        """Return it after one more repair; `yields` says that the other program may have the sysctl for good.

        An empty `rival` was not seen: it is taken for the one before it.
        """
        level = self._level(limit, now) + 1.0
        since = now if self.since is None and level > limit.repairs else self.since
        yielded = self.yielded or (yields and since is not None)
        who, how = (rival, attribution) if rival else (self.rival, self.attribution)
        return Contention(level, now, who, since, now, yielded, how)

    def checked(self, limit: Limit, compliant: bool, now: float) -> Optional[Contention]:
        """Return it after a check; None if it is over."""
        if not compliant:
            return self._replace(wrong=now)
        return self if self.yielded or self._lasts(limit, now) else None

    def _level(self, limit: Limit, now: float) -> float:
        return max(0.0, self.level - (now - self.last) * limit.repairs / limit.window)

    def _lasts(self, limit: Limit, now: float) -> bool:
        return now - self.wrong < limit.quiet if self.contended else self._level(limit, now) > 0.0
