"""What the tests of the BPF program share: whether it can be tried here, a node that has it attached, and writers."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

from ipvsd.config.parser import parse
from ipvsd.decide.attribution import Seen, Turned
from ipvsd.decide.contention import Fights, Limit
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.report import Refusal
from ipvsd.model.types import WriteSysctl
from ipvsd.modprobe import kernel_names
from ipvsd.reconcile.fast_path import Reflex
from ipvsd.reconcile.reconciler import reconcile
from ipvsd.runtime.event_loop import Mailbox
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_bpf import Writes, mounted

KEY, ALIAS = "net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"
FILE = Path("/proc/sys/net/ipv4/ip_forward")
ALL = Path("/proc/sys/net/ipv4/conf/all/forwarding")
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # include/linux/proc_ns.h


def missing() -> str:
    """Return what this place lacks for the program, or an empty text."""
    status = Path("/proc/self/status").read_text()
    (effective,) = (int(line.split()[1], 16) for line in status.splitlines() if line.startswith("CapEff"))
    if Path("/proc/self/uid_map").read_text().split() != ["0", "0", "4294967295"] or not effective >> 39 & 1:
        return "no CAP_BPF on the machine itself"
    if platform.machine() not in ("x86_64", "aarch64"):
        return "no machine on which ipvsd knows bpf(2)"
    if os.readlink("/proc/self/ns/pid") != INITIAL_PID_NAMESPACE:
        return "processes have other numbers here than for the kernel"
    if kernel_names.kernel_version(platform.release()) < (5, 8):
        return "a kernel without ring buffers"
    return "" if mounted("/") else "no control groups of version 2"


class Node:
    """The program, and what turns back what it tells of; nothing else is listening."""

    def __init__(self, mailbox: Mailbox) -> None:
        self.mailbox, self.turned = mailbox, list[Turned]()
        host = LinuxHost("/")
        self.late = 0.0  # seconds for which it was busy, as far as it knows
        self.reflex = Reflex(host, mailbox, lambda: time.monotonic() + self.late)
        self.reflex.fights = Fights(Limit(1_000_000, 60.0, 300.0))
        self.writes = Writes(mailbox, self.reflex)
        self.reflex.hear = self.writes.hear
        config = parse([("f", b"profiles: []\nsysctls: {net.ipv4.ip_forward: 1}")])
        self.reflex.arm(reconcile(host, config, {}, time.monotonic), ())

    def attach(self) -> None:
        assert self.writes.attach(), self.writes.detail
        self.writes.arm(Targets(frozenset(), {KEY: str(FILE), ALIAS: str(ALL)}, ()))
        assert [reason.detail for reason in self.mailbox.take(0)] == ["newly watched"]

    def listen(self) -> None:
        self.mailbox.take(0.01)
        self.turned += self.reflex.take()

    def knows(self, key: str, value: str) -> bool:
        """Wait until it was told of a write of this value."""
        deadline = time.monotonic() + 10
        while not self.reflex.evidence.of(key, value) and time.monotonic() < deadline:
            self.listen()
        return self.reflex.evidence.of(key, value) is not None

    def refusals(self) -> list[Refusal]:
        """Wait until it was told of writes that were refused; return them."""
        found: list[Refusal] = []
        deadline = time.monotonic() + 10
        while not found and time.monotonic() < deadline:
            self.listen()
            found += self.writes.take_refusals()
        return found

    def repaired(self, times: int) -> list[tuple[str, str]]:
        """Wait for so many repairs; return the values that were turned back, and to what."""
        deadline = time.monotonic() + 10
        while len(self.turned) < times and time.monotonic() < deadline:
            self.listen()
        assert FILE.read_text() == "1\n"
        return [(item.action.found, item.action.value) for item in self.turned if isinstance(item.action, WriteSysctl)]

    def seen(self, value: str = "0") -> Seen:
        seen = self.reflex.evidence.of(KEY, value)
        assert seen is not None
        return seen


@contextlib.contextmanager
def writer(script: str, *before: str) -> Iterator[int]:
    """Run a script in a shell that stays until it was looked at; yield the number of the shell's process."""
    command = [*before, "sh", "-c", f"{script}; echo done; read answer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"done\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(children[0]) if "--fork" in before else process.pid
        process.stdin.close()


def by_another_process(value: str, path: Path = FILE) -> None:
    subprocess.run(["sh", "-c", f"echo {value} > {path}"], check=True)
