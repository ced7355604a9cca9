"""The programs of Debian's package prometheus, unpacked once into the cache of the bench."""

from __future__ import annotations

import subprocess
from pathlib import Path

from tests.vm import cache, packages

SUITE = "bookworm"


def _fill(target: Path, work: Path) -> None:
    packages.unpack("prometheus", SUITE, target, work, also="prometheus")


def program(name: str) -> str:
    """Return the path of `prometheus` or `promtool`."""
    return str(cache.kept("prometheus", (SUITE, Path(packages.__file__)), _fill) / "usr/bin" / name)


def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Run promtool, and return its exit code and its output."""
    command = [program("promtool"), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr
