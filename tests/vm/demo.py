"""A live demonstration of the main functions: `make demo`. Exit 0 if all its claims are true."""

from __future__ import annotations

import sys
import time
from pathlib import Path

from tests.vm import figures
from tests.vm.image import chosen
from tests.vm.machine import BenchError, Machine
from tests.vm.node import MODULES, SYSCTLS, Node, package

METRICS = (
    'ipvsd_state{state="ready"}', "ipvsd_ipvs_up", "ipvsd_module_unloads_total",
    'ipvsd_module_loads_total{module="ip_vs_sh"}', 'ipvsd_sysctl_drifts_total{sysctl="net.ipv4.ip_forward"}',
    'ipvsd_sysctl_repairs_total{sysctl="net.ipv4.ip_forward"}', "ipvsd_drift_repair_duration_seconds_count",
)  # fmt: skip


class Demo:
    """Announces steps, shows results, and remembers broken promises."""

    def __init__(self) -> None:
        self.begun = time.monotonic()
        self.wrong: list[str] = []
        self.shown = 0

    def step(self, text: str) -> None:
        print(f"\n== {text}  [{time.monotonic() - self.begun:.0f} s]", flush=True)

    def show(self, text: str) -> None:
        """Print a command's output, indented."""
        print("".join(f"   {line}\n" for line in text.rstrip().splitlines()), end="", flush=True)

    def claim(self, true: bool, text: str) -> None:
        """Print whether a claim is true."""
        self.shown += 1
        print(f"   {'ok   ' if true else 'WRONG'} {text}", flush=True)
        if not true:
            self.wrong.append(text)


def boot(demo: Demo, node: Node) -> None:
    """Install the package on a running system, and reboot it."""
    demo.step(f"installing {package().name} on a stock Debian 12 (systemd 252, kernel 6.1, emulated)")
    node.install()
    demo.show(node.run("uname -r; lsmod | grep -c ^ip_vs; systemctl is-enabled ipvsd").out)
    demo.step("rebooting; a stand-in kubelet.service notes what it finds in the moment it starts")
    node.machine.reboot()
    node.machine.booted()
    node.until(node.status, "the daemon's status")
    modules = {line.split()[0] for line in node.run("cat /run/kubelet.modules").out.splitlines()}
    sysctls = dict(line.split(" = ") for line in node.run("cat /run/kubelet.sysctls").out.splitlines())
    for name in MODULES:
        demo.claim(name in modules, f"module {name} was there")
    for key, value in SYSCTLS.items():
        demo.claim(sysctls.get(key) == value, f"{key} was {sysctls.get(key)}")
    ready, kubelet = (
        int(node.show("ActiveEnterTimestampMonotonic")),
        int(node.show("ExecMainStartTimestampMonotonic", "kubelet")),
    )
    demo.claim(ready <= kubelet, f"ipvsd was ready {(kubelet - ready) / 1000:.0f} ms before kubelet started")


def drift(demo: Demo, node: Node) -> None:
    """Remove modules and change sysctls, and show the repairs."""
    for step, command, name in (
        ("somebody runs: rmmod ip_vs_sh", "rmmod ip_vs_sh", "ip_vs_sh"),
        ("somebody runs: sysctl -w net.ipv4.ip_forward=0", "sysctl -qw net.ipv4.ip_forward=0", "net.ipv4.ip_forward"),
    ):
        demo.step(step)
        before = len([item for item in node.status()["repairs"] if item["name"] == name])
        node.run(command)
        repairs = node.until(
            lambda name=name, before=before: [  # type: ignore[misc]
                item for item in node.status()["repairs"] if item["name"] == name
            ][before:],
            f"{name} repaired",
        )
        took = repairs[0]["seconds"] * 1000
        demo.claim(node.finding(name)["compliant"], f"{name} is compliant again, {took:.0f} ms after the event")
    demo.step("how long that takes beside the tools that people use, medians in this machine")
    module, sysctl = figures.module(node, 5), figures.sysctl(node, 30)
    demo.show(f"sysctl: write to restored    {sysctl.repair.p50 * 1000:7.1f} ms")
    demo.show(f"sysctl -w, as a process      {figures.sysctl_program(node, 10).p50 * 1000:7.1f} ms")
    demo.show(f"module: unloaded to live     {module.repair.p50 * 1000:7.1f} ms")
    demo.show(f"modprobe, as a process       {module.modprobe.p50 * 1000:7.1f} ms")


def faces(demo: Demo, node: Node) -> None:
    """Show the output for an operator and for Prometheus."""
    node.run("rmmod ip_vs_sh; sysctl -qw net.ipv4.ip_forward=0")
    node.until(lambda: len(node.status()["repairs"]) >= 2 and node.right(), "both repaired")
    node.ipvs_answer()
    demo.step("systemctl status ipvsd")
    demo.show(node.run("systemctl status -n 6 ipvsd | cut -c 1-100").out)
    demo.step("ipvsd status")
    demo.show(node.run("ipvsd status").out)
    demo.step("some of http://127.0.0.1:14787/metrics")
    metrics = node.metrics()
    for name in METRICS:
        demo.claim(metrics.get(name, 0) >= 1, f"{name} {metrics.get(name, float('nan')):g}")


def main() -> int:
    """Return 0, or 1 with the broken promises."""
    demo = Demo()
    try:
        demo.step("a bench machine: QEMU without KVM, so that everything is slower than life")
        made = chosen(demo.show)
        with Machine(made) as machine:
            node = Node(machine)
            machine.booted()
            boot(demo, node)
            drift(demo, node)
            faces(demo, node)
    except (BenchError, OSError) as error:
        demo.wrong.append(str(error))
    seconds = time.monotonic() - demo.begun
    if demo.wrong:
        print(f"\nFAILED after {seconds:.0f} s:\n" + "\n".join(demo.wrong), file=sys.stderr)
        return 1
    print(f"\nDone in {seconds:.0f} s: {demo.shown} of {demo.shown} claims held. The machine and its disk are gone.")
    print(f"The package is {package().relative_to(Path.cwd())}; 'make vm' gives a shell in such a machine.")
    return 0


if __name__ == "__main__":
    sys.exit(main())
