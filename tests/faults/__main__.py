"""Make each system call of a running daemon fail in turn, and print the table of results (`make faults`)."""

from __future__ import annotations

import argparse
import sys
import tempfile
from pathlib import Path

from tests.faults.node import Node, prepare
from tests.faults.rounds import record
from tests.faults.table import cells, tried

PART = 20  # cells


def main() -> int:
    """Return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--part", type=int, help=f"try {PART} cells alone; each number means others")
    parser.add_argument("only", nargs="?", default="", help="try the cells alone that have this text")
    options = parser.parse_args()
    prepare()
    with tempfile.TemporaryDirectory(prefix="ipvsd-faults-") as directory:
        node = Node(Path(directory) / "node")
        try:
            made = record(node)
            wanted = [cell for cell in cells(made) if options.only in str(cell)]
            if options.part is not None:
                parts = max(1, len(wanted) // PART)
                wanted = wanted[options.part % parts :: parts][:PART]
            table = tried(made, node, wanted, lambda text: print(text, file=sys.stderr, flush=True))
        finally:
            node.close()
    print(table)
    return 1 if table.failed else 0


if __name__ == "__main__":
    sys.exit(main())
