"""A boot without kubelet: every other service that uses IPVS starts after ipvsd, with each of ipvsd's units."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import pytest

from tests.vm.consumers import CONSUMERS, NOTES, STAND_IN
from tests.vm.image import chosen
from tests.vm.machine import Machine
from tests.vm.node import Node

STAND_INS = tuple(name for name in CONSUMERS if name != "kubelet")
EVERYTHING_LIVE = "2"  # ip_vs and ip_vs_rr


@pytest.fixture(scope="module")
def booted() -> Iterator[Node]:
    """A node without kubelet, on which a stand-in replaces every other consumer."""
    with Machine(chosen()) as machine:
        node = Node(machine)
        node.install()
        node.run("systemctl disable kubelet.service")
        for name in STAND_INS:
            machine.put(STAND_IN.encode(), f"/etc/systemd/system/{name}.service")
        node.run(f"systemctl enable {' '.join(f'{name}.service' for name in STAND_INS)}")
        machine.reboot()
        machine.booted()
        node.until(node.status, "status.json")
        node.ready_at = int(node.show("ActiveEnterTimestampMonotonic"))
        yield node


def _started(node: Node) -> Mapping[str, int]:
    """Return the time at which systemd started each stand-in, in microseconds since boot."""
    units = " ".join(f"{name}.service" for name in STAND_INS)
    times = node.show("ExecMainStartTimestampMonotonic", units).split()  # one command, because each takes long here
    assert len(times) == len(STAND_INS)
    return dict(zip(STAND_INS, map(int, times)))


def _found(node: Node) -> Mapping[str, str]:
    """Return the number of live modules at the start of each stand-in."""
    noted = node.run(f"cd {NOTES} && grep -H . *").out
    return dict(line.split(":") for line in noted.splitlines())


def test_every_consumer_starts_after_the_daemon_is_ready(node: Node) -> None:
    assert [name for name, at in _started(node).items() if not 0 < node.ready_at <= at] == []
    assert _found(node) == dict.fromkeys(STAND_INS, EVERYTHING_LIVE)
    assert node.show("ActiveState", "kubelet") == "inactive"


def test_every_consumer_starts_after_the_node_was_made_compliant_once(node: Node) -> None:
    node.run("systemctl disable ipvsd; systemctl enable ipvsd-apply")
    node.machine.reboot()
    node.machine.booted()
    done_at = int(node.show("ActiveEnterTimestampMonotonic", "ipvsd-apply"))
    assert [name for name, at in _started(node).items() if not 0 < done_at <= at] == []
    assert _found(node) == dict.fromkeys(STAND_INS, EVERYTHING_LIVE)
    assert node.show("ActiveState") == "inactive"


def test_nothing_waits_in_a_circle(node: Node) -> None:
    assert node.run("journalctl -q _PID=1 | grep -i 'ordering cycle'", check=False).out == ""
