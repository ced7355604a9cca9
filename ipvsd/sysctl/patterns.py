"""Match many patterns of paths at once, part by part, with a path or with the directories that exist.

Patterns with a common beginning share its nodes, so the cost depends on the number of paths.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Sequence
from typing import Optional

from ipvsd.sysctl import sysctl_names
from ipvsd.sysctl.globs import Glob, Globs
from ipvsd.sysctl.sysctl_names import Path


class _Node:
    __slots__ = ("_globs", "exact", "numbers", "wild")

    def __init__(self) -> None:
        self.exact: dict[str, _Node] = {}
        self.wild: dict[str, _Node] = {}
        self.numbers: list[int] = []  # of the patterns that end here
        self._globs: Optional[tuple[Globs, Sequence[_Node]]] = None

    def next(self, part: str, period: bool) -> Iterator[_Node]:
        if part in self.exact:
            yield self.exact[part]
        if self.wild:
            if self._globs is None:
                self._globs = Globs(self.wild), tuple(self.wild.values())
            globs, nodes = self._globs
            yield from (nodes[number] for number in globs.matching(part, period))


class Patterns:
    """Numbered sequences of globs. With `period`, a leading dot of a part must match a literal dot (glob(3))."""

    def __init__(self, patterns: Iterable[Sequence[str]], period: bool = False) -> None:
        self._period = period
        self._top = _Node()
        for number, pattern in enumerate(patterns):
            node = self._top
            for part in pattern:
                glob = Glob(part)
                children, key = (node.exact, glob.literal) if glob.exact else (node.wild, part)
                node = children.setdefault(key, _Node())
            node.numbers.append(number)

    def matching(self, path: Path) -> list[int]:
        nodes = [self._top]
        for part in path:
            nodes = [after for node in nodes for after in node.next(part, self._period)]
        return sorted(number for node in nodes for number in node.numbers)

    def expand(self, list_directory: Callable[[Path], Collection[str]]) -> Iterator[tuple[Path, list[int]]]:
        """Yield each matching path, which may not exist without wildcards, and the numbers of the patterns."""
        pending: list[tuple[Path, list[_Node]]] = [((), [self._top])]
        while pending:
            path, nodes = pending.pop()
            numbers = sorted(number for node in nodes for number in node.numbers)
            if numbers:
                yield path, numbers
            names = dict.fromkeys(name for node in nodes for name in node.exact)
            if any(node.wild for node in nodes):
                names.update(dict.fromkeys(list_directory(path)))
            reached = ((name, [found for node in nodes for found in node.next(name, self._period)]) for name in names)
            pending += [((*path, name), after) for name, after in reached if after][::-1]


class Scope:
    """The sysctls of a pattern: those that it matches, unless a wildcard matches an excluded part."""

    def __init__(self, pattern: str, excludes: Collection[str] = ()) -> None:
        self._globs = [Glob(part) for part in sysctl_names.globs(pattern) or ()]
        self._excludes = [Glob(sysctl_names.glob(exclude)) for exclude in excludes]

    def __contains__(self, name: str) -> bool:
        return any(self._matches(path) for path in sysctl_names.paths(name))

    def _matches(self, path: Path) -> bool:
        if len(path) != len(self._globs) or not all(glob.matches(part) for glob, part in zip(self._globs, path)):
            return False
        wildcard_parts = [part for glob, part in zip(self._globs, path) if not glob.exact]
        return not any(exclude.matches(part) for exclude in self._excludes for part in wildcard_parts)
