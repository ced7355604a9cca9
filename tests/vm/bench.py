"""Measure all documented figures of speed and cost in one boot: `make bench`.

`python3 -m tests.vm.bench DIRECTORY` prints Markdown. It also writes it to benchmarks.md, and all measurements to
benchmarks.json. `--quick` tests the command itself with few attempts, and `--tls` measures only the figures with TLS.
"""

from __future__ import annotations

import argparse
import dataclasses
import json
import os
import platform
import re
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from ipvsd import __version__
from tests.vm import alternatives, bounds, figures, native
from tests.vm.figures import Idle, Memory, Start, Storm
from tests.vm.image import chosen
from tests.vm.machine import Machine
from tests.vm.node import PROJECT, Node
from tests.vm.report import Results, markdown, table
from tests.vm.secured import scraping, secured


@dataclass(frozen=True)
class Size:
    """The number of attempts, or seconds, of each measurement. `secured` is that of the same with TLS."""

    sysctl: int = 300
    module: int = 25
    start: int = 9
    boot: int = 2
    marks: tuple[int, ...] = (1000, 10000, 20000)
    looks: int = 12
    storm: int = 60
    rest: int = 60
    timer: int = 3
    wait: int = 90
    secured_start: int = 9
    secured_marks: tuple[int, ...] = (1000, 10000)
    secured_looks: int = 6
    secured_storm: int = 30


QUICK = Size(20, 3, 2, 1, (50, 100), 3, 5, 20, 1, 5, 2, (50, 100), 3, 5)


def say(text: str) -> None:
    """Tell a waiting person the current step."""
    print(f"{time.strftime('%H:%M:%S')} {text}", file=sys.stderr, flush=True)


def neighbours() -> str:
    """Return the other programs that keep this computer busy."""
    names = [path.read_text() for path in Path("/proc").glob("[0-9]*/comm") if path.exists()]
    others = len([name for name in names if name.startswith("qemu-system")])
    return f"{os.getloadavg()[0]:.1f} with {others} virtual machine{'' if others == 1 else 's'}"


def describe(node: Node) -> Iterator[tuple[str, str]]:
    """Yield the conditions on which the figures depend."""
    model = re.search(r"^model name\s*: (.*)", Path("/proc/cpuinfo").read_text(), re.MULTILINE)
    accelerator = os.environ.get("IPVSD_VM_ACCEL", "tcg,thread=multi")
    git = ["git", "-C", str(PROJECT), "describe", "--always", "--dirty"]
    qemu = subprocess.run([*chosen().emulator, "--version"], capture_output=True, text=True, check=True).stdout
    versions = (
        ". /etc/os-release; echo $PRETTY_NAME; uname -r; python3 --version; systemctl --version | head -n 1; "
        "modprobe --version | head -n 1; tuned --version; nproc; awk '/MemTotal/ {print int($2 / 1024)}' /proc/meminfo"
    )
    system, kernel, python, systemd, kmod, tuned, processors, memory = node.run(versions).out.splitlines()
    yield "date", time.strftime("%Y-%m-%d", time.gmtime())
    yield "ipvsd", f"{__version__}, {subprocess.run(git, capture_output=True, text=True, check=True).stdout.strip()}"
    yield "emulation", f"{qemu.splitlines()[0]}, {'KVM' if 'kvm' in accelerator else f'no KVM ({accelerator})'}"
    own = ", each running on its own host processor" if int(processors) <= len(os.sched_getaffinity(0)) else ""
    yield "guest", f"{processors} processors{own}; {memory} MiB"
    yield "system", f"{system}, Linux {kernel}, {python}, {systemd}, {kmod}, {tuned}"
    yield "host", f"{os.cpu_count()} x {model.group(1) if model else platform.machine()}"
    yield "host Python", platform.python_version()
    yield "host Linux", ".".join(platform.release().split(".")[:2])


