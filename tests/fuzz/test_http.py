"""Data from clients of the HTTP server."""

from __future__ import annotations

import re
import socket
from collections.abc import Iterator
from contextlib import closing, contextmanager

from hypothesis import example
from hypothesis import strategies as st

from ipvsd.reporting.http_endpoint import HttpEndpoint
from tests.fuzz.inputs import MOST, hostile, words
from tests.fuzz.properties import fuzz
from tests.samples import module, report
from tests.service import free_port

METHODS = ["GET", "HEAD", "POST", "PUT", "get", "PRI", "CONNECT", "", "G\x00T"]
TARGETS = ["", *"/metrics /healthz /status / * /healthz?x=1 http://x/healthz // /../status /%00 /é".split()]
VERSIONS = ["HTTP/1.1", "HTTP/1.0", "HTTP/2.0", "HTTP/0.9", "HTTP/1.1.1", "HTTP/9999999999.1", "", "http/1.1"]
HEADERS = [
    "Host: localhost", "Host: 127.0.0.1", "Host:", "Host: a\r\nHost: b", "Content-Length: 5", "Content-Length: -1",
    f"Content-Length: {'9' * 5000}", "Transfer-Encoding: chunked", "Connection: keep-alive", "Expect: 100-continue",
    " folded",
    "X: \x1b[31m", ": x", "Accept-Encoding: gzip", "Upgrade: h2c", "Accept: */*" + " " * 1000,
]  # fmt: skip
BODIES = ["", "hello", "5\r\nhello\r\n0\r\n\r\n", "fffffffffffffffff\r\n", "GET /status HTTP/1.1\r\nHost: x\r\n\r\n"]
REQUESTS = hostile(
    st.builds(
        lambda method, target, version, headers, body: "\r\n".join(
            [" ".join(filter(None, (method, target, version))), *headers, "", body]
        ),
        st.sampled_from(METHODS), st.sampled_from(TARGETS), st.sampled_from(VERSIONS),
        st.lists(st.one_of(st.sampled_from(HEADERS), words("X", ":", "a", apart="", most=3)), max_size=5),
        st.sampled_from(BODIES),
    )
)  # fmt: skip
ANSWERED = {200, 400, 403, 404, 405, 408, 411, 413, 414, 417, 421, 431, 501, 503, 505}


@contextmanager
def served() -> Iterator[int]:
    """Serve a report, and return the port."""
    port = free_port()
    web = HttpEndpoint(lambda: report(module()), [("127.0.0.1", port)])
    with closing(web):
        web.arm()
        yield port


def answer(port: int, data: bytes) -> bytes:
    """Send data and nothing more, and return the complete response, or nothing after a reset."""
    with closing(socket.create_connection(("127.0.0.1", port), timeout=10)) as client:
        received = b""
        try:
            client.sendall(data)
            client.shutdown(socket.SHUT_WR)
            while chunk := client.recv(MOST):
                received += chunk
        except (ConnectionResetError, BrokenPipeError):
            pass
        return received


HEALTHZ = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\n\r\n"


@fuzz(st.lists(REQUESTS, min_size=1, max_size=3), seconds=5.0)
@example([b"GET /healthz\r\n\r\n"])
def test_every_answer_is_whole_and_the_next_client_has_one(requests: list[bytes]) -> None:
    with served() as port:
        for data in requests:
            received = answer(port, data)
            head, _, body = received.partition(b"\r\n\r\n")
            if received:
                first = re.match(rb"HTTP/1\.[01] ([0-9]{3}) [ -~]*\r\n", head)
                assert first, head
                assert int(first[1]) in ANSWERED
                length = re.search(rb"(?i)^content-length: ([0-9]+)\r?$", head, re.MULTILINE)
                assert not length or len(body) in (0, int(length[1]))
        assert answer(port, HEALTHZ).startswith(b"HTTP/1")
