"""The package: installed in a chroot and on a live system, upgraded, removed, purged."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.node import Node

APT = "apt-get install -y --no-install-recommends"
PATHS = "/etc/ipvsd /usr/lib/ipvsd /var/lib/ipvsd /run/ipvsd /lib/systemd/system/ipvsd.service /usr/bin/ipvsd"


@pytest.fixture
def chroot(node: Node) -> Iterator[str]:
    """A copy of the machine's root in which nothing runs and ipvsd was never installed."""
    node.run(
        """set -e
        mkdir -p /run/image/upper /run/image/work /run/image/root
        mount -t overlay -o lowerdir=/,upperdir=/run/image/upper,workdir=/run/image/work overlay /run/image/root
        chroot /run/image/root dpkg --purge ipvsd
        cp /root/ipvsd.deb /run/image/root/root/ipvsd.deb"""
    )
    yield "/run/image/root"
    node.run("umount /run/image/root && rm -r /run/image")


def _files(node: Node, root: str) -> set[str]:
    """Return every path below a root, except for those of apt and dpkg."""
    own = "-path ./var/lib/dpkg -o -path ./var/log -o -path ./var/cache -o -path ./var/lib/apt"
    return set(node.run(f"cd {root} && find . \\( {own} \\) -prune -o -print").out.splitlines())


def test_in_a_chroot_it_is_enabled_and_nothing_is_started(node: Node, chroot: str) -> None:
    before = _files(node, chroot)
    done = node.run(f"chroot {chroot} {APT} /root/ipvsd.deb")
    added = _files(node, chroot) - before
    assert "./etc/systemd/system/multi-user.target.wants/ipvsd.service" in added
    assert not [path for path in added if path.startswith(("./var/lib/ipvsd/", "./run/"))]
    assert "Running in chroot, ignoring request" not in done.err
    assert node.run(f"chroot {chroot} ipvsd config validate").out == "valid: /etc/ipvsd/ipvsd.yaml\n"
    node.run(f"chroot {chroot} dpkg --purge ipvsd")
    assert _files(node, chroot) == before


@pytest.mark.parametrize("name", ["commands", "daemon"])
def test_debians_own_tests_of_the_installed_package_pass(node: Node, name: str) -> None:
    script = Path(__file__).parents[2] / "packaging/debian/tests" / name
    node.machine.put(script.read_bytes(), f"/root/{name}")
    node.run(f"mkdir -p /tmp/{name} && AUTOPKGTEST_TMP=/tmp/{name} sh /root/{name}")


def test_an_upgrade_restarts_it_and_keeps_what_the_administrator_wrote(node: Node) -> None:
    pid = node.show("MainPID")
    node.run("echo 'interval: 59s' >> /etc/ipvsd/ipvsd.yaml")
    node.until(lambda: node.status()["config"]["interval"] == 59, "the edited file")
    node.run(
        """set -e
        rm -rf /root/newer; dpkg-deb -R /root/ipvsd.deb /root/newer
        sed -i 's/^Version: .*/Version: 99.0/' /root/newer/DEBIAN/control
        dpkg-deb -b /root/newer /root/newer.deb"""
    )
    node.run(f"{APT} /root/newer.deb")
    node.replaced(pid)
    assert node.show("ActiveState") == "active"
    assert node.status()["config"]["interval"] == 59
    node.run(f"sed -i /interval/d /etc/ipvsd/ipvsd.yaml; {APT} --allow-downgrades /root/ipvsd.deb")
    node.until(lambda: node.status().get("config", {}).get("interval") == 60, "the former version")


def test_an_upgrade_leaves_a_disabled_service_disabled(node: Node) -> None:
    node.run("systemctl disable --now ipvsd")
    node.run(f"{APT} --reinstall /root/ipvsd.deb")
    assert node.show("UnitFileState") == "disabled"
    assert node.show("ActiveState") == "inactive"
    node.run("systemctl enable ipvsd")
    node.start()


def test_remove_stops_it_and_purge_leaves_nothing(node: Node) -> None:
    node.run("apt-get remove -y ipvsd")
    assert node.show("ActiveState") == "inactive"
    assert node.run("ls /etc/ipvsd/ipvsd.yaml").code == 0
    node.run("apt-get purge -y ipvsd")
    assert node.run(f"ls -d {PATHS}", check=False).out == ""
    assert node.run("ls /etc/systemd/system/multi-user.target.wants").out.count("ipvsd") == 0
    node.run(f"{APT} /root/ipvsd.deb")
    node.until(node.status, "started by the installation")
    assert node.show("UnitFileState") == "enabled"


def test_systemd_does_not_complain_about_the_unit(node: Node) -> None:
    done = node.run("systemd-analyze verify --man=no /lib/systemd/system/ipvsd.service")
    assert (done.out, done.err) == ("", "")


def test_the_status_file_is_readable_by_everyone_and_the_state_by_root(node: Node) -> None:
    assert node.run("stat -c '%a %U' /run/ipvsd/status.json").out == "644 root\n"
    assert node.run("stat -c '%a %U' /var/lib/ipvsd/last-good.json").out == "600 root\n"
