"""What a process gives up is gone for good; in a process of its own, since it cannot be had back."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ipvsd.capabilities import BPF

PROGRAM = """
from ipvsd.capabilities import BPF, drop
def sets():
    lines = open("/proc/self/status").read().splitlines()
    print(*(line.split()[1] for line in lines if line.startswith(("CapInh", "CapPrm", "CapEff"))))
sets()
drop(BPF)
sets()
drop(BPF)  # once more does no harm
"""


def test_one_capability_is_gone_and_the_others_stay() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True)
    before, after = ([int(mask, 16) for mask in line.split()] for line in done.stdout.splitlines())
    assert after == [mask & ~(1 << BPF) for mask in before]
