"""Requests to programs of this node: every answer is bounded in size and time."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import pytest

from ipvsd.runtime.http_client import HttpError, Response, get
from tests.kube_proxy_server import serving

PATIENCE = 10.0


@contextmanager
def raw(answer: bytes, close: bool = True) -> Iterator[tuple[str, int]]:
    """Accept one connection, send an answer whatever the request is, and keep it open unless `close` is set."""
    done = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as server:

        def serve() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1 << 16)
                try:
                    connection.sendall(answer)
                except OSError:
                    return
                if not close:
                    done.wait(PATIENCE)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield server.getsockname()[:2]
        finally:
            done.set()
            thread.join()


def test_an_answer_is_read_whole() -> None:
    with serving({"/proxyMode": (200, b"ipvs")}) as port:
        assert get(("127.0.0.1", port), "/proxyMode", 100, PATIENCE) == Response(200, b"ipvs")
        assert get(("127.0.0.1", port), "/other", 100, PATIENCE).status == 404


def test_a_long_body_is_cut() -> None:
    with serving({"/metrics": (200, b"x" * 100_000)}) as port:
        assert get(("127.0.0.1", port), "/metrics", 1000, PATIENCE) == Response(200, b"x" * 1000, complete=False)


def test_a_length_ends_the_answer_of_a_connection_that_stays_open() -> None:
    with raw(b"HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nipvs", close=False) as address:
        assert get(address, "/", 100, PATIENCE).body == b"ipvs"


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"HTTP/1.1 200 OK\r\n",
        b"HTTP/1.1 2000 OK\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nipvs\r\n0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nipvs",
        b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 10_000 + b"\r\nipvs",
        b"x" * 1_000_000,
    ],
    ids=range(8),
)
def test_an_invalid_answer_is_an_error(answer: bytes) -> None:
    with raw(answer) as address, pytest.raises(HttpError):
        get(address, "/", 100, PATIENCE)


@pytest.mark.parametrize("answer", [b"", b"HTTP/1.0 200 OK\r\n", b"HTTP/1.0 200 OK\r\n\r\nip"])
def test_a_silent_server_is_given_up(answer: bytes) -> None:
    with raw(answer, close=False) as address, pytest.raises(HttpError, match=r"no answer within 0\.05 s"):
        get(address, "/", 100, 0.05)


def test_a_closed_port_is_an_error() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        address = server.getsockname()
    with pytest.raises(HttpError, match="Connection refused"):
        get(address, "/", 100, PATIENCE)
