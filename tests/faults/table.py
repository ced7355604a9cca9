"""The table: a row for similar calls, and a column for each fault."""

from __future__ import annotations

import textwrap
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

from tests.faults.calls import LASTING, LEGEND, NOT_LISTED, Fault, Row, faults
from tests.faults.node import Node
from tests.faults.rounds import Outcome, attempt

# The number of the call that fails once, among similar ones.
NUMBERS = (1, 4)


class Cell(NamedTuple):
    row: Row
    fault: Fault
    number: int = 1
    lasting: bool = False

    def __str__(self) -> str:
        how = "lasting" if self.lasting else f"once, call {self.number}"
        return f"{self.row}: {self.fault.value} ({how})"


class Table:
    """The results of all cells that were tried."""

    def __init__(self, made: Mapping[Row, int]) -> None:
        self.made = made
        self.outcomes: dict[Cell, Outcome] = {}

    @property
    def failed(self) -> list[str]:
        return [f"{cell}: {problem}" for cell, outcome in self.outcomes.items() for problem in outcome.problems]

    def _shown(self, row: Row, fault: Fault) -> str:
        why = faults(row)[fault]
        if why:
            return why
        found = [outcome for cell, outcome in self.outcomes.items() if (cell.row, cell.fault) == (row, fault)]
        if any(outcome.problems for outcome in found):
            return "FAILED"
        if not found:
            return ""
        return "ended" if fault is not Fault.KILL and any(outcome.ended for outcome in found) else "ok"

    def __str__(self) -> str:
        rows = sorted({cell.row for cell in self.outcomes})
        width = max((len(str(row)) for row in rows), default=0)
        lines = [f"{'':{width}}  " + " ".join(f"{fault.value:6}" for fault in Fault)]
        lines += [f"{row!s:{width}}  " + " ".join(f"{self._shown(row, one):6}" for one in Fault) for row in rows]
        lines = [line.rstrip() for line in lines]
        lines += [
            "",
            "ok: no traceback, no false 'ready', and healed by the next look, or by the daemon that is started again",
        ]
        lines += ["ended: a fault of the interpreter's own calls ended the daemon, and the next one healed the node"]
        lines += [f"{letter}: {why}" for letter, why in LEGEND.items()]
        lines += textwrap.wrap(NOT_LISTED, 120)
        lines += ["", *self.failed] if self.failed else []
        return "\n".join(lines)


def cells(made: Mapping[Row, int]) -> Sequence[Cell]:
    found = []
    for row in sorted(made):
        for fault in (fault for fault, why in faults(row).items() if not why):
            found += [Cell(row, fault, number) for number in NUMBERS if number == 1 or number <= made[row] // 2]
            found += [Cell(row, fault, lasting=True)] if fault in LASTING else []
    return found


def tried(made: Mapping[Row, int], node: Node, wanted: Sequence[Cell], say: Callable[[str], object]) -> Table:
    """Try these cells, and return the table."""
    table = Table(made)
    for index, cell in enumerate(wanted):
        outcome = table.outcomes[cell] = attempt(node, *cell)
        if outcome.problems or index % 50 == 0:
            say(f"{index + 1}/{len(wanted)} {cell}{''.join(f'; {problem}' for problem in outcome.problems)}")
    return table
