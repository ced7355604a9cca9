"""The kernel's own changes in /proc/sys/net, and its uevents."""

from __future__ import annotations

import os
import socket
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.kernel.fd_cache import FdCache
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.processes import ProcessResolver
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.state import repair_history
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_inotify import SysctlInotify
from ipvsd.watch.uevents import Uevents
from tests.service import Service, Until
from tests.test_watch import Idle
from tests.trees import put

KEY = "net.ipv4.ip_forward"
FILE = Path("/proc/sys/net/ipv4/ip_forward")


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    with EventLoop() as loop:
        yield loop


def by_another_process(value: str, path: str = str(FILE)) -> None:
    subprocess.run(["sh", "-c", f"echo {value} > {path}"], check=True)


# --- the host ---------------------------------------------------------------------------


def test_a_value_is_written_and_read_back(tree: Path) -> None:
    host = LinuxHost(str(tree))
    for value in ("0", "1"):
        host.write_sysctl(KEY, value)
        assert (host.read_sysctl(KEY), FILE.read_text()) == (value, f"{value}\n")


def test_a_refused_write_changes_nothing(tree: Path) -> None:
    host = LinuxHost(str(tree))
    host.write_sysctl(KEY, "1")
    with pytest.raises(OSError, match="Invalid argument"):
        host.write_sysctl(KEY, "on")
    assert host.read_sysctl(KEY) == "1"


# --- the sources ------------------------------------------------------------------------


def test_a_write_by_another_process_wakes_and_a_read_does_not(loop: EventLoop) -> None:
    fds = FdCache()
    source = SysctlInotify(loop, Idle(loop), fds)
    source.arm(Targets(frozenset(), {KEY: str(FILE)}, ()))
    assert [reason.detail for reason in loop.run_until_reason(10)] == ["newly watched"]
    subprocess.run(["cat", FILE], check=True, capture_output=True)
    assert loop.run_until_reason(0) == ()
    by_another_process("1")
    assert {(reason.kind, reason.detail) for reason in loop.run_until_reason(10)} == {(ReasonKind.SYSCTL, KEY)}
    source.close()
    fds.close()


def test_lost_uevents_are_counted_and_cause_a_reconciliation(loop: EventLoop) -> None:
    source = Uevents(loop, Idle(loop), ProcessResolver())
    source.arm(Targets(frozenset({"ip_vs"}), {}, ()))
    assert source.state().events_lost == 0
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as sender:
        for _ in range(4096):
            sender.sendto(b"add@/module/other\0".ljust(1024, b"\0"), (0, 1))
    assert {(reason.kind, reason.detail) for reason in loop.run_until_reason(10)} == {(ReasonKind.LOST, "uevents")}
    assert source.state().events_lost == 1
    source.close()


def test_unneeded_uevents_and_forged_ones_wake_nothing(loop: EventLoop) -> None:
    source = Uevents(loop, Idle(loop), ProcessResolver())
    source.arm(Targets(frozenset({"ip_vs"}), {}, ()))
    assert source.state().up
    subprocess.run(["ip", "link", "add", "bench0", "type", "veth", "peer", "name", "bench1"], check=True)
    with socket.socket(socket.AF_NETLINK, socket.SOCK_RAW, 15) as liar:
        liar.sendto(b"remove@/module/ip_vs\0ACTION=remove\0SUBSYSTEM=module\0", (0, 1))
    subprocess.run(["ip", "link", "del", "bench0"], check=True)
    assert loop.run_until_reason(0.05) == ()
    source.close()


# --- the daemon -------------------------------------------------------------------------


def test_thirty_drifts_are_thirty_repairs(service: Service, until: Until) -> None:
    service.ready()
    for count in range(1, 31):
        by_another_process("0")
        until(lambda: FILE.read_text() == "1\n", "it is restored")
        until(lambda due=count: len(repair_history.read(str(service.tree)).repairs) == due, "the repair is told")  # type: ignore[misc]
    _, log = service.stop()
    told = "wrote net.ipv4.ip_forward: '1' (was '0'); changed by an unknown process, repaired in"
    assert len([line for line in log if told in line]) == 30


def test_a_resync_finds_a_value_that_the_kernel_copied(service: Service, tree: Path, until: Until) -> None:
    text = "profiles: []\ninterval: 1s\nweb: {listen: []}\nsysctls: {net.ipv4.ip_forward: 1}\n"
    put(tree, "etc/ipvsd/ipvsd.yaml", text)
    service.ready()
    by_another_process("0", "/proc/sys/net/ipv4/conf/all/forwarding")
    until(lambda: FILE.read_text() == "1\n", "it is restored")
    assert service.stop()[0] == 0


