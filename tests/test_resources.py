"""Reserved descriptors are available when they are needed, and code that only speeds up repairs leaves some free."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipvsd.kernel.fd_cache import FdCache
from ipvsd.runtime.event_loop import EventLoop
from ipvsd.runtime.resources import RESERVE, DescriptorReserve
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_inotify import SysctlInotify
from tests.scarce import few_descriptors
from tests.service import REPOSITORY
from tests.test_watch import Idle
from tests.trees import put


def test_reserved_descriptors_can_be_used_while_released_and_are_then_refilled() -> None:
    with contextlib.closing(DescriptorReserve()) as reserve, few_descriptors():
        for used in range(RESERVE + 1):
            with pytest.raises(OSError, match="Too many open files"):
                os.open(os.devnull, os.O_RDONLY)
            with reserve.released():
                opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(RESERVE)]
                for descriptor in opened[used:]:
                    os.close(descriptor)
            for descriptor in opened[:used]:  # used for longer
                os.close(descriptor)
            with reserve.released():
                pass


def test_a_watch_leaves_free_descriptors(tmp_path: Path) -> None:
    paths = {f"net.test.key{number}": str(put(tmp_path, f"key{number}", "1\n")) for number in range(40)}
    fds = FdCache()
    with EventLoop() as loop:
        source = SysctlInotify(loop, Idle(loop), fds)
        with few_descriptors(left=52):
            source.arm(Targets(frozenset(), paths, ()))
            assert not source.state().up
            assert "of 40 files; the other descriptors are reserved" in source.state().detail
            for descriptor in [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]:
                os.close(descriptor)
        source.arm(Targets(frozenset(), paths, ()))
        assert source.state().up
        source.close()
    fds.close()


# In a child, because the suite would be affected.
RAISED = """
import resource
from ipvsd.runtime import resources
resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))
resources.raise_limit()
print(*resource.getrlimit(resource.RLIMIT_NOFILE))
"""
SHOWN = """
from ipvsd.runtime import resources
def told():
    print(*(line for line in open("/proc/self/status") if line.startswith("THP_enabled")))
told()
resources.disable_huge_pages()
told()
"""


@pytest.mark.parametrize(
    ("code", "printed"),
    [(RAISED, "300 300"), (SHOWN, "THP_enabled: 1 THP_enabled: 0")],
    ids=["the limit is raised to the permitted maximum", "huge pages are disabled, which the process shows"],
)
def test_what_a_process_changes_for_itself(code: str, printed: str) -> None:
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert " ".join(done.stdout.split()) == printed
