"""ipvsd detects and attributes writes to sysctls, and repairs them, as far as the kernel and privileges permit."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests.vm import kernels
from tests.vm.node import FOLLOWS, Journal, Node, repeated

KEY = "net.ipv4.ip_forward"
FILE = "/proc/sys/net/ipv4/ip_forward"
POD = "0f8fad5b-d9cb-469f-a165-70867728950e"
CONTAINER = "4b1d" * 16
GROUP = f"/sys/fs/cgroup/kubepods.slice/kubepods-pod{POD.replace('-', '_')}.slice/cri-containerd-{CONTAINER}.scope"

WRITERS = {
    "shell": f"sh -c 'echo {{}} > {FILE}; sleep 0.3'",
    "sysctl": f"sysctl -qw {KEY}={{}}",
    "own procfs": f"unshare --pid --fork --mount-proc sh -c 'echo {{}} > {FILE}; sleep 0.3'",
    "mount namespace": f"unshare --mount sh -c 'echo {{}} > {FILE}; sleep 0.3'",
    "container": f"mkdir -p {GROUP}; sh -c 'echo $$ > {GROUP}/cgroup.procs; echo {{}} > {FILE}; sleep 0.3'",
    "propagation": "sh -c 'echo {} > /proc/sys/net/ipv4/conf/all/forwarding; sleep 0.3'",
}
CALLED = {"sysctl": "sysctl"}  # the others are sh
# Writers that inotify does not detect: another procfs has other inodes.
UNSEEN_BY_INOTIFY = {"own procfs"}
FIRST_WITH_PROCESS = (6, 1)

WITHOUT_BPF = "[Service]\nCapabilityBoundingSet=\nCapabilityBoundingSet=CAP_SYS_MODULE CAP_NET_ADMIN\n"
BACKEND = "watch backend"
SEEING = rf"{BACKEND}: .*"


def names_processes() -> bool:
    """Return whether this kernel permits the program to query the writing process."""
    numbers = kernels.chosen().split(".")
    return (int(numbers[0]), int(numbers[1])) >= FIRST_WITH_PROCESS


def count(node: Node, metric: str) -> float:
    return node.metrics()[f'ipvsd_sysctl_{metric}_total{{sysctl="{KEY}"}}']


def repaired(node: Node, command: str, what: str = "one repair") -> None:
    """Run a command that writes the sysctl once, and wait until the write is repaired."""
    before = count(node, "repairs")
    node.run(command)
    node.until(lambda: count(node, "repairs") == before + 1, what)


def last(node: Node) -> Mapping[str, Any]:
    found: Mapping[str, Any] = node.history()[-1]
    return found


@contextmanager
def rung(node: Node, drop_in: str, before: str = "true", after: str = "true") -> Iterator[None]:
    """Run the daemon with fewer privileges than it requests."""
    node.run(before)
    try:
        with node.changed_unit(drop_in):
            node.until(lambda: ("web", True) in [(item["name"], item["up"]) for item in node.sources()], "the web")
            yield
    finally:
        node.run(after)


# --- with all privileges ----------------------------------------------------------------


def test_the_mechanism_is_reported(node: Node) -> None:
    assert node.status()["backend"] == "bpf"
    assert node.metrics()['ipvsd_source_up{source="sysctl_bpf"}'] == 1
    assert node.metrics()['ipvsd_events_lost_total{source="sysctl_bpf"}'] == 0


@pytest.mark.parametrize("cold", [False, True], ids=["warm", "after drop_caches"])
@pytest.mark.parametrize("writer", WRITERS)
def test_a_change_is_repaired_and_attributed(node: Node, writer: str, cold: bool) -> None:
    if cold:
        node.run("sync; sysctl -qw vm.drop_caches=3")
    repaired(node, WRITERS[writer].format(0))
    assert node.sysctl(KEY) == "1"
    repair = last(node)
    assert (repair["name"], repair["actual"], repair["desired"]) == (KEY, "0", "1")
    assert repair["seconds"] < 2
    who = repair["writer"]
    if writer == "container":
        assert (who["container"], who["pod"]) == (CONTAINER, POD)
    else:
        assert who["unit"] == "bench-agent.service"
    if names_processes():
        assert who["comm"] == CALLED.get(writer, "sh")
        assert who["pid"] > 0


@pytest.mark.parametrize("writer", WRITERS)
def test_the_same_value_written_is_no_drift(node: Node, writer: str) -> None:
    before = count(node, "drifts")
    node.run(WRITERS[writer].format(1))
    node.run(WRITERS["sysctl"].format(0))
    node.until(lambda: count(node, "repairs") > before, "the one after it repaired")
    assert count(node, "drifts") == before + 1


def test_a_write_in_another_network_namespace_is_ignored(node: Node) -> None:
    before = count(node, "drifts")
    node.run(f"unshare --net sh -c 'echo 1 > {FILE}; echo 0 > {FILE}; sleep 0.5; cat {FILE}' | grep -qx 0")
    node.run(WRITERS["sysctl"].format(0))
    node.until(lambda: count(node, "repairs") > before, "the one after it repaired")
    assert count(node, "drifts") == before + 1
    assert last(node)["writer"]["comm"] == ("sysctl" if names_processes() else "")


def test_a_flood_in_another_network_namespace_takes_the_blame_for_nothing(node: Node) -> None:
    alias = "/proc/sys/net/ipv4/conf/all/forwarding"
    flood = f"while :; do echo 0 > {FILE}; echo 0 > {alias}; done"
    node.run(f"systemd-run -q --unit=flood unshare --net sh -c '{flood}'")
    try:
        for _ in range(repeated(2, 5)):
            repaired(node, f"sleep 1.5; {WRITERS['sysctl'].format(0)}")
            assert last(node)["writer"]["unit"] == "bench-agent.service"
            # While a namespace is created or removed, one write to ip_forward can be reported too often to keep all
            # reports.
            assert last(node)["attribution"] in ("certain", "likely")
    finally:
        node.run("systemctl stop flood")


def test_the_arguments_of_a_writer_appear_nowhere(node: Node) -> None:
    secret = "xyzzy"
    repaired(node, f"sh -c 'echo 0 > {FILE}; sleep 1' agent --token={secret}")
    status = "python3 -c 'import urllib.request as r; print(r.urlopen(\"http://127.0.0.1:14787/%s\").read())'"
    outputs = ("cat /run/ipvsd/*.json*", "journalctl -q -b -t ipvsd -o export", status % "status", status % "metrics")
    for command in ("journalctl --sync; true", *outputs):
        assert secret not in node.run(command).out


def writers(node: Node, before: float) -> list[Mapping[str, Any]]:
    """Return the writers of the repairs since the sysctl's count was `before`."""
    repairs = int(count(node, "repairs") - before)
    # On a busy machine, a reconciliation observes interfaces that follow ip_forward before its repair. These are
    # other repairs.
    found = [item["writer"] or {} for item in node.history() if item["name"] == KEY]
    return found[-repairs:] if repairs else []


