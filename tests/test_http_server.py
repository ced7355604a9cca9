"""The server alone, over real sockets: which clients it serves and drops, and their limits."""

from __future__ import annotations

import base64
import contextlib
import errno
import os
import socket
import ssl
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Optional, cast

import pytest

from ipvsd.runtime.basic_auth import Credentials, Users
from ipvsd.runtime.http_clients import MAX_CLIENTS
from ipvsd.runtime.http_clients import MAX_CLIENTS_PER_PEER as MOST
from ipvsd.runtime.http_connection import MAX_DISCARDED, MAX_HEAD, MAX_REQUESTS, TIMEOUT, Connection
from ipvsd.runtime.http_request import MAX_HEADERS, Request
from ipvsd.runtime.http_response import Response
from ipvsd.runtime.http_security import OPEN, Security
from ipvsd.runtime.http_server import GRACE, Server
from ipvsd.runtime.listening import listen, peer_of
from ipvsd.runtime.tls import TlsConnection
from tests.scarce import few_descriptors
from tests.service import Until

KEPT = b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n"
GET = KEPT[:-2] + b"Connection: close\r\n\r\n"
LARGE = 1 << 20  # bytes of a response: more than the kernel accepts at once


class Site:
    """A server on loopback that treats every address as a different client."""

    def __init__(self, security: Security = OPEN) -> None:
        self.asked: list[Request] = []
        self.body, self.expected = b"hello\n", "127.0.0.1"
        self.server = Server(self._answer, security)
        listening = listen("127.0.0.1", 0)
        self.port = listening.getsockname()[1]
        self.server.add(listening)
        self._opened = contextlib.ExitStack()

    def close(self) -> None:
        self._opened.close()
        self.server.stop()

    def _answer(self, request: Request, local: str) -> Response:
        assert local == self.expected
        self.asked.append(request)
        return Response(200, self.body)

    def connect(self, source: str = "127.0.0.1") -> socket.socket:
        opened = socket.create_connection(("127.0.0.1", self.port), timeout=10, source_address=(source, 0))
        return self._opened.enter_context(opened)

    def ask(self, data: bytes = GET, source: str = "127.0.0.1") -> bytes:
        """Send data, and return the complete response, even if the connection is reset."""
        with self.connect(source) as client:
            client.sendall(data)
            return everything(client)


def descriptors() -> list[str]:
    return [fd for fd in os.listdir("/proc/self/fd") if Path(f"/proc/self/fd/{fd}").is_symlink()]


def everything(client: socket.socket) -> bytes:
    received: list[bytes] = []
    with contextlib.suppress(ConnectionResetError):
        while data := client.recv(1 << 16):
            received.append(data)
    return b"".join(received)


def ended(client: socket.socket) -> bool:
    """Return whether the server has closed a connection, without waiting."""
    client.setblocking(False)
    try:
        return client.recv(1) == b""
    except BlockingIOError:
        return False
    except ConnectionResetError:
        return True


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.close()


def status(answer: bytes) -> int:
    return int(answer.split(b" ", 2)[1])


# --- responses --------------------------------------------------------------------------


def test_an_answer_ends_the_connection(site: Site) -> None:
    head, _, body = site.ask().partition(b"\r\n\r\n")
    lines = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert (head.split(b"\r\n")[0], body) == (b"HTTP/1.1 200 OK", b"hello\n")
    assert (lines[b"Connection"], lines[b"Content-Length"]) == (b"close", b"6")
    assert lines[b"Date"].endswith(b" GMT")


def test_a_request_may_arrive_byte_by_byte_and_end_the_sending(site: Site) -> None:
    client = site.connect()
    client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in GET:
        client.sendall(bytes((byte,)))
    client.shutdown(socket.SHUT_WR)
    assert status(everything(client)) == 200


def test_an_answer_that_the_kernel_does_not_take_at_once_arrives_whole(site: Site) -> None:
    site.body = b"x" * LARGE
    assert len(site.ask().partition(b"\r\n\r\n")[2]) == LARGE


def one(client: socket.socket) -> bytes:
    """Return one response on a connection that stays open."""
    received = b""
    while b"\r\n\r\n" not in received or len(received.partition(b"\r\n\r\n")[2]) < len(b"hello\n"):
        received += client.recv(1 << 16)
    return received


