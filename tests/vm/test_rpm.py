"""The .rpm with bundled libraries on a machine that has none of them: booted, upgraded, erased."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.packaging.built import build_newer, bundled
from tests.packaging.root import LIBRARIES
from tests.vm.image import chosen
from tests.vm.machine import Machine
from tests.vm.node import KUBELET, MODULES, SYSCTLS, Node

# The database of Debian's rpm contains no Debian package.
RPM = "rpm --dbpath /var/lib/rpm --nodeps"
PRESET = "/usr/lib/systemd/system-preset/99-default-disable.preset"  # as in Fedora and EL
BEFORE = "/root/before"
FILES = (
    "find / -xdev \\( -path /var/lib/rpm -o -path /var/lib/systemd -o -path /var/log -o -path /var/cache -o -path /tmp "
    "-o -path /var/tmp -o -path /root \\) -prune -o -print | sort"
)


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Replaces the node with the .deb by one on which the .rpm was installed while it ran, and which was rebooted."""
    newer = build_newer(tmp_path_factory.mktemp("newer"))
    with Machine(chosen()) as machine:
        node = Node(machine)
        machine.put(bundled().read_bytes(), "/root/ipvsd.rpm")
        machine.put(newer.read_bytes(), "/root/newer.rpm")
        machine.put(b"disable *\n", PRESET)
        machine.put(KUBELET.encode(), "/etc/systemd/system/kubelet.service")
        libraries = " ".join(f"/usr/lib/python3/dist-packages/{name}" for name in LIBRARIES)
        node.run(f"rm -r {libraries}; mkdir -p /usr/share/licenses; systemctl enable kubelet; {FILES} > {BEFORE}")
        node.run(f"{RPM} -i /root/ipvsd.rpm")
        # As on every rpm distribution: enabled by the preset, and not started.
        assert node.show("UnitFileState") == "enabled"
        assert node.show("ActiveState") == "inactive"
        machine.reboot()
        machine.booted()
        node.until(node.status, "status.json")
        node.note_boot()
        yield node


def test_the_modules_and_sysctls_are_ready_before_kubelet(node: Node) -> None:
    modules = {line.split()[0]: line.split()[4] for line in node.found_by_kubelet["modules"].splitlines()}
    assert {name: modules.get(name) for name in MODULES} == dict.fromkeys(MODULES, "Live")
    assert dict(line.split(" = ") for line in node.found_by_kubelet["sysctls"].splitlines()) == SYSCTLS
    assert 0 < node.ready_at <= node.kubelet_at


def test_every_bundled_library_works(node: Node) -> None:
    assert node.ipvs_answer()  # pyroute2
    found = node.until(node.metrics, "the metrics")  # prometheus-client
    assert found['ipvsd_source_up{source="config_files"}'] == 1  # watchdog
    assert node.status_line().startswith(node.ready_line())  # sdnotify


def test_an_unloaded_module_is_loaded_again(node: Node) -> None:
    node.run("rmmod ip_vs_sh")
    node.until(lambda: node.live("ip_vs_sh"), "ip_vs_sh live")


def test_systemd_finds_no_faults_in_the_units(node: Node) -> None:
    done = node.run("systemd-analyze verify --man=no ipvsd.service ipvsd-apply.service")
    assert (done.out, done.err) == ("", "")


def test_ipvsd_apply_service_works_without_the_daemon(node: Node) -> None:
    node.run("systemctl stop ipvsd; rmmod ip_vs_sh; sysctl -w net.ipv4.ip_forward=0")
    node.run("systemctl start ipvsd-apply")
    assert node.right()
    assert node.show("ActiveState", "ipvsd-apply") == "active"
    node.run("systemctl stop ipvsd-apply")
    node.start()
    node.run("systemctl start ipvsd-apply")
    assert node.show("ActiveState", "ipvsd-apply") == "inactive"
    assert node.show("ConditionResult", "ipvsd-apply") == "no"


def test_an_upgrade_restarts_the_daemon_and_erasing_the_package_leaves_no_files(booted: Node) -> None:
    node, pid = booted, booted.show("MainPID")
    node.run(f"{RPM} -U /root/newer.rpm")
    node.replaced(pid)
    assert node.run("ipvsd --version").out == "ipvsd 99.0\n"
    assert node.show("UnitFileState") == "enabled"
    node.until(node.right, "the node right")
    node.run(f"{RPM} -e ipvsd")
    assert node.run("systemctl is-active ipvsd", check=False).out == "inactive\n"
    assert node.run(f"{FILES} | diff {BEFORE} -; ls -d /run/ipvsd", check=False).out == ""
    assert node.right()  # its changes stay
    node.run(f"{RPM} -i /root/ipvsd.rpm; systemctl start ipvsd")
    node.until(node.status, "the former version")
