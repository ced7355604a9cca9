"""Run the judge in separate namespaces, and define the number of cases to generate."""

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
    """Return the number of cases that a test generates."""
    return int(os.environ.get("IPVSD_BREADTH", _DEFAULT))


def dice(number: int) -> random.Random:
    """Return the random numbers of one case, which are the same in every run."""
    return random.Random(number)


def judged(place: Path, cases: Sequence[Mapping[str, Any]], modules: str = "") -> Sequence[Mapping[str, Any]]:
    """Return the results of the programs for these cases. `modules` is the module tree that they see."""
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
