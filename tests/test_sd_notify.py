"""Messages to systemd, on a real datagram socket."""

from __future__ import annotations

import os
import socket
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.runtime.sd_notify import SdNotify, watchdog_period
from tests.service import datagrams, silent


@pytest.fixture
def systemd(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with datagrams(tmp_path / "notify") as listening:
        monkeypatch.setenv("NOTIFY_SOCKET", str(tmp_path / "notify"))
        yield listening


@pytest.fixture
def notifier(systemd: socket.socket) -> Iterator[SdNotify]:
    notifier = SdNotify()
    yield notifier
    notifier._notifier.socket.close()


def heard(systemd: socket.socket) -> str:
    return systemd.recv(4096).decode()


def test_an_unchanged_status_line_is_sent_once(systemd: socket.socket, notifier: SdNotify) -> None:
    notifier.ready("a")
    notifier.status("a")
    notifier.status("b")
    notifier.status("b")
    assert [heard(systemd), heard(systemd)] == ["READY=1\nSTATUS=a", "STATUS=b"]
    assert silent(systemd)


@pytest.mark.parametrize("text", ["caf\u00e9", "\u2713", "\ud800", "a\nWATCHDOG=1"])
def test_the_line_cannot_be_more_than_a_line(systemd: socket.socket, notifier: SdNotify, text: str) -> None:
    notifier.status(text)
    said = heard(systemd)
    assert said.isascii()
    assert said.startswith("STATUS=")
    assert "\n" not in said


def test_a_reload_reports_its_beginning(systemd: socket.socket, notifier: SdNotify) -> None:
    before = time.monotonic_ns() // 1000
    notifier.reloading()
    first, second = heard(systemd).split("\n")
    assert first == "RELOADING=1"
    name, _, value = second.partition("=")
    assert name == "MONOTONIC_USEC"
    assert before <= int(value) <= time.monotonic_ns() // 1000


def test_a_strict_start_extends_the_timeout_with_the_reason_and_the_end_is_reported(
    systemd: socket.socket, notifier: SdNotify
) -> None:
    notifier.extend_timeout("waiting for ip_vs", 30)
    notifier.stopping()
    assert heard(systemd) == "EXTEND_TIMEOUT_USEC=30000000\nSTATUS=waiting for ip_vs"
    assert heard(systemd).split("\n")[0] == "STOPPING=1"


def test_a_watchdog_is_fed_but_not_by_every_reconciliation_of_a_storm(
    systemd: socket.socket, notifier: SdNotify, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("WATCHDOG_USEC", raising=False)
    notifier.watchdog()
    assert silent(systemd)
    monkeypatch.setenv("WATCHDOG_USEC", "120000000")
    for _ in range(1000):
        notifier.watchdog()
    assert systemd.recv(4096) == b"WATCHDOG=1"
    assert silent(systemd)


@pytest.mark.filterwarnings("ignore:unclosed <socket:ResourceWarning")  # sdnotify does not close a useless socket
@pytest.mark.parametrize("place", [None, "/nowhere/notify"], ids=["no systemd", "a systemd that went away"])
def test_without_systemd_nothing_is_sent_and_nothing_breaks(monkeypatch: pytest.MonkeyPatch, place: str | None) -> None:
    monkeypatch.delenv("NOTIFY_SOCKET", raising=False)
    if place:
        monkeypatch.setenv("NOTIFY_SOCKET", place)
    notifier = SdNotify()
    notifier.ready("a")
    notifier.watchdog()


@pytest.mark.parametrize(
    ("usec", "pid", "period"),
    [
        pytest.param("120000000", str(os.getpid()), 120.0, id="watched"),
        pytest.param("120000000", None, 120.0, id="whoever this is"),
        pytest.param("120000000", "1", None, id="another process"),
        pytest.param("0", None, None, id="off"),
        pytest.param("", None, None, id="empty"),
        pytest.param("-5", None, None, id="negative"),
        pytest.param("soon", None, None, id="nonsense"),
        pytest.param(None, None, None, id="unset"),
    ],
)
def test_the_watchdogs_period(monkeypatch: pytest.MonkeyPatch, usec: object, pid: object, period: object) -> None:
    for name, value in (("WATCHDOG_USEC", usec), ("WATCHDOG_PID", pid)):
        monkeypatch.delenv(name, raising=False)
        if isinstance(value, str):
            monkeypatch.setenv(name, value)
    assert watchdog_period() == period
