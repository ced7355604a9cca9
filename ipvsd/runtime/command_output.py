"""The output of a program of this node, bounded in size and time."""

from __future__ import annotations

import contextlib
import os
import subprocess
import time
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ipvsd.runtime import stdio

# The programs of the system, whatever the caller's environment is. Messages are in English.
_ENVIRONMENT = {"PATH": "/usr/sbin:/usr/bin:/sbin:/bin", "LC_ALL": "C"}
_CHUNK = 1 << 16


class Output(NamedTuple):
    """`code` is the exit code, or None if the program was ended because of a limit."""

    code: Optional[int]
    text: bytes


def run(command: Sequence[str], limit: int, seconds: float) -> Output:
    """Run a program, and return at most `limit` bytes of its standard output and error within this time.

    Raises OSError if it cannot be started.
    """
    deadline, received = time.monotonic() + seconds, bytearray()
    with stdio.open_devnull() as devnull:
        child = subprocess.Popen(
            command, stdin=devnull, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, env=_ENVIRONMENT
        )
    assert child.stdout is not None
    ended = False
    try:
        while len(received) < limit and not ended:
            remaining = deadline - time.monotonic()
            if remaining <= 0 or not stdio.wait(child.stdout.fileno(), remaining):
                break
            chunk = os.read(child.stdout.fileno(), min(_CHUNK, limit - len(received)))
            ended = not chunk
            received += chunk
        if ended:
            with contextlib.suppress(subprocess.TimeoutExpired):
                return Output(child.wait(max(0.1, deadline - time.monotonic())), bytes(received))
        return Output(None, bytes(received))
    finally:
        child.kill()
        child.stdout.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: init reaps it later
            child.wait(1.0)
