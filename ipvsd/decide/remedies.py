"""Remedies for verdicts, in one clause each."""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Mapping, Sequence
from typing import Callable, TypeVar

from ipvsd.model.types import Cause, DesiredSysctl, Kernel, LoadBlocker, ModuleFinding, Plan, SysctlFinding
from ipvsd.model.verdicts import ModuleVerdict
from ipvsd.modprobe import kconfig

_Found = TypeVar("_Found", ModuleFinding, SysctlFinding)

APPLY = "run 'ipvsd apply' as root, or start ipvsd.service"
BELOW = "run 'ipvsd apply --persist' to apply the configuration at the next boot of this tree"
TRIED = "run 'journalctl -u ipvsd' to find the cause; ipvsd.service retries"
OBSERVED = "ipvsd does not write the sysctl ('policy: observe')"
UNREADABLE = "run as root, or see the kernel documentation for the sysctl"
TRANSIENT = "free up file descriptors or memory on this node; ipvsd.service retries"
UNSUPPORTED = "remove the sysctl from the configuration, or boot a kernel that provides the sysctl"
NOT_KEPT = (
    "see the kernel documentation for the sysctl: the kernel may limit the value, or another program may overwrite it "
    "immediately"
)
CONTENDED = "stop the conflicting program ({}), or set 'policy: yield' or 'policy: observe'"
YIELDED = "ipvsd leaves the sysctl to the other program ('policy: yield') until the configuration is reloaded"
NEEDS_RELOAD = (
    "reboot, or drain the node and unload the module and its users: ipvsd then loads the module with the parameter"
)
READ_ONLY = "/proc/sys is read-only: run 'sysctl -w {}' on the host, or configure the sysctl in the container runtime"
COMMAND_LINE = "add {} to the kernel command line and reboot"
NO_NUMBER = "use 'value' or 'oneOf': a range requires a sysctl with one integer"
REFUSED = (
    "check the value against the kernel documentation for the sysctl: the kernel does not accept it, or does not "
    "permit it on this system"
)
# Network plugins that route packets to the node's own stack in other ways require these to be off.
_PLUGIN = "; if a network plugin requires the sysctl to be 0, set 'bridgeNetfilter: false'"

_MODULE = {
    ModuleVerdict.LOADABLE: APPLY,
    ModuleVerdict.UNREADABLE: "run as root, or correct the error; ipvsd.service retries",
    ModuleVerdict.LOADING: "wait; if the load does not finish, run 'journalctl -k'",
    ModuleVerdict.UNLOADING: "wait; ipvsd loads the module again afterwards",
    ModuleVerdict.ABSENT: "{meant}{reboot}{install}",
    ModuleVerdict.NOT_BUILT: "{reboot}boot a kernel that was built with {option}",
    ModuleVerdict.MERGED: "use {successor} instead",
    ModuleVerdict.INDEX_STALE: "run 'depmod -a {release}'",
    ModuleVerdict.NO_INDEX: "run 'depmod -a {release}'",
    ModuleVerdict.FILE_MISSING: "{reboot}{install}",
    ModuleVerdict.COMPRESSION_UNSUPPORTED: (
        "install a kmod that supports {packed}, or decompress the files and run 'depmod -a {release}'"
    ),
    ModuleVerdict.KERNEL_TOO_OLD: "boot a newer kernel",
    ModuleVerdict.MODULE_TREE_MISSING: "reboot into {installed}, or {package}",
    ModuleVerdict.NO_MODULE_SUPPORT: "boot a kernel that supports loadable modules, or that has this module built in",
    ModuleVerdict.VERMAGIC_MISMATCH: "replace the module file with one that was built for this kernel ({install})",
    ModuleVerdict.BLACKLISTED: "{allow}, or set 'required: false'",
    ModuleVerdict.OVERRIDDEN: "{allow}, or set 'required: false'",
    ModuleVerdict.INVALID_OPTIONS: "{correct}",
    ModuleVerdict.SIGNATURE_REFUSED: "use a file that is signed with a key that the kernel trusts ({install})",
    ModuleVerdict.MODULES_DISABLED: "run 'ipvsd apply --persist' and reboot: modules-load.d is applied before sysctl.d",
    ModuleVerdict.CAPABILITY_MISSING: "run 'modprobe {name}' on the host{grant}",
    ModuleVerdict.LOAD_FAILED: "run 'journalctl -k' to find the kernel's reason",
}

