"""What ipvsd costs and how fast it is, measured in one boot of a bench machine: `make figures`."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.vm.image import image
from tests.vm.machine import Machine
from tests.vm.node import Node

MEASURE = Path(__file__).parent / "guest" / "measure.py"
LOOKS, INTERVAL = 12, 5  # few looks in a long time: what wakes in between stands out


@dataclass(frozen=True)
class Idle:
    """What happened while nothing happened: looks, wake-ups of the main thread and of all others, log lines."""

    looks: int
    wakeups: int
    others: int
    lines: int


def repairs(node: Node, times: int = 20) -> Mapping[str, Mapping[str, float]]:
    """Return medians and maxima in seconds, by what was measured; ends with the daemon restarted."""
    node.machine.put(MEASURE.read_bytes(), "/root/measure.py")
    measured: Mapping[str, Mapping[str, float]] = json.loads(node.run(f"python3 /root/measure.py {times}", 600).out)
    node.until(node.status, "status.json")
    return measured


def idle(node: Node) -> Idle:
    """Let some periodic looks pass, and return what else happened."""
    with node.configured(f"interval: {INTERVAL}s\n"):
        node.until(lambda: node.status()["ipvs"]["up"], "IPVS asked")
        cursor = node.cursor()
        # One command inside the machine, so that nobody from outside wakes anything.
        script = f"""
        pid=$(systemctl show --value -p MainPID ipvsd)
        count() {{ cat /proc/$pid/task/*/status | awk '/^Pid:/ {{p=$2}} /^voluntary/ {{print p, $2}}'; }}
        count > /run/before; sleep {LOOKS * INTERVAL}; count > /run/after
        echo $pid; cat /run/before; echo; cat /run/after"""
        looks = -_looks(node)
        told = node.run(script, timeout=LOOKS * INTERVAL + 60).out
        looks += _looks(node)
        lines = len(node.journal(cursor))
    head, after = told.split("\n\n")
    pid, *before = head.split("\n")
    switches = {line.split()[0]: int(line.split()[1]) for line in after.splitlines()}
    for line in before:
        switches[line.split()[0]] -= int(line.split()[1])
    return Idle(looks, switches.pop(pid), sum(switches.values()), lines)


def _looks(node: Node) -> int:
    # From the file, since asking over HTTP would wake the daemon's server.
    return int(node.status()["looks"])


def memory(node: Node) -> int:
    """Return the daemon's resident memory in KiB, the private and the shared together."""
    return int(node.run(f"awk '/^VmRSS/ {{print $2}}' /proc/{node.show('MainPID')}/status").out)


def start(node: Node) -> float:
    """Return the seconds from exec to READY=1 of a start with everything to load and to write."""
    node.run(
        "systemctl stop ipvsd; modprobe -r br_netfilter ip_vs_rr ip_vs_wrr ip_vs_sh; rmmod nf_conntrack; "
        "sysctl -w net.ipv4.ip_forward=0; systemctl start ipvsd"
    )
    ready = int(node.show("ActiveEnterTimestampMonotonic"))
    return (ready - int(node.show("ExecMainStartTimestampMonotonic"))) / 1e6


def table(node: Node) -> Iterator[str]:
    """Yield the figures as the lines of a Markdown table."""
    measured = repairs(node)
    yield "| what | median | worst | beside |"
    yield "|---|---|---|---|"
    pairs = {
        "sysctl: write to restored": "sysctl -w, as a process",
        "module: unloaded to live": "modprobe, as a process",
    }
    for name, other in pairs.items():
        mine, theirs = measured[name], measured[other]
        ratio = mine["p50"] / theirs["p50"]
        yield (
            f"| {name} | {mine['p50'] * 1e3:.1f} ms | {mine['max'] * 1e3:.1f} ms "
            f"| {ratio:.2f} x the median of `{other.split(',')[0]}` ({theirs['p50'] * 1e3:.1f} ms) |"
        )
    starts = sorted(start(node) for _ in range(5))
    yield f"| exec to READY=1, everything to do | {starts[2] * 1e3:.0f} ms | {starts[-1] * 1e3:.0f} ms | |"
    node.until(node.status, "status.json")
    quiet = idle(node)
    rest = f"{quiet.others} of other threads, {quiet.lines} lines logged"
    yield f"| idle: wake-ups in {quiet.looks} looks | {quiet.wakeups} | | {rest} |"
    yield f"| resident memory | {memory(node) / 1024:.1f} MiB | | |"


def main() -> None:
    """Boot, install, measure, print."""
    with Machine(image()) as machine:
        node = Node(machine)
        machine.booted()
        node.install()
        node.until(node.status, "status.json")
        for line in table(node):
            print(line, flush=True)


if __name__ == "__main__":
    main()
