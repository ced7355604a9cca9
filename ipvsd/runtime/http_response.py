"""A response of the HTTP server, and its head as bytes."""

from __future__ import annotations

import time
from collections.abc import Mapping
from http import HTTPStatus
from typing import NamedTuple

_TEXT: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8"}


class Response(NamedTuple):
    """A response to a request. The server adds the length, the date and the headers for the connection."""

    status: int
    body: bytes
    headers: Mapping[str, str] = _TEXT


def text_response(status: int, reason: str, headers: Mapping[str, str] = _TEXT) -> Response:
    """Return a response with the reason as its text, and these headers in addition."""
    return Response(status, f"{reason}\n".encode(), {**_TEXT, **headers})


def head(response: Response, closes: bool, added: Mapping[str, str]) -> bytes:
    """Return the head of a response. `added` are headers of the configuration, which replace those of the server."""
    headers = {
        "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        "Server": "ipvsd",
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        **added,
        **response.headers,
        "Content-Length": str(len(response.body)),
    }
    if closes:
        headers["Connection"] = "close"
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} {HTTPStatus(response.status).phrase}\r\n{lines}\r\n".encode("latin-1")
