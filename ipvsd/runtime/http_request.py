"""The head of an HTTP/1 request as values, or what refuses it (RFC 9110, RFC 9112). Strict: nothing is guessed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import NamedTuple, Optional, Union

MAX_HEADERS = 64

_TOKEN = rb"[!#$%&'*+.^_`|~0-9A-Za-z-]+"
_END = re.compile(rb"\r?\n\r?\n")
_LINE = re.compile(rb"(" + _TOKEN + rb") (?:(?i:http)://([^/?#\s]*)|(?=/))((?:[/?][!-~]*)?) HTTP/([0-9])\.([0-9])")
_HEADER = re.compile(rb"(" + _TOKEN + rb"):[ \t]*([\t -~\x80-\xff]*)")


class Request(NamedTuple):
    """`path` is without the query; `host` is what the client takes this server for, without the port.

    `headers` have their names in lower case, and the values of a repeated name joined with commas.
    """

    method: str
    path: str
    host: Optional[str]
    headers: Mapping[str, str]


class RequestError(NamedTuple):
    """The status that answers a request that cannot be taken, and what is wrong with it."""

    status: int
    reason: str


def head_length(received: bytearray, searched: int) -> int:
    """Return the length of the head, or 0 while there is more to come; `searched` bytes had been looked at before."""
    found = _END.search(received, max(0, searched - 3))
    return found.end() if found else 0


def parse(head: bytes) -> Union[Request, RequestError]:
    """Return what a client asks for. A request with a body is refused: there is nothing to send here."""
    first, *lines = re.split(rb"\r?\n", head.rstrip(b"\r\n"))
    line = _LINE.fullmatch(first)
    if not line:
        return RequestError(400, "invalid request line")
    if line[4] != b"1":
        return RequestError(505, "unknown version of HTTP")
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
        return RequestError(413, "no content is accepted")
    host = headers.get("host") if line[2] is None else line[2].decode("latin-1")
    path = line[3].decode("ascii").partition("?")[0].partition("#")[0]
    return Request(line[1].decode("ascii"), path or "/", host and _host_name(host), headers)


def _host_name(host: str) -> str:
    """Return a Host in lower case, without its port and the dot of a whole name; an IPv6 address keeps its brackets."""
    name = re.sub(r":[0-9]*\Z", "", host) if host.count(":") == 1 or "]" in host else host
    return name.lower().removesuffix(".")
