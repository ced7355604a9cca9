"""Match many patterns of paths at once, part by part, with a path or with the directories that exist.

A set of patterns is a mask: a number whose bits are the numbers of the patterns. So each path takes a few steps,
however many patterns match it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Optional

from ipvsd.sysctl import sysctl_names
from ipvsd.sysctl.globs import Glob, has_wildcard, mask, numbers_of
from ipvsd.sysctl.sysctl_names import Path

if TYPE_CHECKING:
    from ipvsd.sysctl.glob_automaton import GlobAutomaton

# Globs of one part, up to which each is compared by itself. The patterns of the profiles need no automaton.
_FEW_GLOBS = 8
# Literal names of one part, up to which each is tried. For more, the directory is listed.
_FEW_NAMES = 32
_FEW_NUMBERS = 16  # patterns with one literal name, up to which its mask is not kept
_MAX_CACHED = 4096  # names of one part whose masks are kept


class _Part:
    """The globs of one part of all patterns."""

    __slots__ = ("_automata", "_cache", "_glob_masks", "_name_masks", "_period", "_size", "exact", "wild")

    def __init__(self, period: bool) -> None:
        self._period = period
        self.exact: dict[str, list[int]] = {}  # the numbers of the patterns by name
        self.wild: dict[str, list[int]] = {}  # and by glob
        self._name_masks: dict[str, int] = {}  # the masks of names that many patterns have
        self._glob_masks: Optional[list[tuple[Glob, int]]] = None
        self._size = 0
        self._automata: dict[int, GlobAutomaton] = {}
        self._cache: dict[str, int] = {}

    def add(self, text: str, number: int) -> None:
        self._size = number + 1
        if text in self.wild:
            self.wild[text].append(number)
        elif not has_wildcard(text):
            self.exact.setdefault(text, []).append(number)
        else:
            glob = Glob(text)
            numbers, key = (self.exact, glob.literal) if glob.exact else (self.wild, text)
            numbers.setdefault(key, []).append(number)

    def matching(self, name: str) -> int:
        """Return the mask of the patterns whose part matches a name."""
        return self.named(name) | (self._globs_matching(name) if self.wild else 0)

    def named(self, name: str) -> int:
        """Return the mask of the patterns whose part is exactly this name."""
        numbers = self.exact.get(name, ())
        if len(numbers) <= _FEW_NUMBERS:
            return sum(1 << number for number in numbers)
        if name not in self._name_masks:  # few names are in many patterns, so their masks take little memory
            self._name_masks[name] = mask(numbers)
        return self._name_masks[name]

    def _globs_matching(self, name: str) -> int:
        hidden = self._period and name.startswith(".")
        if len(self.wild) > _FEW_GLOBS:
            return self._automaton_matching(name, hidden)
        if self._glob_masks is None:
            self._glob_masks = [(Glob(text), mask(numbers)) for text, numbers in self.wild.items()]
        found = 0
        for glob, numbers in self._glob_masks:
            if (glob.hidden or not hidden) and glob.matches(name):
                found |= numbers
        return found

    def _automaton_matching(self, name: str, hidden: bool) -> int:
        found = self._cache.get(name)
        if found is None:
            from ipvsd.sysctl.glob_automaton import GlobAutomaton  # not for the patterns of the profiles

            # Most names are short, and need no long globs.
            bits = max(4, len(name).bit_length())
            automaton = self._automata.get(bits)
            if automaton is None:
                automaton = self._automata[bits] = GlobAutomaton(self.wild.items(), self._size, (1 << bits) - 1)
            if len(self._cache) >= _MAX_CACHED:
                self._cache.clear()
            found = self._cache[name] = automaton.matching(name, hidden)
        return found


class Patterns:
    """Numbered sequences of globs. With `period`, a leading dot of a part must match a literal dot (glob(3))."""

    def __init__(self, patterns: Iterable[Sequence[str]], period: bool = False) -> None:
        self._parts: list[_Part] = []
        by_length: dict[int, list[int]] = {}
        for number, pattern in enumerate(patterns):
            by_length.setdefault(len(pattern), []).append(number)
            while len(self._parts) < len(pattern):
                self._parts.append(_Part(period))
            for part, text in zip(self._parts, pattern):
                part.add(text, number)
        self._of_length = {length: mask(numbers) for length, numbers in by_length.items()}

    def matching_mask(self, path: Path) -> int:
        """Return the mask of the matching patterns."""
        found = self._of_length.get(len(path), 0)
        for part, name in zip(self._parts, path):
            if not found:
                break
            found &= part.matching(name)
        return found

    def matching(self, path: Path) -> list[int]:
        """Return the numbers of the matching patterns, in order."""
        return numbers_of(self.matching_mask(path))

    def last(self, path: Path) -> Optional[int]:
        """Return the highest number of a matching pattern, or None."""
        found = self.matching_mask(path)
        return found.bit_length() - 1 if found else None

    def expand(
        self, list_directory: Callable[[Path], Collection[str]], errors: list[tuple[int, OSError]]
    ) -> Iterator[tuple[Path, int]]:
        """Yield each matching path, which may not exist without wildcards, and the mask of the patterns.

        For a directory that cannot be listed, add the mask of the patterns that need it to `errors`.
        """
        pending: list[tuple[Path, int]] = [((), sum(self._of_length.values()))]
        while pending:
            path, active = pending.pop()
            ended = active & self._of_length.get(len(path), 0)
            if ended:
                yield path, ended
            longer = active & ~ended
            if longer:
                part = self._parts[len(path)]
                named, unlisted = _candidates(part, longer)
                listed: Collection[str] = ()
                if unlisted:
                    try:
                        listed = list_directory(path)
                    except OSError as error:
                        errors.append((unlisted, error))
                names = dict.fromkeys((*named, *listed))
                reached = ((name, longer & part.matching(name)) for name in names)
                pending += [((*path, name), after) for name, after in reached if after][::-1]


def _candidates(part: _Part, active: int) -> tuple[Collection[str], int]:
    """Return the literal names in a part of the active patterns, and the mask of those that need a listing."""
    if len(part.exact) > _FEW_NAMES:
        return (), active
    named = {name: found for name in part.exact for found in [active & part.named(name)] if found}
    return named, active & ~sum(named.values())


class Matches(Mapping[str, Sequence[str]]):
    """The sysctls that match each pattern. `masks` contains the mask of the matching patterns by sysctl."""

    def __init__(self, patterns: Iterable[str], masks: Mapping[str, int]) -> None:
        self.patterns, self.masks = tuple(patterns), masks
        self._lists: Optional[dict[str, list[str]]] = None

    def __getitem__(self, pattern: str) -> Sequence[str]:
        if self._lists is None:  # this can need much more memory than the masks
            self._lists = {known: [] for known in self.patterns}
            for name, found in self.masks.items():
                for number in numbers_of(found):
                    self._lists[self.patterns[number]].append(name)
        return self._lists[pattern]

    def __iter__(self) -> Iterator[str]:
        return iter(self.patterns)

    def __len__(self) -> int:
        return len(self.patterns)


def merge(found: Iterable[tuple[str, int]]) -> Mapping[str, int]:
    """Return one mask for each sysctl, which can occur several times. Equal masks are stored once."""
    masks: dict[str, int] = {}
    known: dict[int, int] = {}
    for name, numbers in found:
        every = masks.get(name, 0) | numbers
        masks[name] = known.setdefault(every, every)
    return masks


def split(
    patterns: Sequence[str], masks: Mapping[str, int], errors: Iterable[tuple[int, OSError]]
) -> tuple[Matches, Mapping[str, OSError]]:
    """Return the matches of the patterns without an error in `errors`, and the first error of each other one."""
    failed = 0
    found: dict[str, OSError] = {}
    for numbers, error in errors:
        found.update(dict.fromkeys((patterns[number] for number in numbers_of(numbers & ~failed)), error))
        failed |= numbers
    return Matches(patterns, {name: of & ~failed for name, of in masks.items()}), found


def renumber(found: Mapping[str, Collection[str]], patterns: Sequence[str]) -> Matches:
    """Return the matches of these patterns, numbered in this order. The same order as in `found` takes least time."""
    wanted = set(patterns)
    if isinstance(found, Matches) and tuple(filter(wanted.__contains__, found.patterns)) == tuple(patterns):
        others = [number for number, pattern in enumerate(found.patterns) if pattern not in wanted]
        return Matches(patterns, {name: _without(numbers, others) for name, numbers in found.masks.items()})
    numbered = enumerate(patterns)
    return Matches(patterns, merge((name, 1 << number) for number, key in numbered for name in found.get(key, ())))


def _without(numbers: int, others: Sequence[int]) -> int:
    """Return a mask in which some bits are removed, and those above them have moved down."""
    for other in reversed(others):
        numbers = numbers >> other + 1 << other | numbers & (1 << other) - 1
    return numbers


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