def test_the_writer_is_named_in_95_of_100_tries(node: Node, journal: Journal) -> None:
    journal.expect(FOLLOWS)
    key, name = ("comm", "sysctl") if names_processes() else ("unit", "bench-agent.service")
    with node.configured("contention: {repairs: 1000}\n"):
        before = count(node, "repairs")
        script = f"sysctl -qw {KEY}=0; while ! grep -q 1 {FILE}; do :; done"
        node.run(f"for i in $(seq 100); do {script}; done", timeout=300)
        node.until(lambda: [who.get(key) for who in writers(node, before)].count(name) >= 95, "95 of 100 named", 60)


def test_two_alternating_writers_are_both_identified_in_any_case(node: Node, journal: Journal) -> None:
    journal.expect(FOLLOWS)
    elsewhere, restored = f"echo 0 | unshare --net tee {FILE}", f"while ! grep -q 1 {FILE}; do :; done"
    one = f"sh -c 'echo $$ >> /root/wrote; exec sysctl -qw {KEY}=0'"
    other = f"sh -c 'echo $$ >> /root/wrote; echo 0 > {FILE}; sleep 0.01'"
    times = repeated(10, 30)
    node.run("rm -f /root/wrote")
    with node.configured("interval: 1s\ncontention: {repairs: 1000}\n"):
        before = count(node, "repairs")
        node.run(f"for i in $(seq {times}); do {elsewhere}; {one}; {restored}; {other}; {restored}; done", timeout=300)
        wrote = {int(pid) for pid in node.run("cat /root/wrote").out.split()}
        assert len(wrote) == 2 * times

        def named() -> int:
            found = writers(node, before)
            if names_processes():
                return len(wrote & {who.get("pid") for who in found})
            return [who.get("unit") for who in found].count("bench-agent.service")

        # The same 95 of 100. Two drifts within one reconciliation are reported as one.
        node.until(lambda: named() >= 0.95 * 2 * times, "95 of 100 named", 60)


def test_the_journal_has_the_fields_that_other_tools_use(node: Node) -> None:
    repaired(node, WRITERS["sysctl"].format(0))
    entry = node.entries("MESSAGE_ID=f6b144553caa44c493924f920e47f12c")[-1]
    assert [entry[name] for name in ("SYSCTL", "NEWVALUE", "OURVALUE", "OLDVALUE")] == [KEY, "0", "1", "1"]
    assert "sysctl" in entry.get("OBJECT_COMM", "") or not names_processes()
    shown = node.run("journalctl -q -x -n 1 MESSAGE_ID=f6b144553caa44c493924f920e47f12c").out
    assert "A sysctl drifted and was repaired" in shown


