"""ipvsd history: the last drifts that were repaired, and who made them. Needs no root and no daemon."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

from ipvsd import history, printable
from ipvsd.commands import text
from ipvsd.output import say, say_json


def run(root: str, output: str, number: int) -> int:
    """Exit 0: no repair is no fault."""
    repairs = history.read(root)[-number:]
    if output == "json":
        say_json(repairs)
    else:
        say(*[line for repair in repairs for line in _lines(repair)] or ["nothing was repaired since the boot"])
    return 0


def _lines(repair: Mapping[str, Any]) -> Iterator[str]:
    # A file in /run: another version may have written it.
    said = {key: printable.line(str(repair.get(key, "?"))) for key in ("time", "name", "found", "wanted")}
    seconds = repair.get("seconds")
    took = f" in {seconds * 1000:.1f} ms" if isinstance(seconds, float) else ""
    yield from text.indented("{time}  {name}: {found} -> {wanted}".format(**said) + took, 0, 6)
    yield from text.indented(printable.line(text.by(repair, str(repair.get("who", "?")))), 6, 10)
