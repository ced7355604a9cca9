"""The package in the remedy for a kernel. ipvsd invents none."""

from __future__ import annotations

import re

import pytest

from ipvsd.modprobe import distro_packages
from ipvsd.modprobe.distro_packages import advice, find_package
from tests.samples import kernel

UNKNOWN = "the package is unknown"


@pytest.mark.parametrize(
    ("distribution", "release", "said"),
    [
        ("debian", "6.1.0-50-cloud-amd64", "apt install --reinstall linux-image-6.1.0-50-cloud-amd64"),
        ("debian", "6.12.43+deb13-amd64", "apt install --reinstall linux-image-6.12.43+deb13-amd64"),
        ("debian", "6.12.9+bpo-rt-arm64", "apt install --reinstall linux-image-6.12.9+bpo-rt-arm64"),
        ("debian", "6.1.0-0.deb11.13-amd64", "apt install --reinstall linux-image-6.1.0-0.deb11.13-amd64"),
        ("debian", "7.2.13+deb14-cloud-amd64", "apt install --reinstall linux-modules-7.2.13+deb14-cloud-amd64"),
        ("debian", "7.3.1+deb14-amd64", "apt install --reinstall linux-modules-7.3.1+deb14-amd64"),
        ("debian", "6.5.11-8-pve", "apt install --reinstall proxmox-kernel-6.5.11-8-pve-signed"),
        ("debian", "5.15.126-1-pve", "apt install --reinstall pve-kernel-5.15.126-1-pve"),
        ("debian", "6.1.15-1-pve", "apt install --reinstall pve-kernel-6.1.15-1-pve"),
        ("debian", "6.2.16-3-pve", "run 'dpkg -S /boot/vmlinuz-6.2.16-3-pve' to find"),
        ("debian", "6.6.31+rpt-rpi-v8", "apt install --reinstall linux-image-6.6.31+rpt-rpi-v8"),
        ("raspbian", "6.6.51+rpt-rpi-v7l", "apt install --reinstall linux-image-6.6.51+rpt-rpi-v7l"),
        ("debian", "6.1.21-v8+", UNKNOWN),
        ("debian", "5.10.110-rockchip-rk3588", UNKNOWN),
        ("debian", "6.6.63-current-rockchip64", UNKNOWN),
        ("debian", "6.9.3-surface-1", UNKNOWN),
        ("debian", "5.15.90.1-microsoft-standard-WSL2", "wsl --update"),
        ("debian", "6.8.12", UNKNOWN),
        ("ubuntu", "6.8.0-45-generic", "apt install linux-modules-extra-6.8.0-45-generic"),
        ("ubuntu", "5.15.0-1040-aws", "apt install linux-modules-extra-5.15.0-1040-aws"),
        ("ubuntu", "6.5.0-1016-azure", "apt install linux-modules-extra-6.5.0-1016-azure"),
        ("ubuntu", "6.2.0-1021-gcp", "apt install linux-modules-extra-6.2.0-1021-gcp"),
        ("ubuntu", "5.15.0-1034-raspi", UNKNOWN + "|linux-modules-extra-5.15.0-1034-raspi"),
        ("ubuntu", "6.8.0-1010-raspi", UNKNOWN),
        ("ubuntu", "5.15.0-1040-kvm", "apt install linux-image-generic"),
        ("ubuntu", "6.9.3-060903-generic", UNKNOWN),  # a mainline build
        ("ubuntu", "6.9.3-surface-1", UNKNOWN),
        ("ubuntu", "5.10.110-rockchip", UNKNOWN),
        ("ubuntu", "6.6.36.3-microsoft-standard-WSL2+", "wsl --update"),
        ("linuxmint", "6.8.0-45-generic", UNKNOWN),
        ("rocky", "5.14.0-427.13.1.el9_4.x86_64", "dnf install kernel-modules-extra-5.14.0-427.13.1.el9_4.x86_64"),
        ("rhel", "6.12.0-55.9.1.el10_0.aarch64", "dnf install kernel-modules-extra-6.12.0-55.9.1.el10_0.aarch64"),
        ("centos", "5.14.0-427.el9.x86_64+rt", "dnf install kernel-rt-modules-extra-5.14.0-427.el9.x86_64"),
        ("almalinux", "5.14.0-427.el9.aarch64+64k", "dnf install kernel-64k-modules-extra-5.14.0-427.el9.aarch64"),
        ("rhel", "4.18.0-477.10.1.rt7.274.el8_8.x86_64", "dnf install kernel-rt-modules-extra-4.18.0-477.10.1.rt7.274"),
        ("rocky", "6.1.0-elrepo", UNKNOWN),
        ("rocky", "6.8.1-1.el9.elrepo.x86_64", UNKNOWN),
        ("ol", "5.15.0-209.161.7.2.el9uek.x86_64", "dnf install kernel-uek-modules-extra-5.15.0-209.161.7.2.el9uek"),
        ("ol", "6.12.0-0.20.20.el10uek.aarch64", "dnf install kernel-uek-modules-extra-6.12.0-0.20.20.el10uek.aarch64"),
        ("ol", "5.4.17-2136.338.4.2.el8uek.x86_64", UNKNOWN),
        ("ol", "5.14.0-427.13.1.el9_4.x86_64", "dnf install kernel-modules-extra-5.14.0-427.13.1.el9_4.x86_64"),
        ("ol", "6.12.0-55.40.1.0.1.el10_0.x86_64", "dnf install kernel-modules-extra-6.12.0-55.40.1.0.1.el10_0.x86_64"),
        ("fedora", "6.9.4-200.fc40.x86_64", "dnf install kernel-modules-extra-6.9.4-200.fc40.x86_64"),
        ("fedora", "6.9.3-1.surface.fc40.x86_64", UNKNOWN),
        ("amzn", "6.1.112-122.189.amzn2023.x86_64", "dnf install kernel-modules-extra-6.1.112-122.189.amzn2023.x86_64"),
        ("amzn", "6.12.20-23.97.amzn2023.aarch64", "dnf install kernel6.12-modules-extra-6.12.20-23.97.amzn2023"),
        ("amzn", "5.10.225-213.878.amzn2.x86_64", UNKNOWN),
        ("sles", "6.4.0-150600.23.7-default", "zypper install kernel-default"),
        ("opensuse-leap", "6.4.0-150600.8.11-azure", "zypper install kernel-azure"),
        ("photon", "6.1.10-11.ph5-esx", "tdnf install linux"),
        ("photon", "6.1.10-11.ph5", UNKNOWN),
        ("arch", "6.9.3-arch1-1", "run 'pacman -S linux' and reboot"),
        ("arch", "6.6.32-1-lts", "run 'pacman -S linux-lts' and reboot"),
        ("alpine", "6.6.32-0-virt", "apk add linux-lts"),
        ("flatcar", "6.6.43-flatcar", "on flatcar, modules come only with the image"),
        ("talos", "6.6.43-talos", "on talos, modules come only with the image"),
        ("", "6.1.0-50-cloud-amd64", UNKNOWN),
        ("gentoo", "6.6.30-gentoo", UNKNOWN),
    ],
)  # fmt: skip
def test_a_package_that_there_is_or_none(distribution: str, release: str, said: str) -> None:
    seen = kernel(distribution=distribution, release=release)
    assert re.search("|".join(map(re.escape, said.split("|"))), advice(seen))
    assert (find_package(seen) is None) is (UNKNOWN in advice(seen))
    if UNKNOWN in advice(seen):
        assert not re.search(r"(apt|dnf|zypper|apk|pacman)( -S)? install", advice(seen))


@pytest.mark.parametrize(
    ("distribution", "found"), [("debian", True), ("linuxmint", True), ("gentoo", False), ("", False)]
)
def test_dpkg_finds_an_unknown_package_where_it_exists(distribution: str, found: bool) -> None:
    assert ("dpkg -S /boot/vmlinuz-6.8.12" in advice(kernel(distribution=distribution, release="6.8.12"))) is found


def test_every_entry_has_its_source() -> None:
    assert all(item.source for item in distro_packages.PACKAGES)
