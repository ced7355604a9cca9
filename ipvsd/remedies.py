"""What a person can do about a verdict, in one clause each."""

from __future__ import annotations

from ipvsd.model import Kernel, ModuleVerdict

APPLY = "run 'ipvsd apply' as root, or start ipvsd.service"
OBSERVED = "left alone by 'policy: observe'"
UNREADABLE = "run as root, or see the kernel's documentation of the key"
UNSUPPORTED = "drop the key from the configuration, or run a kernel that has it"
NOT_KEPT = "another program may hold the value, or the kernel clamps it; see the kernel's documentation of the key"
BLACKLISTED = "remove its blacklist line from modprobe.d, or set 'required: false'"
LOAD_FAILED = "see 'journalctl -k' for the kernel's reason"
REFUSED = "the kernel refuses the value, or this system may not write it (see the kernel's documentation of the key)"

_EXTRA_PACKAGES = {
    "ubuntu": "apt install linux-modules-extra-{release}",
    "debian": "apt install --reinstall linux-image-{release}",
    **dict.fromkeys(
        ("fedora", "rhel", "centos", "rocky", "almalinux", "ol"), "dnf install kernel-modules-extra-{release}"
    ),
}


def module(verdict: ModuleVerdict, kernel: Kernel) -> str:
    """Return the remedy for a module that cannot be loaded."""
    if verdict is ModuleVerdict.NO_SUPPORT:
        return "run a kernel with loadable modules, or with this one built in"
    install = _EXTRA_PACKAGES.get(kernel.distribution, "install the package with the modules of kernel {release}")
    install = install.format(release=kernel.release)
    if verdict is ModuleVerdict.TREE_GONE:
        return f"reboot into an installed kernel, or {install}"
    return f"{install}, or run 'depmod -a' if the file is there"