def measure(size: Size) -> Results:
    before = neighbours()
    with Machine(chosen(), pinned=True) as machine:
        node = Node(machine)
        machine.booted()
        node.install()
        node.until(node.right, "the node right")
        described = dict(describe(node))
        say("boots")
        boot = figures.boot(node, size.boot)
        node.until(node.right, "the node right")
        say(f"{boot}, sysctls")
        sysctl = figures.sysctl(node, size.sysctl)
        program = figures.sysctl_program(node, max(1, size.module))
        say(f"{sysctl}, modules")
        modules = figures.module(node, size.module), figures.module_with_sysctls(node, size.module)
        say(f"{modules}, starts")
        start = figures.start(node, size.start, size.start)
        say(f"{start}, memory over {size.marks[-1]} repairs")
        memory = figures.memory(node, size.marks)
        say(f"{memory}, idle")
        idle = figures.idle(node, size.looks)
        node.run("sleep 15")
        rest = figures.rest(node, "ipvsd", size.rest)
        say(f"{idle}, {rest}, a storm")
        storm = figures.storm(node, size.storm)
        say(f"{storm}, with TLS")
        tls = measure_secured(node, size)
        say(f"{tls}, what people use instead")
        others = []
        for other in alternatives.measure(node, size.wait, size.timer):
            others.append(other)
            say(str(other))
        during = neighbours()
    say("natively")
    promises = (
        *(bounds.of_module(module) for module in modules), *bounds.of_sysctl(sysctl), bounds.of_start(start),
        *bounds.of_memory(memory), *bounds.of_idle(idle), *bounds.of_storm(storm), *bounds.of_secured(*tls),
    )  # fmt: skip
    described["host load"] = f"{before} before; {during} at the end, including this guest"
    natively = native.figures(size.sysctl, size.start)
    found = (start, boot, memory, idle, storm)
    return Results(described, promises, sysctl, modules, found, tls, program, rest, tuple(others), natively)


def measure_secured(node: Node, size: Size) -> tuple[Start, Memory, Idle, Storm]:
    """Measure the figures that TLS can change, with a client that scrapes. It takes about five minutes."""
    with secured(node):
        start = figures.start(node, size.secured_start)
        memory = figures.memory(node, size.secured_marks, scraping(node))
        idle = figures.idle(node, size.secured_looks)
        return start, memory, idle, figures.storm(node, size.secured_storm, meanwhile=scraping(node))


def only_secured(size: Size) -> int:
    """Boot, print the promises about TLS, and return 0 if every one was kept, otherwise 1."""
    with Machine(chosen(), pinned=True) as machine:
        node = Node(machine)
        machine.booted()
        node.install()
        node.until(node.right, "the node right")
        promises = bounds.of_secured(*measure_secured(node, size))
    print("\n".join(table(promises)))
    return 0 if all(promise.kept for promise in promises) else 1


def main() -> int:
    """Return 0 if every promise was kept, otherwise 1."""
    parser = argparse.ArgumentParser(prog="tests.vm.bench", description=__doc__)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--tls", action="store_true")
    options = parser.parse_args()
    size = QUICK if options.quick else Size()
    if options.tls:
        return only_secured(size)
    results = measure(size)
    document = {
        **dataclasses.asdict(results),
        "promises": [{**dataclasses.asdict(promise), "kept": promise.kept} for promise in results.promises],
        "secured": {type(one).__name__.lower(): dataclasses.asdict(one) for one in results.secured},
        "figures": {type(one).__name__.lower(): dataclasses.asdict(one) for one in results.figures},
    }
    text = markdown(results)
    print(text)
    if options.directory:
        (options.directory / "benchmarks.md").write_text(text)
        (options.directory / "benchmarks.json").write_text(json.dumps(document, indent=2) + "\n")
    return 0 if all(promise.kept for promise in results.promises) else 1


if __name__ == "__main__":
    sys.exit(main())