def test_the_value_of_another_namespace_is_not_read(service: Service, until: Until) -> None:
    service.ready()
    by_another_process("1")
    subprocess.run(["unshare", "-n", "sh", "-c", f"echo 0 > {FILE}"], check=True)
    assert FILE.read_text() == "1\n"
    by_another_process("0")
    until(lambda: service.repairs() == 1, "only ours is repaired")
    assert os.path.exists(FILE)
    assert service.stop()[0] == 0


# --- patterns and interfaces ------------------------------------------------------------

PATTERN = "net.ipv4.conf.*.rp_filter"
LINKS = 1000


def batch(tmp_path: Path, line: str) -> None:
    file = tmp_path / "batch"
    file.write_text("".join(line.format(number) for number in range(LINKS // 2)))
    subprocess.run(["ip", "-batch", file], check=True)


def test_a_real_uevent_of_an_interface_wakes_the_loop_if_it_is_a_target(loop: EventLoop) -> None:
    source = Uevents(loop, Idle(loop), ProcessResolver())
    source.arm(Targets(frozenset(), {}, (), links=True))
    subprocess.run(["ip", "link", "add", "bench0", "type", "veth", "peer", "name", "bench1"], check=True)
    seen = {(reason.kind, reason.detail) for reason in loop.run_until_reason(10)}
    assert {(ReasonKind.LINK, "add bench0"), (ReasonKind.LINK, "add bench1")} <= seen
    subprocess.run(["ip", "link", "del", "bench0"], check=True)
    assert {reason.kind for reason in loop.run_until_reason(10)} == {ReasonKind.LINK}
    source.close()


def test_a_thousand_interfaces_get_their_value_and_leave_no_trace(
    service: Service, tree: Path, tmp_path: Path, until: Until
) -> None:
    text = f"profiles: []\nweb: {{listen: []}}\nsysctls: {{{PATTERN}: {{value: 2, exclude: [all, default]}}}}\n"
    put(tree, "etc/ipvsd/ipvsd.yaml", text)
    service.ready()
    batch(tmp_path, "link add va{0} type veth peer name vb{0}\n")
    files = list(Path("/proc/sys/net/ipv4/conf").glob("v*/rp_filter"))
    assert len(files) == LINKS
    until(lambda: all(file.read_text() == "2\n" for file in files), "every one has its value")
    until(lambda: service.status()["sysctls"][0]["members"]["total"] == LINKS + 1, "all of them are told of")
    descriptors = Path(f"/proc/{service.process.pid}/fd")
    batch(tmp_path, "link del va{0}\n")
    until(lambda: service.status()["sysctls"][0]["members"]["total"] == 1, "they are forgotten")
    until(lambda: len(os.listdir(descriptors)) < 50, "nothing is kept open")
    assert service.stop()[0] == 0


def test_an_interface_that_does_not_forward_is_made_to_by_the_profile(
    service: Service, tree: Path, until: Until
) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "web: {listen: []}\nbridgeNetfilter: false\ncontention: {repairs: 1000}\n")
    conf = Path("/proc/sys/net/ipv4/conf")
    (conf / "default/forwarding").write_text("0\n")
    subprocess.run(["ip", "link", "add", "bench0", "type", "veth", "peer", "name", "bench1"], check=True)
    assert (conf / "bench0/forwarding").read_text() == "0\n"
    service.ready()
    until(lambda: (conf / "bench0/forwarding").read_text() == "1\n", "the interface forwards")
    assert (conf / "default/forwarding").read_text() == "1\n"
    by_another_process("0", str(conf / "bench1/forwarding"))
    until(lambda: (conf / "bench1/forwarding").read_text() == "1\n", "it is restored")
    subprocess.run(["ip", "link", "add", "late0", "type", "veth", "peer", "name", "late1"], check=True)
    assert (conf / "late0/forwarding").read_text() == "1\n"  # inherited
    by_another_process("0")
    until(lambda: (conf / "late0/forwarding").read_text() == FILE.read_text() == "1\n", "all are restored with it")
    for name in ("bench0", "late0"):
        subprocess.run(["ip", "link", "del", name], check=True)
    assert service.stop()[0] == 0
