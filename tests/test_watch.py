"""The event sources, on real inotify, and for uevents on the messages themselves."""

from __future__ import annotations

import contextlib
import os
import socket
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipvsd.kernel.fd_cache import FdCache
from ipvsd.kernel.processes import ProcessResolver
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.watch import inotify
from ipvsd.watch.config_watcher import ConfigWatcher
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_bpf import SysctlBpf, find_cgroup_root
from ipvsd.watch.sysctl_inotify import SysctlInotify
from ipvsd.watch.uevents import Uevents, module_event
from tests.trees import put, store

KEY = "net.ipv4.ip_forward"


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    with EventLoop() as loop:
        yield loop


class Idle:
    """Receives events, and leaves every item to a reconciliation of all items."""

    def __init__(self, loop: EventLoop) -> None:
        self._loop = loop

    def on_event(self, name: str, at: float, stored: bool = True, writes: object = None) -> None:  # noqa: ARG002
        self._loop.post(ReasonKind.SYSCTL, name)

    def on_loss(self) -> None:
        """Do nothing."""


def details(loop: EventLoop, timeout: float = 0.0) -> set[tuple[ReasonKind, str]]:
    return {(reason.kind, reason.detail) for reason in loop.run_until_reason(timeout)}


# --- sysctls ----------------------------------------------------------------------------


class Watched:
    def __init__(self, loop: EventLoop, directory: Path) -> None:
        self.loop = loop
        self.file = directory / "ip_forward"
        self.file.write_text("1\n")
        self.fds = FdCache()
        self.source = SysctlInotify(loop, Idle(loop), self.fds)
        self.arm()

    def arm(self) -> None:
        self.source.arm(Targets(frozenset(), {KEY: str(self.file)}, ()))

    def events(self) -> set[tuple[ReasonKind, str]]:
        return details(self.loop)


@pytest.fixture
def watched(loop: EventLoop, tmp_path: Path) -> Iterator[Watched]:
    watched = Watched(loop, tmp_path)
    assert watched.events() == {(ReasonKind.SYSCTL, "newly watched")}
    yield watched
    watched.source.close()
    watched.fds.close()


def test_a_write_wakes_the_loop_with_its_key(watched: Watched) -> None:
    store(watched.file, "0")
    assert details(watched.loop, 10) == {(ReasonKind.SYSCTL, KEY)}


def overflow(write: Callable[[int], object]) -> None:
    """Cause more events than the kernel queues for one inotify instance. It merges two consecutive equal events."""
    for number in range(int(Path("/proc/sys/fs/inotify/max_queued_events").read_text()) + 2):
        write(number)