_BOOT_LOADER = "remove {} from {} on the kernel command line (boot loader configuration), and reboot"


def for_sysctl(wanted: DesiredSysctl, remedy: str) -> str:
    """Return a remedy, with an alternative for a sysctl of a profile that a network plugin may change."""
    by_profile = wanted.origin.startswith("profile ")
    return f"{remedy}{_PLUGIN}" if by_profile and wanted.key.startswith("net.bridge.") else remedy


def for_unsupported(wanted: DesiredSysctl, others: Collection[str] = ()) -> str:
    """Return the remedy for a sysctl that this kernel lacks. `others` are those in the same directory."""
    if wanted.origin.startswith("profile "):
        return UNSUPPORTED
    from ipvsd.config import spelling  # needed only for missing items

    suggestion = spelling.guess(wanted.key, others)
    known = suggestion and suggestion != wanted.key
    return f"did you mean {suggestion}? Otherwise, {UNSUPPORTED}" if known else UNSUPPORTED


def adapt(plan: Plan, root: str, daemon: bool = False) -> Plan:
    """Return the plan with remedies that a person can carry out here, below this root, or beside a daemon."""
    if not daemon and root == "/":
        return plan
    apply_remedy = TRIED if root == "/" else BELOW

    def fit(finding: _Found) -> _Found:
        return finding._replace(remedy=for_root(finding.remedy.replace(APPLY, apply_remedy), root))

    return plan._replace(
        modules=tuple(map(fit, plan.modules)),
        sysctls=tuple(map(fit, plan.sysctls)),
        parameters=tuple(map(fit, plan.parameters)),
    )


# The commands in remedies, and their form for another root. A command that already has the root is unchanged.
_COMMANDS = (
    (r"(ipvsd (?:apply --persist|check|plan|preflight|status))(?! --root)", r"\1 --root ROOT"),
    (r"depmod -a", "depmod -b ROOT -a"),
    (r"systemctl unmask", "systemctl --root=ROOT unmask"),
    (r"(?<!chroot ROOT )(apt install|dpkg -S)", r"chroot ROOT \1"),
    (r"\b(t?dnf) install", r"\1 --installroot=ROOT install"),
    (r"zypper install", "zypper --root ROOT install"),
    (r"pacman -S", "pacman --root ROOT -S"),
    (r"apk add", "apk --root ROOT add"),
)


def for_root(text: str, root: str) -> str:
    if root != "/":
        for command, given in _commands(root):
            text = command.sub(given, text)
    return text


@functools.lru_cache(maxsize=1)  # a command has one root, and many remedies
def _commands(root: str) -> Sequence[tuple[re.Pattern[str], str]]:
    import shlex  # the daemon starts without it, because its root is /

    quoted = shlex.quote(root)
    return [
        (re.compile(command.replace("ROOT", re.escape(quoted))), on_root.replace("ROOT", quoted.replace("\\", r"\\")))
        for command, on_root in _COMMANDS
    ]


def for_module(verdict: ModuleVerdict, kernel: Kernel, name: str) -> str:
    text = _MODULE.get(verdict, "")
    # Every reconciliation needs remedies, and most have no fields.
    fields = re.findall(r"{(\w+)}", text) if "{" in text else ()
    return text.format(**{field: _PLACEHOLDERS[field](kernel, name) for field in fields})


def _option(kernel: Kernel, name: str) -> str:
    """Return the option in the evidence: that of the module, or one that it depends on."""
    option = re.search(r"CONFIG_\w+", kernel.kconfig_unset.get(name, ""))
    return option[0] if option else kconfig.symbol(name)


