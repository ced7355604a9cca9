"""Heads of requests: valid ones, and the status code for others."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.runtime.http_request import MAX_HEADERS, Request, RequestError, head_length, parse

HOST = b"Host: node\r\n"


def head(line: bytes, *headers: bytes) -> bytes:
    return b"\r\n".join((line, *headers)) + b"\r\n\r\n"


@pytest.mark.parametrize(
    ("line", "path"),
    [
        (b"GET /metrics HTTP/1.1", "/metrics"), (b"GET /metrics?name[]=a&b=%20 HTTP/1.1", "/metrics"),
        (b"GET /?/healthz HTTP/1.1", "/"), (b"GET //metrics HTTP/1.1", "//metrics"),
        (b"GET /%2e%2e HTTP/1.9", "/%2e%2e"),
    ],
)  # fmt: skip
def test_a_path_is_used_literally_without_its_query(line: bytes, path: str) -> None:
    assert parse(head(line, b"Host: node")) == Request("GET", path, "node", {"host": "node"}, persistent=True)


def test_headers_have_lower_case_names_and_trimmed_values() -> None:
    lines = (b"HOST:node", b"Accept: text/plain;q=0.5,\t*/* ", b"accept:\ta", b"X-Empty:", b"Content-Length: 00")
    found = parse(head(b"HEAD / HTTP/1.1", *lines))
    headers = {"host": "node", "accept": "text/plain;q=0.5,\t*/*, a", "x-empty": "", "content-length": "00"}
    assert found == Request("HEAD", "/", "node", headers, persistent=True)


def test_lines_may_end_without_a_carriage_return_and_http_1_0_needs_no_host() -> None:
    assert parse(b"GET / HTTP/1.1\nHost: node\n\n") == Request("GET", "/", "node", {"host": "node"}, persistent=True)
    assert parse(head(b"GET / HTTP/1.0")) == Request("GET", "/", None, {})


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("Node.Example", "node.example"), ("node:14787", "node"), ("node:", "node"), ("10.0.0.1:80", "10.0.0.1"),
        ("[::1]:14787", "[::1]"), ("[::1]", "[::1]"), ("::1", "::1"), ("", ""), ("Node.Example.", "node.example"),
        ("node.:14787", "node"), ("node..", "node."), (".", ""),
    ],
)  # fmt: skip
def test_a_host_is_known_without_its_port(host: str, name: str) -> None:
    found = parse(head(b"GET / HTTP/1.1", b"Host: " + host.encode()))
    assert isinstance(found, Request)
    assert found.host == name


@pytest.mark.parametrize(
    ("target", "path"),
    [
        (b"http://evil.example:14787/status", "/status"),
        (b"HTTP://EVIL.example/status?x", "/status"),
        (b"http://evil.example", "/"),
        (b"http://evil.example?/status", "/"),
    ],
)
def test_an_absolute_target_contains_the_host(target: bytes, path: str) -> None:
    found = parse(head(b"GET " + target + b" HTTP/1.1", b"Host: localhost"))
    assert isinstance(found, Request)
    assert (found.host, found.path) == ("evil.example", path)


@pytest.mark.parametrize(
    ("request_head", "status"),
    [
        pytest.param(head(b"GET / HTTP/1.1"), 400, id="no host"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a", b"Host: a"), 400, id="two hosts"),
        pytest.param(b"\r\n\r\n", 400, id="nothing"),
        pytest.param(head(b"GET /"), 400, id="HTTP/0.9"),
        pytest.param(head(b"GET  / HTTP/1.1"), 400, id="two blanks"),
        pytest.param(head(b"GET / HTTP/1.1 "), 400, id="a blank at the end"),
        pytest.param(head(b"GET metrics HTTP/1.1"), 400, id="no path"),
        pytest.param(head(b"GET /\xff HTTP/1.1"), 400, id="no ASCII"),
        pytest.param(head(b"G(T / HTTP/1.1"), 400, id="no method"),
        pytest.param(head(b"OPTIONS * HTTP/1.1", b"Host: a"), 400, id="the server itself"),
        pytest.param(head(b"CONNECT a:80 HTTP/1.1", b"Host: a"), 400, id="a tunnel"),
        pytest.param(head(b"GET / HTTP/11"), 400, id="no version"),
        pytest.param(head(b"GET / HTTP/2.0", b"Host: a"), 505, id="another version"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a", b" folded"), 400, id="a folded line"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host : a"), 400, id="a blank before the colon"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a", b"X"), 400, id="no colon"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a", b"X: \0"), 400, id="a control character"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a\rX: b"), 400, id="a lone carriage return"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: -1"), 400, id="no length"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a", *(b"Content-Length: %d" % n for n in (0, 5))), 400, id="two"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a", b"Content-Length: 1"), 413, id="content"),
        pytest.param(head(b"GET / HTTP/1.1", b"Host: a", b"Transfer-Encoding: chunked"), 413, id="chunks"),
        pytest.param(head(b"GET / HTTP/1.1", *(b"X: a" for _ in range(MAX_HEADERS + 1))), 431, id="many headers"),
    ],
)
def test_an_invalid_request_is_rejected(request_head: bytes, status: int) -> None:
    found = parse(request_head)
    assert isinstance(found, RequestError)
    assert found.status == status


LINES = st.sampled_from([b"GET / HTTP/1.1", b"\r\n", b"\n", b"\r", b"Host: a", b"\0", b":", b" "])


@given(st.binary(max_size=200) | st.lists(LINES, max_size=9).map(b"".join))
def test_no_bytes_are_too_strange(data: bytes) -> None:
    assert isinstance(parse(data), (Request, RequestError))


@given(st.binary(max_size=20), st.integers(1, 5))
def test_the_end_of_a_head_is_found_however_it_arrives(data: bytes, piece: int) -> None:
    whole = b"GET / HTTP/1.1\r\n" + HOST + b"\r\n" + data
    received, length = bytearray(), 0
    while not length:
        known = len(received)
        received += whole[known : known + piece]
        length = head_length(received, known)
    assert whole[:length] == head(b"GET / HTTP/1.1", b"Host: node")
