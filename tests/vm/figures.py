"""The cost and the speed of ipvsd, measured in one boot of a bench machine."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any, Optional

from tests.vm.node import SYSCTLS, UNLOAD_IPVS, Node

MEASURE = Path(__file__).parent / "guest" / "measure.py"
SWITCHES = tuple(key for key, value in SYSCTLS.items() if value == "1")
VS = tuple(key for key in SWITCHES if key.startswith("net.ipv4.vs."))
PEACE = "contention: {repairs: 1000000}\n"  # otherwise, the measured sysctl often becomes contended
INTERVAL = 5  # seconds; few reconciliations in a long time, so that other wake-ups are visible
MIB = 1024 * 1024
NOTHING = nullcontext()


@dataclass(frozen=True)
class Spread:
    """The times of several attempts, in seconds."""

    tries: int
    least: float
    p25: float
    p50: float
    p75: float
    p99: float
    most: float


@dataclass(frozen=True)
class Sysctl:
    """From the return of a write until the value is compliant again, and a byte to another process and back."""

    repair: Spread
    round_trip: Spread


@dataclass(frozen=True)
class Module:
    """From the return of an unload until the module and its sysctls are compliant; modprobe; finit_module(2)."""

    name: str
    sysctls: int
    repair: Spread
    modprobe: Spread
    kernel: Spread


@dataclass(frozen=True)
class Start:
    """From exec to READY=1 with everything to do; Python with some imports; a shell with the same work; as a unit."""

    ready: Spread
    python: Spread
    shell: Spread
    unit: Optional[Spread]


@dataclass(frozen=True)
class Boot:
    """From systemd's first step until kubelet is started, with ipvsd enabled and disabled."""

    enabled: Spread
    disabled: Spread


@dataclass(frozen=True)
class Memory:
    """Resident bytes before any repair, and after so many."""

    fresh: int
    after: tuple[tuple[int, int], ...]


@dataclass(frozen=True)
class Idle:
    """Activity during idleness: reconciliations, wake-ups of the main thread and of all others, log lines."""

    looks: int
    wakeups: int
    others: int
    lines: int


@dataclass(frozen=True)
class Rest:
    """Seconds of processor time in so many idle seconds, as shipped, and resident bytes after them."""

    seconds: float
    processor: float
    resident: int


@dataclass(frozen=True)
class Storm:
    """Writes of non-compliant values, processor time of the daemon meanwhile, and the state afterwards."""

    writes: int
    seconds: float
    processor: float
    until_right: float
    lines: int
    lost: int


def spread(values: Sequence[float]) -> Spread:
    """Return the order statistics of at least one value, by nearest rank."""
    ordered = sorted(values)
    at = [ordered[min(len(ordered) - 1, int(len(ordered) * part))] for part in (0.25, 0.75, 0.99)]
    return Spread(len(ordered), ordered[0], at[0], median(ordered), at[1], at[2], ordered[-1])


def ask(node: Node, what: str, *arguments: object, timeout: float = 900) -> Any:
    """Return the measurement of the script in the machine."""
    node.machine.put(MEASURE.read_bytes(), "/root/measure.py")
    return json.loads(node.run(["python3", "/root/measure.py", what, *map(str, arguments)], timeout).out)


@contextmanager
def stopped(node: Node) -> Iterator[None]:
    node.run("systemctl stop ipvsd")
    try:
        yield
    finally:
        node.start()


def sysctl(node: Node, tries: int) -> Sysctl:
    with node.configured(PEACE):
        node.ipvs_answer()
        found = ask(node, "sysctl", tries)
    return Sysctl(spread(found["repair"]), spread(found["round trip"]))


def sysctl_program(node: Node, tries: int) -> Spread:
    """Measure sysctl(8), which a person would have to run."""
    return spread(ask(node, "sysctl_program", tries))


def module(node: Node, tries: int) -> Module:
    """Measure the repair of a module that nothing depends on."""
    found = ask(node, "module", tries, "ip_vs_sh")
    return _module("ip_vs_sh", 0, found)


def module_with_sysctls(node: Node, tries: int) -> Module:
    """Measure the repair of ip_vs and of its sysctls, which appear with the kernel's defaults."""
    held = "".join(f"  {key}: 1\n" for key in VS)
    with stopped(node):
        node.machine.put(
            f"profiles: []\n{PEACE}modules: {{ip_vs: {{}}}}\nsysctls:\n{held}".encode(), "/etc/ipvsd/conf.d/z.yaml"
        )
        node.run(UNLOAD_IPVS)
    try:
        found = ask(node, "module", tries, "ip_vs", *VS)
    finally:
        node.run("rm /etc/ipvsd/conf.d/z.yaml")
        node.start()
    return _module("ip_vs", len(VS), found)


def _module(name: str, sysctls: int, found: Mapping[str, Sequence[float]]) -> Module:
    return Module(name, sysctls, *(spread(found[kind]) for kind in ("repair", "modprobe", "kernel")))


