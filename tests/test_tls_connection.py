"""A connection with TLS and its place among those that the server closes: slow clients are closed first."""

from __future__ import annotations

import socket
import ssl
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

import pytest

from ipvsd.runtime.http_clients import FAVOUR, FAVOUR_OF_FEW, FEW, Clients
from ipvsd.runtime.http_connection import Stage
from ipvsd.runtime.http_security import OPEN
from ipvsd.runtime.tls import Tls, TlsConnection
from tests import certificates

pytestmark = pytest.mark.system

NOW = 1000.0  # seconds of the monotonic clock


class Pair(NamedTuple):
    """A connection, the client's socket, and its end of TLS."""

    server: TlsConnection
    client: socket.socket
    incoming: ssl.MemoryBIO
    outgoing: ssl.MemoryBIO
    tls: ssl.SSLObject

    def hello(self) -> bytes:
        with suppress(ssl.SSLWantReadError):
            self.tls.do_handshake()
        return self.outgoing.read()

    def finish(self) -> bytes:
        """Return the client's reply to the server's part of the handshake."""
        self.incoming.write(self.client.recv(1 << 16))
        return self.hello()

    def send(self, data: bytes) -> None:
        """Send data, and let the server receive it."""
        self.client.sendall(data)
        with suppress(BlockingIOError):
            self.server.receive()


@pytest.fixture(scope="module")
def secured(tmp_path_factory: pytest.TempPathFactory) -> Tls:
    place = tmp_path_factory.mktemp("pki")
    certificates.create_authority(place)
    certificate, key = certificates.create(place, "server")
    return Tls(Path(certificate).read_bytes(), Path(key).read_bytes())


def connect(secured: Tls, version: ssl.TLSVersion) -> Iterator[Pair]:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.minimum_version = context.maximum_version = version
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    here, there = socket.socketpair()
    here.setblocking(False)
    there.settimeout(10)
    server = TlsConnection(here, "peer", NOW, OPEN, secured)
    yield Pair(server, there, incoming, outgoing, context.wrap_bio(incoming, outgoing))
    server.close(reset=False)
    there.close()


@pytest.fixture
def pair(secured: Tls) -> Iterator[Pair]:
    yield from connect(secured, ssl.TLSVersion.TLSv1_3)


@pytest.fixture
def old(secured: Tls) -> Iterator[Pair]:
    yield from connect(secured, ssl.TLSVersion.TLSv1_2)


def test_a_client_has_its_time_again_after_the_work_of_the_server(pair: Pair) -> None:
    hello = pair.hello()
    for byte in hello[:-1]:
        pair.send(bytes((byte,)))
    assert (pair.server.begun, pair.server.prompt) == (NOW, False)  # single bytes do not extend it
    pair.send(hello[-1:])
    assert pair.server.begun != NOW


def test_a_client_that_sends_complete_messages_is_prompt(pair: Pair) -> None:
    pair.send(pair.hello())
    assert pair.server.prompt
    pair.send(pair.finish())
    assert pair.server.prompt
    pair.tls.write(b"GET / HT")
    pair.send(pair.outgoing.read())
    partial = pair.server.prompt
    pair.server.stage = Stage.WAIT  # the server verifies the password
    assert (partial, pair.server.prompt) == (False, True)


def test_with_tls_1_2_a_client_has_its_time_again_after_the_handshake(old: Pair) -> None:
    old.send(old.hello())
    assert (old.server.begun, old.server.prompt) == (NOW, False)
    old.send(old.finish())
    assert (old.server.prompt, old.server.begun != NOW) == (True, True)


def test_a_slow_client_is_closed_before_a_prompt_one(pair: Pair, secured: Tls) -> None:
    pair.send(pair.hello())
    pair.server.begun = NOW - 1
    others = [TlsConnection(socket.socket(), "peer", NOW + number / 1000, OPEN, secured) for number in range(FEW + 1)]
    alone, clients = Clients(), Clients()
    alone.add(pair.server)
    for client in (*reversed(others), pair.server):
        clients.add(client)
    for age, closed in ((0.05, others[0]), (FAVOUR_OF_FEW - 0.01, others[0]), (FAVOUR_OF_FEW, pair.server)):
        assert clients.least_active("peer", NOW + age) is closed
    assert alone.least_active("peer", NOW) is pair.server  # there is no other
    for other in others[1:]:
        other.stage = Stage.WAIT  # many clients are prompt, so the time is short
    for age, closed in ((FAVOUR - 0.01, others[0]), (FAVOUR, pair.server)):
        assert clients.least_active("peer", NOW + age) is closed
    for other in others:
        other.close(reset=False)
