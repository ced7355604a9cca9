"""Alternatives to ipvsd, with the same modules and sysctls, and the same events."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Optional

from tests.vm.figures import Spread, ask, rest, spread
from tests.vm.node import MODULES, SYSCTLS, Node

PERIOD = 60  # seconds, of the timer
LINES = "".join(f"{key} = {value}\n" for key, value in SYSCTLS.items())
TIMER = {
    "/usr/local/sbin/keep": f"#!/bin/sh\nmodprobe -a {' '.join(MODULES)}; exec sysctl -q -p /etc/keep.conf\n",
    "/etc/keep.conf": LINES,
    "/etc/systemd/system/keep.service": "[Service]\nType=oneshot\nCPUAccounting=yes\nExecStart=/usr/local/sbin/keep\n",
    "/etc/systemd/system/keep.timer": f"[Timer]\nOnActiveSec=0\nOnUnitActiveSec={PERIOD}\nAccuracySec=1s\n",
}
STATIC = {"/etc/modules-load.d/bench.conf": "".join(f"{name}\n" for name in MODULES), "/etc/sysctl.d/bench.conf": LINES}
# With "+r", TuneD loads a module. Without it, TuneD only writes options for modprobe.
TUNED = {
    "/etc/tuned/bench/tuned.conf": (
        "[main]\nsummary=ipvs\n[modules]\n"
        + "".join(f"{name}=+r\n" for name in MODULES)
        + "[sysctl]\n"
        + LINES.replace(" = ", "=")
    ),
    "/etc/tuned/active_profile": "bench\n",
    "/etc/tuned/profile_mode": "manual\n",
}
TOLD = ("module", "sysctl")


@dataclass(frozen=True)
class Event:
    """The number of drifts, the number of repairs within `waited` seconds, and their times."""

    tries: int
    waited: int
    repaired: Optional[Spread]


@dataclass(frozen=True)
class Alternative:
    """`run` is one run of a periodic program. `processor` is in seconds for an idle minute, for the unit alone."""

    name: str
    module: Event
    sysctl: Event
    processor: float
    resident: int
    run: Optional[Spread] = None


def measure(node: Node, wait: int, tries: int) -> Iterator[Alternative]:
    """Yield the alternatives, each alone in the same boot. At the end, ipvsd runs again."""
    node.run("systemctl stop ipvsd")
    try:
        yield _timer(node, tries)
        yield _tuned(node, wait)
        yield _static(node, wait)
    finally:
        node.start()


@contextmanager
def _files(node: Node, files: dict[str, str]) -> Iterator[None]:
    for path, text in files.items():
        node.machine.put(text.encode(), path, 0o755 if "/sbin/" in path else 0o644)
    node.run("systemctl daemon-reload")
    try:
        yield
    finally:
        node.run(f"rm {' '.join(files)}; systemctl daemon-reload")


def _drifts(node: Node, pauses: list[float], limit: int) -> tuple[Event, Event]:
    assert node.right(), "what is to drift is not right"
    found = [ask(node, "drift", pause, limit, "ip_vs_sh", "net.ipv4.ip_forward") for pause in pauses]
    took = {what: [one[what] for one in found if what in one] for what in TOLD}
    events = [Event(len(found), limit, spread(took[what]) if took[what] else None) for what in TOLD]
    return events[0], events[1]


def _timer(node: Node, tries: int) -> Alternative:
    # Drift can occur at any time of the period, so the attempts are spread over it evenly.
    pauses = [PERIOD * (number + 0.5) / tries for number in range(tries)]
    runs: list[float] = []
    costs: list[float] = []
    with _files(node, TIMER):
        node.run("systemctl start keep.timer")
        node.until(lambda: node.show("ExecMainExitTimestampMonotonic", "keep") != "0" and node.right(), "a run")
        events = []
        for pause in pauses:
            events.append(_drifts(node, [pause], 2 * PERIOD))
            node.run("sleep 2")
            begun, ended = (int(node.show(f"ExecMain{what}TimestampMonotonic", "keep")) for what in ("Start", "Exit"))
            runs.append((ended - begun) / 1e6)
            costs.append(int(node.show("CPUUsageNSec", "keep")) / 1e9)
        node.run("systemctl stop keep.timer")
    module, sysctl = (_together([pair[which] for pair in events]) for which in (0, 1))
    return Alternative(f"{PERIOD} s timer", module, sysctl, spread(costs).p50 * 60 / PERIOD, 0, spread(runs))


def _together(events: list[Event]) -> Event:
    took = [event.repaired.p50 for event in events if event.repaired]
    return Event(len(events), events[0].waited, spread(took) if took else None)


def _tuned(node: Node, wait: int) -> Alternative:
    with _files(node, TUNED):
        node.run("systemctl start tuned", timeout=300)
        node.until(node.right, "TuneD's profile at work", 120)
        idle = rest(node, "tuned", PERIOD)
        module, sysctl = _drifts(node, [0], wait)
        node.run("systemctl stop tuned; rm -f /etc/modprobe.d/tuned.conf", timeout=300)
    return Alternative("TuneD", module, sysctl, idle.processor * 60 / idle.seconds, idle.resident)


def _static(node: Node, wait: int) -> Alternative:
    with _files(node, STATIC):
        node.run("systemctl restart systemd-modules-load systemd-sysctl")
        module, sysctl = _drifts(node, [0], wait)
    return Alternative("systemd-modules-load, systemd-sysctl", module, sysctl, 0.0, 0)