def test_lost_events_are_counted_and_cause_a_reconciliation(loop: EventLoop, watched: Watched, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_text("1\n")
    watched.source.arm(Targets(frozenset(), {KEY: str(watched.file), "net.other": str(other)}, ()))
    details(loop)
    assert watched.source.state().events_lost == 0
    with watched.file.open("wb", 0) as one, other.open("wb", 0) as two:
        overflow(lambda number: (one, two)[number % 2].write(b"0"))
    told: set[tuple[ReasonKind, str]] = set()
    while watched.source.state().events_lost == 0:  # the kernel reports the overflow after all queued events
        told |= details(loop, 10)
    assert (ReasonKind.LOST, "inotify") in told
    assert watched.source.state().events_lost == 1


def test_a_read_and_arming_again_wake_nothing_and_open_nothing(watched: Watched) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watched.file.read_text()
    watched.arm()
    assert (watched.events(), len(os.listdir("/proc/self/fd"))) == (set(), before)


def test_repeated_events_before_a_read_are_delivered_once(loop: EventLoop, tmp_path: Path) -> None:
    told = list[int]()
    instance = inotify.Inotify(loop, lambda watch, _mask, _name: told.append(watch))
    files = [tmp_path / name for name in ("a", "b")]
    for file in files:
        file.touch()
    watches = [instance.add(str(file), inotify.MODIFY) for file in files]
    for _ in range(50):
        for file in files:
            store(file, "0")
    loop.run_until_reason(0)
    instance.close()
    assert told == watches


def test_a_file_that_was_replaced_is_watched_again(watched: Watched) -> None:
    put(watched.file.parent, "other", "1\n").replace(watched.file)
    watched.arm()
    assert (ReasonKind.SYSCTL, "newly watched") in watched.events()
    watched.file.write_text("0\n")
    assert details(watched.loop, 10) == {(ReasonKind.SYSCTL, KEY)}


def test_a_file_that_is_reopened_is_watched_before_the_next_arming(watched: Watched) -> None:
    put(watched.file.parent, "other", "7\n").replace(watched.file)
    assert watched.fds.reopen(KEY)
    watched.file.write_text("0\n")  # before the file is watched, and after it
    assert details(watched.loop, 10) == {(ReasonKind.SYSCTL, KEY)}
    watched.file.write_text("2\n")
    assert details(watched.loop, 10) == {(ReasonKind.SYSCTL, KEY)}
    watched.arm()
    assert watched.events() == set()


def test_a_file_that_disappeared_is_closed(watched: Watched) -> None:
    before = len(os.listdir("/proc/self/fd"))
    watched.file.unlink()
    watched.arm()
    assert len(os.listdir("/proc/self/fd")) == before - 1
    assert watched.source.state().detail == "inotify on 0 of 1 files"


def test_a_key_that_is_no_longer_managed_wakes_nothing(watched: Watched) -> None:
    watched.source.arm(Targets(frozenset(), {}, ()))
    watched.file.write_text("0\n")
    assert watched.events() == set()


def test_a_link_is_not_followed(watched: Watched, tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to(watched.file)
    watched.source.arm(Targets(frozenset(), {KEY: str(watched.file), "net.link": str(tmp_path / "link")}, ()))
    assert watched.source.state().detail == "inotify on 1 of 2 files"


@pytest.mark.parametrize("kind", [SysctlInotify, ConfigWatcher])
def test_a_source_is_up_from_the_first_arming_until_it_is_closed(loop: EventLoop, tmp_path: Path, kind: object) -> None:
    source = SysctlInotify(loop, Idle(loop), FdCache()) if kind is SysctlInotify else ConfigWatcher(loop)
    assert not source.state().up
    source.arm(Targets(frozenset(), {}, (str(tmp_path),)))
    assert source.state().up
    assert source.state().detail == ("inotify on 0 of 0 files" if kind is SysctlInotify else f"inotify on {tmp_path}")
    for _ in range(2):
        source.close()
        assert not source.state().up


# --- files ------------------------------------------------------------------------------


@pytest.fixture
def conf(loop: EventLoop, tmp_path: Path) -> Iterator[Path]:
    conf = tmp_path / "conf.d"
    conf.mkdir()
    (conf / "old.yaml").write_text("")
    source = ConfigWatcher(loop)
    source.arm(Targets(frozenset(), {}, (str(conf), str(tmp_path / "missing"))))
    assert details(loop, 10) == {(ReasonKind.CONFIG, "newly watched")}
    yield conf
    source.close()


def write(conf: Path) -> None:
    (conf / "new.yaml").write_text("scheduler: sh\n")


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(write, id="written"),
        pytest.param(
            lambda conf: put(conf.parent, "new", "scheduler: sh\n").replace(conf / "new.yaml"), id="moved here"
        ),
        pytest.param(lambda conf: put(conf, ".new.tmp", "scheduler: sh\n").replace(conf / "new.yaml"), id="edited"),
        pytest.param(lambda conf: (conf / "old.yaml").unlink(), id="removed"),
        pytest.param(lambda conf: (conf / "old.yaml").replace(conf / "old.yaml~"), id="renamed"),
        pytest.param(lambda conf: (conf / "null.yaml").symlink_to("/dev/null"), id="masked"),
    ],
)
def test_a_change_of_a_configuration_file_wakes(loop: EventLoop, conf: Path, change: Callable[[Path], None]) -> None:
    change(conf)
    assert {kind for kind, _ in details(loop, 10)} == {ReasonKind.CONFIG}


def test_reading_the_configuration_and_other_files_wake_nothing(loop: EventLoop, conf: Path) -> None:
    (conf / "old.yaml").read_text()
    os.listdir(conf)
    (conf / "README").write_text("hello")
    (conf / "mark.yaml").touch()  # events are ordered: this one follows any that the others would cause
    assert all("mark" in detail or detail == str(conf) for _, detail in details(loop, 10))


def test_directories_that_appear_or_are_made_again_are_watched_when_armed(loop: EventLoop, tmp_path: Path) -> None:
    late = tmp_path / "late"
    targets = Targets(frozenset(), {}, (str(late),))
    with contextlib.closing(ConfigWatcher(loop)) as source:
        source.arm(targets)
        details(loop, 10)
        for number in range(2):
            late.mkdir()
            source.arm(targets)
            assert (ReasonKind.CONFIG, "newly watched") in details(loop, 10)
            write(late)
            assert (ReasonKind.CONFIG, str(late / "new.yaml")) in details(loop, 10)
            late.rename(tmp_path / f"gone{number}")


