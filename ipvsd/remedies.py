"""What a person can do about a verdict, in one clause each."""

from __future__ import annotations

from typing import TypeVar

from ipvsd import formats, kconfig
from ipvsd.model import Kernel, ModuleFinding, ModuleVerdict, Plan, SysctlFinding, WantedSysctl

_Found = TypeVar("_Found", ModuleFinding, SysctlFinding)

APPLY = "run 'ipvsd apply' as root, or start ipvsd.service"
BELOW = "for the next boot of this tree: ipvsd apply --persist --root {}"
TRIED = "ipvsd.service tries again by itself; see 'journalctl -u ipvsd'"
OBSERVED = "left alone by 'policy: observe'"
UNREADABLE = "run as root, or see the kernel's documentation of the key"
UNSUPPORTED = "drop the key from the configuration, or run a kernel that has it"
NOT_KEPT = "another program may hold the value, or the kernel clamps it; see the kernel's documentation of the key"
CONTENDED = "stop {}, or set 'policy: yield' or 'observe'; ipvsd goes on trying at periodic looks"
YIELDED = "left to the other writer by 'policy: yield', until a reload"
NEEDS_RELOAD = "reboot, or drain the node and unload the module and its users: ipvsd loads it with the parameter"
COMMAND_LINE = "put {} on the kernel's command line and reboot"
NO_NUMBER = "give it a value: a range is for sysctls of one number"
REFUSED = "the kernel refuses the value, or this system may not write it (see the kernel's documentation of the key)"

# Network plugins that bring packets to the node's own stack by other ways want these off.
_PLUGIN = "; if a network plugin wants it off, say 'bridgeNetfilter: false'"

# Which package holds the modules that the kernel's own one lacks; Fedora and EL pin it to the release.
_EXTRA_PACKAGES = {
    "ubuntu": "apt install linux-modules-extra-{release}",
    "debian": "apt install --reinstall linux-image-{release}",
    **dict.fromkeys(
        ("fedora", "rhel", "centos", "rocky", "almalinux", "ol", "amzn"), "dnf install kernel-modules-extra-{release}"
    ),
    **dict.fromkeys(("sles", "opensuse-leap", "opensuse-tumbleweed"), "zypper install kernel-default"),
}

# From this one on Debian's image package holds links only, and another one the modules (seen on 7.2).
_DEBIAN_SPLIT = (7, 2)

# Flavours of a distribution's kernel that lack modules which its general one has.
_SMALL_KERNELS = {
    ("ubuntu", "-kvm"): "run the general kernel: apt install linux-image-generic, and reboot",
    ("photon", "-esx"): "run the general kernel: tdnf install linux, and reboot",
}


_MODULE = {
    ModuleVerdict.LOADABLE: APPLY,
    ModuleVerdict.LOADING: "wait; why a load hangs is told by 'journalctl -k'",
    ModuleVerdict.UNLOADING: "wait; it is loaded again when it is gone",
    ModuleVerdict.ABSENT: "{install}",
    ModuleVerdict.NOT_BUILT: "run a kernel that was built with {option}",
    ModuleVerdict.INDEX_STALE: "run 'depmod -a {release}'",
    ModuleVerdict.KERNEL_TOO_OLD: "run a newer kernel",
    ModuleVerdict.TREE_GONE: "reboot into an installed kernel, or {install}",
    ModuleVerdict.NO_SUPPORT: "run a kernel with loadable modules, or with this one built in",
    ModuleVerdict.OTHER_KERNEL: "replace its file by one made for this kernel ({install})",
    ModuleVerdict.BLACKLISTED: "{allow}, or set 'required: false'",
    ModuleVerdict.OVERRIDDEN: "{allow}, or set 'required: false'",
    ModuleVerdict.SIGNATURE: "use a file that is signed with a key which the kernel trusts ({install})",
    ModuleVerdict.DISABLED: "reboot, and have kernel.modules_disabled=1 set after ipvsd.service",
    ModuleVerdict.INCAPABLE: "run 'modprobe {name}' on the host, or grant CAP_SYS_MODULE",
    ModuleVerdict.FAILED: "see 'journalctl -k' for the kernel's reason",
}


def of_sysctl(wanted: WantedSysctl, remedy: str) -> str:
    """Return a remedy with what else may be the answer to a sysctl that is not as it is wanted."""
    by_profile = wanted.origin.startswith("profile ")
    return f"{remedy}{_PLUGIN}" if by_profile and wanted.key.startswith("net.bridge.") else remedy


def fitted(plan: Plan, below: str, daemon: bool) -> Plan:
    """Return the plan with remedies that can be carried out here.

    `below` is another root, as a shell takes it, or empty: nothing can be applied to one now. Where a daemon runs, it
    does by itself what a person would start.
    """
    if not daemon and not below:
        return plan
    how = TRIED if daemon else BELOW.format(below)

    def fit(finding: _Found) -> _Found:
        return finding._replace(remedy=finding.remedy.replace(APPLY, how))

    return plan._replace(
        modules=tuple(map(fit, plan.modules)),
        sysctls=tuple(map(fit, plan.sysctls)),
        parameters=tuple(map(fit, plan.parameters)),
    )


def module(verdict: ModuleVerdict, kernel: Kernel, name: str) -> str:
    """Return the remedy for a module that is not in the kernel."""
    return _MODULE.get(verdict, "").format(
        name=name,
        release=kernel.release,
        option=kconfig.symbol(name),
        install=_install(kernel),
        allow=_allow(kernel, name),
    )


def _install(kernel: Kernel) -> str:
    for (distribution, flavour), remedy in _SMALL_KERNELS.items():
        if kernel.distribution == distribution and kernel.release.endswith(flavour):
            return remedy
    if kernel.distribution == "debian" and formats.kernel_version(kernel.release) >= _DEBIAN_SPLIT:
        return f"apt install --reinstall linux-modules-{kernel.release}"
    package = _EXTRA_PACKAGES.get(kernel.distribution, "install the package with the modules of kernel {release}")
    return package.format(release=kernel.release)


def _allow(kernel: Kernel, name: str) -> str:
    rule = kernel.rules.get(name)
    if rule is None:
        return "remove the line of modprobe.d(5) that keeps it out"
    if rule.origin.startswith("/proc/"):
        return f"remove {name} from the kernel's command line and reboot"
    return f"remove {rule.text!r} from {rule.origin.rpartition(':')[0]}"
