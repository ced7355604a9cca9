"""Match a name with any number of globs at once, in time that depends on the name alone.

The states of all globs are the bits of one number. Each character of a name takes a few operations on this number
(Baeza-Yates and Gonnet, A New Approach to Text Searching, 1992).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from ipvsd.sysctl.globs import STAR, Token, mask, tokens


class GlobAutomaton:
    """Globs with numbers below `size`. A glob can have several numbers, but no two globs have one in common."""

    def __init__(self, globs: Iterable[tuple[str, Sequence[int]]], size: int, length: int) -> None:
        """No name has more than `length` characters. Longer globs take neither time nor memory."""
        parsed = [(list(tokens(text)), numbers) for text, numbers in globs]
        needed = [(sum(token is not STAR for token in found), found, numbers) for found, numbers in parsed]
        needed = [glob for glob in needed if glob[0] <= length]
        self._size = size
        # A glob advances by one level with each character that one of its tokens matches. All end at the last level.
        self._last = max((count for count, _, _ in needed), default=0)
        starts: list[int] = []
        hidden: list[int] = []
        stars: list[int] = []
        self._tokens: dict[Token, list[int]] = {}
        for count, found, numbers in needed:
            level = self._last - count
            starts += (level * size + number for number in numbers)
            if found and found[0].literal == ".":
                hidden += (level * size + number for number in numbers)
            for token in found:
                places = stars if token is STAR else self._tokens.setdefault(token, [])
                places += (level * size + number for number in numbers)
                level += token is not STAR
        self._starts, self._hidden, self._stars = mask(starts), mask(hidden), mask(stars)
        self._regexes = [re.compile(token.regex, re.DOTALL) for token in self._tokens if token.literal is None]
        self._others = [places for token, places in self._tokens.items() if token.literal is None]
        self._literals = {token.literal: places for token, places in self._tokens.items() if token.literal is not None}
        self._advancing: dict[str, int] = {}  # by character: the states that it advances

    def matching(self, name: str, hidden: bool = False) -> int:
        """Return the mask of the matching globs. With `hidden`, these begin with a literal dot."""
        state = self._hidden if hidden else self._starts
        for character in name:
            advancing = self._advancing.get(character)
            if advancing is None:
                advancing = self._advancing[character] = self._find_advancing(character)
            state = (state & advancing) << self._size | state & self._stars
        return state >> self._last * self._size

    def _find_advancing(self, character: str) -> int:
        places = list(self._literals.get(character, ()))
        for regex, others in zip(self._regexes, self._others):
            if regex.match(character):
                places += others
        return mask(places)
