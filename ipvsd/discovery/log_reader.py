"""The end of kube-proxy's log: from its container's log file under /var/log/containers, or from the journal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import Callable, NamedTuple, Optional

from ipvsd.discovery.processes import Kind, Process
from ipvsd.runtime import rootfs
from ipvsd.runtime.command_output import Output

Run = Callable[[Sequence[str], int, float], Output]

CONTAINERS = "var/log/containers"
_NAME = re.compile(r"(?P<pod>kube-proxy[a-z0-9.-]*)_[a-z0-9-]+_kube-proxy-(?P<container>[0-9a-f]{12,64})\.log")
_MAX_BYTES, _MAX_LINES = 1 << 18, 400
_SECONDS = 5.0
_JOURNAL = ("journalctl", "-q", "-b", "-o", "cat", "--no-pager")


class Log(NamedTuple):
    """The last lines of a log, and its name for people. `problem` is the reason if it cannot be read.

    `start` are the first lines of the running process, in which it reports its mode.
    """

    lines: tuple[str, ...] = ()
    origin: str = ""
    problem: str = ""
    start: tuple[str, ...] = ()


NO_LOG = Log()


def read(root: str, process: Optional[Process], run: Optional[Run]) -> Log:
    """Return the end of the log of a running kube-proxy, or of the last one if there is none.

    Without `run`, only files are read.
    """
    if process is not None and process.kind in (Kind.PROCESS, Kind.EMBEDDED):
        return _from_journal(process, run) if run else NO_LOG
    found = _from_container(root, process.container if process else "")
    if process is None and run is not None and not found.lines and not found.problem:
        return _from_journal(None, run)
    return found


def _from_container(root: str, container: str) -> Log:
    """Return the log of a container by its ID, or the newest one of any kube-proxy without an ID."""
    try:
        names = rootfs.listing(root, CONTAINERS)
    except (FileNotFoundError, NotADirectoryError):
        return NO_LOG
    except OSError as error:
        return Log(problem=f"cannot read /{CONTAINERS}: {error.strerror}")
    matches = [(found["container"], name) for name in sorted(names) for found in [_NAME.fullmatch(name)] if found]
    chosen = [name for identity, name in matches if not container or container.startswith(identity)]
    newest, path = -1.0, ""
    for name in chosen:
        try:
            status = rootfs.status(root, f"{CONTAINERS}/{name}")
        except rootfs.UnreadableError as error:
            return Log(problem=str(error))
        if status is not None and status.st_mtime > newest:
            newest, path = status.st_mtime, f"{CONTAINERS}/{name}"
    return _tail(root, path) if path else NO_LOG


def _tail(root: str, path: str) -> Log:
    try:
        with rootfs.open_file(root, path) as fd:
            start = rootfs.read_at_most(fd, _MAX_BYTES)
            size = os.fstat(fd).st_size
            os.lseek(fd, max(0, size - _MAX_BYTES), os.SEEK_SET)
            end = rootfs.read_at_most(fd, _MAX_BYTES)
    except OSError as error:
        return Log(problem=f"cannot read /{path}: {error.strerror}")
    return Log(_messages(_last(end)), f"/{path}", start=_messages(_first(start)))


def _from_journal(process: Optional[Process], run: Run) -> Log:
    match = (f"_PID={process.pid}",) if process else ("-t", "kube-proxy")
    try:
        end = run((*_JOURNAL, "-n", str(_MAX_LINES), *match), _MAX_BYTES, _SECONDS)
        start = run((*_JOURNAL, *match), _MAX_BYTES, _SECONDS) if process and not end.code else end
    except OSError as error:
        return Log(problem=f"cannot run journalctl: {error.strerror}")
    if end.code:
        return Log(problem=f"cannot read the journal: journalctl exited {end.code}")
    return Log(_last(end.text), f"journalctl {' '.join(match)}", start=_first(start.text) if process else ())


def _first(data: bytes) -> tuple[str, ...]:
    return tuple(data.decode("utf-8", "replace").split("\n", _MAX_LINES)[:_MAX_LINES])


def _last(data: bytes) -> tuple[str, ...]:
    return tuple(data.decode("utf-8", "replace").rsplit("\n", _MAX_LINES)[-_MAX_LINES:])


_CRI = re.compile(r"\S{10,40} (?:stdout|stderr) [FP] ")


def _messages(lines: Sequence[str]) -> tuple[str, ...]:
    return tuple(map(_message, lines))


def _message(line: str) -> str:
    """Return the message in a line of a container's log: of CRI, or of Docker's JSON."""
    prefix = _CRI.match(line)
    if prefix:
        return line[prefix.end() :]
    if line.startswith("{"):
        try:
            document = json.loads(line)
        except (ValueError, RecursionError):
            return line
        message = document.get("log") if isinstance(document, dict) else None
        if isinstance(message, str):
            return message.rstrip("\n")
    return line
