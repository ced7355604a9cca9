"""The package that contains the modules that a kernel's main package lacks, by distribution and release."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from ipvsd.model.types import Kernel
from ipvsd.modprobe import kernel_names


class Package(NamedTuple):
    """`release` is a pattern for the whole release of a kernel. `advice` may refer to its groups."""

    distributions: str  # separated by spaces
    release: str
    advice: str
    source: str


_EL = "rhel centos rocky almalinux ol"
_ARCH = r"(?:x86_64|aarch64|ppc64le|s390x|riscv64)"
# Kernels of EL 8, 9 and 10. Those of ELRepo have other versions.
_OF_EL = r"(?:4\.18\.0|5\.14\.0|6\.12\.0)-[0-9.]+\.el(?:8|9|1[0-9])(?:_[0-9]+)?(?:\.[0-9.]+)?"
# Releases of Debian's kernels: 6.1.0-50-cloud-amd64, 6.12.43+deb13-amd64, 6.12.9+bpo-amd64.
_DEBIAN = (
    r"[0-9]+\.[0-9]+(?:\.[0-9]+)?(?:-[0-9]+|-0\.(?:deb|bpo)[0-9.]*|\+(?:deb[0-9]+|bpo|unreleased))*"
    r"-(?:(?:cloud|rt)-)?(?:amd64|arm64|armmp(?:-lpae)?|686(?:-pae)?|ppc64el|powerpc64le|s390x|riscv64|loong64)"
)
# Ubuntu's kernels have an ABI number of up to four digits, or five for a flavour. Mainline builds have six.
_UBUNTU_EXTRA = r"generic|generic-64k|lowlatency|lowlatency-64k|aws|azure|gcp|gke|gkeop|oracle|ibm|nvidia"

# The first matching entry applies.
PACKAGES = (
    Package(
        "ubuntu debian", r".*[-.]microsoft.*",
        "run 'wsl --update', or use a kernel that was built with the module ('kernel=' in .wslconfig)",
        "https://learn.microsoft.com/windows/wsl/wsl-config; WSL#10329",
    ),
    Package(
        "debian", r"([0-9]+\.[0-9]+\.[0-9]+-[0-9]+-pve)",
        "{proxmox}", "https://pve.proxmox.com/wiki/Proxmox_VE_Kernel: pve-kernel until 6.1, proxmox-kernel from 6.5",
    ),
    Package(
        "debian raspbian", r"[0-9.]+\+rpt-rpi-(?:v6|v7|v7l|v8|2712)",
        "run 'apt install --reinstall linux-image-{release}'",
        "archive.raspberrypi.com: since bookworm the image package has the release in its name",
    ),
    Package(
        "debian", _DEBIAN, "{debian}",
        "packages.debian.org: linux-image-RELEASE; from 7.2 on linux-modules-RELEASE has the modules",
    ),
    Package(
        "ubuntu", r"[0-9.]+-[0-9]{1,5}-kvm",
        "run 'apt install linux-image-generic' to install the general kernel, and reboot",
        "packages.ubuntu.com: linux-kvm has no linux-modules-extra",
    ),
    Package(
        "ubuntu", r"5\.1[35]\.0-[0-9]{4}-raspi|5\.19\.0-[0-9]{4}-raspi|6\.[25]\.0-[0-9]{4}-raspi",
        "run 'apt install linux-modules-extra-{release}'", "docs.k3s.io: Ubuntu 21.10 to 23.10 on the Raspberry Pi",
    ),
    Package(
        "ubuntu", rf"[0-9]+\.[0-9]+\.0-[0-9]{{1,5}}-(?:{_UBUNTU_EXTRA})",
        "run 'apt install linux-modules-extra-{release}'",
        "packages.ubuntu.com: linux-modules-extra-RELEASE",
    ),
    Package(
        "ol", r"(?:5\.15|6\.)[^_]*\.el[0-9]+(?:_[0-9]+)?uek(?:64k)?\." + _ARCH,
        "run 'dnf install kernel-uek-modules-extra-{release}'",
        "k3s-ansible#531; Oracle's release notes of UEK 7 and 8",
    ),
    Package(
        _EL, rf"({_OF_EL}\.{_ARCH})\+(rt|64k|debug|rt-64k)",
        "run 'dnf install kernel-{2}-modules-extra-{1}'", "gitlab.com/redhat/centos-stream/rpms/kernel: kernel.spec",
    ),
    Package(
        _EL, r".*\.rt[0-9]+\.[0-9.]+\.el8(?:_[0-9]+)?\." + _ARCH, "run 'dnf install kernel-rt-modules-extra-{release}'",
        "RHEL 8 for Real Time: kernel-rt.spec",
    ),
    Package(
        _EL, rf"{_OF_EL}\.{_ARCH}",
        "run 'dnf install kernel-modules-extra-{release}'", "kops#18724: EL 10; kernel.spec of EL 8 to 10",
    ),
    Package(
        "fedora", r"[0-9.]+-(?:[0-9]+|0\.rc[0-9]+\.[0-9a-z.]+)\.fc[0-9]+\." + _ARCH,
        "run 'dnf install kernel-modules-extra-{release}'",
        "src.fedoraproject.org/rpms/kernel: kernel-modules-extra requires kernel-modules",
    ),
    Package(
        "amzn", r"6\.1\..*\.amzn2023\." + _ARCH, "run 'dnf install kernel-modules-extra-{release}'",
        "docs.aws.amazon.com/linux/al2023: kernel-modules-extra",
    ),
    Package(
        "amzn", r"(6\.[0-9]+)\..*\.amzn2023\." + _ARCH, "run 'dnf install kernel{1}-modules-extra-{release}'",
        "docs.aws.amazon.com/linux/al2023: kernel6.12",
    ),
    Package(
        "sles sled sles_sap opensuse-leap opensuse-tumbleweed sle-micro sl-micro opensuse-microos",
        r".*-(default|azure|rt|64kb)", "run 'zypper install kernel-{1}'",
        "SUSE: kernel-default has what kernel-default-base lacks",
    ),
    Package(
        "photon", r".*-esx", "run 'tdnf install linux' to install the general kernel, and reboot",
        "github.com/vmware/photon: SPECS/linux",
    ),
    Package("arch", r".*-arch[0-9]+-[0-9.]+", "run 'pacman -S linux' and reboot", "archlinux.org/packages: linux"),
    Package("arch", r".*-(lts|zen|hardened)|.*-(?:lts|zen|hardened)-?[0-9]*", "run 'pacman -S {arch}' and reboot",
             "archlinux.org/packages: linux-lts, linux-zen, linux-hardened"),
    Package("alpine", r".*-virt", "run 'apk add linux-lts' and reboot", "pkgs.alpinelinux.org: linux-virt has fewer"),
    Package("alpine", r".*-lts", "run 'apk add linux-lts' and reboot", "pkgs.alpinelinux.org: linux-lts"),
    Package(
        "flatcar talos bottlerocket cos", ".*",
        "use an image whose kernel has the module: on {distribution}, modules come only with the image",
        "flatcar.org, talos.dev, github.com/bottlerocket-os, cloud.google.com/container-optimized-os",
    ),
)  # fmt: skip

# From this version on, Debian's image package contains only links, and another package the modules (seen on 7.2).
_DEBIAN_SPLIT = (7, 2)
_DPKG = ("debian", "ubuntu", "raspbian", "linuxmint", "pop", "devuan", "kali", "armbian", "proxmox")


def advice(kernel: Kernel) -> str:
    """Return the way to install the modules of a kernel, or a text that says that it is unknown."""
    package, release = find_package(kernel), kernel.release
    match = package and re.fullmatch(package.release, release)
    if not package or not match:
        return _unknown(kernel)
    arch = "linux-" + next((name for name in ("lts", "zen", "hardened") if name in release), "")
    fields = {"release": release, "distribution": kernel.distribution, "arch": arch}
    return package.advice.format("", *match.groups(), debian=_debian(release), proxmox=_proxmox(release), **fields)


def find_package(kernel: Kernel) -> Optional[Package]:
    matching = (item for item in PACKAGES if kernel.distribution in item.distributions.split())
    return next((item for item in matching if re.fullmatch(item.release, kernel.release)), None)


def _debian(release: str) -> str:
    kind = "modules" if kernel_names.kernel_version(release) >= _DEBIAN_SPLIT else "image"
    return f"run 'apt install --reinstall linux-{kind}-{release}'"


def _proxmox(release: str) -> str:
    version = kernel_names.kernel_version(release)
    if version >= (6, 5):
        return f"run 'apt install --reinstall proxmox-kernel-{release}-signed'"
    if version <= (6, 1):
        return f"run 'apt install --reinstall pve-kernel-{release}'"
    find = f"run 'dpkg -S /boot/vmlinuz-{release}' to find the kernel package"
    return f"install the modules for kernel {release} ({find})"


def _unknown(kernel: Kernel) -> str:
    find = f" (run 'dpkg -S /boot/vmlinuz-{kernel.release}' to find the kernel package)"
    advice = f"install the modules for kernel {kernel.release}; the package is unknown"
    return f"{advice}{find if kernel.distribution in _DPKG else ''}"