def test_the_unloader_of_a_module_is_identified(node: Node) -> None:
    sample = 'ipvsd_module_loads_total{module="ip_vs_sh"}'
    named = []
    for _ in range(5):  # without a free processor for the daemon, rmmod has ended before it reads /proc
        before = node.metrics()[sample]
        node.run("rmmod ip_vs_sh")
        node.until(lambda before=before: node.metrics()[sample] == before + 1, "loaded again")  # type: ignore[misc]
        named.append((last(node)["writer"] or {}).get("comm"))
    assert "rmmod" in named
    assert set(named) <= {"rmmod", None}


def test_history_is_kept_over_a_restart(node: Node) -> None:
    repaired(node, WRITERS["sysctl"].format(0))
    kept = last(node)
    node.start()
    assert last(node) == kept
    assert f"{KEY}: 0 -> 1" in node.run("ipvsd history --lines 1").out


def test_capabilities_that_only_the_start_needs_are_gone(node: Node) -> None:
    status = node.run(f"cat /proc/{node.show('MainPID')}/status").out
    held = {line.split()[0]: int(line.split()[1], 16) for line in status.splitlines() if line.startswith("Cap")}
    bpf, perfmon = 1 << 39, 1 << 38
    assert not (held["CapPrm:"] | held["CapEff:"] | held["CapInh:"] | held["CapAmb:"]) & (bpf | perfmon)


def test_nothing_stays_attached_when_the_daemon_is_killed(node: Node) -> None:
    # PROG_GET_NEXT_ID, and a program's type and name with OBJ_GET_INFO_BY_FD. A dead program disappears after a
    # grace period.
    node.machine.put(COUNT.encode(), "/root/count.py")
    for _ in range(repeated(1, 3)):
        old = node.show("MainPID")
        node.run(f"kill -KILL {old}")
        node.until(lambda old=old: node.show("MainPID") not in ("0", old), "started again")  # type: ignore[misc]
        node.until(node.status, "status.json")
        node.until(lambda: node.run("python3 /root/count.py").out.strip() == "1", "one program")


COUNT = """
import ctypes, os, struct
call = ctypes.CDLL(None, use_errno=True).syscall
def bpf(command, *words):
    data = ctypes.create_string_buffer(struct.pack(f"{len(words)}I", *words), 128)
    return call(321, command, data, 128), data
count, at = 0, 0
while True:
    failed, data = bpf(11, at)
    if failed:
        break
    at = struct.unpack_from("I", data, 4)[0]
    descriptor, _ = bpf(13, at)
    told = ctypes.create_string_buffer(256)
    request = ctypes.create_string_buffer(struct.pack("IIQ", descriptor, 256, ctypes.addressof(told)), 128)
    if descriptor >= 0 and call(321, 15, request, 128) == 0:
        count += struct.unpack_from("I", told)[0] == 23 and b"ipvsd_sysctl" in told.raw
        os.close(descriptor)
print(count)
"""


# --- with fewer privileges --------------------------------------------------------------


def test_without_cap_bpf_it_is_inotify_and_the_reason_is_reported(node: Node, journal: Journal) -> None:
    journal.expect(SEEING)
    with rung(node, WITHOUT_BPF):
        assert node.status()["backend"] == "inotify"
        node.until(
            lambda: any(line.startswith(f"{BACKEND}: inotify; cannot use BPF: ") for line in journal.lines()), "told"
        )
        for writer in sorted(set(WRITERS) - UNSEEN_BY_INOTIFY)[: repeated(2, len(WRITERS))]:
            repaired(node, WRITERS[writer].format(0))
            assert (last(node)["writer_text"], last(node)["writer"]) == ("unknown", None)


def test_without_inotify_it_is_the_resync(node: Node, journal: Journal) -> None:
    journal.expect(SEEING, r"ipvsd: .*")
    with (
        node.configured("interval: 1s\n"),
        rung(
            node,
            WITHOUT_BPF,
            "sysctl -n fs.inotify.max_user_instances > /run/instances; sysctl -qw fs.inotify.max_user_instances=0",
            "sysctl -qw fs.inotify.max_user_instances=$(cat /run/instances)",
        ),
    ):
        assert node.status()["backend"] == "periodic"
        for command in list(WRITERS.values())[: repeated(2, len(WRITERS))]:
            repaired(node, command.format(0))
            assert last(node)["writer_text"] == "unknown"
