"""Write the tables in the documents that repeat declarations of the code: `make tables`.

A table is between two marks: `<!-- generated: NAME -->` and `<!-- end -->` in Markdown, `; generated: NAME` and
`; end` in scdoc. If the first mark ends its line, the table is a block. Otherwise, it is a part of a sentence.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from functools import partial
from pathlib import Path
from typing import Callable

from ipvsd.reporting import metrics
from tests import samples

ROOT = Path(__file__).parents[1]
DOCUMENTS = (ROOT / "README.md", *sorted(ROOT.glob("docs/*.md")), *sorted(ROOT.glob("packaging/man/*.scd")))

_REGION = re.compile(
    r"(?P<begin><!-- generated: (?P<markdown>[^>]+) -->|^; generated: (?P<scdoc>[^\n]+)$)"
    r"(?P<table>.*?)"
    r"(?P<end><!-- end -->|^; end$)",
    re.DOTALL | re.MULTILINE,
)


# --- metrics --------------------------------------------------------------------------


def _metrics(group: str) -> str:
    rows = ["| metric | type | labels | meaning |", "|---|---|---|---|"]
    for family in metrics.GROUPS[group](samples.COMPLETE):
        assert family.samples, f"samples.COMPLETE does not show {family.name}"
        name = family.samples[0].name if family.type == "counter" else family.name
        labels = "".join(f"`{label}`, " for label in family.samples[0].labels if label != "le")
        rows.append(f"| `{name}` | {family.type} | {labels.rstrip(', ')} | {family.documentation} |")
    return "\n".join(rows).replace("|  |", "| |")


def _process_metrics() -> str:
    text = metrics.exposition(lambda: None)().decode()
    return ", ".join(f"`{name}`" for name in sorted(re.findall(r"^# TYPE (\S+)", text, re.MULTILINE)))


# --- documents ------------------------------------------------------------------------

TABLES: Mapping[str, Callable[[], str]] = {
    **{f"metrics of {group}": partial(_metrics, group) for group in metrics.GROUPS},
    "metrics of the process": _process_metrics,
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
