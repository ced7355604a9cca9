"""The unit's sandbox, tested from inside, and each of its capabilities, tested by removing it.

The same operations run in a unit without a sandbox, because an operation that fails anywhere proves nothing.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from tests.vm.node import PROJECT, Journal, Node

PROBE = Path(__file__).parent / "guest" / "probe.py"
UNIT = (PROJECT / "systemd/ipvsd.service").read_text()
FOUND = "/run/ipvsd/probe.json"
START = f"/usr/bin/python3 -I /var/lib/ipvsd/probe.py {FOUND}"

# Operations, the way in which the sandbox refuses them, and the directives that do.
REFUSED = {
    "write /etc": ("EROFS", "ProtectSystem"),
    "write /usr": ("EROFS", "ProtectSystem"),
    "write /var/lib": ("EROFS", "ProtectSystem"),
    "write /run": ("EROFS", "ProtectSystem"),
    "write /sys/fs/cgroup": ("EROFS", "ReadOnlyPaths"),
    "list /home": ("EACCES", "ProtectHome"),
    "list /root": ("EACCES", "ProtectHome"),
    "see the machine's /tmp": ("ENOENT", "PrivateTmp PrivateMounts"),
    "open the disk": ("ENOENT", "PrivateDevices DevicePolicy"),
    "open /dev/kmsg": ("ENOENT", "PrivateDevices ProtectKernelLogs"),
    "make a device": ("EPERM", "PrivateDevices CapabilityBoundingSet"),
    "give a file away": ("EPERM", "CapabilityBoundingSet NoNewPrivileges"),
    "open a raw socket": ("EPERM", "CapabilityBoundingSet"),
    "open a packet socket": ("EAFNOSUPPORT", "RestrictAddressFamilies"),
    "trace a process": ("EPERM", "SystemCallFilter SystemCallErrorNumber"),
    "make a user namespace": ("EPERM", "RestrictNamespaces"),
    "make a mount namespace": ("EPERM", "RestrictNamespaces"),
    "mount": ("EPERM", "SystemCallFilter"),
    "set the clock": ("EPERM", "ProtectClock"),
    "set the host's name": ("EPERM", "ProtectHostname"),
    "read the kernel's log": ("EPERM", "ProtectKernelLogs"),
    "write and execute memory": ("EPERM", "MemoryDenyWriteExecute"),
    "make a program set-uid": ("EPERM", "RestrictSUIDSGID"),
    "run in real time": ("EPERM", "RestrictRealtime"),
    "be another personality": ("EPERM", "LockPersonality"),
    "raise its priority": ("EPERM", "SystemCallFilter"),
    "unload a module": ("EPERM", "SystemCallFilter"),
    "reboot": ("EPERM", "SystemCallFilter"),
    "end swapping": ("EPERM", "SystemCallFilter"),
    "load another kernel": ("EPERM", "SystemCallFilter"),
    "use ports of the hardware": ("EPERM", "SystemCallFilter"),
    "make files for others": ("EPERM", "UMask"),
}
OWN = ("write /var/lib/ipvsd", "write /run/ipvsd")
# Directives that cannot be tested here: System V objects, which belong to users; session keyrings; and system calls
# of another architecture, for which the bench has no program.
UNTRIED = {"RemoveIPC", "KeyringMode", "SystemCallArchitectures"}


def sandbox() -> Mapping[str, str]:
    """Return the sandbox directives of the shipped unit."""
    section = UNIT.partition("StateDirectory=")[2].partition("\n")[2].partition("[Install]")[0]
    return dict(re.findall(r"^(\w+)=(.*)$", section, re.MULTILINE))


def probe(node: Node, unit: str) -> Mapping[str, str]:
    """Return the results of the operations in a unit with this text."""
    node.machine.put(PROBE.read_bytes(), "/var/lib/ipvsd/probe.py")
    node.machine.put(unit.encode(), "/run/systemd/system/probe.service")
    node.run(f"rm -f {FOUND}; touch /tmp/ipvsd-outside; systemctl daemon-reload; systemctl start probe; cat {FOUND}")
    found = json.loads(node.run(f"cat {FOUND}").out)
    node.run(
        f"rm -f {FOUND} /tmp/ipvsd-outside /var/lib/ipvsd/probe.py /run/systemd/system/probe.service; "
        "systemctl daemon-reload"
    )
    return dict(found)


@pytest.fixture(scope="module")
def inside(booted: Node) -> Mapping[str, str]:
    """The results in the shipped unit, with another command."""
    gone = re.compile(r"^(ExecReload|Restart|RestartSec|WatchdogSec|NotifyAccess)=.*\n", re.MULTILINE)
    text = gone.sub("", UNIT).replace("Type=notify", "Type=oneshot")
    return probe(booted, text.replace("ExecStart=/usr/bin/ipvsd run", f"ExecStart={START}"))


@pytest.fixture(scope="module")
def outside(booted: Node) -> Mapping[str, str]:
    """The results without a sandbox."""
    return probe(booted, f"[Service]\nType=oneshot\nExecStart={START}\nUMask=0022\n")


@pytest.mark.parametrize("attempt", REFUSED)
def test_the_sandbox_refuses_unneeded_operations(
    inside: Mapping[str, str], outside: Mapping[str, str], attempt: str
) -> None:
    refusal, _ = REFUSED[attempt]
    assert (inside[attempt], outside[attempt] != refusal) == (refusal, True), outside[attempt]


@pytest.mark.parametrize("attempt", OWN)
def test_it_can_write_its_own_files(inside: Mapping[str, str], attempt: str) -> None:
    assert inside[attempt] == "done"


def test_no_directive_is_without_a_try() -> None:
    tried = {name for _, names in REFUSED.values() for name in names.split()}
    assert sandbox().keys() == tried | UNTRIED


# --- capabilities -----------------------------------------------------------------------


WITHOUT = "[Service]\nCapabilityBoundingSet=~{}\n"


def test_without_cap_sys_module_no_module_comes_back(node: Node, journal: Journal) -> None:
    journal.expect(r"module ip_vs_sh: capability missing: ", r"\S+: \d", r"failed: ")
    with node.changed_unit(WITHOUT.format("CAP_SYS_MODULE")):
        node.run("rmmod ip_vs_sh")
        node.until(lambda: node.finding("ip_vs_sh")["verdict"] == "capability_missing", "the verdict")


def test_without_cap_net_admin_neither_ipvs_answers_nor_are_writers_seen(node: Node, journal: Journal) -> None:
    journal.expect(r"watch backend: inotify; cannot use BPF: ", r"IPVS ")
    with node.changed_unit(WITHOUT.format("CAP_NET_ADMIN")):
        assert node.status()["backend"] == "inotify"
        node.until(
            lambda: node.status()["ipvs"]["detail"] == "not queried, because the query requires root", "IPVS refused"
        )


def test_after_the_start_two_capabilities_are_left_and_none_in_the_server(node: Node) -> None:
    node.get("/healthz")
    pid = node.show("MainPID")
    lines = node.run(f"grep -H -e CapEff -e CapPrm /proc/{pid}/task/*/status").out.splitlines()
    found = [re.fullmatch(r"/proc/\d+/task/(\d+)/status:Cap...:\s+(\w+)", line) for line in lines]
    sets = {(match[1], int(match[2], 16)) for match in found if match}
    net_admin, sys_module = 1 << 12, 1 << 16
    assert {mask for task, mask in sets if task == pid} == {net_admin | sys_module}
    assert 0 in {mask for _, mask in sets}