def start(node: Node, tries: int, units: int = 0) -> Start:
    """Measure starts with everything to load and to write, and `units` starts of the unit."""
    with stopped(node):
        found = ask(node, "start", tries, ",".join(node.held()), *(f"{key}={value}" for key, value in SYSCTLS.items()))
    starts = [_start_of_unit(node) for _ in range(units)]
    node.until(node.status, "status.json")
    unit = spread(starts) if starts else None
    return Start(spread(found["ready"]), spread(found["python"]), spread(found["shell"]), unit)


def _start_of_unit(node: Node) -> float:
    node.run("systemctl stop ipvsd")
    ask(node, "unload_all", ",".join(node.held()))
    node.run("sysctl -w net.ipv4.ip_forward=0; systemctl start ipvsd")
    ready = int(node.show("ActiveEnterTimestampMonotonic"))
    return (ready - int(node.show("ExecMainStartTimestampMonotonic"))) / 1e6


def boot(node: Node, tries: int) -> Boot:
    """Boot so many times alternately with ipvsd and without it. At the end, it runs."""
    found: dict[str, list[float]] = {"enable": [], "disable": []}
    for _ in range(tries):
        for change, starts in found.items():
            node.run(f"systemctl {change} ipvsd")
            node.machine.reboot()
            node.machine.booted()
            begun = int(node.run("systemctl show --value -p UserspaceTimestampMonotonic").out)
            starts.append((int(node.show("ExecMainStartTimestampMonotonic", "kubelet")) - begun) / 1e6)
    node.run("systemctl enable ipvsd")
    node.start()
    return Boot(spread(found["enable"]), spread(found["disable"]))


def memory(node: Node, marks: Sequence[int], meanwhile: AbstractContextManager[None] = NOTHING) -> Memory:
    """Cause repairs of sysctls, and measure the daemon's memory after so many repairs. At the end, restart it.

    `meanwhile` lasts while the repairs are caused.
    """
    with node.configured(PEACE):
        node.start()
        fresh = resident(node)
        after, done = [], 0
        with meanwhile:
            for mark in marks:
                ask(node, "repairs", mark - done, *SWITCHES, timeout=3600)
                done = mark
                after.append((mark, resident(node)))
    node.start()
    return Memory(fresh, tuple(after))


def resident(node: Node) -> int:
    """Return the daemon's private and shared resident bytes, after it has finished all work after a repair."""
    node.ipvs_answer()
    node.run("sleep 12")
    for path in ("/metrics", "/status", "/healthz"):
        node.get(path)
    return _resident(node, "ipvsd")


def _resident(node: Node, unit: str) -> int:
    return int(node.run(f"awk '/^VmRSS/ {{print $2}}' /proc/{node.show('MainPID', unit)}/status").out) * 1024


def idle(node: Node, looks: int) -> Idle:
    """Wait for some resyncs, and return all other activity."""
    with node.configured(f"interval: {INTERVAL}s\n"):
        node.ipvs_answer()
        cursor = node.cursor()
        # One command inside the machine, so that no outside event wakes anything.
        script = f"""
        pid=$(systemctl show --value -p MainPID ipvsd)
        count() {{ cat /proc/$pid/task/*/status | awk '/^Pid:/ {{p=$2}} /^voluntary/ {{print p, $2}}'; }}
        count > /run/before; sleep {looks * INTERVAL}; count > /run/after
        echo $pid; cat /run/before; echo; cat /run/after"""
        seen = -_looks(node)
        told = node.run(script, timeout=looks * INTERVAL + 60).out
        seen += _looks(node)
        lines = len(node.journal(cursor))
    head, after = told.split("\n\n")
    pid, *before = head.split("\n")
    switches = {line.split()[0]: int(line.split()[1]) for line in after.splitlines()}
    for line in before:
        switches[line.split()[0]] -= int(line.split()[1])
    return Idle(seen, switches.pop(pid), sum(switches.values()), lines)


def _looks(node: Node) -> int:
    # From the file, because a request over HTTP would wake the daemon's server.
    return int(node.status()["reconciliations"])


def rest(node: Node, unit: str, seconds: int) -> Rest:
    """Return the cost of an idle unit."""
    before = _processor(node, unit)
    node.run(f"sleep {seconds}", timeout=seconds + 60)
    return Rest(seconds, _processor(node, unit) - before, _resident(node, unit))


def _processor(node: Node, unit: str) -> float:
    text = node.run(f"cat /sys/fs/cgroup/system.slice/{unit}.service/cpu.stat").out
    return int(dict(line.split() for line in text.splitlines())["usage_usec"]) / 1e6


def storm(
    node: Node,
    seconds: int,
    rate: int = 1000,
    limit: int = 150,
    meanwhile: AbstractContextManager[None] = NOTHING,
) -> Storm:
    """Write non-compliant values at this rate, with the shipped configuration. At the end, restart the daemon.

    `meanwhile` lasts during the storm, and until everything is compliant.
    """
    node.start()
    node.ipvs_answer()
    node.run("sleep 3")
    cursor = node.cursor()
    with meanwhile:
        found = ask(node, "storm", seconds, rate, limit, *SWITCHES)
    lines, lost = len(node.journal(cursor)), int(node.metrics()['ipvsd_events_lost_total{source="sysctl_bpf"}'])
    node.start()
    return Storm(found["writes"], found["seconds"], found["processor"], found["until_right"], lines, lost)
