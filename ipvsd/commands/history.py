"""ipvsd history: the last repairs, and the writers of the drifts. It needs neither root nor a daemon."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from ipvsd.commands import formatting
from ipvsd.commands.output import EX_CANNOT_TELL, print_errors, print_json, print_lines
from ipvsd.model import printable
from ipvsd.reporting.status_document import format_time
from ipvsd.state import repair_history, stored_json


def run(root: str, output: str, number: int) -> int:
    """Exit 0, even without a repair. Exit 2 if the history cannot be read."""
    try:
        stored = repair_history.read(root)
    except stored_json.UnusableError as error:
        print_errors(f"ipvsd: cannot read the history: {error} (the daemon replaces the file at the next repair)")
        return EX_CANNOT_TELL
    repairs = stored.repairs[-number:]
    print_errors(*(f"ipvsd: {problem}" for problem in _problems(stored.damaged, repairs)))
    if stored.damaged and not repairs:
        return EX_CANNOT_TELL
    if output == "json":
        print_json(repairs)
    else:
        print_lines(*[line for repair in repairs for line in _lines(repair)] or ["no repairs since boot"])
    return 0


def _problems(damaged: int, repairs: Sequence[Mapping[str, Any]]) -> Iterator[str]:
    if damaged:
        yield f"skipped {damaged} damaged line{'s' if damaged > 1 else ''} in the history"
    now = format_time(time.time())  # all have the same length and time zone, so they compare as texts
    later = sum(isinstance(repair.get("time"), str) and repair["time"] > now for repair in repairs)
    if later:
        repairs_are = "repair is" if later == 1 else "repairs are"
        yield f"{later} {repairs_are} dated in the future (the clock was set back)"


def _lines(repair: Mapping[str, Any]) -> Iterator[str]:
    # Another version may have written the file.
    shown = {key: printable.line(str(repair.get(key, "?"))) for key in ("time", "name", "actual", "desired")}
    seconds = repair.get("seconds")
    duration = f" in {seconds * 1000:.1f} ms" if isinstance(seconds, float) else ""
    yield from formatting.indented("{time}  {name}: {actual} -> {desired}".format(**shown) + duration, 0, 6)
    attribution = formatting.describe_attribution(repair, str(repair.get("writer_text", "?")))
    yield from formatting.indented(printable.line(attribution), 6, 10)
