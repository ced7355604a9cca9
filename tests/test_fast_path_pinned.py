"""A single drift is turned back through the open descriptor of its file."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.model.types import WriteSysctl
from tests.fake_kernel import FORWARD
from tests.held import Node, Opened

CONNTRACK = "net.ipv4.vs.conntrack"


@pytest.fixture
def file(tmp_path: Path) -> Path:
    file = tmp_path / "ip_forward"
    file.write_text("1\n")
    return file


def opened(file: Path, flags: int) -> Iterator[Node]:
    descriptor = os.open(file, flags)
    yield Node(pins=Opened({FORWARD: descriptor}))
    os.close(descriptor)


@pytest.fixture
def pinned(file: Path) -> Iterator[Node]:
    """A node whose descriptor of ip_forward is that of a file, so that the kernel's own value is not asked."""
    yield from opened(file, os.O_RDWR)


@pytest.fixture
def appending(file: Path) -> Iterator[Node]:
    """One whose file keeps what was there, as a kernel that does not keep what was written."""
    yield from opened(file, os.O_RDWR | os.O_APPEND)


@pytest.fixture
def reading(file: Path) -> Iterator[Node]:
    """One whose descriptor is for reading alone."""
    yield from opened(file, os.O_RDONLY)


def test_a_drift_is_turned_back_through_the_descriptor(pinned: Node, file: Path) -> None:
    for value in ("0", "7", "0"):
        file.write_text(f"{value}\n")
        assert pinned.reflex.told(FORWARD)
        assert file.read_text() == "1\n"
    written = [WriteSysctl(FORWARD, value, "1") for value in ("0", "7", "0")]
    assert [item.action for item in pinned.reflex.take()] == written


def test_more_values_than_are_remembered_are_turned_back_all_the_same(pinned: Node, file: Path) -> None:
    for value in (2, 3, 4, 5, 6, 7, 8, 9) * 9:
        file.write_text(f"{value} " + " " * (value % 5) + "\n")
        pinned.reflex.told(FORWARD)
        assert file.read_text().startswith("1\n")


def test_the_right_value_in_the_file_is_right(pinned: Node, file: Path) -> None:
    before = file.stat().st_mtime_ns
    assert pinned.reflex.told(FORWARD)
    assert (pinned.reflex.take(), file.stat().st_mtime_ns) == ((), before)


def test_what_the_file_does_not_keep_is_left_to_the_whole_look(appending: Node, file: Path) -> None:
    file.write_text("0\n")
    assert not appending.reflex.told(FORWARD)
    assert appending.reflex.take() == ()


def test_what_cannot_be_written_through_the_descriptor_is_written_by_name(reading: Node, file: Path) -> None:
    file.write_text("0\n")
    reading.kernel.values[FORWARD] = "0"
    assert reading.reflex.told(FORWARD)
    assert (file.read_text(), reading.kernel.values[FORWARD]) == ("0\n", "1")
    assert len(reading.reflex.take()) == 1


def test_what_comes_with_a_module_is_written_through_its_new_file(file: Path) -> None:
    file.write_text("0\n")
    descriptor = os.open(file, os.O_RDWR)
    text = "profiles: []\nmodules: {ip_vs: {}}\nsysctls: {net.ipv4.vs.conntrack: 1}"
    node = Node(text, Opened({}, {CONNTRACK: descriptor}))
    node.kernel.unload("ip_vs")
    assert node.reflex.told("ip_vs")
    os.close(descriptor)
    assert file.read_text() == "1\n"
    assert WriteSysctl(CONNTRACK, "0", "1") in [item.action for item in node.reflex.take()]
    assert node.kernel.values[CONNTRACK] == "0"  # which the file stands for
