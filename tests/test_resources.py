"""Reserved descriptors are available when they are needed, and code that only speeds up repairs leaves some free."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
from pathlib import Path

import pytest

from ipvsd.kernel.fd_cache import FdCache
from ipvsd.runtime import resources
from ipvsd.runtime.event_loop import EventLoop
from ipvsd.runtime.resources import RESERVE, DescriptorReserve
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_inotify import SysctlInotify
from tests.scarce import few_descriptors
from tests.test_watch import Idle


def test_reserved_descriptors_can_be_used_while_released() -> None:
    reserve = DescriptorReserve()
    with few_descriptors():
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
        with reserve.released():
            opened = [os.open(os.devnull, os.O_RDONLY) for _ in range(RESERVE)]
            for descriptor in opened:
                os.close(descriptor)
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
    reserve.close()


def test_a_used_reserve_is_refilled_the_next_time() -> None:
    reserve = DescriptorReserve()
    with few_descriptors():
        with reserve.released():
            kept = os.open(os.devnull, os.O_RDONLY)
        os.close(kept)
        with reserve.released():
            pass
        with pytest.raises(OSError, match="Too many open files"):
            os.open(os.devnull, os.O_RDONLY)
    reserve.close()


def test_a_watch_leaves_free_descriptors(tmp_path: Path) -> None:
    paths = {}
    for number in range(40):
        file = tmp_path / f"key{number}"
        file.write_text("1\n")
        paths[f"net.test.key{number}"] = str(file)
    limits = resource.getrlimit(resource.RLIMIT_NOFILE)
    fds = FdCache()
    with EventLoop() as loop:
        source = SysctlInotify(loop, Idle(loop), fds)
        lowest = os.open(os.devnull, os.O_RDONLY)
        os.close(lowest)
        resource.setrlimit(resource.RLIMIT_NOFILE, (lowest + 52, limits[1]))
        try:
            source.arm(Targets(frozenset(), paths, ()))
            state = source.state()
            assert not state.up
            assert "of 40 files; the other descriptors are reserved" in state.detail
            others = [os.open(os.devnull, os.O_RDONLY) for _ in range(30)]
            for descriptor in others:
                os.close(descriptor)
        finally:
            resource.setrlimit(resource.RLIMIT_NOFILE, limits)
        source.arm(Targets(frozenset(), paths, ()))
        assert source.state().up
        source.close()
    fds.close()


def test_the_limit_is_raised_to_the_permitted_maximum() -> None:
    code = (
        "import resource; from ipvsd.runtime import resources\n"
        "resource.setrlimit(resource.RLIMIT_NOFILE, (64, 300))\n"
        "resources.raise_limit(); print(*resource.getrlimit(resource.RLIMIT_NOFILE))"
    )
    root = Path(resources.__file__).parents[2]
    done = subprocess.run([sys.executable, "-c", code], cwd=root, capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["300", "300"]
