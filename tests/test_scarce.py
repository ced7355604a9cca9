"""With few descriptors and no threads, ipvsd still detects and repairs drifts, and does not waste CPU time."""

from __future__ import annotations

import contextlib
import errno
import os
import resource
import signal
import socket
import threading
from pathlib import Path

import pytest

from ipvsd.runtime.event_loop import EventLoop
from ipvsd.watch.config_watcher import ConfigWatcher
from ipvsd.watch.event_source import Targets
from tests.service import MAIN, QUIET, STATUS, Service, Until, free_port, holds_reserve
from tests.trees import put, put_sysctl, store, sysctl

pytestmark = pytest.mark.system

FEW = 64
LIMITED = """
import resource, sys
resource.setrlimit(resource.RLIMIT_NOFILE, (int(sys.argv[2]),) * 2)
from ipvsd.cli import main
sys.exit(main(["run", "--root", sys.argv[1]]))
"""
OTHERS = [f"net.test.key{number}" for number in range(84)]


@pytest.fixture
def service(service: Service) -> Service:
    """A service that manages 93 named sysctls, and one of each interface."""
    wanted = ", ".join(f"{name}: 1" for name in (*OTHERS, "net.ipv4.conf.*.arp_ignore"))
    put(service.tree, MAIN, f"{QUIET}sysctls: {{{wanted}}}\n")
    for name in OTHERS:
        put_sysctl(service.tree, name, "1")
    return service


def test_few_descriptors_leave_some_for_repairs(service: Service, until: Until) -> None:
    service.start(program=("-c", LIMITED, str(service.tree), str(FEW)))
    service.hears("READY=1", "STATUS=ready")
    until((service.tree / STATUS).exists, "the status is published")
    for number in range(40):
        put_sysctl(service.tree, f"net.ipv4.conf.veth{number}.arp_ignore", "0")
        put_sysctl(service.tree, f"net.ipv4.conf.veth{number}.forwarding", "1")
    service.process.send_signal(signal.SIGHUP)
    for number in range(40):
        file = sysctl(service.tree, f"net.ipv4.conf.veth{number}.arp_ignore")
        until(lambda file=file: file.read_text() == "1\n", "new interfaces are put right")  # type: ignore[misc]
    file = sysctl(service.tree, "net.ipv4.ip_forward")
    store(file, "0")
    service.process.send_signal(signal.SIGHUP)  # whether it is watched or not
    until(lambda: file.read_text() == "1\n", "ip_forward is put right")
    until(lambda: service.source("sysctl_inotify"), "the sources are told of")
    source = service.source("sysctl_inotify")
    assert (service.status()["state"], source["up"]) == ("ready", False)
    assert "the other descriptors are reserved" in source["detail"]
    assert len(service.open_files()) < FEW - 8
    code, log = service.stop()
    assert code == 0
    assert not [line for line in log if "Traceback" in line or "drop the key" in line or "Too many" in line]
    assert len([line for line in log if "net.ipv4.ip_forward: '1' (was '0')" in line]) == 1


def test_clients_do_not_take_the_descriptors_for_repairs(service: Service, until: Until) -> None:
    place = ("127.0.0.1", free_port())
    main = service.tree / MAIN
    main.write_text(main.read_text().replace("[]", f'["127.0.0.1:{place[1]}"]'))
    service.start(program=("-c", LIMITED, str(service.tree), str(FEW)))
    service.hears("READY=1")
    until(lambda: (service.source("web") or {"up": False})["up"], "it serves")
    with contextlib.ExitStack() as stack:
        for _ in range(60):
            stack.enter_context(socket.create_connection(place, timeout=5))
        for _ in range(3):
            service.process.send_signal(signal.SIGHUP)
            service.hears("READY=1", "STATUS=ready")
        until(lambda: holds_reserve(service.open_files()), "it waits")
    assert not [line for line in service.stop()[1] if "unreadable" in line]


def test_late_imports_and_a_reload_can_use_the_reserved_descriptors(service: Service, until: Until) -> None:
    service.ready()
    until((service.tree / STATUS).exists, "the status is published")
    until(lambda: service.source("config_files"), "all has started")
    until(lambda: holds_reserve(service.open_files()), "it waits")
    taken = {int(number) for number in os.listdir(f"/proc/{service.process.pid}/fd")}
    lowest = min(set(range(len(taken) + 1)) - taken)
    _, hard = resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (lowest, hard))
    put(service.tree, MAIN, "intervall: 5s\n")  # hints import further modules
    service.process.send_signal(signal.SIGHUP)
    service.hears("READY=1", "invalid configuration")
    code, log = service.stop()
    assert code == 0
    assert [line for line in log if "unknown key" in line and "interval" in line.partition("(")[2]]


def test_without_descriptors_nothing_is_written_or_ready_and_all_is_repaired_later(
    service: Service, until: Until
) -> None:
    service.ready()
    until((service.tree / STATUS).exists, "the status is published")
    until(lambda: service.source("config_files"), "all has started")
    looks, limits = service.status()["reconciliations"], resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, (0, limits[1]))
    try:
        put_sysctl(service.tree, "net.ipv4.vs.conntrack", "0")
        service.process.send_signal(signal.SIGHUP)
        said = service.hears("STATUS=degraded: ", "unreadable")
        assert "ready" not in said.partition("STATUS=")[2]
        assert sysctl(service.tree, "net.ipv4.vs.conntrack").read_text() == "0\n"
    finally:
        resource.prlimit(service.process.pid, resource.RLIMIT_NOFILE, limits)
    until(lambda: sysctl(service.tree, "net.ipv4.vs.conntrack").read_text() == "1\n", "it is put right")
    service.hears("STATUS=ready: ")
    until(lambda: service.status()["state"] == "ready", "the status tells so")
    assert service.status()["reconciliations"] - looks < 20
    code, log = service.stop()
    assert code == 0
    assert not [line for line in log if "Traceback" in line or "drop the key" in line or "unloaded" in line]
    assert len([line for line in log if os.strerror(errno.EMFILE) in line]) < 10


def test_without_a_thread_the_files_are_not_watched_and_no_descriptor_is_lost(tmp_path: Path) -> None:
    targets = Targets(frozenset(), {}, (str(tmp_path),))
    with EventLoop() as loop:
        source = ConfigWatcher(loop)
        before, size = set(os.listdir("/proc/self/fd")), threading.stack_size(1 << 46)  # more than any machine has
        try:
            source.arm(targets)
        finally:
            threading.stack_size(size)
        assert set(os.listdir("/proc/self/fd")) == before
        assert "cannot watch the configuration: can't start new thread" in source.state().detail
        source.arm(targets)
        assert source.state().up
        source.close()
