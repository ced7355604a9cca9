"""The suite does not change the machine on which it runs."""

from __future__ import annotations

import ctypes
import os
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

KEY = "/proc/sys/net/ipv4/no_such_key"


@pytest.mark.parametrize(
    "touch",
    [
        pytest.param(lambda: os.open(KEY, os.O_WRONLY), id="os.open"),
        pytest.param(lambda: Path(KEY).write_text("1"), id="open"),
        pytest.param(lambda: Path("/proc/self/../sys/net/ipv4/no_such_key").write_text("1"), id="another path"),
        pytest.param(lambda: subprocess.run(["modprobe", "--version"], check=False), id="modprobe"),
        pytest.param(lambda: subprocess.run(["/sbin/rmmod", "--version"], check=False), id="rmmod"),
        pytest.param(lambda: ctypes.CDLL("libkmod.so.2"), id="libkmod"),
    ],
)
def test_touching_the_real_kernel_raises(touch: Callable[[], object]) -> None:
    with pytest.raises(Exception, match="a test may not"):
        touch()


def test_reading_is_allowed() -> None:
    assert Path("/proc/sys/kernel/osrelease").read_text().strip() == os.uname().release