def test_a_connection_carries_a_limited_number_of_requests(site: Site) -> None:
    client = site.connect()
    for _ in range(MAX_REQUESTS - 1):
        client.sendall(KEPT)
        assert b"Connection:" not in one(client)
    client.sendall(KEPT)
    assert b"\r\nConnection: close\r\n" in everything(client)
    assert len(site.asked) == MAX_REQUESTS


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", id="HTTP/1.0"),
        pytest.param(KEPT[:-2] + b"Connection: x, CLOSE\r\n\r\n", id="close"),
        pytest.param(b"GET / HTTP/1.1\r\n\r\n", id="an invalid request"),
    ],
)
def test_a_connection_ends_after_a_request_that_cannot_be_followed(site: Site, data: bytes) -> None:
    client = site.connect()
    client.sendall(KEPT)
    assert status(one(client)) == 200
    client.sendall(data)
    assert b"\r\nConnection: close\r\n" in everything(client)


def test_an_unused_connection_is_closed_first(site: Site, until: Until) -> None:
    waiting = [site.connect() for _ in range(2)]
    unused = site.connect()
    unused.sendall(KEPT)
    one(unused)
    more = [site.connect() for _ in range(MOST - 2)]
    until(lambda: ended(unused), "its slot is needed")
    assert not any(ended(client) for client in (*waiting, *more[:-1]))


def test_a_pipelined_request_is_ignored_and_does_not_affect_the_response(site: Site) -> None:
    assert site.ask(KEPT * 100).count(b"HTTP/1.1 ") == 1
    assert len(site.asked) == 1


@pytest.mark.parametrize(
    ("data", "code"),
    [
        pytest.param(b"\0\0\0\r\n\r\n", 400, id="nonsense"),
        pytest.param(b"\x16\x03\x01" + b"\0" * MAX_HEAD, 400, id="TLS"),
        pytest.param(b"GET /" + b"a" * MAX_HEAD, 431, id="a long line"),
        pytest.param(GET[:-2] + b"X: " + b"a" * MAX_HEAD, 431, id="a long header"),
        pytest.param(GET[:-2] + b"X: a\r\n" * MAX_HEADERS + b"\r\n", 431, id="many headers"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 9\r\n\r\n123456789", 413, id="content"),
        pytest.param(b"POST / HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\nz\r\n", 413, id="chunks"),
    ],
)
def test_a_rejected_request_receives_the_reason(site: Site, data: bytes, code: int) -> None:
    answer = site.ask(data)
    assert status(answer) == code
    assert site.asked == []
    assert status(site.ask()) == 200


@pytest.mark.parametrize("kept", [False, True], ids=["first", "later"])
@pytest.mark.parametrize(
    ("data", "reason"),
    [
        pytest.param(b"\x16", b"TLS on a port for plain HTTP (use http://)", id="TLS"),
        pytest.param(b"\0\0\0\x10", b"invalid request line", id="another protocol"),
    ],
)
def test_data_that_begins_no_request_is_rejected_at_once(site: Site, data: bytes, reason: bytes, kept: bool) -> None:
    client = site.connect()
    if kept:
        client.sendall(KEPT)
        one(client)
    begun = time.monotonic()
    client.sendall(data)  # and nothing more
    head, _, body = everything(client).partition(b"\r\n\r\n")
    assert (status(head), body) == (400, reason + b"\n")
    assert time.monotonic() - begun < TIMEOUT / 2


def test_a_client_with_tls_fails_at_once(site: Site) -> None:
    begun = time.monotonic()
    with pytest.raises(ssl.SSLError):
        ssl.create_default_context().wrap_socket(site.connect(), server_hostname="localhost")
    assert time.monotonic() - begun < TIMEOUT / 2


@pytest.mark.parametrize("length", [1, len(b"GET / HTTP/1.1\r\nHost"), len(GET) - 10, len(GET) - 4, len(GET) - 2])
def test_a_head_that_ends_early_is_refused(site: Site, length: int) -> None:
    client = site.connect()
    client.sendall(GET[:length])
    client.shutdown(socket.SHUT_WR)
    assert status(everything(client)) == 400


def test_a_body_is_dropped_up_to_a_bound(site: Site) -> None:
    client = site.connect()
    client.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
    client.sendall(b"PUT / HTTP/1.1\r\nHost: a\r\nContent-Length: 9999999999\r\n\r\n")
    sent = 0
    with contextlib.suppress(ConnectionResetError, BrokenPipeError):
        while sent < LARGE:
            sent += client.send(b"\0" * 4096)
    assert sent < 2 * MAX_DISCARDED + MAX_HEAD  # with the kernel's buffers on both sides


def test_a_server_that_stops_closes_its_connections() -> None:
    site = Site()
    client = site.connect()
    site.ask()  # after the connection of the client was accepted
    site.server.stop()
    assert everything(client) == b""
    client.close()


def test_one_socket_serves_all_addresses_of_both_families(site: Site) -> None:
    listening = listen("", 0)
    site.server.add(listening)
    for address in ("127.0.0.1", "::1"):
        with socket.create_connection((address, listening.getsockname()[1]), timeout=10) as client:
            site.expected = address  # an IPv4 client is not shown as an IPv6 address
            client.sendall(GET)
            assert status(everything(client)) == 200


# --- limits -----------------------------------------------------------------------------


def test_a_client_with_too_many_connections_loses_the_oldest(site: Site, until: Until) -> None:
    clients = [site.connect() for _ in range(MOST)]
    assert status(site.ask()) == 200
    until(lambda: ended(clients[0]), "the oldest is gone")
    assert [ended(client) for client in clients[2:]] == [False] * (MOST - 2)


def test_one_client_cannot_take_the_room_of_another(site: Site, until: Until) -> None:
    mine = site.connect("127.0.0.2")
    theirs = [site.connect() for _ in range(2 * MOST)]
    until(lambda: ended(theirs[MOST - 1]), "all that are too many are gone")
    mine.sendall(GET)
    assert status(everything(mine)) == 200


def test_without_a_free_slot_the_client_with_the_most_connections_loses_one(site: Site, until: Until) -> None:
    few = [site.connect(f"127.0.1.{number}") for number in range(1, 9)]
    many = [site.connect(f"127.0.0.{2 + number % 3}") for number in range(MAX_CLIENTS)]
    assert status(site.ask()) == 200
    until(lambda: ended(many[0]), "the oldest of those with the most is gone")
    assert not any(ended(client) for client in few)


def test_no_connection_is_closed_before_it_had_time_to_send_a_request(site: Site, until: Until) -> None:
    begun = time.monotonic()
    first = site.connect()
    rest = [site.connect() for _ in range(2 * MOST)]
    until(lambda: ended(first), "it has to go")
    assert time.monotonic() - begun >= GRACE
    assert status(site.ask()) == 200
    assert rest


def test_a_connection_knows_whether_its_response_was_delivered(until: Until) -> None:
    with listen("127.0.0.1", 0) as listening, socket.socket() as client:
        client.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)  # the default depends on net.ipv4.tcp_rmem
        client.connect(listening.getsockname())
        connection = Connection(listening.accept()[0], "peer", 0.0)
        connection.socket.setblocking(False)
        connection.respond(b"x" * LARGE)
        with pytest.raises(BlockingIOError):
            connection.send()
        assert not connection.delivered
        client.settimeout(0.1)
        with contextlib.suppress(socket.timeout):  # an alias of TimeoutError only since Python 3.10
            while client.recv(1 << 16):
                pass
        until(lambda: connection.delivered, "the client has read all")
        connection.close(reset=True)


