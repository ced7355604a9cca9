"""Log lines to standard error, with the priority prefixes of sd-daemon(3) where the journal reads them."""

from __future__ import annotations

import os
import sys

from ipvsd.health import ascii_line

_LEVELS = {"debug": 7, "info": 6, "warning": 4, "error": 3}


def log(level: str, text: str) -> None:
    """Write a message of one or more lines; `level` is debug, info, warning or error."""
    if level == "debug" and not os.environ.get("IPVSD_DEBUG"):
        return
    prefix = f"<{_LEVELS[level]}>" if _is_journal() else f"ipvsd: {'' if level == 'info' else level + ': '}"
    lines = "".join(f"{prefix}{ascii_line(line)}\n" for line in text.splitlines())
    try:
        sys.stderr.write(lines)
        sys.stderr.flush()
    except OSError:
        pass  # nobody listens; the node is still to be kept right


def _is_journal() -> bool:
    """Whether standard error is the stream that $JOURNAL_STREAM names (systemd.exec(5))."""
    try:
        status = os.fstat(2)
    except OSError:
        return False
    return os.environ.get("JOURNAL_STREAM") == f"{status.st_dev}:{status.st_ino}"
