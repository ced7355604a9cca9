"""Write the tables in the documents that repeat declarations of the code: `make tables`.

A table is between two marks: `<!-- generated: NAME -->` and `<!-- end -->` in Markdown, `; generated: NAME` and
`; end` in scdoc. If the first mark ends its line, the table is a block. Otherwise, it is a part of a sentence.

The texts for people are the help texts of metrics, the docstrings of readers, and the comments above the members of
an enum, the fields of a class or the entries of a dict. Texts for man pages contain the markup of scdoc(5).
"""

from __future__ import annotations

import ast
import enum
import inspect
import json
import re
import string
import sys
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence
from functools import partial
from pathlib import Path
from types import ModuleType
from typing import Any, Callable

from ipvsd.commands import argument_parser
from ipvsd.commands.argument_parser import EXIT_CODES
from ipvsd.commands.subjects import Kind
from ipvsd.config import keys, schema, value_readers
from ipvsd.config.dump import as_mapping
from ipvsd.conflicts.external_setting import Program
from ipvsd.model.report import Attribution, NoteKind, State
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reporting import metrics
from tests import monitoring, samples

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("packaging/man/*.scd")))

_REGION = re.compile(
    r"(?P<begin><!-- generated: (?P<markdown>[^>]+) -->|^; generated: (?P<scdoc>[^\n]+)$)"
    r"(?P<table>.*?)"
    r"(?P<end><!-- end -->|^; end$)",
    re.DOTALL | re.MULTILINE,
)


def comments(module: ModuleType, name: str) -> list[list[str]]:
    """Return the comment above each member, field or entry of a class or a dict, as paragraphs.

    Dicts within a dict are flat.
    """
    source = inspect.getsource(module)
    (found,) = (node for node in ast.parse(source).body if _declares(node, name))
    lines = source.splitlines()
    return [_paragraphs(lines[: line - 1]) for line in _lines(found)]


def _declares(node: ast.stmt, name: str) -> bool:
    if isinstance(node, ast.AnnAssign):
        return isinstance(node.target, ast.Name) and node.target.id == name
    return isinstance(node, ast.ClassDef) and node.name == name


def _lines(node: ast.AST) -> Iterator[int]:
    """Yield the line of each entry of a class or a dict."""
    if isinstance(node, ast.ClassDef):
        yield from (item.lineno for item in node.body if isinstance(item, (ast.Assign, ast.AnnAssign)))
    elif isinstance(node, ast.AnnAssign) and node.value:
        yield from _lines(node.value)
    elif isinstance(node, ast.Dict):
        for key, value in zip(node.keys, node.values):
            if key:
                yield from _lines(value) if isinstance(value, ast.Dict) else [key.lineno]


def _paragraphs(lines: Sequence[str]) -> list[str]:
    """Return the comment that ends the lines."""
    first = len(lines)
    while lines[first - 1].lstrip().startswith("#"):
        first -= 1
    text = "\n".join(line.strip()[2:] for line in lines[first:])
    return [" ".join(paragraph.split()) for paragraph in text.split("\n\n")]


def _definitions(terms: Iterable[tuple[object, Iterable[str]]]) -> str:
    """Return a definition list in scdoc."""
    wrapper = textwrap.TextWrapper(
        82, initial_indent="\t", subsequent_indent="\t", break_long_words=False, break_on_hyphens=False
    )
    listed = {term: "\n\n".join(map(wrapper.fill, text)) for term, text in terms}
    assert all(listed.values()), f"missing comment above {[term for term, text in listed.items() if not text]}"
    return "\n\n".join(f"*{term}*\n{text}" for term, text in listed.items())


def _series(items: Iterable[object], mark: str, conjunction: str) -> str:
    *others, last = (f"{mark}{item}{mark}" for item in items)
    return f"{', '.join(others)} {conjunction} {last}" if others else last


# --- enums and exit codes -------------------------------------------------------------


def _meanings(kind: type[enum.Enum]) -> str:
    texts = comments(sys.modules[kind.__module__], kind.__name__)
    return _definitions(zip((member.value for member in kind), texts))


def _values(kind: type[enum.Enum]) -> str:
    return _series((member.value for member in kind), "`", "or")


def _exit_codes() -> str:
    return _definitions(zip(EXIT_CODES, comments(argument_parser, "EXIT_CODES")))


# --- configuration --------------------------------------------------------------------


class _Template(string.Formatter):
    """Shows values as in ipvsd.yaml(5). The format of a collection is its conjunction."""

    def format_field(self, value: Any, format_spec: str) -> str:
        if format_spec:
            return _series(value, "_", format_spec)
        if isinstance(value, tuple):
            return f"_{'.'.join(map(str, value))}_"
        return f"_{_duration(value)}_" if isinstance(value, float) else str(value)


def _duration(seconds: float) -> str:
    size, unit = next(((size, unit) for size, unit in ((3600, "h"), (60, "m")) if seconds >= 2 * size), (1, "s"))
    return f"{seconds / size:g}{unit}"


def _accepted(reader: value_readers.Reader) -> str:
    """Return the values that a reader accepts, from its docstring."""
    (text,) = re.findall(r"\ARead (.*)", inspect.getdoc(reader) or "")
    text = _Template().vformat(text, (), {**vars(value_readers), **vars(reader)})
    return text[0].upper() + text[1:]


