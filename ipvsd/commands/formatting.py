"""The status document for people: the verdict first, then the problems, within 80 columns."""

from __future__ import annotations

import os
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any

from ipvsd.commands import output
from ipvsd.model import printable
from ipvsd.model.report import Attribution
from ipvsd.model.types import Finding, RootKind
from ipvsd.model.value_texts import text_of

WIDTH = output.WIDTH
_COLOURS = {"ready": "32", "degraded": "33", "failed": "31"}


def colour(text: str, code: str) -> str:
    """Return the text in a colour if standard output is a terminal and colours are permitted (https://no-color.org)."""
    if not output.is_terminal() or os.environ.get("NO_COLOR") or os.environ.get("TERM") == "dumb":
        return text
    return output.coloured(text, code)


def situation(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield a heading if the verdicts are not about a running kernel."""
    if document["root_kind"] == RootKind.FIRST_BOOT.value:
        yield f"after the first boot of kernel {document['kernel']}:"


def summary(document: Mapping[str, Any]) -> Iterator[str]:
    state, line = document["state"], document["summary"]
    first, *rest = folded(line) or [""]  # empty in a damaged file
    yield first.replace(state, colour(state, _COLOURS.get(state, "0")), 1)
    yield from rest


def notes(document: Mapping[str, Any]) -> Iterator[str]:
    for note in document["notes"]:
        yield from folded(f"note: {note}", "33")


def describe_attribution(item: Mapping[str, Any], writer_text: str) -> str:
    """Return a phrase for the writer, by the `attribution` of an item in a status document of any version."""
    likely = item.get("attribution") == Attribution.LIKELY.value
    return (Attribution.LIKELY if likely else Attribution.UNKNOWN).describe(writer_text)


def indented(line: str, first: int, others: int) -> list[str]:
    """Return a line wrapped to the width, with these indents for the first and the other lines."""
    return textwrap.wrap(
        printable.line(line, printable.MAX_TEXT),
        WIDTH,
        initial_indent=" " * first,
        subsequent_indent=" " * others,
        break_long_words=False,
        break_on_hyphens=False,
    )


def folded(line: str, code: str = "0") -> list[str]:
    """Return a line wrapped to the width, with later lines indented, in a colour."""
    return [colour(part, code) if code != "0" else part for part in indented(line, 0, 2)]


def findings(document: Mapping[str, Any]) -> Iterator[str]:
    """Yield tables of the modules, parameters and sysctls, each problem with its evidence and remedy."""
    modules = document["modules"]
    if modules:
        width = max(len(item["name"]) for item in modules)
        yield ""
        yield f"MODULES (kernel {document['kernel']})"
        rows = []
        for item in modules:
            words = [f"as {item['module']}"] if item["module"] not in ("", item["name"]) else []
            words += [] if item["required"] else ["optional"]
            rows.append((item, f"{item['name']:{width}}", ", ".join(words)))
        yield from _rows(rows)
    for title in ("parameters", "sysctls"):
        if document[title]:
            yield ""
            yield title.upper()
            yield from values(document[title])


def values(items: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    width, rows = min(44, max(len(item["name"]) for item in items)), []
    for item in items:
        found = "-" if item["actual"] is None else item["actual"]
        words = [] if item["compliant"] else [f"desired {item['desired']}"]
        if item["members"] and not item["members"]["total"]:
            words.append("no sysctl matches the pattern yet")
        value = f"{found} ({'; '.join(words)})" if words else found
        if item["members"] and item["members"]["total"]:
            value = f"{item['members']['compliant']} of {item['members']['total']}: {value}"
        rows.append((item, f"{item['name']:{width}}", value))
    yield from _rows(rows)


def _rows(rows: Sequence[tuple[Mapping[str, Any], str, str]]) -> Iterator[str]:
    """Yield rows (item, name, value). Consecutive equal evidence and remedies are printed once, below the last row."""
    items_by_remedy: dict[str, str] = {}  # the remedies that were printed, each with the item
    for (item, name, value), (following, *_) in zip(rows, (*rows[1:], ({"compliant": True}, "", ""))):
        yield from _row(item, name, value)
        if item["compliant"]:
            continue
        same_remedy = not following["compliant"] and following["remedy"] == item["remedy"]
        if not same_remedy or following["evidence"] != item["evidence"]:
            yield from indented(item["evidence"], 6, 6)
        if item["remedy"] and not same_remedy:
            first = items_by_remedy.setdefault(item["remedy"], item["name"])
            remedy = item["remedy"] if first == item["name"] else f"see the remedy for {first}"
            yield from indented(f"-> {remedy}", 6, 6)


def _row(item: Mapping[str, Any], name: str, value: str) -> Iterator[str]:
    verdict = text_of(item["verdict"])
    code = "32" if item["compliant"] else "0" if item["tolerated"] else "31"
    mark = "+" if item["compliant"] else "-" if code == "0" else "!"
    fits = len(name) + len(verdict) + len(value) <= WIDTH - 8
    yield f"  {colour(mark, code)} {name}  {colour(verdict, code)}{'  ' + value if value and fits else ''}".rstrip()
    if not fits:
        yield from indented(value, 6, 6)


def group_alike(findings: Iterable[Finding]) -> Iterator[tuple[str, Finding]]:
    """Yield the names of findings with the same verdict and remedy, and the first of these as an example."""
    groups: dict[tuple[str, str], list[Finding]] = {}
    for found in findings:
        groups.setdefault((text_of(found.verdict), found.remedy), []).append(found)
    for group in groups.values():
        others = len({found.evidence for found in group}) - 1
        more = f"; {others} more reason{'s' if others > 1 else ''} with the same verdict" if others else ""
        yield ", ".join(found.name for found in group), group[0]._replace(evidence=f"{group[0].evidence}{more}")


def ipvs(document: Mapping[str, Any]) -> str:
    answer = document["ipvs"]
    if answer["up"]:
        size = f", table size {answer['table_size']}" if answer["table_size"] else ""
        return f"IPVS is responding: version {answer['version']}{size}"
    return f"IPVS: {answer['detail']}"
