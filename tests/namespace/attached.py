"""Shared parts of the tests of the BPF program: a check of the requirements, a node with the program, and writers."""

from __future__ import annotations

import contextlib
import os
import platform
import subprocess
import time
from collections.abc import Collection, Iterator
from pathlib import Path
from typing import Optional

from ipvsd.decide.attribution import ObservedWrite
from ipvsd.kernel.host import LinuxHost
from ipvsd.modprobe import kernel_names
from ipvsd.reconcile.changes import Repaired, WriteRefused
from ipvsd.reconcile.reconciler import Reconciler
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_bpf import SysctlBpf, find_cgroup_root
from tests.configured import config

KEY, ALIAS = "net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"
FILE = Path("/proc/sys/net/ipv4/ip_forward")
ALL = Path("/proc/sys/net/ipv4/conf/all/forwarding")
CONFIG = "profiles: []\nsysctls: {net.ipv4.ip_forward: 1}\ncontention: {repairs: 1000000}"
INITIAL_PID_NAMESPACE = "pid:[4026531836]"  # include/linux/proc_ns.h


def missing() -> str:
    """Return the missing requirement of the program, or an empty text."""
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
    return "" if find_cgroup_root("/") else "no control groups of version 2"


class _Sources:
    """Only the BPF program."""

    def __init__(self) -> None:
        self.writes: Optional[SysctlBpf] = None

    def drain(self) -> None:
        assert self.writes
        self.writes.drain()

    def monitored(self) -> Collection[str]:
        assert self.writes
        return self.writes.monitored()


class Node:
    """The program, and the reconciler that receives its events, without any other source."""

    def __init__(self, loop: EventLoop) -> None:
        self.loop, self.repairs = loop, list[Repaired]()
        self.refused = list[WriteRefused]()
        self.late = 0.0  # seconds for which it pretends to have been busy
        sources = _Sources()
        clock = lambda: time.monotonic() + self.late  # noqa: E731 -- a function would say no more
        self.reconciler = Reconciler(LinuxHost("/"), loop, sources, config(CONFIG), clock=clock)
        self.writes = sources.writes = SysctlBpf(loop, self.reconciler)
        self.round()
        self.repairs.clear()  # those of the first round

    def attach(self) -> None:
        assert self.writes.attach(), self.writes.detail
        self.writes.arm(Targets(frozenset(), {KEY: str(FILE), ALIAS: str(ALL)}, ()))
        assert [reason.detail for reason in self.loop.run_until_reason(0)] == ["newly watched"]

    def round(self) -> None:
        """Reconcile all items, as for an event."""
        _, found = self.reconciler.reconcile_all([Reason(ReasonKind.SYSCTL, "", time.monotonic())])
        self.repairs += [change for change in found if isinstance(change, Repaired)]
        self.refused += [change for change in found if isinstance(change, WriteRefused)]

    def event(self) -> None:
        """Reconcile ip_forward for an event of another source."""
        assert self.reconciler.reconcile_one(KEY, time.monotonic())

    def hear(self) -> None:
        self.writes.drain()
        self.loop.run_ready()

    def listen(self) -> None:
        self.loop.run_until_reason(0.01)
        if self.reconciler.unreported:
            self.round()

    def of(self, key: str, value: str) -> Optional[ObservedWrite]:
        """Return the last recorded write of this value, or None."""
        return self.reconciler.registry.writes.of(key, value)

    def knows(self, key: str, value: str) -> bool:
        """Wait until a write of this value was reported."""
        deadline = time.monotonic() + 10
        while not self.of(key, value) and time.monotonic() < deadline:
            self.listen()
        return self.of(key, value) is not None

    def refusals(self) -> list[WriteRefused]:
        """Wait for reports of refused writes, and return them."""
        deadline = time.monotonic() + 10
        while not self.refused and time.monotonic() < deadline:
            self.listen()
            self.round()
        return self.refused

    def repaired(self, times: int) -> list[tuple[str, str]]:
        """Wait for so many repairs, and return the drifted and the written values."""
        deadline = time.monotonic() + 10
        while len(self.repairs) < times and time.monotonic() < deadline:
            self.listen()
        assert FILE.read_text() == "1\n"
        return [(item.repair.actual, item.repair.desired) for item in self.repairs]

    def named(self) -> list[str]:
        """Return the commands to which the repaired drifts are attributed."""
        return [item.repair.writer.comm if item.repair.writer else "" for item in self.repairs]

    def seen(self, value: str = "0") -> ObservedWrite:
        seen = self.of(KEY, value)
        assert seen is not None
        return seen


@contextlib.contextmanager
def writer(script: str, *before: str) -> Iterator[int]:
    """Run a script in a shell that stays until the test has examined it, and yield the process ID of the shell."""
    command = [*before, "sh", "-c", f"{script}; echo done; read answer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"done\n"
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children").read_text().split()
        yield int(children[0]) if "--fork" in before else process.pid
        process.stdin.close()


def by_tee(value: str = "0", file: Path = FILE) -> None:
    subprocess.run(["tee", file], input=value.encode(), check=True, stdout=subprocess.DEVNULL)


def by_another_process(value: str, path: Path = FILE) -> None:
    subprocess.run(["sh", "-c", f"echo {value} > {path}"], check=True)
