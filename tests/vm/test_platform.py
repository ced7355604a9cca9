"""The package from a baked image to a purged disk, on one Debian. `make test-matrix` runs it on each.

The image is created as usual: the package is installed in a chroot, and the machine boots for the first time.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Callable

import pytest

from tests.packaging.root import Root
from tests.vm import kernels, userland
from tests.vm.consumers import CONSUMERS, STAND_IN
from tests.vm.image import baked, say
from tests.vm.machine import Machine
from tests.vm.node import KUBELET, MODULES, SYSCTLS, Journal, Node, package

# On the Debian of `make test`, the other files test its package and kernel.
pytestmark = pytest.mark.full

APT = "apt-get install -y --no-install-recommends"
BEFORE = "/root/before"
OTHERS = tuple(name for name in CONSUMERS if name != "kubelet")
# Leftovers of a first boot and of the image build, and files of apt and dpkg.
NOT_LOOKED_AT = (
    "/proc /sys /dev /run /tmp /root /var/tmp /var/log /var/cache /var/lib/systemd /var/lib/dpkg /var/lib/apt "
    "/usr/lib/modules /boot /lost+found /usr/sbin/policy-rc.d /var/lib/dbus /var/lib/private /etc/mtab /etc/.updated "
    "/var/.updated "
    # Of systemd-container, by systemd-tmpfiles during the boot on Debian 11.
    "/var/lib/machines /var/lib/portables"
)
FILES = f"find / \\( {' -o '.join(f'-path {path}' for path in NOT_LOOKED_AT.split())} \\) -prune -o -print | sort"
# A drift each second, which has to be repaired before the next one. Prints the time of each repair, in seconds.
DRIFTS = """
import pathlib, subprocess, sys, time
value, state = pathlib.Path("/proc/sys/net/ipv4/ip_forward"), pathlib.Path("/sys/module/ip_vs_sh/initstate")
def drift(number):
    if number % 2:
        value.write_text("0\\n")
    else:
        subprocess.run(["rmmod", "ip_vs_sh"], check=True)
def right():
    return value.read_text() == "1\\n" and state.exists() and state.read_text() == "live\\n"
for number in range(int(sys.argv[1])):
    drift(number)
    begun = time.monotonic()
    while not right():
        if time.monotonic() > begun + 60:
            sys.exit(f"drift {number} was not repaired in a minute")
        time.sleep(0.02)
    print(f"{time.monotonic() - begun:.2f}", flush=True)
    time.sleep(max(0, begun + 1 - time.monotonic()))
"""


def _versions(node: Node) -> dict[str, str]:
    """Return the upstream versions of ipvsd's dependencies."""
    packages = "systemd python3 libkmod2 python3-yaml python3-pyroute2 python3-sdnotify python3-watchdog"
    told = node.run(f"dpkg-query -W -f '${{Package}} ${{Version}}\n' {packages} python3-prometheus-client").out
    found = dict(line.split() for line in told.splitlines())
    return {name.replace("python3-", ""): re.sub(r"^\d+:|[-~+].*", "", found[name]) for name in found}


@pytest.fixture(scope="module")
def booted(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Node]:
    """Replaces the node that was installed while it ran by one whose image was baked, at its first boot."""
    place = tmp_path_factory.mktemp("baked")
    root = Root(place)
    root.unpack(userland.userland(say, kernels.chosen_suite()))
    root.put("etc/systemd/system/kubelet.service", KUBELET)
    for name in OTHERS:
        root.put(f"etc/systemd/system/{name}.service", STAND_IN)
    root.run(f"systemctl enable kubelet {' '.join(f'{name}.service' for name in OTHERS)}")
    # Like the first boot, so that among the units that it enables only ipvsd is new.
    root.run("systemctl preset-all --preset-mode=enable-only", check=False)  # it complains about masked units
    root.put("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")  # as in every careful image build
    root.copy(package(), "root/ipvsd.deb")
    root.run(f"chmod +x /usr/sbin/policy-rc.d; {FILES} > {BEFORE}; {APT} /root/ipvsd.deb; rm /usr/sbin/policy-rc.d")
    # So systemd treats this boot as the first one, and applies the presets of all units.
    root.put("etc/machine-id", "uninitialized\n")
    root.pack(place / "root.tar")
    root.remove()
    with Machine(baked(kernels.chosen(), place / "root.tar", place)) as machine:
        node = Node(machine)
        machine.booted()
        node.until(node.status, "status.json")
        node.note_boot()
        yield node


def test_a_baked_image_is_ready_before_kubelet_at_its_first_boot(node: Node) -> None:
    modules = {line.split()[0]: line.split()[4] for line in node.found_by_kubelet["modules"].splitlines()}
    assert {name: modules.get(name) for name in MODULES} == dict.fromkeys(MODULES, "Live")
    assert node.found_by_kubelet["ipvsd"] == "active\n"
    assert 0 < node.ready_at <= node.kubelet_at
    assert len(node.run("cat /etc/machine-id").out.strip()) == 32  # systemd created it in this boot
    assert (node.show("UnitFileState"), node.show("UnitFileState", "ipvsd-apply")) == ("enabled", "disabled")


def test_it_is_ready_before_any_other_consumer_starts(node: Node) -> None:
    started = {name: int(node.show("ExecMainStartTimestampMonotonic", f"{name}.service")) for name in OTHERS}
    assert [name for name, at in started.items() if at < node.ready_at] == []