def _reboot(kernel: Kernel, name: str) -> str:
    others = kernel.in_other_kernels.get(name)
    return f"reboot into {' or '.join(others[-2:])}, which has the module; or " if others else ""


def _installed(kernel: Kernel, name: str) -> str:
    having, others = kernel.in_other_kernels.get(name), kernel.other_releases
    if having:
        return f"{' or '.join(having[-2:])}, which has the module"
    return f"{' or '.join(others[-2:])}, which is installed" if others else "an installed kernel"


def _suggest(kernel: Kernel, name: str) -> str:
    if kernel.in_other_kernels.get(name):
        return ""
    from ipvsd.config import spelling  # needed only for missing items

    closest = None if name in spelling.modules() else spelling.guess(name)
    return f"did you mean {closest}? Otherwise, " if closest else ""


def _for_compression(kernel: Kernel, name: str) -> str:
    blocker = kernel.load_blockers.get(name)
    of_needed = kernel.compressed.get(blocker.module) or blocker.detail if blocker else ""
    return kernel.compressed.get(name) or of_needed or ""


def _allow(kernel: Kernel, name: str) -> str:
    line = kernel.load_blockers.get(name) or kernel.install_commands.get(name)
    unknown = "remove the line in modprobe.d(5) that blocks the module"
    return for_removal(line.text, line.origin, line.module) if line else unknown


def _correct(kernel: Kernel, name: str) -> str:
    line = kernel.load_blockers.get(name) or kernel.install_commands.get(name)
    return for_options_line(line) if line else "correct the options line in modprobe.d(5)"


def for_options_line(line: LoadBlocker) -> str:
    """Return the correct form of an options line that the kernel refuses."""
    place = line.origin.rpartition(":")[0] or line.origin
    place = "the boot loader configuration" if line.origin.startswith("/proc/") else place
    return f"write {line.detail.partition('=')[0]}=VALUE (without spaces) in {place}"


def for_removal(text: str, origin: str, module: str) -> str:
    """Return the way to remove a line that blocks a module."""
    if not origin.startswith("/proc/"):
        return f"remove {text!r} from {origin.rpartition(':')[0] or origin}"
    return _BOOT_LOADER.format(module, text.partition("=")[0] + "=")


def _install(kernel: Kernel, name: str) -> str:
    """Return the package that contains a module. For an unknown name, it names none."""
    from ipvsd.config import spelling  # needed only for missing items

    line = kernel.load_blockers.get(name)
    if line and line.cause is Cause.FILE_MISSING and not line.text.startswith("kernel/"):
        otherwise = f"remove that package and run 'depmod -a {kernel.release}'"
        return f"reinstall the package that contains {line.text}, or {otherwise}"
    if name in spelling.modules():
        return _package(kernel, name)
    return f"check the name, or install the package that contains module {name} (unknown to ipvsd)"


def _package(kernel: Kernel, _: str) -> str:
    from ipvsd.modprobe import distro_packages  # a table that only missing items need

    return distro_packages.advice(kernel)


def _successor(kernel: Kernel, name: str) -> str:
    from ipvsd.modprobe import former_names  # the same

    former = former_names.former(name, kernel.release)
    return former.successor if former else ""


_PLACEHOLDERS: Mapping[str, Callable[[Kernel, str], str]] = {
    "name": lambda _, name: name,
    "release": lambda kernel, _: kernel.release,
    "option": _option,
    "installed": _installed,
    "reboot": _reboot,
    "install": _install,
    "package": _package,
    "allow": _allow,
    "correct": _correct,
    "successor": _successor,
    "packed": _for_compression,
    "meant": _suggest,
    # In a user namespace, the capability has no effect (init_module(2): capable() checks that of the initial one).
    "grant": lambda kernel, _: "" if kernel.restrictions.nested else ", or grant CAP_SYS_MODULE",
}