def test_a_client_whose_own_system_call_fails_is_closed_without_a_defect_in_the_log(
    site: Site, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(_: socket.socket) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "getsockname", fail)
        assert site.ask() == b""
    assert status(site.ask()) == 200
    assert capfd.readouterr().err == ""


@contextlib.contextmanager
def no_memory_for_a_wake_up(server: Server) -> Iterator[None]:
    writer = server._pipe._writer
    away = os.dup(writer)
    try:
        with open("/dev/full", "w") as full:
            os.dup2(full.fileno(), writer)
        yield
    finally:
        os.dup2(away, writer)
        os.close(away)


def test_a_listener_is_closed_if_the_thread_cannot_be_woken_for_it(site: Site) -> None:
    refused = listen("127.0.0.1", 0)
    port = refused.getsockname()[1]
    with no_memory_for_a_wake_up(site.server), pytest.raises(OSError, match="No space left"):
        site.server.add(refused)
    site.server.add(listen("127.0.0.1", port))
    with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
        client.sendall(GET)
        assert status(everything(client)) == 200


def test_a_verified_password_is_answered_with_the_next_event_if_the_thread_cannot_be_woken(until: Until) -> None:
    verified = threading.Event()

    class Observed(Users):
        def verify(self, credentials: Credentials) -> bool:
            verified.set()
            return super().verify(credentials)

    site = Site(Security(users=Observed({"a": "$2a$05$CCCCCCCCCCCCCCCCCCCCC.E5YPO9kmyuRGyh0XouQYb4YMJKvyOeW"})))
    try:
        with no_memory_for_a_wake_up(site.server):
            client = site.connect()
            client.sendall(GET[:-2] + b"Authorization: Basic " + base64.b64encode(b"a:U*U") + b"\r\n\r\n")
            until(lambda: verified.is_set() and site.server._checked, "the password is verified")
            assert status(site.ask()) == 401
            assert status(everything(client)) == 200
    finally:
        site.close()


def test_a_server_stops_although_its_thread_cannot_be_woken(until: Until) -> None:
    site = Site()
    assert status(site.ask()) == 200
    with open("/dev/full", "w") as full:
        os.dup2(full.fileno(), site.server._pipe._writer)
    stopping = threading.Thread(target=site.close)
    stopping.start()
    until(lambda: site.server._stopping, "the server has to stop")
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", site.port), timeout=10).close()
    stopping.join(10)
    assert not stopping.is_alive()


