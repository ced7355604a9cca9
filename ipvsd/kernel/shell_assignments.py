"""Read the variables of a file that a POSIX shell sources, such as os-release(5), without running anything.

Quotes, escapes, comments, line continuations and `export` have the same meaning as in dash. A reference to a variable
that the file has assigned is replaced. The shell stops at an unclosed quote, and so does this parser.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

_MAX_EXPANDED = 1 << 20  # characters of all references in a file: `A=$A$A` doubles the value with each line
_OPERATORS = ("&&", "||", "<<-", "<<", ">>", "<&", ">&", "<>", ">|", ";;", *";&|<>()\n")
_BEFORE_WORD = re.compile(r"(?:[ \t]|\\\n|#[^\n]*)*")
_PLAIN = re.compile(r"[^ \t\n\\'\"$`;&|<>()]+")
_QUOTED = re.compile(r"[^\\\"$`]+")
_ASSIGNMENT = re.compile(r"([A-Za-z_][A-Za-z0-9_]*)(\+?)=")
# These are compiled when a file has a `$`.
_REFERENCE = r"\{([A-Za-z_][A-Za-z0-9_]*)\}|([A-Za-z_][A-Za-z0-9_]*)"
_NESTED = "(?s)\\\\.|\\$\\(|\\$\\{|[\"'`(){}]"
_ENDS = {"$(": ")", "${": "}", "(": ")", '"': '"', "`": "`"}
_PARAMETERS = "0123456789@*#?$!-"
_OPENING, _CLOSING = ("if", "for", "while", "until", "case", "{"), ("fi", "done", "esac", "}")
_RESERVED = (*_OPENING, *_CLOSING, "then", "else", "elif", "do", "!")
_DECLARATIONS = ("export", "readonly")
_EXITS = ("exit", "return", "exec")
# After these commands, any variable can have any value.
_UNPREDICTABLE = ("eval", "source", ".", "read", "alias", "trap")
_SPECIAL_BUILTINS = (*_DECLARATIONS, *_EXITS, *_UNPREDICTABLE, "unset", ":", "set", "shift", "times")


class Value(NamedTuple):
    """A value. It is not `certain` if it depends on a command, on a condition, or on variables of the environment."""

    text: str
    certain: bool = True


class _Word(NamedTuple):
    text: str
    literal: str  # the text up to the first quote, escape or reference
    certain: bool
    quoted: bool


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
        self._variables: dict[str, Optional[Value]] = {}
        self._replaced: list[tuple[str, Optional[Value]]] = []  # the values before the current line
        self._assigned: dict[str, Value] = {}  # by the current command
        self._open: list[str] = []  # the compound commands
        self._conditional = False  # `&&` or `||` precedes the command
        self._piped = False
        self._predictable = True
        self._budget = _MAX_EXPANDED

    def variables(self) -> Mapping[str, Value]:
        try:
            while self._at < len(self._text) and self._command():
                pass
        except _UnclosedError:  # the shell runs nothing of the line
            for name, value in reversed(self._replaced):
                self._variables[name] = value
        return {name: value for name, value in self._variables.items() if value is not None}

    # --- commands -----------------------------------------------------------------------

    def _command(self) -> bool:
        """Run one simple command, and consume the operator that ends it. Return whether the shell reads on."""
        self._assigned = {}
        words: list[_Word] = []
        operator, appends = "", False
        while not operator and self._at < len(self._text):
            operator = self._operator()
            word = None if operator else self._word()
            if word is None:
                continue
            found = None if words else _ASSIGNMENT.match(word.literal)
            if found:
                value = self._value(found, word)
                appends = appends or bool(found[2])  # for dash, `A+=x` is a command, and B=y an argument of it
                self._assigned[found[1]] = Value(value.text, value.certain and not appends)
            elif word.text == word.literal and word.text in _RESERVED and not (words or self._assigned):
                self._nest(word.text)
            else:
                words.append(word)
        # A subshell runs each command of a pipeline.
        goes_on = True if self._piped or operator in ("|", "&") else self._run(words)
        self._after(operator, not (words or self._assigned))
        return goes_on

    def _nest(self, word: str) -> None:
        if word in _OPENING:
            self._open.append(word)
        elif word in _CLOSING and self._open and self._open[-1] != "(":
            self._open.pop()
        if word == "for":  # it assigns a variable
            self._distrust()

    def _after(self, operator: str, is_empty: bool) -> None:
        if operator != "\n" or not is_empty:  # `&&` and `|` can precede a new line
            self._piped = operator == "|"
            self._conditional = operator in ("&&", "||")
        if operator == "(":
            self._open.append("(")
            if self._assigned:  # an error in dash, an array in bash
                self._distrust()
                self._predictable = False
        elif operator == ")" and self._open and self._open[-1] == "(":  # not that of a pattern of `case`
            self._open.pop()
        elif operator.startswith("<<"):  # the next lines are text
            self._predictable = False
        elif operator == "\n" and not self._open:
            self._replaced.clear()

    def _run(self, words: Sequence[_Word]) -> bool:
        # A reference to an empty variable is no word.
        if all(not (word.quoted or word.text.strip(" \t\n")) for word in words):
            for name, value in self._assigned.items():
                self._set(name, value._replace(certain=False) if words else value)
            return True
        command = words[0].text
        if command in _SPECIAL_BUILTINS:  # the assignments before it remain, in most shells
            for name, value in self._assigned.items():
                self._set(name, value._replace(certain=False))
        if command in _EXITS:
            if self._certainly_runs():
                return False
            self._predictable = False
        elif command in _UNPREDICTABLE:
            self._distrust()
            self._predictable = False
        elif command in _DECLARATIONS:
            found = [(_ASSIGNMENT.match(word.literal), word) for word in words[1:]]
            values = [(match[1], self._value(match, word)) for match, word in found if match]
            for name, value in values:
                self._set(name, value)
        elif command == "unset":
            for word in words[1:]:
                old = self._variables.get(word.text)
                self._set(word.text, None if self._certainly_runs() else old and old._replace(certain=False))
        return True

    def _set(self, name: str, value: Optional[Value]) -> None:
        self._replaced.append((name, self._variables.get(name)))
        self._variables[name] = value

    def _distrust(self) -> None:
        for name, value in list(self._variables.items()):
            self._variables[name] = value and value._replace(certain=False)

    def _certainly_runs(self) -> bool:
        return not self._open and self._predictable and not self._conditional

    def _value(self, found: re.Match[str], word: _Word) -> Value:
        text, is_certain = word.text[found.end() :], word.certain and self._certainly_runs()
        if found[2]:  # only bash appends
            text, is_certain = f"{self._lookup(found[1]).text}{text}", False
        return Value(text, is_certain)

    def _lookup(self, name: str) -> Value:
        """Return the value of a variable. An unset one can come from the environment."""
        value = self._assigned.get(name) or self._variables.get(name) or Value("", False)
        self._budget -= len(value.text)
        return value if self._budget >= 0 else Value("", False)

    # --- words --------------------------------------------------------------------------

    def _operator(self) -> str:
        """Skip blanks, comments and redirections. Return the operator that follows, or an empty text before a word."""
        while True:
            self._skip_blanks()
            found = next((sign for sign in _OPERATORS if self._text.startswith(sign, self._at)), "")
            self._at += len(found)
            if not found or found[0] not in "<>" or found.startswith("<<"):
                return found
            self._skip_blanks()
            self._word()  # the target

    def _skip_blanks(self) -> None:
        found = _BEFORE_WORD.match(self._text, self._at)
        self._at = found.end() if found else self._at

    def _word(self) -> Optional[_Word]:
        """Return the word that begins here, or None at the end of the text. Raises _UnclosedError."""
        parts: list[str] = []
        literal: Optional[str] = None
        is_certain, is_quoted = True, False
        start = self._at
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
            is_quoted = is_quoted or character not in "$`"
            if character == "\\":
                parts.append(self._escaped(""))
            elif character == "'":
                parts.append(self._until("'"))
            elif character == '"':
                is_certain = self._double_quoted(parts) and is_certain
            else:
                is_certain = self._substituted(character, parts, quoted=False) and is_certain
        text = "".join(parts)
        is_descriptor = literal is None and text.isdigit() and self._text.startswith(("<", ">"), self._at)
        if self._at == start or is_descriptor:  # that of a redirection
            return None
        return _Word(text, text if literal is None else literal, is_certain, is_quoted)

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
