"""The log of a kube-proxy that has ended, in the journal, and the state of its unit: whether it failed.

journalctl(1) and systemctl(1) answer. Their output is bounded in size and time.
"""

from __future__ import annotations

import json
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Callable, NamedTuple, Optional

from ipvsd.runtime.command_output import Output

Run = Callable[[Sequence[str], int, float], Output]

_MAX_BYTES, _MAX_LINES = 1 << 19, 400
_SECONDS = 5.0
# The newest entry first, so that a limit removes the oldest ones.
_JOURNAL = (
    "journalctl", "-q", "-b", "-r", "-o", "json", "--output-fields=MESSAGE,_PID,_SYSTEMD_UNIT",
    "--no-pager", "-n", str(_MAX_LINES),
)  # fmt: skip
_STATE = ("systemctl", "show", "--no-pager", "-p", "Id,ActiveState,SubState,Result,NRestarts", "--")

# Fields that match the entries of kube-proxy itself, and those of programs that contain it. Different fields narrow
# the result, so a plus sign separates the alternatives. Every user can choose an identifier and the name of a process,
# and kube-proxy runs as root.
_ROOT = "_UID=0"
_OWN_UNIT = "kube-proxy.service"
_OWN = (
    "SYSLOG_IDENTIFIER=kube-proxy", _ROOT, "+", "_COMM=kube-proxy", _ROOT, "+", f"_SYSTEMD_UNIT={_OWN_UNIT}",
)  # fmt: skip
_HOST_UNITS = ("k3s.service", "k3s-agent.service")
_HOSTS = (
    "SYSLOG_IDENTIFIER=hyperkube", "SYSLOG_IDENTIFIER=k3s", _ROOT, "+",
    *(f"_SYSTEMD_UNIT={unit}" for unit in _HOST_UNITS),
)  # fmt: skip


class UnreadableError(Exception):
    """The journal cannot be read. The message is the reason."""


class EndedLog(NamedTuple):
    """`lines` are the last ones of any start, `ended` those of the last start, and `failure` the evidence if it failed.

    `shared` means that other programs write into this log as well.
    """

    lines: tuple[str, ...] = ()
    origin: str = ""
    ended: tuple[str, ...] = ()
    failure: str = ""
    shared: bool = False


class _Entry(NamedTuple):
    message: str
    pid: str
    unit: str


def ended(run: Run) -> EndedLog:
    """Return the log of the last kube-proxy that ended.

    The log of a program that contains kube-proxy counts only if its unit failed. Raises UnreadableError.
    """
    entries = _entries(_OWN, run)
    own = entries[-1].unit if entries else ""
    failures = _failures({own, _OWN_UNIT}, run)
    if entries:
        origin = f"journalctl -u {own}" if own.endswith(".service") else "journalctl -t kube-proxy"
        return EndedLog(_messages(entries), origin, _of_last_start(entries), failures.get(own, ""))
    if _OWN_UNIT in failures:  # it failed without a line
        return EndedLog(origin=f"journalctl -u {_OWN_UNIT}", failure=failures[_OWN_UNIT])
    return _of_host(run)


def _of_host(run: Run) -> EndedLog:
    entries = [item for item in _entries(_HOSTS, run) if item.unit in _HOST_UNITS or "proxy" in item.unit]
    failures = _failures({item.unit for item in entries}, run) if entries else {}
    failed = [item for item in entries if item.unit in failures]
    if not failed:
        return EndedLog()
    unit = failed[-1].unit
    same = [item for item in failed if item.unit == unit]
    return EndedLog(_messages(same), f"journalctl -u {unit}", _of_last_start(same), failures[unit], unit in _HOST_UNITS)


def former_start(unit: str, pid: int, run: Run) -> tuple[str, ...]:
    """Return the lines of the start before that of a process, in the same unit. Raises UnreadableError."""
    return _of_last_start([item for item in _entries([f"_SYSTEMD_UNIT={unit}"], run) if item.pid != str(pid)])


def restarts(unit: str, run: Run) -> str:
    """Return how often systemd has restarted a unit that had ended by itself, or an empty text if never.

    systemd counts from the last start by an administrator.
    """
    count = _states([unit], run).get(unit, {}).get("NRestarts", "")
    return f"{unit}: systemd has restarted it (NRestarts={count})" if count.isdecimal() and count.strip("0") else ""


def _failures(units: Collection[str], run: Run) -> Mapping[str, str]:
    """Return the evidence for each of these units that failed, or waits for a restart after it failed."""
    return {
        name: f"{name}: {state['ActiveState']} ({state['SubState']}), Result={state['Result']}"
        for name, state in _states(sorted(name for name in units if name.endswith(".service")), run).items()
        if state.get("Result", "success") != "success"
        and (state.get("ActiveState") == "failed" or state.get("SubState", "").startswith("auto-restart"))
    }


def _states(units: Sequence[str], run: Run) -> Mapping[str, Mapping[str, str]]:
    """Return the properties of units by their names, or nothing if systemd does not answer."""
    if not units:
        return {}
    try:
        output = run((*_STATE, *units), _MAX_BYTES, _SECONDS)
    except OSError:
        return {}
    text = "" if output.code else output.text.decode("utf-8", "replace")
    states = [dict(line.split("=", 1) for line in part.splitlines() if "=" in line) for part in text.split("\n\n")]
    return {state["Id"]: state for state in states if {"Id", "ActiveState", "SubState"} <= state.keys()}


def _of_last_start(entries: Sequence[_Entry]) -> tuple[str, ...]:
    return _messages([item for item in entries if item.pid == entries[-1].pid])


def _messages(entries: Sequence[_Entry]) -> tuple[str, ...]:
    return tuple(line for item in entries for line in item.message.splitlines())


def _entries(match: Sequence[str], run: Run) -> Sequence[_Entry]:
    """Return the last entries of this boot, the oldest first. Raises UnreadableError."""
    try:
        output = run((*_JOURNAL, *match), _MAX_BYTES, _SECONDS)
    except OSError as error:
        raise UnreadableError(f"cannot run journalctl: {error.strerror}") from error
    if output.code:
        raise UnreadableError(f"cannot read the journal: journalctl exited {output.code}")
    found = [_entry(line) for line in output.text.splitlines()]
    return [item for item in reversed(found) if item is not None]


def _entry(line: bytes) -> Optional[_Entry]:
    try:
        document = json.loads(line)
    except (ValueError, RecursionError):
        return None  # the last line, if a limit was reached
    if not isinstance(document, dict):
        return None
    return _Entry(*(_text(document.get(name)) for name in ("MESSAGE", "_PID", "_SYSTEMD_UNIT")))


def _text(value: Any) -> str:
    """Return a field of systemd's JSON. A list contains bytes that are not text; null is too large."""
    if isinstance(value, list):
        return bytes(item for item in value if isinstance(item, int) and 0 <= item < 256).decode("utf-8", "replace")
    return value if isinstance(value, str) else ""
