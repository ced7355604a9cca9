"""Run commands with every kind of output stream, each in its own process, and print how they ended.

One parent process imports ipvsd once for all of them, and has no threads, so it can fork.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import signal
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import NoReturn, Optional, TextIO

from ipvsd.__main__ import main
from ipvsd.commands import apply, check, config, explain, history, plan, preflight, profile, status

# Modules that each child would otherwise import.
LOADED = (apply, check, config, explain, history, plan, preflight, profile, status)

Ending = tuple[int, str, str]  # the exit code, or a negative signal number; standard output; standard error


def endings(arguments: list[str]) -> Iterator[tuple[str, Ending]]:
    """Yield the result of a command for each kind of output, named like a shell redirection."""
    full = os.open("/dev/full", os.O_WRONLY)
    yield "usual", ending(arguments, made())
    yield "| true", ending(arguments, left())
    yield ">&-", ending(arguments, None)
    yield "2>&-", ending(arguments, made(), None)
    yield ">&- 2>&-", ending(arguments, None, None)
    yield ">/dev/full", ending(arguments, full)
    yield "2>/dev/full", ending(arguments, made(), full)
    os.close(full)
    with choked() as pipe:
        yield "SIGINT", ending(arguments, pipe, interrupt=True)


def ending(arguments: list[str], out: Optional[int], err: Optional[int] = -1, interrupt: bool = False) -> Ending:
    """Run a command with its streams on these descriptors. None closes a stream, and -1 is a temporary file."""
    err = made() if err == -1 else err
    child = os.fork()
    if child == 0:
        become(arguments, out, err)
    if interrupt:
        while state(child) not in "SZ":  # it sleeps: it waits for room in the pipe
            time.sleep(0.001)
        os.kill(child, signal.SIGINT)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    # Ages differ from one run to the next.
    return code, re.sub(r"-?\d+ s ago", "some time ago", text(out)), text(err)


def become(arguments: list[str], out: Optional[int], err: Optional[int]) -> NoReturn:
    """Run the command, and end like the interpreter: it flushes its streams, and exits with 120 if it cannot."""
    for number, descriptor in ((1, out), (2, err)):
        if descriptor is None:
            os.close(number)
        else:
            os.dup2(descriptor, number)
    sys.stdout, sys.stderr = opened(1, out), opened(2, err)
    sys.argv[1:] = arguments
    code = main()
    try:
        for stream in filter(None, (sys.stdout, sys.stderr)):
            stream.flush()
    except OSError:
        code = 120
    os._exit(code)  # tearing down the interpreter takes longer than any command


def opened(number: int, descriptor: Optional[int]) -> TextIO:
    """Return a stream as the interpreter creates it at its start, or None for a closed one."""
    return None if descriptor is None else open(number, "w", encoding="utf-8", closefd=False)  # type: ignore[return-value]


def made() -> int:
    return os.memfd_create("stream")


def left() -> int:
    """Return the write end of a pipe without a reader."""
    read, write = os.pipe()
    os.close(read)
    return write


@contextlib.contextmanager
def choked() -> Iterator[int]:
    """Yield the write end of a full pipe that nobody reads."""
    read, write = os.pipe()
    os.set_blocking(write, False)
    with contextlib.suppress(BlockingIOError):
        while True:
            os.write(write, b"x" * 4096)
    os.set_blocking(write, True)
    yield write
    os.close(read)
    os.close(write)


def state(pid: int) -> str:
    """Return the state of a process in the form of proc_pid_stat(5)."""
    return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]


def text(descriptor: Optional[int]) -> str:
    """Return the content of a temporary file."""
    with contextlib.suppress(OSError, TypeError):
        return os.pread(descriptor, 1 << 20, 0).decode()  # type: ignore[arg-type]
    return ""


if __name__ == "__main__":
    signal.signal(signal.SIGINT, signal.default_int_handler)  # the background process of a script ignores it
    json.dump({line: dict(endings(line.split())) for line in sys.argv[1:]}, sys.stdout)
