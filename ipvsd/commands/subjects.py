"""Find the sysctl, module, parameter or interface that a person names, by its own name or a common one."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

from ipvsd.config import spelling
from ipvsd.config.keys import GROUPS, SETTINGS
from ipvsd.config.profiles import PROFILES
from ipvsd.decide import verdicts
from ipvsd.decide.aggregate import by_pattern
from ipvsd.kernel.host import LinuxHost
from ipvsd.kube_proxy.known_values import INTERFACE as KUBE_IPVS
from ipvsd.model.types import (
    DesiredModule,
    Finding,
    ModuleFinding,
    ModuleState,
    Need,
    Observed,
    Plan,
    SysctlFinding,
    Unreadable,
    Want,
)
from ipvsd.model.value_texts import listed
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.modprobe import kernel_names
from ipvsd.sysctl import sysctl_names

# Common names of interfaces from systemd, the kernel and network plugins, for an image without interfaces.
_INTERFACE = re.compile(
    r"lo\Z|(?:eth|wlan|bond|br-?|team|tun|tap|wg|vlan|veth|cni|docker|cali|flannel\.?|vmbr|dummy|ib)[0-9a-f]+(?:\.[0-9]+)?\Z"
    r"|(?:en|wl|ww|ib|sl)[bcdopsuvxP][0-9a-zP]*[0-9][0-9a-z]*(?:\.[0-9]+)?\Z"
)
_MAX_INTERFACE_NAME = 15  # IFNAMSIZ is 16, including the NUL
_LOOPBACK = "lo"
UNKNOWN_BEFORE_BOOT = "unknown before the first boot"
# Verdicts after which a name may belong to no module.
_ABSENT_VERDICTS = (
    ModuleVerdict.ABSENT,
    ModuleVerdict.NO_MODULE_SUPPORT,
    ModuleVerdict.MODULE_TREE_MISSING,
    ModuleVerdict.NO_INDEX,
)
_MAX_CANDIDATES = 8  # number of candidates in a message
_EXAMPLE = "specify a sysctl, a module or MODULE.PARAMETER, such as net.ipv4.ip_forward"


class Kind(enum.Enum):
    SYSCTL = "sysctl"
    PARAMETER = "parameter"
    MODULE = "module"
    INTERFACE = "interface"


class NoNameError(Exception):
    """The name belongs to no item, or to more than one. The text is the reason, with a hint."""


@dataclass(frozen=True)
class Subject:
    """The item of a name, with its actual value or verdict, or None.

    `finding` is None for an unmanaged item. `members` are the sysctls that match a pattern. `parts` are the findings of
    an interface's managed sysctls.
    """

    kind: Kind
    name: str
    actual: Optional[str]
    evidence: str
    readable: bool = True
    finding: Optional[Finding] = None
    members: tuple[str, ...] = ()
    parts: tuple[SysctlFinding, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The names to look up in files."""
        return self.members or tuple(part.name for part in self.parts) or (self.name,)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (self.finding,) if self.finding else self.parts

    def want(self, name: str) -> Optional[Want]:
        found = self.finding or next((part for part in self.parts if part.name == name), None)
        return found.desired.want if isinstance(found, SysctlFinding) else None

    @property
    def pattern(self) -> str:
        return self.finding.desired.pattern if isinstance(self.finding, SysctlFinding) else ""

    @property
    def provider(self) -> Optional[str]:
        return self.finding.desired.provider if isinstance(self.finding, SysctlFinding) else None


def possible_sysctls(requested: str, patterns: Iterable[str]) -> tuple[str, ...]:
    """Return the sysctls that a name, or the name of an interface in these patterns, can mean after a boot."""
    name = _clean(requested)
    own = sysctl_names.normalised(name)
    found = [own] if own else []
    if name == KUBE_IPVS or _may_be_interface(name):
        places = (pattern.split(".") for pattern in patterns)
        of_interfaces = (path for path in places if len(path) == 5 and spelling.is_of_interface(path))
        found += [".".join((*path[:3], name.replace(".", "/"), path[4])) for path in of_interfaces]
    return tuple(found)


def find(requested: str, plan: Plan, host: LinuxHost, image: bool = False) -> Subject:
    """Return the item of a name. In an `image`, values cannot be read. Raises NoNameError."""
    name = _clean(requested)
    if not name.isprintable() or not name.isascii() or not name:
        raise NoNameError(f"invalid name ({_EXAMPLE})")
    held = _find_managed(name, plan)
    if held:
        return held
    parts = tuple(item for item in plan.sysctls if _interface_of(item.name) == sysctl_names.unescape_part(name))
    if name in (KUBE_IPVS, _LOOPBACK) or host.is_interface(name) or (image and (parts or _may_be_interface(name))):
        return _interface(name, parts, host, image)
    if name in (*SETTINGS, *GROUPS, "modules", "sysctls"):
        raise NoNameError(f"a key of the configuration ({_hint_for_key(name)})")
    dotted = "." in name or "/" in name
    return _find_dotted(name, plan, host, image) if dotted else _find_by_short_name(name, plan, host, image)


