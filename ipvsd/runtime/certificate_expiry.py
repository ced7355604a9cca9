"""The end of a certificate's validity. Python's ssl module shows it only for the certificate of a peer."""

from __future__ import annotations

import base64
import calendar
import re
import time
from typing import Optional

_PEM = re.compile(rb"-----BEGIN (?:X509 |TRUSTED )?CERTIFICATE-----([A-Za-z0-9+/=\s]{1,100000})-----END ")
_SEQUENCE, _VERSION = 0x30, 0xA0
_TIMES = {0x17: "%y%m%d%H%M%SZ", 0x18: "%Y%m%d%H%M%SZ"}  # UTCTime and GeneralizedTime (RFC 5280, 4.1.2.5)


def expiry(pem: bytes) -> Optional[float]:
    """Return when the first of the certificates expires, in seconds since the epoch, or None if that is unknown."""
    found = [_expiry(match[1]) for match in _PEM.finditer(pem)]
    return min((time for time in found if time is not None), default=None)


def _expiry(encoded: bytes) -> Optional[float]:
    try:
        certificate = _content(base64.b64decode(encoded), _SEQUENCE)[0]
        rest = _content(certificate, _SEQUENCE)[0]  # TBSCertificate
        if rest[:1] == bytes((_VERSION,)):
            rest = _content(rest, _VERSION)[1]
        for _ in range(3):  # serialNumber, signature, issuer
            rest = _content(rest, rest[0])[1]
        _, after = _content(_content(rest, _SEQUENCE)[0], None)  # notBefore
        text = _content(after, after[0])[0].decode("ascii")
        return float(calendar.timegm(time.strptime(text, _TIMES[after[0]])))
    except (ValueError, IndexError, KeyError):
        return None


def _content(data: bytes, tag: Optional[int]) -> tuple[bytes, bytes]:
    """Return the content of the first element of DER, and the rest. Raises ValueError, IndexError."""
    if tag is not None and data[0] != tag:
        raise ValueError("unexpected tag")
    length, start = data[1], 2
    if length & 0x80:
        start += length & 0x7F
        length = int.from_bytes(data[2:start], "big")
    if len(data) < start + length:
        raise ValueError("incomplete")
    return data[start : start + length], data[start + length :]