def test_a_client_is_closed_if_it_cannot_be_reset(site: Site, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "setsockopt", fail)
        ours, theirs = socket.socketpair()
        with ours:
            Connection(theirs, "", time.monotonic()).close(reset=True)
            assert ours.recv(1) == b""


class NoMemoryForOptions(socket.socket):
    """A socket whose kernel has no memory for the calls with which Python reads its family, type and protocol."""

    def __init__(self, family: int = -1, type: int = -1, proto: int = -1, fileno: Optional[int] = None) -> None:  # noqa: A002
        if -1 in (family, type, proto):
            raise OSError(errno.ENOMEM, "Cannot allocate memory")
        super().__init__(family, type, proto, fileno)


def test_the_end_of_tls_keeps_the_descriptor_if_its_options_cannot_be_read(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = socket.socketpair()
    connection = TlsConnection.__new__(TlsConnection)
    connection._tls = cast(ssl.SSLSocket, theirs)
    with ours, monkeypatch.context() as patched:
        patched.setattr(socket, "socket", NoMemoryForOptions)
        connection._leave()
        connection.close(reset=False)
        assert ours.recv(1) == b""


def test_many_addresses_of_one_network_of_ipv6_are_one_client() -> None:
    assert peer_of("2001:db8:1:2::1") == peer_of("2001:db8:1:2:ffff::2") != peer_of("2001:db8:1:3::1")
    assert peer_of("fe80::1%eth0") == peer_of("fe80::2%eth1")
    assert peer_of("::ffff:10.0.0.1") == peer_of("10.0.0.1") != peer_of("10.0.0.2")


# --- descriptors ------------------------------------------------------------------------


def test_without_a_descriptor_clients_are_rejected_after_increasing_delays(
    site: Site, until: Until, capfd: pytest.CaptureFixture[str]
) -> None:
    sockets = [socket.socket() for _ in range(3)]
    with contextlib.ExitStack() as stack:
        for opened in sockets:
            stack.enter_context(opened).settimeout(10)
        begun = time.monotonic()
        with few_descriptors():
            for opened in sockets:
                opened.connect(("127.0.0.1", site.port))
            for opened in sockets:
                assert everything(opened) == b""
            assert time.monotonic() - begun > 0.1 + 0.2  # the delays between the three attempts
            assert site.server.error == "cannot accept connections: Too many open files"
    assert status(site.ask()) == 200
    until(lambda: site.server.error == "", "the error is over")
    assert capfd.readouterr().err == "ipvsd: warning: web: cannot accept connections: Too many open files\n"


def test_without_a_descriptor_the_oldest_connection_is_given_up(site: Site, until: Until) -> None:
    before = len(descriptors())
    waiting = [site.connect() for _ in range(2)]
    until(lambda: len(descriptors()) == before + 4, "both are accepted")
    with socket.socket() as another:
        another.settimeout(10)
        with few_descriptors():
            another.connect(("127.0.0.1", site.port))
            assert everything(another) == b""
            until(lambda: ended(waiting[0]), "the oldest is gone")
            assert not ended(waiting[1])
    assert status(site.ask()) == 200


def test_without_any_descriptor_there_is_no_server() -> None:
    before = descriptors()
    with few_descriptors(), pytest.raises(OSError, match="Too many open files"):
        Server(lambda *_: Response(200, b""))
    assert len(descriptors()) == len(before)


class Late(socket.socket):
    """A listening socket that the poller cannot register at first. epoll refuses a file with the same effect."""

    def __init__(self, listening: socket.socket, file: int) -> None:
        super().__init__(fileno=listening.detach())
        self.refused, self._file = 1, file

    def fileno(self) -> int:
        # The first call returns the number of the socket, and the second one that of the file.
        self.refused -= 1
        return self._file if self.refused == -1 else super().fileno()


def test_a_socket_that_cannot_be_waited_for_is_tried_again(site: Site, tmp_path: Path, until: Until) -> None:
    with (tmp_path / "file").open("w") as file:
        listening = Late(listen("127.0.0.1", 0), file.fileno())
        port = listening.getsockname()[1]
        site.server.add(listening)
        until(lambda: listening.refused < -1 and not site.server.error, "it is tried again, and the error is over")
        with socket.create_connection(("127.0.0.1", port), timeout=10) as client:
            client.sendall(GET)
            assert everything(client).startswith(b"HTTP/1.1 200")
    assert site.ask().startswith(b"HTTP/1.1 200")
    assert site.server.alive
