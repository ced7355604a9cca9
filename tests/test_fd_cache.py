"""Sysctls are accessed through open descriptors, as long as these refer to the current file."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.kernel.fd_cache import FdCache
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.types import MISSING
from tests.fake_kernel import FORWARD
from tests.trees import make_tree, put, sysctl


@pytest.fixture
def fds() -> Iterator[FdCache]:
    fds = FdCache()
    yield fds
    fds.close()


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return sysctl(make_tree(tmp_path / "root", values={FORWARD: "0"}), FORWARD)


@pytest.fixture
def host(fds: FdCache, file: Path, tmp_path: Path) -> LinuxHost:
    """A host that keeps ip_forward open."""
    fds.keep({FORWARD: str(file)})
    return LinuxHost(str(tmp_path / "root"), fds=fds)


def replace(file: Path, value: str) -> None:
    """Put another file in its place, so that the open one is not at that path any more."""
    put(file.parent, "other", f"{value}\n").replace(file)


def test_a_value_is_read_and_written_through_the_open_file(host: LinuxHost, file: Path, fds: FdCache) -> None:
    replace(file, "7")
    assert host.read_sysctl(FORWARD) == "0"
    host.write_sysctl(FORWARD, "1")
    opened = fds.get(FORWARD)
    assert opened
    assert (file.read_text(), os.pread(opened.descriptor, 9, 0)) == ("7\n", b"1\n")


def test_a_sysctl_without_an_open_file_is_accessed_by_its_path(host: LinuxHost, file: Path, fds: FdCache) -> None:
    fds.keep({})
    host.write_sysctl(FORWARD, "1")
    assert (host.read_sysctl(FORWARD), file.read_text()) == ("1", "1\n")


def test_a_tree_is_read_by_path_whatever_is_kept_open(file: Path, tmp_path: Path) -> None:
    host = LinuxHost(str(tmp_path / "root"))
    host.fds.keep({FORWARD: str(file)})
    replace(file, "7")
    assert host.read_sysctl(FORWARD) == "7"
    host.fds.close()


def test_a_read_only_file_is_kept_open_and_written_by_its_path(host: LinuxHost, file: Path, fds: FdCache) -> None:
    fds.keep({FORWARD: os.path.realpath(sys.executable)})  # a running program is not writable (ETXTBSY)
    assert "ELF" in str(host.read_sysctl(FORWARD))
    host.write_sysctl(FORWARD, "1")
    assert file.read_text() == "1\n"


def test_a_file_that_was_replaced_is_opened_anew_by_keeping_it(host: LinuxHost, file: Path, fds: FdCache) -> None:
    replace(file, "7")
    fds.keep({FORWARD: str(file)})
    assert host.read_sysctl(FORWARD) == "7"


def test_a_file_can_be_reopened_and_listeners_learn_it(file: Path, fds: FdCache) -> None:
    heard = list[str]()
    fds.on_reopen(heard.append)
    fds.keep({FORWARD: str(file)})
    before = fds.get(FORWARD)
    replace(file, "7")
    after = fds.reopen(FORWARD)
    assert before
    assert after
    assert after.identity != before.identity
    assert (os.pread(after.descriptor, 9, 0), fds.get(FORWARD), heard) == (b"7\n", after, [FORWARD])


def test_a_missing_file_or_one_without_a_descriptor_is_not_reopened(host: LinuxHost, file: Path, fds: FdCache) -> None:
    file.unlink()
    assert fds.reopen(FORWARD) is fds.reopen("net.other") is fds.get(FORWARD) is None
    assert host.read_sysctl(FORWARD) is MISSING


def test_a_file_that_is_no_longer_kept_is_closed(file: Path, fds: FdCache) -> None:
    before = len(os.listdir("/proc/self/fd"))
    fds.keep({FORWARD: str(file), "net.gone": str(file.with_name("gone")), "net.link": "/proc/self/exe"})
    assert len(os.listdir("/proc/self/fd")) == before + 1  # links are not followed
    fds.keep({})
    assert len(os.listdir("/proc/self/fd")) == before
