"""The program on the root cgroup of a real kernel: attribution of writes, and the state after its end.

It needs the privileges of the service: CAP_BPF and CAP_NET_ADMIN on the machine itself, and cgroup version 2. If
one of these is missing, which is not a fault, the tests are skipped. If none is missing, they must pass.
"""

from __future__ import annotations

import contextlib
import os
import re
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

import pytest

from ipvsd.bpf import syscall, sysctl_program
from ipvsd.bpf.asm import assemble, exit_
from ipvsd.bpf.ringbuf import RingBuffer
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.watch import sysctl_bpf
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_bpf import RING_BYTES, SysctlBpf, find_cgroup_root
from tests.namespace.attached import ALL, FILE, KEY, Node, by_another_process, missing, writer
from tests.service import REPOSITORY, Until
from tests.test_watch import Idle

FREE = Path("/proc/sys/net/ipv4/tcp_sack")
LINK_BY_ID, PROGRAM_BY_ID, MAP_BY_ID = 30, 13, 14  # <linux/bpf.h>, enum bpf_cmd
NUMBERS = {"CAP_NET_ADMIN": 12, "CAP_SYS_MODULE": 16, "CAP_PERFMON": 38, "CAP_BPF": 39}  # <linux/capability.h>
DROP_ALL = (
    "from ipvsd.runtime.capabilities import drop; drop(39, 21); "  # CAP_BPF, and CAP_SYS_ADMIN, which includes it
)


# --- the program and this kernel --------------------------------------------------------


def test_it_attaches_or_reports_the_reason() -> None:
    with EventLoop() as loop:
        writes = SysctlBpf(loop, Idle(loop))
        assert writes.attach() or missing(), writes.detail
        if writes.state().up:
            assert writes.state().detail == "bpf on the root control group"
        else:
            assert writes.state().detail.startswith("cannot use BPF: ")
        writes.close()
        assert not writes.state().up


@pytest.mark.parametrize(
    "form",
    [
        pytest.param(sysctl_program.Variant(4242), id="everything"),
        pytest.param(sysctl_program.Variant(4242, namespaces=False), id="without places"),
        pytest.param(sysctl_program.Variant(4242, comm=False, namespaces=False), id="without the name"),
        pytest.param(sysctl_program.Variant(None, 4242, comm=False), id="without the process"),
        pytest.param(sysctl_program.Variant(None, comm=False, namespaces=False), id="with the group alone"),
    ],
)
@pytest.mark.parametrize("guards", [True, False], ids=["guarding", "telling alone"])
def test_this_kernel_takes_every_form(node: Node, form: sysctl_program.Variant, guards: bool) -> None:
    with contextlib.ExitStack() as stack:
        ring = syscall.create_map(syscall.RINGBUF, "test_ring", 0, 0, RING_BYTES)
        stack.callback(os.close, ring)
        table = syscall.create_map(
            syscall.ARRAY, "test_table", 4, 8 * sysctl_program.BUCKET_WORDS, sysctl_program.BUCKETS, syscall.MMAPABLE
        )
        stack.callback(os.close, table)
        allowed = syscall.create_map(
            syscall.ARRAY, "test_allowed", 4, 8 * sysctl_program.MAX_ALLOWED, 1, syscall.MMAPABLE
        )
        stack.callback(os.close, allowed)
        guarding = allowed if guards else None
        os.close(syscall.load_program("test_sysctl", assemble(sysctl_program.program(table, guarding, ring, form))))


def test_the_privileges_of_the_unit_suffice_to_identify_writers(node: Node) -> None:
    unit = (REPOSITORY / "systemd/ipvsd.service").read_text()
    (kept,) = re.findall(r"^CapabilityBoundingSet=(.+)$", unit, re.MULTILINE)
    program = f"""
import os
from ipvsd.bpf import syscall
from ipvsd.runtime import capabilities
from ipvsd.bpf import sysctl_program
from ipvsd.bpf.asm import assemble
capabilities.drop(*{sorted(set(range(41)) - {NUMBERS[name] for name in kept.split()})})
ring = syscall.create_map(syscall.RINGBUF, "test_ring", 0, 0, {RING_BYTES})
table = syscall.create_map(syscall.ARRAY, "test_table", 4, 8 * sysctl_program.BUCKET_WORDS,
    sysctl_program.BUCKETS, syscall.MMAPABLE)
allowed = syscall.create_map(syscall.ARRAY, "test_allowed", 4, 8 * sysctl_program.MAX_ALLOWED, 1, syscall.MMAPABLE)
form = sysctl_program.Variant(os.getpid())
syscall.load_program("test_sysctl", assemble(sysctl_program.program(table, allowed, ring, form)))
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_a_rejected_program_is_an_error_with_the_message_of_the_kernel(node: Node) -> None:
    with pytest.raises(OSError, match="R0 !read_ok"):
        syscall.load_program("test_sysctl", assemble([exit_()]))


def test_without_the_capability_it_reports_this_and_leaves_nothing_open() -> None:
    program = f"""
