"""A process that gives up capabilities never regains them. The tests use child processes for that reason."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from ipvsd.runtime.capabilities import BPF, PERFMON

PROGRAM = """
import threading
from ipvsd.runtime.capabilities import BPF, PERFMON, drop, drop_all
def sets():
    lines = open("/proc/thread-self/status").read().splitlines()
    print(*(line.split()[1] for line in lines if line.startswith(("CapInh", "CapPrm", "CapEff"))))
sets()
drop(BPF, PERFMON)
sets()
drop(BPF)  # once more does no harm
def without():
    drop_all()
    inheritor = threading.Thread(target=sets)
    inheritor.start()
    inheritor.join()
thread = threading.Thread(target=without)
thread.start()
thread.join()
sets()
"""


def test_some_capabilities_are_gone_and_a_thread_can_give_up_all_of_its_own() -> None:
    root = Path(__file__).parent.parent
    done = subprocess.run([sys.executable, "-c", PROGRAM], cwd=root, capture_output=True, text=True, check=True)
    before, after, thread, other = ([int(mask, 16) for mask in line.split()] for line in done.stdout.splitlines())
    assert after == [mask & ~(1 << BPF | 1 << PERFMON) for mask in before]
    assert (thread, other) == ([0, 0, 0], after)
