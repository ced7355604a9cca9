"""ipvsd in a container on the node: systemd-nspawn drops CAP_SYS_MODULE and mounts /proc/sys read-only."""

from __future__ import annotations

import json
import re

import pytest

from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from tests.vm.machine import Result
from tests.vm.node import Node

# It shares the host's network, and so its sysctls. With `yes`, its root is empty except for the host's /usr.
CONTAINER = "systemd-nspawn --quiet --directory=/ --volatile=yes --register=no --pipe"
WITHOUT_TREE = f"{CONTAINER} --tmpfs=/usr/lib/modules"
OF_NO_USE_HERE = re.compile(r"apt |dnf |depmod|reboot|module tree|'ipvsd apply'|start ipvsd\.service")


def inside(node: Node, command: str, container: str) -> Result:
    return node.run(f"{container} {command}", check=False)


def words(done: Result) -> str:
    return " ".join(f"{done.out} {done.err}".split())


@pytest.mark.parametrize("container", [CONTAINER, WITHOUT_TREE], ids=["with /lib/modules", "without /lib/modules"])
def test_a_container_is_ready_if_its_host_is(node: Node, container: str) -> None:
    done = inside(node, "ipvsd check", container)
    assert (done.code, done.out.partition(":")[0]) == (0, "ready")


@pytest.mark.carries_out(ModuleVerdict.CAPABILITY_MISSING, SysctlVerdict.WRITE_FAILED)
def test_a_container_names_repairs_on_the_host_and_these_help(node: Node) -> None:
    node.run("systemctl stop ipvsd; rmmod ip_vs_sh; sysctl -w net.ipv4.ip_forward=0")
    for container, command in ((CONTAINER, "apply"), (WITHOUT_TREE, "check")):
        done = inside(node, f"ipvsd {command}", container)
        assert done.code == 1
        assert OF_NO_USE_HERE.findall(words(done)) == []
    document = json.loads(inside(node, "ipvsd check --output json", CONTAINER).out)
    for found in (*document["modules"], *document["sysctls"]):
        if not found["compliant"]:
            (repair,) = re.findall(r"\brun '((?:modprobe|sysctl) [^']+)' on the host", found["remedy"])
            node.run(repair)
    assert inside(node, "ipvsd check", CONTAINER).code == 0
    node.start()