def _yaml(value: Any) -> str:
    """Return a default in YAML, in one line."""
    if isinstance(value, dict):
        return f"{{{', '.join(f'{key}: {_yaml(item)}' for key, item in value.items())}}}"
    if isinstance(value, list):
        return f"[{', '.join(map(_yaml, value))}]"
    if not isinstance(value, str):
        return json.dumps(value)
    if re.fullmatch(r"[0-9]+s", value):
        return _duration(float(value[:-1]))
    return value if re.fullmatch(r"[a-z-]+", value) else json.dumps(value)


def _keys() -> Iterator[tuple[str, list[str]]]:
    """Yield each key of the configuration with its text."""
    settings = [(key, reader) for key, (_, reader) in keys.SETTINGS.items()]
    settings += [(f"{name}.{key}", read) for name, group in keys.GROUPS.items() for key, (_, read) in group.items()]
    texts = comments(keys, "SETTINGS") + comments(keys, "GROUPS")
    for (name, reader), text in zip(settings, texts):
        default: Any = as_mapping(schema.Config())
        for key in name.split("."):
            default = default[key]
        shown = f"_{_yaml(default)}_" if default != [] else "none"
        yield name, [f"{_accepted(reader)} Default: {shown}.", *text]
    of_config = dict(zip(schema.Config._fields, comments(schema, "Config")))
    of_module = dict(zip(schema.ModuleSetting._fields, comments(schema, "ModuleSetting")))
    yield "modules", of_config["modules"]
    yield from _keys_of_items("modules.NAME", "MODULE")
    yield "modules.NAME.parameters", of_module["parameters"]
    yield "sysctls", of_config["sysctls"]
    yield from _keys_of_items("sysctls.KEY", "SYSCTL")


def _keys_of_items(prefix: str, name: str) -> Iterator[tuple[str, list[str]]]:
    for (key, reader), text in zip(vars(keys)[name].items(), comments(keys, name)):
        default = text.pop(0) if text[0].startswith("Default: ") else ""
        yield f"{prefix}.{key}", [f"{_accepted(reader)} {default}".rstrip(), *text]


def _defaults() -> str:
    lines = (f"{key}: {_yaml(value)}" for key, value in as_mapping(schema.Config()).items())
    return "\n".join(["```", *lines, "```"])


# --- metrics --------------------------------------------------------------------------


def _metrics(group: str) -> str:
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in metrics.GROUPS[group](samples.COMPLETE):
        assert family.samples, f"samples.COMPLETE does not show {family.name}"
        name = family.samples[0].name if family.type == "counter" else family.name
        labels = "".join(f"`{label}`, " for label in family.samples[0].labels if label != "le")
        rows.append(f"| `{name}` | {family.type} | {labels.rstrip(', ')} | {family.documentation} |")
    return "\n".join(rows).replace("|  |", "| |")


def _note_kinds() -> str:
    texts = comments(sys.modules[NoteKind.__module__], NoteKind.__name__)
    rows = (f"| `{kind.value}` | {' '.join(text)} |" for kind, text in zip(NoteKind, texts))
    return "\n".join(["| note | meaning |", "|---|---|", *rows])


def exposition() -> str:
    """Return /metrics of a report that shows every metric, without the metrics of the process, which vary."""
    text = metrics.exposition(lambda: samples.COMPLETE)().decode()
    blocks = re.split(r"^(?=# HELP )", text, flags=re.MULTILINE)
    return "".join(block for block in blocks if not block.startswith("# HELP process_"))


def _process_metrics() -> str:
    text = metrics.exposition(lambda: None)().decode()
    return ", ".join(f"`{name}`" for name in sorted(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)))


# --- documents ------------------------------------------------------------------------

TABLES: Mapping[str, Callable[[], str]] = {
    **{f"metrics of {group}": partial(_metrics, group) for group in metrics.GROUPS},
    "metrics of the process": _process_metrics,
    "kinds of notes": _note_kinds,
    "alerts": monitoring.alert_table,
    **{f"meanings of {kind.__name__}": partial(_meanings, kind) for kind in (State, ModuleVerdict, SysctlVerdict)},
    **{
        f"values of {kind.__name__}": partial(_values, kind)
        for kind in (State, ModuleVerdict, SysctlVerdict, Attribution, Kind, Program)
    },
    "exit codes": _exit_codes,
    "exit codes in brief": lambda: ", ".join(f"{code} {meaning}" for code, meaning in EXIT_CODES.items()),
    "keys": lambda: _definitions(_keys()),
    "defaults": _defaults,
}


# Files that are generated as a whole.
FILES: Mapping[Path, Callable[[], str]] = {
    ROOT / "tests/metrics.prom": exposition,
    monitoring.PROMETHEUS_RULE: monitoring.prometheus_rule,
}


def names(text: str) -> Iterator[str]:
    """Yield the names of the tables in a document."""
    for region in _REGION.finditer(text):
        yield region["markdown"] or region["scdoc"]


def written(text: str) -> str:
    """Return a document with all its tables up to date."""
    return _REGION.sub(_fill, text)


def _fill(region: re.Match[str]) -> str:
    table = TABLES[region["markdown"] or region["scdoc"]]()
    return region["begin"] + (f"\n\n{table}\n\n" if region["table"].startswith("\n") else table) + region["end"]


if __name__ == "__main__":
    for path in DOCUMENTS:
        path.write_text(written(path.read_text()))
    for path, content in FILES.items():
        path.write_text(content())
