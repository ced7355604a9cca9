"""Rules for every test: it leaves nothing behind, and does not change the real kernel."""

from __future__ import annotations

import gc
import itertools
import os
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from hypothesis import settings

from tests.service import MAIN, QUIET, Service, Until, release_ports
from tests.trees import make_tree, put

# The same examples in every run, and no deadline, because the machine may be busy.
settings.register_profile("check", max_examples=60, deadline=None, database=None, derandomize=True)
settings.load_profile("check")

_PROGRAMS = {"modprobe", "insmod", "rmmod", "kmod", "sysctl", "depmod"}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_APPEND
_PATIENCE = 3.0  # seconds until a thread that was asked to stop has ended


_MEMORY, _ENOUGH = "/dev/shm", 1 << 30  # bytes; the quick tests take 160 MB


def pytest_configure() -> None:
    """Put the trees of the tests into memory: ext4 takes long to find inodes while it deletes those of former runs."""
    if os.access(_MEMORY, os.W_OK):
        room = os.statvfs(_MEMORY)
        if room.f_bavail * room.f_frsize > _ENOUGH:
            os.environ.setdefault("PYTEST_DEBUG_TEMPROOT", _MEMORY)


def pytest_collection_finish() -> None:
    """Exclude the thousands of collected tests from later garbage collections, which then take a tenth of the time."""
    gc.collect()
    gc.freeze()


class ForbiddenError(Exception):
    """A test without the mark `vm`, `namespace` or `differential` would have changed the machine on which it runs."""


class _Guard:
    """An audit hook cannot be removed, so it checks here whether it is disabled."""

    allowed = True

    def __call__(self, event: str, arguments: tuple[Any, ...]) -> None:
        if self.allowed:
            return
        if event == "open" and _changes_the_kernel(arguments[0], arguments[2]):
            raise ForbiddenError(f"a test may not write {arguments[0]!r}")
        if event in ("subprocess.Popen", "os.exec", "os.posix_spawn") and _program(arguments[0]) in _PROGRAMS:
            raise ForbiddenError(f"a test may not run {arguments[0]!r}")
        if event == "ctypes.dlopen" and "libkmod" in str(arguments[0]):
            raise ForbiddenError("a test may not load libkmod")


def _changes_the_kernel(path: object, flags: int) -> bool:
    if not isinstance(path, (str, bytes)) or not flags & _WRITING:
        return False
    return os.path.abspath(os.fsdecode(path)).startswith(("/proc/sys", "/sys/"))


def _program(path: object) -> str:
    return os.path.basename(os.fsdecode(path)) if isinstance(path, (str, bytes)) else ""


_guard = _Guard()
sys.addaudithook(_guard)


@pytest.fixture(autouse=True)
def _the_kernel_is_left_alone(request: pytest.FixtureRequest) -> Iterator[None]:
    _guard.allowed = any(request.node.get_closest_marker(name) for name in ("vm", "namespace", "differential"))
    yield
    _guard.allowed = True  # for the bench, whose fixtures outlive a test


@pytest.fixture(autouse=True)
def _nothing_is_left_behind(request: pytest.FixtureRequest, _the_kernel_is_left_alone: None) -> Iterator[None]:
    if request.node.get_closest_marker("vm"):
        yield  # a machine of the bench serves many tests
        return
    before = _belongings()
    yield
    release_ports()
    deadline = time.monotonic() + _PATIENCE
    while (left := _belongings() - before) and time.monotonic() < deadline:
        gc.collect()
        time.sleep(0.005)
    if left:
        pytest.fail(f"left behind: {', '.join(sorted(left))}")


def _belongings() -> frozenset[str]:
    threads = {f"thread {thread.name}" for thread in threading.enumerate()}
    return frozenset(threads | set(_descriptors()) | set(_children()))


def _descriptors() -> Iterator[str]:
    for fd in os.listdir("/proc/self/fd"):
        try:
            yield f"descriptor {fd}: {os.readlink(f'/proc/self/fd/{fd}')}"
        except FileNotFoundError:
            pass  # the descriptor of the listing


def _children() -> Iterator[str]:
    for task in os.listdir("/proc/self/task"):
        try:
            with open(f"/proc/self/task/{task}/children", encoding="ascii") as children:
                yield from (f"child {pid}" for pid in children.read().split())
        except OSError:
            pass  # the thread ended meanwhile, or this kernel does not show it


_directories = itertools.count()


@pytest.fixture
def tmp_path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return an empty directory. pytest's own fixture would list all existing ones for every test."""
    path = tmp_path_factory.getbasetemp() / f"of-test-{next(_directories)}"
    path.mkdir(mode=0o700)
    return path


@pytest.fixture
def until() -> Until:
    """Wait until a condition holds, because no test waits for a fixed time."""

    def wait(condition: Callable[[], object], what: str) -> None:
        deadline = time.monotonic() + 10
        while not condition():
            if time.monotonic() > deadline:
                pytest.fail(f"waited in vain until {what}")
            time.sleep(0.002)

    return wait


@pytest.fixture
def service(tmp_path: Path) -> Iterator[Service]:
    """The daemon for a compliant node. The test starts it."""
    service = Service(make_tree(tmp_path))
    put(tmp_path, MAIN, QUIET)
    yield service
    service.close()


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A compliant node. Many test modules have their own tree."""
    return make_tree(tmp_path / "root")
