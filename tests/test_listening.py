"""Sockets that systemd passes to the daemon."""

from __future__ import annotations

import errno
import fcntl
import os
import socket
from collections.abc import Iterator

import pytest

from ipvsd.runtime import listening

FIRST = 500  # the next two numbers are free as well


@pytest.fixture
def passed(monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[str, int]]:
    """Pass a listening socket, a file, and a descriptor that is not open. Return the address of the socket."""
    with socket.create_server(("127.0.0.1", 0)) as server, open(os.devnull) as file:
        numbers = [fcntl.fcntl(opened.fileno(), fcntl.F_DUPFD, FIRST) for opened in (server, file)]
        assert numbers == [FIRST, FIRST + 1]
        monkeypatch.setattr(listening, "_FIRST_INHERITED", FIRST)
        monkeypatch.setenv("LISTEN_PID", str(os.getpid()))
        monkeypatch.setenv("LISTEN_FDS", "3")
        yield server.getsockname()


def test_only_listening_sockets_are_taken_from_systemd(passed: tuple[str, int]) -> None:
    ((address, opened),) = listening.inherited().items()
    with opened:
        assert (address, opened.get_inheritable()) == (passed, False)


def test_a_socket_whose_options_cannot_be_set_does_not_end_the_daemon(
    passed: tuple[str, int], monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.ENOMEM, "Cannot allocate memory")

    with monkeypatch.context() as patched:
        patched.setattr(socket.socket, "setsockopt", fail)
        assert listening.inherited() == {}
    assert "from systemd: Cannot allocate memory" in capfd.readouterr().err
