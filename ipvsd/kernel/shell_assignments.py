"""Read the variables of a file that a POSIX shell sources, such as os-release(5), without running anything.

Quotes, escapes, comments, line continuations and `export` have the same meaning as in dash. A reference to a variable
that the file has assigned is replaced. If the file contains anything else, such as a condition or another command, no
value is certain. The shell stops at an unclosed quote, and so does this parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Optional

_MAX_EXPANDED = 1 << 20  # characters of all references in a file: `A=$A$A` doubles the value with each line
_BEFORE_WORD = re.compile(r"(?:[ \t]|\\\n|#[^\n]*)*")
_PLAIN = re.compile(r"[^ \t\n\\'\"$`;&|<>()]+")
_QUOTED = re.compile(r"[^\\\"$`]+")
_NAME = re.compile(r"[A-Za-z_][A-Za-z0-9_]*")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)=")
# These are compiled when a file has a `$`.
_REFERENCE = r"\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*)"
_NESTED = "(?s)\\\\.|\\$\\(|\\$\\{|[\"'`(){}]"
_ENDS = {"$(": ")", "${": "}", "(": ")", '"': '"', "`": "`"}
_PARAMETERS = "0123456789@*#?$!-"


class Value(NamedTuple):
    """A value. It is not `certain` if the file is not plain, or if it depends on a command or on the environment."""

    text: str
    certain: bool = True


class _Word(NamedTuple):
    text: str
    literal: str  # the text up to the first quote, escape or reference
    certain: bool


class _UnclosedError(Exception):
    """A quote or a substitution has no end."""


def parse(text: str) -> Mapping[str, Value]:
    """Return the variables that a shell has set after reading the whole text."""
    return _Shell(text).variables()


def certain(text: str, name: str) -> Optional[str]:
    """Return the value of a variable, or None if it is unset or not certain."""
    value = parse(text).get(name)
    return value.text if value and value.certain else None


class _Shell:
    def __init__(self, text: str) -> None:
        self._text, self._at = text, 0
        self._variables: dict[str, Value] = {}
        self._replaced: list[tuple[str, Optional[Value]]] = []  # the values before the current line
        self._plain = True  # so far, the file has only assignments
        self._budget = _MAX_EXPANDED

    def variables(self) -> Mapping[str, Value]:
        try:
            while self._at < len(self._text):
                self._command()
        except _UnclosedError:  # the shell runs nothing of the line
            for name, value in reversed(self._replaced):
                if value is None:
                    self._variables.pop(name, None)
                else:
                    self._variables[name] = value
        return {name: Value(value.text, value.certain and self._plain) for name, value in self._variables.items()}

    def _command(self) -> None:
        """Read up to the end of a command."""
        exports, is_empty = False, True
        while self._at < len(self._text):
            self._skip_blanks()
            start = self._at
            word = self._word()
            if word is None:
                end = self._text[self._at : self._at + 1]
                self._at += 1
                self._plain = self._plain and (end in ("", "\n") or (end == ";" and not is_empty))
                if end == "\n":
                    self._replaced.clear()
                return
            found = _ASSIGNMENT.match(word.literal)
            if found:
                # Some shells divide the argument of `export` at the blanks of a value.
                self._plain = self._plain and not (exports and re.search(r"[$`]", self._text[start : self._at]))
                self._replaced.append((found[1], self._variables.get(found[1])))
                self._variables[found[1]] = Value(word.text[found.end() :], word.certain)
            elif word.text == word.literal == "export" and is_empty:
                exports = True
            else:
                self._plain = (
                    self._plain and exports and bool(_NAME.fullmatch(word.literal) and word.text == word.literal)
                )
            is_empty = False

    def _lookup(self, name: str) -> Value:
        """Return the value of a variable. An unset one can come from the environment."""
        value = self._variables.get(name) or Value("", False)
        self._budget -= len(value.text)
        return value if self._budget >= 0 else Value("", False)

    # --- words --------------------------------------------------------------------------

    def _skip_blanks(self) -> None:
        found = _BEFORE_WORD.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _word(self) -> Optional[_Word]:
        """Return the word that begins here, or None at an operator or the end. Raises _UnclosedError."""
        parts: list[str] = []
        literal: Optional[str] = None
        is_certain, start = True, self._at
        while self._at < len(self._text):
            found = _PLAIN.match(self._text, self._at)
            if found:
                parts.append(found[0])
                self._at = found.end()
                is_certain = is_certain and "~" not in found[0]  # it can be a home directory
                continue
            character = self._text[self._at]
            if character in " \t\n;&|<>()":
                break
            if self._text.startswith("\\\n", self._at):
                self._at += 2
                continue
            if literal is None:
                literal = "".join(parts)
            self._at += 1
            if character == "\\":
                parts.append(self._escaped(""))
            elif character == "'":
                parts.append(self._until("'"))
            elif character == '"':
                is_certain = self._double_quoted(parts) and is_certain
            else:
                is_certain = self._substituted(character, parts, quoted=False) and is_certain
        text = "".join(parts)
        return None if self._at == start else _Word(text, text if literal is None else literal, is_certain)

    def _double_quoted(self, parts: list[str]) -> bool:
        """Read up to the closing quote. Return whether the value is certain."""
        is_certain = True
        while True:
            found = _QUOTED.match(self._text, self._at)
            if found:
                parts.append(found[0])
                self._at = found.end()
            if self._at >= len(self._text):
                raise _UnclosedError
            character = self._text[self._at]
            self._at += 1
            if character == '"':
                return is_certain
            if character == "\\":
                parts.append(self._escaped('$`"\\\n'))
            else:
                is_certain = self._substituted(character, parts, quoted=True) and is_certain

    def _escaped(self, only: str) -> str:
        """Return the meaning of a backslash and the character after it. It escapes any, or within quotes only some."""
        character = self._text[self._at : self._at + 1]
        if not character or (only and character not in only):
            return "\\"
        self._at += 1
        return "" if character == "\n" else character

    def _until(self, end: str) -> str:
        start, found = self._at, self._text.find(end, self._at)
        if found < 0:
            raise _UnclosedError
        self._at = found + len(end)
        return self._text[start:found]

    def _substituted(self, character: str, parts: list[str], quoted: bool) -> bool:
        """Read what follows `$` or a backquote. Return whether its value, which is then in `parts`, is certain."""
        while self._text.startswith("\\\n", self._at):
            self._at += 2
        if character == "`":
            self._skip_nested("`")
            return False
        found = re.compile(_REFERENCE).match(self._text, self._at)
        if found:
            self._at = found.end()
            value = self._lookup(found[1] or found[2])
            parts.append(value.text)
            return value.certain
        following = self._text[self._at : self._at + 1]
        if following and following in "({":
            self._at += 1
            self._skip_nested(")" if following == "(" else "}")
            return False
        if following and following in _PARAMETERS:
            self._at += 1
            return False
        parts.append("$")
        return quoted or following not in ("'", '"')  # bash reads more kinds of quotes

    def _skip_nested(self, end: str) -> None:
        """Skip a substitution with the quotes, escapes and substitutions in it."""
        ends = [end]
        while ends:
            found = re.compile(_NESTED).search(self._text, self._at)
            if not found:
                raise _UnclosedError
            self._at = found.end()
            if found[0] == ends[-1]:
                ends.pop()
            elif found[0] in _ENDS and (found[0] != "(" or ends[-1] == ")"):
                ends.append(_ENDS[found[0]])
            elif found[0] == "'" and ends[-1] != '"':
                self._until("'")
