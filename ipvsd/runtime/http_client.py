"""One bounded HTTP request to an address of this node. The answer is not trusted.

The request is HTTP/1.0, so that the server neither keeps the connection open nor divides its answer into chunks.
"""

from __future__ import annotations

import re
import socket
import time
from typing import NamedTuple

_MAX_HEAD = 1 << 14
_CHUNK = 1 << 16
_STATUS = re.compile(rb"HTTP/1\.[01] ([1-5][0-9]{2})(?: [^\r\n]*)?\r?\n")
_LENGTH = re.compile(rb"^content-length:[ \t]*([0-9]{1,10})[ \t]*\r?$", re.IGNORECASE | re.MULTILINE)
_ENCODED = re.compile(rb"^transfer-encoding:", re.IGNORECASE | re.MULTILINE)
_END = re.compile(rb"\r?\n\r?\n")


class HttpError(Exception):
    """There is no usable answer. The text is the reason."""


class Response(NamedTuple):
    """`complete` is False if the body is longer than the limit, and only its beginning was read."""

    status: int
    body: bytes
    complete: bool = True


def get(address: tuple[str, int], path: str, limit: int, seconds: float) -> Response:
    """Request a path, and read at most `limit` bytes of the body within this time in total. Raises HttpError."""
    deadline = time.monotonic() + seconds
    host = f"[{address[0]}]" if ":" in address[0] else address[0]
    request = f"GET {path} HTTP/1.0\r\nHost: {host}:{address[1]}\r\nAccept: */*\r\n\r\n"
    try:
        with socket.create_connection(address, seconds) as connection:
            connection.sendall(request.encode("ascii"))
            return parse(_receive(connection, limit, deadline), limit)
    except socket.timeout:  # an alias of TimeoutError only since Python 3.10
        raise HttpError(f"no answer within {seconds:g} s") from None
    except OSError as error:
        raise HttpError(error.strerror or str(error)) from None


def _receive(connection: socket.socket, limit: int, deadline: float) -> bytes:
    """Return the head and at most `limit` + 1 bytes of the body. Raises OSError."""
    received = bytearray()
    wanted = _MAX_HEAD + limit + 1
    end = 0
    while len(received) < wanted:
        remaining = deadline - time.monotonic()
        if remaining <= 0:
            raise socket.timeout
        connection.settimeout(remaining)
        chunk = connection.recv(min(_CHUNK, wanted - len(received)))
        if not chunk:
            break
        received += chunk
        if not end:
            found = _END.search(received, 0, _MAX_HEAD)
            if found is None and len(received) >= _MAX_HEAD:
                break
            if found:
                end = found.end()
                length = _LENGTH.search(received, 0, end)
                wanted = end + min(limit + 1, int(length[1]) if length else limit + 1)
    return bytes(received)


def parse(received: bytes, limit: int) -> Response:
    """Return an answer, with at most `limit` bytes of its body. Raises HttpError."""
    status, end = _STATUS.match(received), _END.search(received, 0, _MAX_HEAD)
    if status is None or end is None or _ENCODED.search(received, 0, end.end()):
        raise HttpError("the answer is not valid HTTP")
    length = _LENGTH.search(received, 0, end.end())
    body = received[end.end() :]
    if length and len(body) < min(int(length[1]), limit):
        raise HttpError("the answer is incomplete")
    return Response(int(status[1]), body[:limit], len(body) <= limit)
