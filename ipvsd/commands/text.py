"""The status document as a person reads it: the verdict first, what is wrong next, within 80 columns."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TypeVar

from ipvsd import output, printable
from ipvsd.model import ModuleFinding, SysctlFinding
from ipvsd.report import Attribution, Judged

_Found = TypeVar("_Found", ModuleFinding, SysctlFinding)

WIDTH = output.WIDTH
_COLOURS = {"ready": "32", "degraded": "33", "failed": "31"}


def colour(text: str, code: str) -> str:
    """Return the text in a colour, on a terminal that is not told otherwise (https://no-color.org)."""
    if not output.is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return output.coloured(text, code)


def situation(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what the verdicts are about, where that is no kernel that runs."""
    if document["judged"] == Judged.FIRST_BOOT.value:
        yield f"after the first boot of kernel {document['kernel']}:"


def summary(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield the health line, folded, its first word coloured."""
    state, line = document["state"], document["line"]
    first, *rest = folded(line)
    yield first.replace(state, colour(state, _COLOURS.get(state, "0")), 1)
    yield from rest


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield what a person should know besides, folded."""
    for note in document["notes"]:
        yield from folded(f"note: {note}", "33")


def by(item: Mapping[str, Any], who: str) -> str:
    """Return who changed something, by the `attribution` of an item of a status document of whatever version."""
    return Attribution.LIKELY.by(who) if item.get("attribution") == Attribution.LIKELY.value else f"by {who}"


def indented(line: str, first: int, others: int) -> list[str]:
    """Return a line as several within the width, indented by these numbers of blanks."""
    return textwrap.wrap(
        printable.line(line, printable.WHOLE),
        WIDTH,
        initial_indent=" " * first,
        subsequent_indent=" " * others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def folded(line: str, code: str = "0") -> list[str]:
    """Return a long line as several, indented after the first one, in a colour."""
    return [colour(part, code) if code != "0" else part for part in indented(line, 0, 2)]


def findings(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield tables of the modules, their parameters and the sysctls, each problem with its evidence and remedy."""
    modules = document["modules"]
    if modules:
        width = max(len(item["name"]) for item in modules)
        yield ""
        yield f"MODULES (kernel {document['kernel']})"
        for item in modules:
            stands_for = f"as {item['module']}" if item["module"] not in ("", item["name"]) else ""
            words = filter(None, (stands_for, "" if item["required"] else "optional"))
            yield from _row(item, f"{item['name']:{width}}", ", ".join(words))
    for title in ("parameters", "sysctls"):
        if document[title]:
            yield ""
            yield title.upper()
            yield from values(document[title])


def values(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    """Yield a table of sysctls or parameters."""
    width = min(44, max(len(item["name"]) for item in items))
    for item in items:
        found = "-" if item["found"] is None else item["found"]
        value = found if item["right"] else f"{found} (wanted {item['wanted']})"
        if item["members"]:
            right, total = item["members"]["right"], item["members"]["total"]
            value = f"{right} of {total}: {value}" if total else f"{value} (no sysctl fits the pattern yet)"
        yield from _row(item, f"{item['name']:{width}}", value)


def _row(item: Mapping[str, Any], name: str, value: str) -> Iterator[str]:
    verdict = item["verdict"]
    code = "32" if item["right"] else "0" if item["harmless"] else "31"
    mark = "+" if item["right"] else "-" if code == "0" else "!"
    fits = len(name) + len(verdict) + len(value) <= WIDTH - 8
    yield f"  {colour(mark, code)} {name}  {colour(verdict, code)}{'  ' + value if value and fits else ''}".rstrip()
    if not fits:
        yield from _wrapped(value)
    if not item["right"]:
        yield from _wrapped(item["evidence"])
        if item["remedy"]:
            yield from _wrapped(f"-> {item['remedy']}")


def _wrapped(text: str) -> Iterable[str]:
    return indented(text, 6, 6)


def alike(findings: Iterable[_Found]) -> Iterator[tuple[str, _Found]]:
    """Yield the names of findings with one problem and one remedy, and the first of these as their example."""
    groups: dict[tuple[str, str], list[_Found]] = {}
    for found in findings:
        groups.setdefault((found.verdict.value, found.remedy), []).append(found)
    for group in groups.values():
        others = len({found.evidence for found in group}) - 1
        more = f"; and {others} more of this kind" if others else ""
        yield ", ".join(found.name for found in group), group[0]._replace(evidence=f"{group[0].evidence}{more}")


def ipvs(document: Mapping[str, Any]) -> str:
    """Return what IPVS itself answered, as one line."""
    said = document["ipvs"]
    if said["up"]:
        size = f", table size {said['table_size']}" if said["table_size"] else ""
        return f"IPVS answers: version {said['version']}{size}"
    return f"IPVS: {said['detail']}"
