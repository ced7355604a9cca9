"""Writes to the sysctls of another network namespace are not attributed to drifts in this one."""

from __future__ import annotations

import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipvsd.bpf import sysctl_program
from ipvsd.model.report import Attribution
from ipvsd.runtime.event_loop import EventLoop
from ipvsd.watch import sysctl_bpf
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_bpf import RING_BYTES
from tests.bpf_machine import sharing
from tests.namespace.attached import ALL, FILE, KEY, Node, by_another_process, by_tee, missing, writer

# Opens the sysctl in another network namespace, and writes to it from the former one.
THROUGH = f"""
import os
here = os.open("/proc/self/ns/net", os.O_RDONLY)
libc = __import__("ctypes").CDLL(None, use_errno=True)
assert libc.unshare(0x40000000) == 0
while True:
    try:
        opened = os.open("{FILE}", os.O_WRONLY)
        break
    except FileNotFoundError:  # for a moment, while the sysctls of another namespace are taken away
        continue
assert libc.setns(here, 0x40000000) == 0
os.write(opened, b"0")
print(open("{FILE}").read().strip())
"""


# Writing it never waits for other namespaces. While another namespace is created or removed, the kernel restarts a
# write to ip_forward, and the program reports it again (restart_syscall() in net/ipv4/devinet.c).
FREE_KEY, FREE = "net.ipv4.conf.default.rp_filter", Path("/proc/sys/net/ipv4/conf/default/rp_filter")
TIMES = RING_BYTES // 128
FLOOD = f"i=0; while [ $i -lt {TIMES} ]; do echo 0 > {FILE}; echo 0 > {ALL}; echo 2 > {FREE}; i=$((i + 1)); done"


def flood() -> None:
    """Write the same value in another network namespace, far more often than the ring can hold."""
    subprocess.run(["unshare", "--net", "sh", "-c", FLOOD], check=True)


def test_a_flood_in_another_namespace_is_not_attributed_to_any_drift(node: Node) -> None:
    for count in range(1, 6):
        by_tee()
        flood()
        node.repaired(count)
    assert node.named() == ["tee"] * 5


def test_a_flood_in_another_namespace_does_not_reduce_the_certainty(node: Node) -> None:
    node.writes.arm(Targets(frozenset(), {FREE_KEY: str(FREE)}, ()))
    found = []
    for _ in range(5):
        by_tee("2", FREE)
        flood()
        node.hear()
        seen = node.reconciler.registry.writes.explain(FREE_KEY, "2")
        found.append(seen and (seen.writer.comm, seen.attribution))
    assert found == [("tee", Attribution.CERTAIN)] * 5
    assert node.writes.lost == 0


def test_without_the_network_namespace_a_drift_is_not_attributed(monkeypatch: pytest.MonkeyPatch) -> None:
    if missing():
        pytest.skip(f"bpf cannot be tried: {missing()}")
    monkeypatch.setattr(sysctl_bpf, "_variants", lambda process, _: [sysctl_program.Variant(process, namespaces=False)])
    with EventLoop() as loop:
        node = Node(loop)
        node.attach()
        assert node.writes.detail.endswith("; BPF cannot distinguish network namespaces")
        for count in range(1, 6):
            by_tee()
            flood()
            node.repaired(count)
        node.writes.close()
    assert node.named() == [""] * 5


def test_each_writer_is_identified_during_a_flood_in_another_namespace(node: Node) -> None:
    command = ["unshare", "--net", "sh", "-c", f"echo begun; while :; do {FLOOD}; done"]
    with subprocess.Popen(command, stdout=subprocess.PIPE) as process:
        assert process.stdout
        assert process.stdout.readline() == b"begun\n"
        for count in range(1, 6):
            by_tee()
            node.repaired(count)
        process.kill()
    assert node.named() == ["tee"] * 5


def test_a_flood_in_another_namespace_causes_no_reconciliation(node: Node) -> None:
    flood()
    begun = time.monotonic()
    assert node.loop.run_until_reason(0.2) == ()
    assert time.monotonic() - begun >= 0.2
    assert (node.repairs, node.writes.lost, node.of(KEY, "0")) == ([], 0, None)


def test_a_write_through_a_file_of_another_namespace_is_not_to_this_sysctl(node: Node) -> None:
    done = subprocess.run([sys.executable, "-c", THROUGH], check=True, capture_output=True, text=True)
    assert done.stdout == "1\n"
    node.listen()
    assert (node.repairs, node.of(KEY, "0")) == ([], None)


def test_a_write_from_another_namespace_through_a_file_of_this_one_is_to_this_sysctl(node: Node) -> None:
    with writer("echo 0 >&3", "sh", "-c", f'exec 3> {FILE}; exec unshare --net "$@"', "sh") as pid:
        assert node.repaired(1) == [("0", "1")]
    assert (node.seen().writer.pid, node.seen().ours) == (pid, True)


def test_a_recreated_sysctl_is_recognised_before_it_was_read(node: Node, private: tuple[str, Path]) -> None:
    key, file = private
    name = file.parent.name
    node.writes.arm(Targets(frozenset(), {key: str(file)}, ()))
    subprocess.run(["ip", "link", "del", name], check=True)
    subprocess.run(["ip", "link", "add", name, "type", "veth", "peer", "name", f"{name}x"], check=True)
    by_another_process("2", file)
    assert node.knows(key, "2")
    seen = node.of(key, "2")
    assert seen
    assert seen.attribution is Attribution.CERTAIN


def test_a_new_sysctl_in_a_bucket_of_another_one_is_read_again(node: Node) -> None:
    path = sharing(KEY.replace(".", "/").encode()).decode()
    targets = {KEY: str(FILE), path.replace("/", "."): f"/proc/sys/{path}"}

    node.writes.arm(Targets(frozenset(), targets, ()))

    assert [reason.detail for reason in node.loop.run_until_reason(0)] == ["newly watched"]


def test_a_guarded_sysctl_is_writable_in_another_namespace(node: Node, private: tuple[str, Path]) -> None:
    key, file = private
    name = file.parent.name
    node.writes.arm(Targets(frozenset(), {key: str(file)}, (), guarded=frozenset({key})))
    script = f"ip link add {name} type veth peer name {name}x && echo 2 > {file} && cat {file}"
    there = subprocess.run(["unshare", "--net", "sh", "-c", script], check=True, capture_output=True, text=True)
    assert there.stdout == "2\n"
    here = subprocess.run(["sh", "-c", f"echo 2 > {file}"], check=False, capture_output=True, text=True)
    assert here.returncode != 0
    assert [(item.name, item.times) for item in node.refusals()] == [(key, 1)]