def test_the_units_have_no_ordering_cycle(node: Node) -> None:
    assert node.run("journalctl -q -b _PID=1 | grep -i 'ordering cycle'", check=False).out == ""


def test_every_library_of_the_platform_works(node: Node, record_property: Callable[[str, object], None]) -> None:
    release = node.run("uname -r").out.strip()
    assert release.startswith(f"{kernels.chosen()}.")
    assert kernels.chosen_suite() in node.run("cat /etc/os-release").out
    for name, version in {"Linux": release, **_versions(node)}.items():
        record_property(name, version)
    assert node.ipvs_answer()  # pyroute2
    assert node.metrics()['ipvsd_source_up{source="config_files"}'] == 1  # prometheus-client and watchdog
    assert node.status_line().startswith(node.ready_line())  # sdnotify


def test_an_unloaded_module_is_loaded_again(node: Node) -> None:
    node.run("rmmod ip_vs_sh")
    node.until(lambda: node.live("ip_vs_sh"), "ip_vs_sh live")


@pytest.mark.parametrize("key", sorted(SYSCTLS.keys() - {"net.netfilter.nf_conntrack_max"}))
def test_a_changed_sysctl_is_restored(node: Node, key: str) -> None:
    node.run(f"sysctl -w {key}=0")
    node.until(lambda: node.sysctl(key) == "1", f"{key} restored")


def test_systemd_finds_no_faults_in_the_units(node: Node) -> None:
    done = node.run("systemd-analyze verify --man=no ipvsd.service ipvsd-apply.service")
    assert (done.out, done.err) == ("", "")


def test_a_reload_applies_a_new_file(node: Node) -> None:
    with node.configured("interval: 33s\n"):
        assert node.status()["config"]["interval"] == 33


def test_no_drift_is_missed_during_an_upgrade_or_a_downgrade(node: Node, journal: Journal) -> None:
    journal.expect(r"(sysctl|module) \S+ ", r"history ")
    node.machine.put(DRIFTS.encode(), "/root/drifts.py")
    node.run(
        """set -e
        rm -rf /root/newer; dpkg-deb -R /root/ipvsd.deb /root/newer
        sed -i 's/^Version: .*/Version: 99.0/' /root/newer/DEBIAN/control
        dpkg-deb -b /root/newer /root/newer.deb
        echo 'interval: 59s' >> /etc/ipvsd/ipvsd.yaml"""
    )
    node.run("(python3 /root/drifts.py 30 > /root/drifts.out 2>&1; echo ended >> /root/drifts.out) > /dev/null 2>&1 &")
    for deb, version in (("newer", "99.0"), ("ipvsd", package().name.split("_")[1])):
        pid = node.show("MainPID")
        node.run(f"{APT} --allow-downgrades /root/{deb}.deb", timeout=200)
        node.replaced(pid)
        assert node.run("dpkg-query -W -f '${Version}' ipvsd").out == version
    node.until(lambda: "ended" in node.run("cat /root/drifts.out").out, "the drifts ended", 300)
    lines = node.run("cat /root/drifts.out").out.split()
    assert len(lines) == 30 + 1, lines
    node.until(lambda: node.status().get("config", {}).get("interval") == 59, "the file kept")
    node.run("sed -i /interval/d /etc/ipvsd/ipvsd.yaml; systemctl reload ipvsd")


def test_on_a_read_only_root_everything_except_persistence_works(booted: Node, journal: Journal) -> None:
    node = booted
    journal.expect("cannot store the last good configuration: /var/lib/ipvsd/last-good.json: Read-only file system")
    # Without a writable /tmp, systemd itself cannot implement PrivateDevices=.
    tmp = "tmpfs /tmp tmpfs mode=1777 0 0"
    node.run(
        f"systemctl stop ipvsd; rm -r /var/lib/ipvsd/*; sed -i s/defaults/ro/ /etc/fstab; echo {tmp} >> /etc/fstab"
    )
    node.machine.reboot()
    node.machine.booted()
    node.until(node.status, "status.json")
    try:
        assert node.run("touch /etc/probe", check=False).code != 0
        assert node.show("ActiveState") == "active"
        assert node.status_line().startswith("ready: ")
        node.run("rmmod ip_vs_sh; sysctl -w net.ipv4.ip_forward=0")
        node.until(node.right, "the node right")
        node.run("systemctl reload ipvsd; ipvsd check")
        refused = node.run("ipvsd apply --persist", check=False)
        assert refused.code == 1
        assert "Read-only file system" in refused.err
    finally:
        node.run("mount -o remount,rw / && sed -i -e 's/ ro / defaults /' -e '/^tmpfs/d' /etc/fstab")


def test_purging_the_package_leaves_the_disk_as_it_was_before(booted: Node) -> None:
    node = booted
    node.run("apt-get remove -y ipvsd")
    assert node.show("ActiveState") == "inactive"
    assert node.run("ls /etc/ipvsd/ipvsd.yaml").code == 0
    node.run("apt-get purge -y ipvsd; apt-get autoremove --purge -y; rm -rf /root/newer")
    assert node.run(f"{FILES} | diff {BEFORE} - | grep '^[<>]'; ls -d /run/ipvsd", check=False).out == ""
    assert node.right()  # its changes stay
    node.run(f"{APT} /root/ipvsd.deb")
    node.until(node.status, "started by the installation")
