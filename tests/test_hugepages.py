"""A process that has disabled huge pages shows it. The test uses a child, because the suite would be affected."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

PROGRAM = """
from ipvsd.runtime import resources
def told():
    print(*(line for line in open("/proc/self/status") if line.startswith("THP_enabled")))
told()
resources.disable_huge_pages()
told()
"""


def test_huge_pages_are_disabled() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["THP_enabled:", "1", "THP_enabled:", "0"]
