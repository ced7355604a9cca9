"""Parse the head of an HTTP/1 request strictly (RFC 9110, RFC 9112), into values or an error."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Optional, Union

MAX_HEADERS = 64

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_START = re.compile(_TOKEN)
_TLS_HANDSHAKE = b"\x16"  # the type of TLS' first record (RFC 8446, 5.1)
_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"(" + _TOKEN + rb") (?:(?i:http)://([^/?#\s]*)|(?=/))((?:[/?][!-~]*)?) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t -~\x80-\xff]*)")


class Request(NamedTuple):
    """`path` excludes the query. `host` is the name by which the client addresses this server, without the port.

    The names of `headers` are in lower case. Values of a repeated name are joined with commas. `persistent` means that
    the client may send another request on the same connection.
    """

    method: str
    path: str
    host: Optional[str]
    headers: Mapping[str, str]
    persistent: bool = False


class RequestError(NamedTuple):
    status: int
    reason: str


def head_length(received: bytearray, searched: int) -> int:
    """Return the length of the head, or 0 if it is incomplete. Earlier calls have searched `searched` bytes."""
    found = _END.search(received, max(0, searched - 3))
    return found.end() if found else 0


def reject_start(received: bytearray) -> Optional[RequestError]:
    """Return the error if no request begins with this data. A client of another protocol may wait for an answer."""
    if received[:1] == _TLS_HANDSHAKE:
        return RequestError(400, "TLS on a port for plain HTTP (use http://)")
    return RequestError(400, "invalid request line") if received and not _START.match(received) else None


def parse(head: bytes) -> Union[Request, RequestError]:
    """Parse the head of a request. A request with a body is rejected, because no resource here accepts one."""
    first, *lines = re.split(rb"\r?\n", head.rstrip(b"\r\n"))
    line = _LINE.fullmatch(first)
    if not line:
        return RequestError(400, "invalid request line")
    if line[4] != b"1":
        return RequestError(505, "unknown HTTP version")
    if len(lines) > MAX_HEADERS:
        return RequestError(431, f"more than {MAX_HEADERS} header fields")
    headers = dict[str, str]()
    for text in lines:
        header = _HEADER.fullmatch(text)
        if not header:
            return RequestError(400, "invalid header field")
        name, value = header[1].decode("ascii").lower(), header[2].decode("latin-1").strip(" \t")
        if name == "host" and name in headers:
            return RequestError(400, "duplicate Host")
        headers[name] = f"{headers[name]}, {value}" if name in headers else value
    if line[5] != b"0" and "host" not in headers:
        return RequestError(400, "missing Host")
    length = headers.get("content-length", "0")
    if not (length.isascii() and length.isdecimal()):
        return RequestError(400, "invalid Content-Length")
    if length.strip("0") or "transfer-encoding" in headers:
        return RequestError(413, "the request must not have a body")
    host = headers.get("host") if line[2] is None else line[2].decode("latin-1")
    path = line[3].decode("ascii").partition("?")[0].partition("#")[0]
    persistent = line[5] != b"0" and "close" not in _elements(headers.get("connection", ""))
    return Request(line[1].decode("ascii"), path or "/", host and _host_name(host), headers, persistent)


def accepts_gzip(request: Request) -> bool:
    """Return whether the client accepts a response with gzip (RFC 9110, 12.5.3)."""
    elements = _elements(request.headers.get("accept-encoding", ""))
    chosen = next((elements[name] for name in ("gzip", "x-gzip", "*") if name in elements), "q=0")
    return re.fullmatch(r"(q=)?0?(\.0{0,3})?", chosen.replace(" ", "")) is None if chosen else True


def _elements(value: str) -> dict[str, str]:
    """Return the elements of a list in lower case, each with its parameters."""
    parts = (item.strip().lower().partition(";") for item in value.split(","))
    return {name.strip(): parameters.strip() for name, _, parameters in parts if name.strip()}


def _host_name(host: str) -> str:
    """Return the host in lower case, without its port and the final dot. An IPv6 address keeps its brackets."""
    name = re.sub(r":[0-9]*\Z", "", host) if host.count(":") == 1 or "]" in host else host
    return name.lower().removesuffix(".")
