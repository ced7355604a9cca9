"""Lines with fields, on a real datagram socket in place of the journal."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ipvsd.runtime import journal
from tests.service import datagrams, silent

HERE = "here"  # standard error of a test is unknown during its setup


def log(level: str, text: str, fields: Mapping[str, str] = {}) -> None:
    if os.environ.get("JOURNAL_STREAM") == HERE:
        status = os.fstat(2)
        os.environ["JOURNAL_STREAM"] = f"{status.st_dev}:{status.st_ino}"
    journal.log(level, text, fields)


FIELDS = {"SYSCTL": "net.ipv4.ip_forward", "OBJECT_PID": "42"}


@pytest.fixture
def streamed(capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    """Let $JOURNAL_STREAM name standard error at the time of logging."""
    monkeypatch.setenv("JOURNAL_STREAM", HERE)


@pytest.fixture
def journald(streamed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[socket.socket]:
    with datagrams(tmp_path / "journal") as listening:
        monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "journal"))
        yield listening


def received(journald: socket.socket) -> dict[str, str]:
    """Return one entry, by the rule for single-line values: NAME=VALUE and a line feed."""
    text = journald.recv(1 << 16).decode()
    assert text.endswith("\n")
    return dict(line.split("=", 1) for line in text[:-1].split("\n"))


@pytest.mark.parametrize(("level", "priority"), [("info", "6"), ("warning", "4"), ("error", "3")])
def test_a_line_with_fields_is_one_entry(
    journald: socket.socket, capfd: pytest.CaptureFixture[str], level: str, priority: str
) -> None:
    log(level, "wrote it", FIELDS)
    said = {"MESSAGE": "wrote it", "PRIORITY": priority, "SYSLOG_IDENTIFIER": "ipvsd"}
    assert received(journald) == {**said, **FIELDS}
    assert silent(journald)
    assert capfd.readouterr().err == ""


@pytest.mark.parametrize("value", ["a\nPRIORITY=0", "a\n\x08\0\0\0\0\0\0\0", "caf\u00e9", "\ud800", "", "a=b=c", "\0"])
def test_a_value_cannot_add_fields(journald: socket.socket, value: str) -> None:
    log("info", value, {"OBJECT_CMDLINE": value})
    entry = received(journald)
    assert set(entry) == {"MESSAGE", "PRIORITY", "SYSLOG_IDENTIFIER", "OBJECT_CMDLINE"}
    assert entry["PRIORITY"] == "6"
    assert entry["MESSAGE"] == entry["OBJECT_CMDLINE"]
    assert entry["MESSAGE"].isprintable()


def test_a_line_without_fields_goes_to_standard_error(
    journald: socket.socket, capfd: pytest.CaptureFixture[str]
) -> None:
    log("warning", "one\n<0>two")
    assert capfd.readouterr().err == "<4>one\\n<0>two\n"
    assert silent(journald)


def test_without_a_listening_journal_lines_go_to_standard_error(
    streamed: None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(journal, "SOCKET", str(tmp_path / "nobody"))
    log("info", "wrote it", FIELDS)
    assert capfd.readouterr().err == "<6>wrote it\n"


def test_a_full_journal_does_not_block(journald: socket.socket, capfd: pytest.CaptureFixture[str]) -> None:
    written = 0
    while not (told := capfd.readouterr().err):
        log("info", f"line {written}", FIELDS)
        written += 1
        assert written < 100_000
    assert told == f"<6>line {written - 1}\n"


@pytest.mark.parametrize("stream", [None, "", "1:2", "nonsense"])
def test_without_the_journal_on_standard_error_lines_are_for_people(
    journald: socket.socket, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str], stream: str | None
) -> None:
    monkeypatch.delenv("JOURNAL_STREAM")
    if stream is not None:
        monkeypatch.setenv("JOURNAL_STREAM", stream)
    log("info", "wrote it", FIELDS)
    log("warning", "cannot write it", FIELDS)
    assert capfd.readouterr().err == "ipvsd: wrote it\nipvsd: warning: cannot write it\n"
    assert silent(journald)


def test_debug_lines_are_for_who_asks(monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]) -> None:
    monkeypatch.delenv("IPVSD_DEBUG", raising=False)
    log("debug", "woken", FIELDS)
    assert capfd.readouterr().err == ""
    monkeypatch.setenv("IPVSD_DEBUG", "1")
    log("debug", "woken", FIELDS)
    assert capfd.readouterr().err == "ipvsd: debug: woken\n"
