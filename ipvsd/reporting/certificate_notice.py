"""The note about the certificate of the HTTP endpoint when it expires. It does not change the state of the node."""

from __future__ import annotations

import time
from typing import Optional

from ipvsd.model.report import Report
from ipvsd.runtime.journal import log

LIMIT = 7 * 86400.0  # seconds before the expiry, as in the alert IpvsdCertificateExpiring
REMEDY = "renew the files of 'cert_file' and 'key_file'; ipvsd uses new files without a restart"


def problem(expiry: Optional[float], now: float) -> str:
    """Return the problem, or an empty text if the certificate is valid for longer or its expiry is unknown.

    Both times are in seconds since the epoch. The text of one certificate changes only when it expires.
    """
    if expiry is None or expiry - now >= LIMIT:
        return ""
    day = time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime(expiry))
    return f"the certificate of the HTTP endpoint {'expired' if now > expiry else 'expires'} on {day}"


class CertificateNotice:
    """Adds the note to reports, and logs it when it is new."""

    def __init__(self) -> None:
        self._last = ""

    def complete(self, report: Report) -> Report:
        found = problem(report.web_certificate_expiry, report.time)
        note = f"{found} ({REMEDY})" if found else ""
        if note and note != self._last:
            log("warning", note)
        self._last = note
        return report.add_notes(None, (note,) if note else ())  # its metric is the time of the expiry