# --- uevents ----------------------------------------------------------------------------


def message(*fields: str) -> bytes:
    return "\0".join(fields).encode() + b"\0"


def module_message(action: str = "add", name: str = "ip_vs") -> bytes:
    path = f"/module/{name}"
    return message(f"{action}@{path}", f"ACTION={action}", f"DEVPATH={path}", "SUBSYSTEM=module", "SEQNUM=1234")


@pytest.mark.parametrize("action", ["add", "remove"])
def test_a_loaded_or_unloaded_module_is_reported(action: str) -> None:
    assert module_event(module_message(action)) == (action, "ip_vs")


@pytest.mark.parametrize(
    "data",
    [
        pytest.param(b"", id="empty"),
        pytest.param(b"\0" * 100, id="zeros"),
        pytest.param(b"\xff\xfe\x00\x80" * 50, id="no text"),
        pytest.param(b"libudev\0\xfe\xed\xca\xfe" + b"\0" * 40, id="udev's own format"),
        pytest.param(message("add@/module/ip_vs"), id="no subsystem"),
        pytest.param(message("add@/devices/pci", "SUBSYSTEM=pci"), id="another subsystem"),
        pytest.param(message("add@/devices/x", "SUBSYSTEM=module"), id="another path"),
        pytest.param(message("change@/module/ip_vs", "SUBSYSTEM=module"), id="another action"),
        pytest.param(message("SUBSYSTEM=module"), id="no head"),
        pytest.param(message("add@/module/ip_vs", "SUBSYSTEM=module_"), id="longer subsystem"),
    ],
)
def test_a_message_that_is_not_a_module_event_is_ignored(data: bytes) -> None:
    assert module_event(data) is None


def test_a_strange_name_is_only_a_name() -> None:
    data = b"add@/module/\xff../../x\nREADY=1\0SUBSYSTEM=module\0"
    assert module_event(data) == ("add", "\ufffd../../x\nREADY=1")


def test_the_uevent_source_starts_or_reports_the_reason(loop: EventLoop) -> None:
    source = Uevents(loop, Idle(loop), ProcessResolver())
    assert source.state().detail == "not started"
    with contextlib.closing(source):
        source.arm(Targets(frozenset({"ip_vs"}), {}, ()))
        assert source.state().up or source.state().detail.startswith("cannot ")
    assert not source.state().up


def test_a_uevent_of_a_process_is_not_believed(loop: EventLoop) -> None:
    source = Uevents(loop, Idle(loop), ProcessResolver())
    with contextlib.closing(source):
        source.arm(Targets(frozenset({"ip_vs"}), {}, ()))
        if source.state().up and source._socket is not None:
            forger = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15)
            with forger, contextlib.suppress(PermissionError):  # only root can try
                forger.sendto(module_message(), (source._socket.getsockname()[0], 0))
            assert (ReasonKind.MODULE, "add ip_vs") not in details(loop)


# --- writes -----------------------------------------------------------------------------

# tests/namespace has a kernel for them.


def test_the_reason_is_reported_if_bpf_cannot_report_writes(loop: EventLoop, tmp_path: Path) -> None:
    writes = SysctlBpf(loop, Idle(loop), str(tmp_path))
    assert (writes.state().up, writes.state().detail) == (False, "not started")
    assert not writes.attach()
    assert writes.state().detail == "cannot use BPF: cgroup v2 is not mounted"
    writes.arm(Targets(frozenset(), {KEY: "/proc/sys/net/ipv4/ip_forward"}, ()))
    assert (writes.state().up, writes.lost, details(loop)) == (False, 0, set())
    writes.close()


@pytest.mark.parametrize(
    ("mounts", "place"),
    [
        pytest.param("cgroup2 /sys/fs/cgroup cgroup2 rw,nosuid 0 0\n", "/sys/fs/cgroup", id="version 2 alone"),
        pytest.param(
            "tmpfs /sys/fs/cgroup tmpfs rw 0 0\ncgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n"
            "cgroup2 /sys/fs/cgroup/unified cgroup2 rw 0 0\n",
            "/sys/fs/cgroup/unified",
            id="both",
        ),
        pytest.param("cgroup /sys/fs/cgroup/pids cgroup rw,pids 0 0\n", "", id="version 1 alone"),
        pytest.param("", "", id="nothing"),
        pytest.param("\ncgroup2\ncgroup2 /x\n", "", id="too short"),
    ],
)
def test_the_mount_point_of_cgroups(tmp_path: Path, mounts: str, place: str) -> None:
    put(tmp_path, "proc/self/mounts", mounts)
    assert find_cgroup_root(str(tmp_path)) == place
