"""Log lines: with fields to the journal if it reads standard error, otherwise as text to standard error.

Messages with fields use the journal's native protocol (https://systemd.io/JOURNAL_NATIVE_PROTOCOL/). Other messages
go to standard error, with the priority prefixes of sd-daemon(3).
"""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping

from ipvsd.model import printable
from ipvsd.runtime import stdio

_LEVELS = {"debug": 7, "info": 6, "warning": 4, "error": 3}
SOCKET = "/run/systemd/journal/socket"


def log(level: str, text: str, fields: Mapping[str, str] = {}) -> None:
    """Write a message as one printable line. `level` is debug, info, warning or error.

    `fields` go only to the journal. Their names consist of A-Z, 0-9 and _ (systemd.journal-fields(7)).
    """
    if level == "debug" and not os.environ.get("IPVSD_DEBUG"):
        return
    if fields and _is_journal() and _send(level, text, fields):
        return
    prefix = f"<{_LEVELS[level]}>" if _is_journal() else f"ipvsd: {'' if level == 'info' else level + ': '}"
    try:
        stdio.write(sys.stderr, f"{prefix}{printable.line(text)}\n")
    except OSError:
        pass  # nobody reads standard error; the daemon still has to keep the node compliant


def _send(level: str, text: str, fields: Mapping[str, str]) -> bool:
    import socket  # the daemon begins to load modules without it

    known = {"MESSAGE": text, "PRIORITY": str(_LEVELS[level]), "SYSLOG_IDENTIFIER": "ipvsd"}
    # One line for each field. Otherwise, the protocol would parse the rest as more fields.
    lines = "".join(f"{name}={printable.line(value)}\n" for name, value in {**known, **fields}.items())
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as opened:
            opened.sendto(lines.encode(), SOCKET)
    except OSError:
        return False
    return True


def _is_journal() -> bool:
    """Return whether standard error is the stream that $JOURNAL_STREAM names (systemd.exec(5))."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