def is_own_name(requested: str, subject: Subject) -> bool:
    """Return whether a person used the item's own name in any notation, so that no explanation is needed."""
    path = requested.removeprefix("/proc/sys/")
    own = {subject.name, subject.finding.name if subject.finding else subject.name}
    named = {sysctl_names.normalised(path), kernel_names.module_name(requested), _parameter_name(requested)}
    return bool(own & {requested, *named})


def _clean(requested: str) -> str:
    """Return the name within a pasted command, assignment or path."""
    command = r"^\s*(?:sudo\s+)?(?:modprobe|insmod|rmmod|sysctl|module|options)\s+(?:-\w+\s+)*"
    name = re.sub(command, "", requested).partition("=")[0].strip().strip("'\"")
    of_module = re.match(r"/sys/module/([^/]+)(?:/parameters/([^/]+))?/?\Z", name)
    if of_module:
        return ".".join(filter(None, of_module.groups()))
    of_interface = re.match(r"/(?:sys/class/net|proc/sys/net/ipv[46]/(?:conf|neigh))/([^/]+)/?\Z", name)
    if of_interface:
        return of_interface[1]
    file = re.match(r"(?:.*/)?([A-Za-z0-9_-]+)\.ko(?:\.(?:gz|xz|zst))?\Z", name)
    return file[1] if file else name.removeprefix("/proc/sys/").removeprefix("proc/sys/")


def _find_managed(name: str, plan: Plan) -> Optional[Subject]:
    spellings = {sysctl_names.normalised(name), kernel_names.module_name(name), _parameter_name(name), name} - {None}
    everything = (*plan.sysctls, *by_pattern(plan.sysctls))
    for kind, findings in ((Kind.SYSCTL, everything), (Kind.PARAMETER, plan.parameters)):
        for finding in findings:
            if finding.name in spellings:
                readable = finding.verdict is not SysctlVerdict.UNREADABLE
                members = tuple(item.name for item in plan.sysctls if item.desired.pattern == finding.name)
                return Subject(kind, finding.name, finding.actual, finding.evidence, readable, finding, members)
    for item in plan.modules:
        if spellings & {item.name, item.module, *item.desired.any_of}:
            return Subject(Kind.MODULE, item.module or item.name, item.verdict.value, item.evidence, finding=item)
    return None


def _hint_for_key(key: str) -> str:
    """Return the items that a key of the configuration manages, or the way to print its value."""
    found = [(item.key, item.switch) for profile in PROFILES.values() for item in profile.sysctls]
    found += [(item.name, item.switch) for profile in PROFILES.values() for item in profile.modules]
    names = dict.fromkeys(name for name, switch in found if switch and switch.value == key)
    if names:
        return f"specify one of the items that it manages: {', '.join(names)}"
    if key == "scheduler":
        return "specify the module of a scheduler, such as ip_vs_rr"
    return "'ipvsd config show' prints its value"


def _find_ending(name: str, plan: Plan) -> Optional[str]:
    """Return the managed sysctl, by any of its names, that ends with a name, or None."""
    managed = [finding.name for finding in plan.sysctls]
    managed += [alias for alias, canonical in sysctl_names.ALIASES.items() if canonical in managed]
    return next((full for full in managed if full.endswith(f".{name}")), None)


def _find_dotted(name: str, plan: Plan, host: LinuxHost, image: bool) -> Subject:
    sysctl, parameter = sysctl_names.normalised(name), _parameter_name(name)
    if sysctl is None:
        raise NoNameError(f"unknown sysctl, module or parameter ({_EXAMPLE})")
    if sysctl_names.is_pattern(sysctl):
        matching = ", ".join(sorted(host.expand([sysctl])[sysctl])[:_MAX_CANDIDATES]) or "none"
        problem = "unknown pattern: the configuration does not contain this pattern"
        raise NoNameError(f"{problem} (matching sysctls: {matching})")
    value = host.read_sysctl(sysctl)
    if isinstance(value, str):
        return Subject(Kind.SYSCTL, sysctl, value, f"actual value {value!r}")
    if isinstance(value, Unreadable):
        return Subject(Kind.SYSCTL, sysctl, None, value.reason, readable=False)
    if parameter:
        module = parameter.partition(".")[0]
        known, reading = host.kernel([module]), host.read_parameter(parameter).reading
        if isinstance(reading, str):
            return Subject(Kind.PARAMETER, parameter, reading, f"actual value {reading!r}")
        closest = next((item for item in spelling.PARAMETERS if spelling.is_misspelling(parameter, item)), None)
        if closest:
            raise NoNameError(f"unknown parameter of module {module} (did you mean {closest}?)")
        if module in known.loadable | known.built_in or parameter in spelling.PARAMETERS:
            evidence = UNKNOWN_BEFORE_BOOT if image else f"not in /sys/module/{module}/parameters"
            return Subject(Kind.PARAMETER, parameter, None, evidence)
    release = host.kernel(()).release
    if not spelling.is_known(sysctl):
        siblings = f"{sysctl.rpartition('.')[0]}.*"
        suggestion = _find_ending(sysctl, plan) or spelling.guess(sysctl, host.expand([siblings])[siblings])
        if image and suggestion is None:
            return Subject(Kind.SYSCTL, sysctl, None, UNKNOWN_BEFORE_BOOT)
        if suggestion is None and _may_be_interface(name):
            raise NoNameError(f"unknown interface or sysctl ({_EXAMPLE})")
        directory = "/".join(part.replace("/", ".") for part in sysctl.split(".")[:-1])
        hint = f"to list the sysctls of this kernel, run 'ls /proc/sys/{directory}'"
        hint = f"did you mean {suggestion}?" if suggestion else hint
        raise NoNameError(f"unknown sysctl; kernel {release} does not have it ({hint})")
    evidence = UNKNOWN_BEFORE_BOOT if image else f"kernel {release} does not have this sysctl"
    return Subject(Kind.SYSCTL, sysctl, None, evidence)


