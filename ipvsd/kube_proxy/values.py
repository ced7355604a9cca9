"""Values as Go and kube-proxy parse them, each with the most likely correction of an invalid one."""

from __future__ import annotations

import ipaddress
import re
from typing import NamedTuple, Optional, Union

_UNITS = {"ns": 1e-9, "us": 1e-6, "µs": 1e-6, "μs": 1e-6, "ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0}
_PART = re.compile(r"([0-9]+\.?[0-9]*|\.[0-9]+)(ns|us|µs|μs|ms|s|m|h)")
# Units that people write.
_WORDS = {
    **dict.fromkeys("sec secs second seconds".split(), "s"),
    **dict.fromkeys("min mins minute minutes".split(), "m"),
    **dict.fromkeys("hr hrs hour hours".split(), "h"),
    **dict.fromkeys("msec msecs millis milliseconds".split(), "ms"),
}
_MAX_SECONDS = 9.2e9  # Go's durations are 64-bit numbers of nanoseconds


class Invalid(NamedTuple):
    """An invalid value: the problem, and the corrected value or an empty text."""

    problem: str
    correction: str = ""


def duration(text: str) -> Union[float, Invalid]:
    """Return the seconds of a duration (Go's time.ParseDuration)."""
    seconds = _seconds(text)
    if seconds is not None:
        return seconds
    return Invalid(f"invalid duration {shown(text)}: {_why_invalid(text)}", _likely_duration(text))


def _seconds(text: str) -> Optional[float]:
    sign = -1.0 if text.startswith("-") else 1.0
    rest = text[1:] if text[:1] in "+-" and text else text
    if rest == "0":
        return 0.0
    parts, end = 0.0, 0
    for match in _PART.finditer(rest):
        if match.start() != end:
            return None
        parts, end = parts + float(match[1]) * _UNITS[match[2]], match.end()
    return sign * parts if end and end == len(rest) and parts <= _MAX_SECONDS else None


def _why_invalid(text: str) -> str:
    if re.match(r"[+-]?[0-9.]+\Z", text):
        return "add a unit, for example 15m"
    if not text.strip():
        return "missing value"
    return "write numbers with the units h, m, s or ms, for example 1h30m"


def _likely_duration(text: str) -> str:
    plain = re.sub(r"[\s,_]+", "", text.strip().lower())
    if not plain:
        return "0s"
    if re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z", plain):
        return f"{plain}s"
    days = re.match(r"([0-9]{1,5})(?:d|day|days)\Z", plain)
    if days:
        return f"{int(days[1]) * 24}h"
    fixed = re.sub(r"[a-z]+", lambda word: _WORDS.get(word[0], word[0]), plain)
    return fixed if _seconds(fixed) is not None else ""


def integer(text: str) -> Optional[int]:
    """Return a number as the YAML parser of Kubernetes reads it: 010 is 8."""
    plain = text.replace("_", "")
    match = re.match(r"[-+]?(0x[0-9a-fA-F]{1,16}|0b[01]{1,64}|0o?[0-7]{0,22}|[1-9][0-9]{0,19})\Z", plain)
    if not match:
        return None
    digits = match[1]
    base = {"0x": 16, "0b": 2, "0o": 8}.get(digits[:2], 8 if len(digits) > 1 and digits[0] == "0" else 10)
    number = int(digits[2:] or "0" if digits[:2] in ("0x", "0b", "0o") else digits, base)
    return -number if plain.startswith("-") else number


def network(text: str) -> Union[int, Invalid]:
    """Return the IP version of a CIDR."""
    address, slash, prefix = text.partition("/")
    plain = re.sub(r"(?<![0-9])0+(?=[0-9])", "", address) if "." in address and ":" not in address else address
    try:
        version = ipaddress.ip_address(plain).version
    except ValueError:
        stripped = text.strip().strip("\"'")
        if stripped != text and not isinstance(network(stripped), Invalid):
            return Invalid(f"invalid CIDR {shown(text)}: remove the blanks or quotes", stripped)
        return Invalid(f"invalid CIDR {shown(text)}: not an IP address")
    if "%" in text:
        return Invalid(f"invalid CIDR {shown(text)}: remove the zone", re.sub("%[^/]*", "", text))
    largest = 32 if version == 4 else 128
    if not slash:
        return Invalid(f"invalid CIDR {shown(text)}: missing prefix length", f"{text}/{_likely_prefix(plain, version)}")
    if not re.match("[0-9]{1,3}\\Z", prefix) or int(prefix) > largest:
        problem = f"invalid CIDR {shown(text)}: the prefix length must be a number from 0 to {largest}"
        return Invalid(problem, _from_mask(address, prefix))
    return version


def _likely_prefix(address: str, version: int) -> int:
    """Return the prefix length that the trailing zeros of an address suggest."""
    if version == 6:
        return 64 if address.endswith("::") else 128
    if address == "0.0.0.0":  # noqa: S104 -- not an address to listen on
        return 0
    zeros = re.search(r"(?:\.0)*\Z", address)
    return 32 - 4 * len(zeros[0]) if zeros else 32


def _from_mask(address: str, mask: str) -> str:
    try:
        return f"{address}/{ipaddress.ip_network(f'0.0.0.0/{mask}').prefixlen}"
    except ValueError:
        return ""


def address(text: str) -> Union[int, Invalid]:
    """Return the version of an IP address."""
    try:
        return ipaddress.ip_address(re.sub(r"(?<![0-9])0+(?=[0-9])", "", text) if ":" not in text else text).version
    except ValueError:
        host = re.match(r"\[?([0-9A-Fa-f:.]+?)\]?(?::[0-9]+|/[0-9]+)?\Z", text.strip())
        try:
            fixed = str(ipaddress.ip_address(host[1])) if host else ""
        except ValueError:
            fixed = ""
        return Invalid(f"invalid IP address {shown(text)}", fixed)


def endpoint(text: str) -> Optional[Invalid]:
    """Return the problem of ADDRESS:PORT, or None. kube-proxy adds its default port to an address."""
    if not isinstance(address(text), Invalid):
        return None
    match = re.match(r"(\[[^\[\]]*\]|[^:\[\]]*):([^:]*)\Z", text)
    if not match:
        return Invalid(f"invalid address {shown(text)}: must be ADDRESS:PORT, with brackets around an IPv6 address")
    host, port = match[1].strip("[]"), match[2]
    if isinstance(address(host), Invalid):
        hosts = {"localhost": "127.0.0.1", "": "0.0.0.0", "*": "0.0.0.0"}  # noqa: S104 -- the default of kube-proxy
        fixed = f"{hosts[host]}:{port}" if host in hosts else ""
        return Invalid(f"invalid address {shown(text)}: must be an IP address, not {shown(host)}", fixed)
    if not re.match("[0-9]{1,5}\\Z", port) or not 1 <= int(port) <= 65535:
        return Invalid(f"invalid port in {shown(text)}: must be a number from 1 to 65535")
    return None


def port_range(text: str) -> Optional[Invalid]:
    """Return the problem of a range of ports (ParsePortRange in apimachinery), or None."""
    match = re.match(r"([0-9]{1,5})(?:([-+])([0-9]{1,5}))?\Z", text.strip())
    if not text.strip():
        return None
    if not match:
        return Invalid(f"invalid range of ports {shown(text)}: write 30000-32000")
    low = int(match[1])
    high = low if not match[2] else int(match[3]) if match[2] == "-" else low + int(match[3])
    return None if low <= high <= 65535 else Invalid(f"invalid range of ports {shown(text)}: not from 0 to 65535")


def shown(text: str) -> str:
    """Return a text of the file for a message, limited in length."""
    return repr(text if len(text) <= 60 else f"{text[:57]}...")
