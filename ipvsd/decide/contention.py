"""Stop fighting: what another writer changes again and again is left alone but for the periodic look."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import NamedTuple, Optional

from ipvsd.model.report import Attribution
from ipvsd.model.types import NOTHING


class Limit(NamedTuple):
    """More than `repairs` within `window` are a fight; one that was right for `quiet` is over. Seconds.

    Counted as a bucket that leaks `repairs` in each window, and is a fight when it runs over.
    """

    repairs: int = 20
    window: float = 60.0
    quiet: float = 300.0


class Fight(NamedTuple):
    """`level` is that of the bucket at `last`, the last repair; `since` is when it ran over. Monotonic seconds."""

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
        return self.attribution.by(self.rival)

    @property
    def contended(self) -> bool:
        return self.since is not None


class Fights(NamedTuple):
    """The fights over sysctls, by name; those that are none yet included."""

    limit: Limit = Limit()
    by_name: Mapping[str, Fight] = NOTHING

    def repaired(
        self,
        name: str,
        now: float,
        rival: str,
        gives_in: bool = False,
        attribution: Attribution = Attribution.LIKELY,
    ) -> Fights:
        """Return the fights after one more repair; `gives_in` says that the other writer may have it for good.

        An empty `rival` was not seen: it is taken for the one before it.
        """
        old = self.by_name.get(name, Fight())
        level = self._level(old, now) + 1.0
        since = now if old.since is None and level > self.limit.repairs else old.since
        yielded = old.yielded or (gives_in and since is not None)
        who, how = (rival, attribution) if rival else (old.rival, old.attribution)
        fight = Fight(level, now, who, since, now, yielded, how)
        return self._replace(by_name={**self.by_name, name: fight})

    def looked(self, right: Collection[str], wrong: Collection[str], now: float) -> Fights:
        """Return the fights after a look; what is neither right nor wrong is of no interest any more."""
        kept: dict[str, Fight] = {}
        for name, fight in self.by_name.items():
            if name in wrong:
                kept[name] = fight._replace(wrong=now)
            elif name in right and (fight.yielded or self._lasts(fight, now)):
                kept[name] = fight
        return self._replace(by_name=kept)

    def _level(self, fight: Fight, now: float) -> float:
        return max(0.0, fight.level - (now - fight.last) * self.limit.repairs / self.limit.window)

    def _lasts(self, fight: Fight, now: float) -> bool:
        if fight.contended:
            return now - fight.wrong < self.limit.quiet
        return self._level(fight, now) > 0.0

    def contended(self) -> Mapping[str, Fight]:
        """Return the fights that are ones."""
        return {name: fight for name, fight in self.by_name.items() if fight.contended}

    def left_alone(self, periodic: bool) -> frozenset[str]:
        """Return what must not be written now; `periodic` says that this is a periodic look."""
        return frozenset(name for name, fight in self.contended().items() if fight.yielded or not periodic)
