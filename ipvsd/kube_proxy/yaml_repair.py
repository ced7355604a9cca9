"""Explain an error of YAML, and find the correction with which the parser gets further."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ipvsd.config.yaml_tree import DocumentError
from ipvsd.kube_proxy.config_fields import FIELDS
from ipvsd.kube_proxy.config_formats import parse

_MAX_TEXT = 1 << 14  # characters of a text for which corrections are tried; a configuration has some hundred lines
_MAX_LINE = 400  # characters of a line for which corrections are tried
_MAX_TRIES = 16
_BEFORE = 3  # lines before the error that can contain the mistake
_VALUE = re.compile(r"([ \t]*(?:-[ ]+)?[A-Za-z][\w./-]*:[ \t]+)(\S.*?)([ \t]+#.*|[ \t]*)\Z")
# A value that YAML reads as something else than a text.
_SPECIAL = re.compile(r"(?<=:[ ])(?:::[^\s,}\]]*|\[[0-9A-Fa-f:.]*\]:[0-9]+|[*&@%`!|>][^\s,}\]]*)")
_KEYS = {path.rpartition(".")[2] for path in FIELDS}


class Repair(NamedTuple):
    """A correction of a text: the problem, the line (from 0), and the new text of that line, or None if unknown.

    `key` is empty if the line has no key, or if the key is not the subject.
    """

    problem: str
    line: int
    column: int
    text: Optional[str]
    key: str


def explain(content: str, error: DocumentError) -> Repair:
    """Return the most likely mistake behind an error."""
    lines = content.replace("\r\n", "\n").split("\n")
    line = min(max(error.line, 1), len(lines)) - 1
    column = max(error.column, 1) - 1
    plain = str(error) if str(error).startswith("invalid") else f"invalid YAML: {error}"
    best: Optional[tuple[int, Repair]] = None
    candidates = _candidates(lines, line) if len(content) <= _MAX_TEXT else iter(())
    for tries, (number, text, problem) in enumerate(candidates):
        if tries == _MAX_TRIES or (best and best[0] > len(lines)):
            break
        reached = _error_line(lines, number, text)
        if reached > line + 1 and (best is None or reached > best[0]):
            best = reached, Repair(problem or plain, number, 0, text, _key(lines[number], problem))
    if best:
        repair = best[1]
        indent = len(lines[repair.line]) - len(lines[repair.line].lstrip())
        return repair._replace(column=column if repair.line == line else indent)
    return Repair(plain, line, column, None, _key(lines[line], ""))


def _key(line: str, problem: str) -> str:
    match = re.match(r"[ \t]*(?:-[ ]+)?[\"']?([A-Za-z][\w./-]*)", line)
    return match[1] if match and "tab" not in problem else ""


def _error_line(lines: list[str], number: int, text: str) -> int:
    """Return the line of the first error with another text of a line, or a larger number than that of the last."""
    changed = [*lines[:number], *text.split("\n"), *lines[number + 1 :]]
    _, error = parse("\n".join(changed))
    return error.line if error else len(changed) + 1


def _candidates(lines: list[str], line: int) -> Iterator[tuple[int, str, str]]:
    """Yield possible corrections: the line, its new text, and the problem if it differs from the parser's."""
    before = range(line, max(-1, line - _BEFORE - 1), -1)
    near = [number for number in before if lines[number].strip() and len(lines[number]) <= _MAX_LINE]
    for number in near[:2]:
        if "\t" in lines[number][: len(lines[number]) - len(lines[number].lstrip())]:
            yield from _tabs(lines, number)
    for number in near[:2]:
        yield from _quotes(lines[number], number)
    for number in near:
        yield from _colons(lines[number], number)
    for number in near[:2]:
        yield from _closed(lines[number], number)
    for number in near[:2]:
        yield from _indented(lines, number)
    for number in near[:2]:
        body = lines[number].lstrip()
        yield number, f"{lines[number][: len(lines[number]) - len(body)]}# {body}", ""


def _tabs(lines: list[str], number: int) -> Iterator[tuple[int, str, str]]:
    body = lines[number].lstrip()
    problem = "invalid YAML: a tab cannot indent"
    before = next((text for text in reversed(lines[:number]) if text.strip() and text.lstrip()[0] != "#"), "")
    indent = len(before) - len(before.lstrip(" "))
    opened = before.split(" #")[0].rstrip().endswith(":")
    yield number, f"{' ' * (indent + 2 if opened else indent)}{body}", problem
    for width in (2, 4, 8):
        yield number, lines[number].expandtabs(width), problem


def _quotes(text: str, number: int) -> Iterator[tuple[int, str, str]]:
    special = _SPECIAL.search(text)
    if special:
        problem = f'invalid YAML: quote the value "{special[0]}"'
        yield number, f'{text[: special.start()]}"{special[0]}"{text[special.end() :]}', problem
    match = _VALUE.match(text)
    if match and '"' not in match[2] and "\\" not in match[2] and match[2][0] not in "'{":
        problem = f'invalid YAML: quote the value "{match[2][:40]}"'
        yield number, f'{match[1]}"{match[2]}"{match[3]}', problem


def separator_problem(separator: str) -> str:
    """Return the problem with a separator, which is ":" or "=", between a key and a value without blanks."""
    missing = "missing space after the colon" if separator == ":" else "write ':' instead of '='"
    return f"invalid YAML: {missing}"


def _colons(text: str, number: int) -> Iterator[tuple[int, str, str]]:
    match = re.match(r"([ \t]*)([A-Za-z][\w-]*)[ \t]*(:|=)[ \t]*([^\s:=].*)\Z", text)
    if match and match[2] in _KEYS and f"{match[2]}: " not in text:
        yield number, f"{match[1]}{match[2]}: {match[4]}", separator_problem(match[3])
    match = re.match(r"([ \t]*)([A-Za-z][\w-]*)(?:[ \t]+(\S.*))?[ \t]*\Z", text)
    if match and match[2] in _KEYS:
        yield number, f"{match[1]}{match[2]}: {match[3] or ''}".rstrip(), "invalid YAML: missing colon"


def _closed(text: str, number: int) -> Iterator[tuple[int, str, str]]:
    body = text.rstrip()
    for opening, closing in (('"', '"'), ("'", "'"), ("[", "]"), ("{", "}")):
        unclosed = body.count(opening) % 2 if opening == closing else body.count(opening) > body.count(closing)
        if unclosed:
            yield number, f"{body}{closing}", f"invalid YAML: missing {closing} at the end of the line"
            yield number, body[::-1].replace(opening, "", 1)[::-1], f"invalid YAML: unclosed {opening}"
    if body.count("}") > body.count("{") or body.count("]") > body.count("["):
        yield number, body[:-1], f"invalid YAML: unexpected {body[-1]}"


def _indented(lines: list[str], number: int) -> Iterator[tuple[int, str, str]]:
    """Yield the line with the indentations of the lines before it, the nearest first."""
    body = lines[number].lstrip()
    own = len(lines[number]) - len(body)
    seen = {own: None}
    for text in reversed(lines[max(0, number - 10) : number]):
        if not text.strip() or text.lstrip()[0] == "#":
            continue
        indent = len(text) - len(text.lstrip(" "))
        for width in (indent + 2, indent) if text.split(" #")[0].rstrip().endswith(":") else (indent,):
            if width not in seen:
                seen[width] = None
                yield number, f"{' ' * width}{body}", f"invalid YAML: wrong indentation ({own} blanks, write {width})"
