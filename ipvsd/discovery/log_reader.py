"""The end of kube-proxy's log: from its container's log file under /var/log/containers, or from the journal."""

from __future__ import annotations

import json
import os
import re
from collections.abc import Sequence
from typing import NamedTuple, Optional

from ipvsd.discovery import unit_log
from ipvsd.discovery.processes import Kind, Process
from ipvsd.discovery.unit_log import Run
from ipvsd.kube_proxy import log_errors
from ipvsd.runtime import rootfs

CONTAINERS = "var/log/containers"
_NAME = re.compile(r"(?P<pod>kube-proxy[a-z0-9.-]*)_[a-z0-9-]+_kube-proxy-(?P<container>[0-9a-f]{12,64})\.log")
_MAX_BYTES, _MAX_LINES = 1 << 18, 400
_SECONDS = 5.0
_JOURNAL = ("journalctl", "-q", "-b", "-o", "cat", "--no-pager")


class Log(NamedTuple):
    """The last lines of a log, and its name for people. `problem` is the reason if it cannot be read.

    `start` are the first lines of the running process, in which it reports its mode. `ended` are the last lines of
    the last start that has ended, and `failure` is the evidence that it failed. `shared` means that other programs
    write into the log as well.
    """

    lines: tuple[str, ...] = ()
    origin: str = ""
    problem: str = ""
    start: tuple[str, ...] = ()
    ended: tuple[str, ...] = ()
    failure: str = ""
    shared: bool = False


NO_LOG = Log()


def read(root: str, process: Optional[Process], run: Optional[Run], silent: bool = False) -> Log:
    """Return the end of the log of a running kube-proxy, or of the last one if there is none.

    Without `run`, only files are read. `silent` means that the process does not answer: then the log of its former
    start is read as well, if its unit or kubelet has restarted it.
    """
    if process is not None and process.kind in (Kind.PROCESS, Kind.EMBEDDED):
        return _of_process(process, run, silent) if run else NO_LOG
    found = _of_container(root, process, silent)
    if process is None and run is not None and not found.lines and not found.problem:
        return _of_unit(run)
    return found


# --- containers -------------------------------------------------------------------------


def _of_container(root: str, process: Optional[Process], silent: bool) -> Log:
    """Return the log of a container by its ID, or the newest one of any kube-proxy without a process."""
    try:
        names = sorted(rootfs.listing(root, CONTAINERS))
    except (FileNotFoundError, NotADirectoryError):
        return NO_LOG
    except OSError as error:
        return Log(problem=f"cannot read /{CONTAINERS}: {error.strerror}")
    logs = {name: found for name in names for found in [_NAME.fullmatch(name)] if found}
    identity = process.container if process else ""
    own = [name for name, found in logs.items() if not identity or identity.startswith(found["container"])]
    try:
        name = _newest(root, own)
        if not name:
            return NO_LOG
        log = _tail(root, name)
        if process is None:
            return _failed(log, log) if _is_of_this_boot(root, name) else log
        pod = logs[name]["pod"]
        former = _newest(root, [other for other in logs if other not in own and logs[other]["pod"] == pod])
        return _failed(log, _tail(root, former)) if silent and former else log
    except rootfs.UnreadableError as error:
        return Log(problem=str(error))


def _newest(root: str, names: Sequence[str]) -> str:
    """Return the file that was written last, or an empty text. Raises UnreadableError."""
    newest, path = -1.0, ""
    for name in names:
        status = rootfs.status(root, f"{CONTAINERS}/{name}")
        if status is not None and status.st_mtime > newest:
            newest, path = status.st_mtime, name
    return path


def _failed(log: Log, ended: Log) -> Log:
    """Return a log with the lines of a container that has ended. One that was stopped reports no fatal error."""
    fatal = log_errors.last_fatal(ended.lines)
    return log._replace(ended=ended.lines, failure=f"the container of {ended.origin} ended" if fatal else "")


def _is_of_this_boot(root: str, name: str) -> bool:
    """Return whether a log was written since the boot. kubelet removes older ones only after its start."""
    found = re.search(r"^btime ([0-9]{1,12})$", rootfs.text_if_permitted(root, "proc/stat") or "", re.MULTILINE)
    status = rootfs.status(root, f"{CONTAINERS}/{name}")
    return found is None or status is None or status.st_mtime >= int(found[1])


def _tail(root: str, name: str) -> Log:
    path = f"{CONTAINERS}/{name}"
    try:
        with rootfs.open_file(root, path) as fd:
            start = rootfs.read_at_most(fd, _MAX_BYTES)
            size = os.fstat(fd).st_size
            os.lseek(fd, max(0, size - _MAX_BYTES), os.SEEK_SET)
            end = rootfs.read_at_most(fd, _MAX_BYTES)
    except OSError as error:
        return Log(problem=f"cannot read /{path}: {error.strerror}")
    return Log(_messages(_last(end)), f"/{path}", start=_messages(_first(start)))


# --- the journal ------------------------------------------------------------------------


def _of_process(process: Process, run: Run, silent: bool) -> Log:
    match = f"_PID={process.pid}"
    shared = process.comm != "kube-proxy"
    try:
        end = run((*_JOURNAL, "-n", str(_MAX_LINES), match), _MAX_BYTES, _SECONDS)
        start = run((*_JOURNAL, match), _MAX_BYTES, _SECONDS) if not end.code else end
    except OSError as error:
        return Log(problem=f"cannot run journalctl: {error.strerror}")
    if end.code:
        return Log(problem=f"cannot read the journal: journalctl exited {end.code}")
    log = Log(_last(end.text), f"journalctl {match}", start=_first(start.text), shared=shared)
    if not silent or not process.unit.endswith(".service"):
        return log
    try:
        restarts = unit_log.restarts(process.unit, run)
        lines = unit_log.former_start(process.unit, process.pid, run) if restarts else ()
    except unit_log.UnreadableError as error:
        return log._replace(problem=str(error))
    return log._replace(ended=lines, failure=restarts, origin=f"journalctl -u {process.unit}") if restarts else log


def _of_unit(run: Run) -> Log:
    """Return the log of the last kube-proxy that ended: of its own unit, or of a failed program that contains it."""
    try:
        found = unit_log.ended(run)
    except unit_log.UnreadableError as error:
        return Log(problem=str(error))
    return Log(found.lines, found.origin, ended=found.ended, failure=found.failure, shared=found.shared)


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
