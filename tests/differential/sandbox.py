"""Has the judge run in namespaces of its own, and tells how many cases are to be generated."""

from __future__ import annotations

import json
import os
import random
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

_JUDGE = Path(__file__).with_name("judge.py")
_DEFAULT = 25


def breadth() -> int:
    """Return how many cases a test generates."""
    return int(os.environ.get("IPVSD_BREADTH", _DEFAULT))


def dice(number: int) -> random.Random:
    """Return the random numbers of one case: the same wherever and however often it is run."""
    return random.Random(number)


def judged(place: Path, cases: Sequence[Mapping[str, Any]], modules: str = "") -> Sequence[Mapping[str, Any]]:
    """Return what the programs make of the cases; `modules` is the tree of the kernel's modules that they see."""
    root = place / "judged"
    root.mkdir()
    rooted = [] if os.geteuid() == 0 else ["--map-root-user"]
    done = subprocess.run(
        ["unshare", *rooted, "--mount", "--net", sys.executable, str(_JUDGE)],
        input=json.dumps({"root": str(root), "modules": modules, "cases": cases}),
        capture_output=True,
        text=True,
        check=False,
    )
    assert not done.returncode, f"cannot run the programs in namespaces (root, or user namespaces): {done.stderr}"
    answers: Sequence[Mapping[str, Any]] = json.loads(done.stdout)
    assert len(answers) == len(cases)
    return answers