def _find_by_short_name(name: str, plan: Plan, host: LinuxHost, image: bool) -> Subject:
    """Return the item with a short name: a module, the last part of a sysctl's name, a scheduler."""
    module = _module(name, host)
    if module:
        return module
    called = dict.fromkeys(found for word in spelling.find_by_short_name(name) for found in _spelled_out(word, host))
    managed = {subject.name: subject for word in called for subject in [_find_managed(word, plan)] if subject}
    # The question is about the managed item, unless several have that name.
    names = list(managed or called)
    grouped = dict.fromkeys(subject.pattern or subject.name for subject in managed.values())
    if len(grouped) == 1 and len(names) > 1:
        names = list(grouped)
    if len(names) == 1:
        return find(names[0], plan, host, image)
    if names:
        raise NoNameError(f"ambiguous name: {listed(names, _MAX_CANDIDATES)} (specify one of these names)")
    suggestion = spelling.guess(name) or spelling.nearest(name, [KUBE_IPVS], 0.8)
    hint = f"did you mean {suggestion}?" if suggestion else _EXAMPLE
    if name in PROFILES:
        hint = f"'ipvsd profile show {name}' prints the profile"
    raise NoNameError(f"unknown module, sysctl or interface on kernel {host.kernel(()).release} ({hint})")


def _spelled_out(name: str, host: LinuxHost) -> Iterator[str]:
    """Yield a name with each existing interface in place of IFACE, at least `all`."""
    if ".IFACE." not in name:
        yield name
        return
    pattern = name.replace("IFACE", "*")
    yield from host.expand([pattern])[pattern] or [sysctl_names.normalised(name.replace("IFACE", "all")) or name]


def _module(name: str, host: LinuxHost) -> Optional[Subject]:
    """Return the module of that name, or None if this kernel has none and none is known."""
    module = kernel_names.module_name(name)
    if module is None:
        raise NoNameError(f"unknown module or sysctl ({_EXAMPLE})")
    kernel = host.explain(host.kernel([module]), [module])
    live: Mapping[str, ModuleState] = host.modules([kernel.module(module)])
    found: ModuleFinding = verdicts.judge_module(DesiredModule(module, Need.IF_SHIPPED, ""), Observed(kernel, live, {}))
    present = found.verdict not in _ABSENT_VERDICTS
    if not present and module not in spelling.modules():
        return None
    return Subject(Kind.MODULE, found.module, found.verdict.value, found.evidence)


def _interface(name: str, parts: tuple[SysctlFinding, ...], host: LinuxHost, image: bool) -> Subject:
    # Every network namespace has a loopback interface, even if a tree contains no file of it.
    live = None if image else "present" if name == _LOOPBACK or host.is_interface(name) else "absent"
    known = "; whether it exists is unknown before the first boot" if image else ""
    evidence = f"network interface{known}; ipvsd manages {len(parts)} of its sysctls"
    if name == KUBE_IPVS:
        use = "kube-proxy creates this interface in IPVS mode, keeps it down, and adds all service addresses to it"
        evidence = f"{use}; ipvsd does not change the interface"
    return Subject(Kind.INTERFACE, name, live, evidence, parts=parts)


def _may_be_interface(name: str) -> bool:
    return len(name) <= _MAX_INTERFACE_NAME and _INTERFACE.match(name) is not None


def _interface_of(sysctl: str) -> str:
    path = sysctl.split(".")
    return sysctl_names.part(sysctl, 3) or "" if len(path) == 5 and spelling.is_of_interface(path) else ""


def _parameter_name(name: str) -> Optional[str]:
    module, _, parameter = name.partition(".")
    known = kernel_names.module_name(module) if re.match(r"[A-Za-z0-9_]{1,64}\Z", parameter) else None
    return f"{known}.{parameter}" if known else None