import os
from ipvsd.runtime.event_loop import EventLoop
from ipvsd.watch.sysctl_bpf import SysctlBpf
{DROP_ALL if not missing() else ""}
with EventLoop() as loop:
    writes = SysctlBpf(loop, None)
    before = os.listdir("/proc/self/fd")
    print(writes.attach(), writes.state().up, os.listdir("/proc/self/fd") == before, writes.detail)
"""
    done = subprocess.run([sys.executable, "-c", program], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    assert done.stdout.startswith("False False True cannot use BPF: ")


# --- writers ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "before", [(), ("unshare", "--pid", "--fork", "--mount-proc")], ids=["its procfs", "another procfs"]
)
def test_a_write_is_repaired_and_attributed(node: Node, before: Sequence[str]) -> None:
    with writer(f"echo 0 > {FILE}", *before) as pid:
        assert node.repaired(1) == [("0", "1")]
    seen = node.seen()
    assert (seen.before, seen.writer.pid, seen.writer.comm) == ("1", pid, "sh")
    assert seen.ours


def test_the_same_value_is_no_repair(node: Node) -> None:
    by_another_process("1")
    by_another_process("0")
    assert node.repaired(1) == [("0", "1")]
    assert not node.of(KEY, "7")
    assert node.of(KEY, "1") is None


def test_a_write_in_another_network_namespace_is_ignored(node: Node) -> None:
    with writer(f"echo 0 > {FILE}", "unshare", "--net"):
        node.listen()
        assert (FILE.read_text(), node.repairs) == ("1\n", [])
        with writer(f"echo 0 > {FILE}") as ours:
            assert node.repaired(1) == [("0", "1")]
    assert node.seen().writer.pid == ours
    assert [item.repair.writer_text.partition(" ")[0] for item in node.repairs] == [f"sh[{ours}]"]


def test_a_write_to_an_unmanaged_sysctl_is_not_reported(node: Node) -> None:
    with writer(f"echo 1 > {FREE}"):
        assert node.loop.run_until_reason(0) == ()
    by_another_process("0")
    node.repaired(1)
    assert not node.of("net.ipv4.tcp_sack", "1")


def test_a_sysctl_that_is_no_longer_managed_is_not_reported(node: Node) -> None:
    node.writes.arm(Targets(frozenset(), {}, ()))
    by_another_process("0")
    node.listen()
    assert (FILE.read_text(), node.repairs) == ("0\n", [])


def test_writes_by_ipvsd_are_not_reported(node: Node, private: tuple[str, Path]) -> None:
    key, file = private
    node.writes.arm(Targets(frozenset(), {key: str(file)}, ()))
    file.write_text("2\n")
    node.listen()
    assert node.of(key, "2") is None
    by_another_process("2", file)
    assert node.knows(key, "2")


def test_writes_are_reported_after_the_kernel_dropped_the_inodes(node: Node) -> None:
    Path("/proc/sys/vm/drop_caches").write_text("2")
    by_another_process("0")
    assert node.repaired(1) == [("0", "1")]


def test_an_alias_of_a_sysctl_is_reported_under_its_canonical_name(node: Node) -> None:
    with writer(f"echo 0 > {ALL}") as pid:
        assert node.repaired(1) == [("0", "1")]
    assert node.seen().writer.pid == pid
    assert [item.action.name for item in node.repairs] == [KEY]


def test_a_name_that_is_longer_than_a_record_is_managed(node: Node) -> None:
    name = "igmpv3_unsolicited_report_interval"
    subprocess.run(["ip", "link", "add", "abcdefghijklmno", "type", "veth", "peer", "name", "other"], check=True)
    path = Path(f"/proc/sys/net/ipv4/conf/abcdefghijklmno/{name}")
    key = f"net.ipv4.conf.abcdefghijklmno.{name}"
    node.writes.arm(Targets(frozenset(), {key: str(path)}, ()))
    by_another_process("1234", path)
    known = node.knows(key, "1234")
    subprocess.run(["ip", "link", "del", "other"], check=True)
    assert known


def overflow() -> int:
    """Write once more than twice the capacity of the ring, with a final 0. Return the capacity."""
    room = (RING_BYTES - 1) // (8 + sysctl_program.RECORD_SIZE)  # a record and its header; the ring is never quite full
    script = f"i=0; while [ $i -lt {2 * room} ]; do echo 1 > {FILE}; i=$((i + 1)); done; echo 0 > {FILE}"
    subprocess.run(["sh", "-c", script], check=True)
    return room


def test_a_storm_that_arrives_together_causes_one_read(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    names, on_event = list[str](), node.reconciler.on_event

    def counting(name: str, *others: Any, **more: Any) -> None:
        names.append(name)
        on_event(name, *others, **more)

    monkeypatch.setattr(node.reconciler, "on_event", counting)
    subprocess.run(["sh", "-c", f"for i in $(seq 100); do echo 0 > {FILE}; echo 0 > {ALL}; done"], check=True)
    assert node.repaired(1) == [("0", "1")]
    assert names == [KEY]
    assert node.seen().writer.comm == "sh"


def test_a_write_that_is_not_stored_yet_is_repaired_after_one_of_the_same_value(
    node: Node, monkeypatch: pytest.MonkeyPatch
) -> None:
    by_another_process("0")
    assert node.writes._ring
    (first,) = node.writes._ring.read_records()
    # The next write is reported while the kernel still has this value.
    told = [first[: -64 - 8] + b"0\n".ljust(64, b"\0") + first[-8:]]
    monkeypatch.setattr(RingBuffer, "read_records", lambda _: [told.pop()] if told else [])
    node.writes.drain()
    assert FILE.read_text() == "1\n"
    FILE.write_text("0\n")  # stored now; ipvsd's own writes are not reported
    assert node.repaired(2) == [("0", "1")] * 2


def test_after_a_loss_no_sysctl_is_monitored_until_the_next_query(node: Node) -> None:
    assert node.writes.monitored() == {KEY}
    overflow()
    node.hear()
    assert node.writes.monitored() == set()
    assert node.writes.monitored() == {KEY}


def lost(node: Node) -> int:
    """Wait until lost events cause a reconciliation, and return the number of its reasons."""
    times, deadline = 0, time.monotonic() + 10
    while not times and time.monotonic() < deadline:
        reasons = [(reason.kind, reason.detail) for reason in node.loop.run_until_reason(10)]
        times = reasons.count((ReasonKind.LOST, "bpf"))
    return times


def test_a_loss_causes_one_reconciliation_a_moment_later(node: Node, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sysctl_bpf, "_LOST_DELAY", 0.5)
    begun, told = time.monotonic(), list[float]()
    for _ in range(3):
        overflow()
        node.hear()
    while time.monotonic() < begun + 1.5:
        reasons = node.loop.run_until_reason(begun + 1.5 - time.monotonic())
        told += [time.monotonic() - begun for reason in reasons if reason.kind is ReasonKind.LOST]
    assert len(told) == 1
    assert told[0] >= 0.5


def test_writes_beyond_the_capacity_are_counted_and_cause_a_reconciliation_of_all_items(node: Node) -> None:
    room = overflow()
    assert lost(node) == 1
    assert node.writes.lost == room + 1
    assert node.repaired(1) == [("0", "1")]  # the last one was lost, and an earlier one caused the reconciliation
    assert node.of(KEY, "0") is None
    by_another_process("0")
    assert node.repaired(2) == [("0", "1")] * 2
    assert node.seen().writer.comm == "sh"
    assert node.writes.lost == room + 1


# --- guarded sysctls --------------------------------------------------------------------


def refused(file: Path, group: Optional[Path] = None) -> bool:
    """Write a 2 in another process and cgroup. Return whether the kernel refused it."""
    join = f"open({str(group / 'cgroup.procs')!r}, 'w').write('0'); " if group else ""
    program = f"import os; {join}os.write(os.open({str(file)!r}, os.O_WRONLY), b'2')"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert (done.returncode == 0) != ("PermissionError: [Errno 1]" in done.stderr)
    return done.returncode != 0


def test_writes_to_a_guarded_sysctl_are_refused_while_the_program_is_attached(
    node: Node, private: tuple[str, Path]
) -> None:
    key, file = private
    node.writes.arm(Targets(frozenset(), {key: str(file)}, (), guarded=frozenset({key})))
    file.write_text("1\n")  # permitted to this process
    assert (node.writes.guards, refused(file), file.read_text()) == (True, True, "1\n")
    (refusal,) = node.refusals()
    assert (refusal.name, refusal.value, refusal.times) == (key, "2", 1)
    assert refusal.writer.comm == Path(sys.executable).name
    assert (node.repairs, node.of(key, "2")) == ([], None)
    node.writes.close()
    assert (refused(file), file.read_text()) == (False, "2\n")


def test_a_sysctl_that_is_no_longer_guarded_is_reported_as_before(node: Node, private: tuple[str, Path]) -> None:
    key, file = private
    node.writes.arm(Targets(frozenset(), {key: str(file)}, (), guarded=frozenset({key})))
    node.writes.arm(Targets(frozenset(), {key: str(file)}, ()))
    assert not refused(file)
    assert node.knows(key, "2")


@pytest.fixture
def slice_() -> Iterator[Path]:
    """A cgroup like those that systemd creates for units."""
    place = Path(find_cgroup_root("/")) / f"test{os.getpid()}.slice"
    place.mkdir()
    yield place
    for group in (*place.glob("*.service"), place):
        group.rmdir()


def test_a_unit_that_starts_later_may_write_a_guarded_sysctl(
    node: Node, private: tuple[str, Path], slice_: Path
) -> None:
    key, file = private
    friends = ("friend.service",)
    node.writes.arm(Targets(frozenset(), {key: str(file)}, (), guarded=frozenset({key}), allowed=friends))
    for unit in ("friend", "foe"):
        (slice_ / f"{unit}.service").mkdir()
    node.loop.run_until_reason(0)
    assert (refused(file, slice_ / "friend.service"), refused(file, slice_ / "foe.service")) == (False, True)


# --- the end ----------------------------------------------------------------------------


def belongings(pid: int | str = "self") -> set[tuple[int, int]]:
    """Return the links, programs and maps of a process, each as the command that opens it and its ID."""
    kinds = {"link_id": LINK_BY_ID, "prog_id": PROGRAM_BY_ID, "map_id": MAP_BY_ID}
    found = set()
    for file in Path(f"/proc/{pid}/fdinfo").iterdir():
        with contextlib.suppress(FileNotFoundError):
            fields = dict(line.split(":", 1) for line in file.read_text().splitlines() if ":" in line)
            found |= {(kind, int(fields[name])) for name, kind in kinds.items() if name in fields}
    return found


def there(kind: int, identity: int) -> bool:
    """Return whether the kernel still has a link, a program or a map."""
    try:
        os.close(syscall._bpf(kind, struct.pack("<I", identity)))
    except FileNotFoundError:
        return False
    return True


def test_closing_detaches_and_frees(node: Node, until: Until) -> None:
    before = belongings()
    assert {kind for kind, _ in before} == {LINK_BY_ID, PROGRAM_BY_ID, MAP_BY_ID}
    assert all(there(kind, identity) for kind, identity in before)
    node.writes.close()
    assert belongings() == set()
    until(lambda: not any(there(kind, identity) for kind, identity in before), "the kernel has freed it")
    by_another_process("0")
    node.listen()
    assert (FILE.read_text(), node.repairs, node.of(KEY, "0")) == ("0\n", [], None)
    node.writes.close()


CHILD = """
import signal, sys
from ipvsd.bpf import syscall
from ipvsd.runtime.event_loop import EventLoop
from ipvsd.watch.sysctl_bpf import SysctlBpf

left, call = int(sys.argv[1]), syscall._bpf

def stopping(*arguments):
    global left
    descriptor = call(*arguments)
    left -= 1
    if left == 0:
        print("stopped", flush=True)
        signal.pause()
    return descriptor

syscall._bpf = stopping
with EventLoop() as loop:
    writes = SysctlBpf(loop, None)
    print(writes.attach(), flush=True)
    signal.pause()
"""


@pytest.mark.parametrize(
    ("step", "held"),
    [(1, 1), (2, 2), (3, 3), (4, 4), (5, 5), (99, 5)],
    ids=["ring", "table", "allowed", "program", "link", "all of it"],
)
def test_a_process_that_is_killed_leaves_nothing(node: Node, until: Until, step: int, held: int) -> None:
    command = [sys.executable, "-c", CHILD, str(step)]
    with subprocess.Popen(command, cwd=REPOSITORY, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == ("True\n" if step == 99 else "stopped\n")
        left = belongings(process.pid)
        assert all(there(kind, identity) for kind, identity in left)
        process.send_signal(signal.SIGKILL)
    assert len(left) == held
    until(lambda: not any(there(kind, identity) for kind, identity in left), "the kernel has freed it")
    by_another_process("0")
    assert node.repaired(1) == [("0", "1")]
