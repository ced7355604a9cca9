"""Patterns for the names that match one pattern but none of several others. sysctl.d(5) has no exceptions.

The module reads all patterns in parallel, letter by letter. As soon as no other pattern can match, the rest of the
first one is the result: `*` without `ve*` is `[!v]*`, `v[!e]*` and `v` alone. A long pattern is split into many
patterns. Read from the end, `*` without `*.100` is as simple.
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from typing import Optional

from ipvsd.sysctl.globs import STAR, Token, tokens

_MAX_PATTERNS = 128  # the maximum number of patterns in a result
_BYTES = frozenset(map(chr, range(1, 256))) - {"/"}

_Set = frozenset[str]
_Pattern = tuple[Optional[_Set], ...]  # the letters that match at each position; None is a star
_State = frozenset[int]  # possible positions in a pattern


class _TooManyError(Exception):
    """The result would consist of too many patterns."""


def subtract(pattern: str, others: Collection[str], max_length: Optional[int] = None) -> Optional[tuple[str, ...]]:
    """Return patterns that match what `pattern` matches and none of `others` does, or None if there are too many.

    Names have at most `max_length` characters. Without a maximum, a pattern for each length would be needed.
    """
    first, rest = _read(pattern), [_read(other) for other in others]
    found = _one_by_one(first, rest, max_length)
    return None if found is None else tuple("".join(map(_as_character_class, item)) for item in found)


def _one_by_one(pattern: _Pattern, others: Sequence[_Pattern], max_length: Optional[int]) -> Optional[list[_Pattern]]:
    """Subtract all patterns at once from one end, if possible, and otherwise one after the other."""
    for way in (slice(None), slice(None, None, -1)):
        try:
            return [item[way] for item in _subtract(pattern[way], [other[way] for other in others], max_length)]
        except _TooManyError:
            pass
    if len(others) < 2:
        return None
    first = _one_by_one(pattern, others[:1], max_length)
    rests = [_one_by_one(item, others[1:], max_length) for item in first or ()]
    found = [item for rest in rests for item in rest or ()]
    return None if first is None or None in rests or len(found) > _MAX_PATTERNS else found


def _subtract(pattern: _Pattern, others: Sequence[_Pattern], max_length: Optional[int]) -> list[_Pattern]:
    found: list[_Pattern] = []
    pending: list[tuple[_Pattern, _State, list[tuple[_Pattern, _State]]]] = [
        ((), _with_stars(pattern, {0}), [(other, _with_stars(other, {0})) for other in others])
    ]
    while pending:
        before, state, against = pending.pop()
        against = [(other, places) for other, places in against if places]
        if not state or any(_takes_all(*item) for item in against):
            continue
        if not against:
            found += [(*before, *pattern[place:]) for place in state if not _behind_star(pattern, state, place)]
        else:
            if before and len(pattern) in state and not any(len(other) in places for other, places in against):
                found.append(before)
            if len(before) == max_length:
                continue
            for letters in _equivalence_classes(pattern, state, against):
                letter = min(letters)
                after = [(other, _advance(other, places, letter)) for other, places in against]
                pending.append(((*before, letters), _advance(pattern, state, letter), after))
        if len(found) > _MAX_PATTERNS or len(before) > _MAX_PATTERNS or len(pending) > _MAX_PATTERNS * _MAX_PATTERNS:
            raise _TooManyError
    return found


def _read(pattern: str) -> _Pattern:
    return tuple(None if token is STAR else _letters(token) for token in tokens(pattern))


def _letters(token: Token) -> _Set:
    if token.literal is not None:
        return frozenset(token.literal)
    fits = re.compile(token.regex, re.DOTALL).match
    return frozenset(letter for letter in _BYTES if fits(letter))


def _with_stars(pattern: _Pattern, places: set[int]) -> _State:
    """Return the positions, and those after a star there, which can match nothing. Stars never follow each other."""
    return frozenset((*places, *(place + 1 for place in places if place < len(pattern) and pattern[place] is None)))


def _advance(pattern: _Pattern, state: _State, letter: str) -> _State:
    after: set[int] = set()
    for place in state:
        if place < len(pattern):
            letters = pattern[place]
            if letters is None:
                after.add(place)
            elif letter in letters:
                after.add(place + 1)
    return _with_stars(pattern, after)


def _takes_all(pattern: _Pattern, state: _State) -> bool:
    """Return whether a pattern matches any continuation."""
    return bool(pattern) and pattern[-1] is None and len(pattern) - 1 in state


def _behind_star(pattern: _Pattern, state: _State, place: int) -> bool:
    """Return whether the position follows a star that can match nothing, so that the star covers it."""
    return place - 1 in state and pattern[place - 1] is None


def _equivalence_classes(
    pattern: _Pattern, state: _State, against: Sequence[tuple[_Pattern, _State]]
) -> Iterator[_Set]:
    """Yield sets of letters that all patterns treat alike, without those that the first pattern does not match."""
    classes = [_BYTES]
    for item, places in ((pattern, state), *against):
        for letters in (item[place] for place in places if place < len(item)):
            if letters is not None:
                split = [part for known in classes for part in (known & letters, known - letters)]
                classes = [part for part in split if part]
    yield from (letters for letters in classes if _advance(pattern, state, min(letters)))


def _as_character_class(letters: Optional[_Set]) -> str:
    if letters is None:
        return "*"
    if letters == _BYTES:
        return "?"
    if len(letters) == 1:
        (letter,) = letters
        return f"\\{letter}" if letter in "*?[\\" else letter
    negated = len(letters) > len(_BYTES) // 2
    content = "".join(sorted(_BYTES - letters if negated else letters))
    # A hyphen is last, and special characters are escaped.
    content = re.sub(r"[\]\[\\!^]", r"\\\g<0>", content.replace("-", "")) + ("-" if "-" in content else "")
    return f"[{'!' if negated else ''}{content}]"
