"""The sysctl, module, parameter or interface that a person names, by its own name or by one that people use."""

from __future__ import annotations

import enum
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

from ipvsd import formats, spelling, sysctls, verdicts
from ipvsd.groups import collapsed
from ipvsd.host import LinuxHost
from ipvsd.model import (
    Finding,
    ModuleFinding,
    ModuleState,
    ModuleVerdict,
    Need,
    Observed,
    Plan,
    SysctlFinding,
    SysctlVerdict,
    Unreadable,
    Want,
    WantedModule,
)
from ipvsd.profiles import PROFILES

KUBE_IPVS = "kube-ipvs0"
# The verdicts on a name of which no module needs to be.
_NO_SIGN = (ModuleVerdict.ABSENT, ModuleVerdict.NO_SUPPORT, ModuleVerdict.TREE_GONE, ModuleVerdict.NO_INDEX)
_MOST = 8  # candidates that are shown
_EXAMPLE = "give a sysctl, a module or MODULE.PARAMETER, such as net.ipv4.ip_forward"


class Kind(enum.Enum):
    SYSCTL = "sysctl"
    PARAMETER = "parameter"
    MODULE = "module"
    INTERFACE = "interface"


class NoNameError(Exception):
    """Nothing, or more than one thing, is called so; the text goes on after `it`."""


@dataclass(frozen=True)
class Subject:
    """What a name stands for; `live` is its value or its verdict now, or None where there is none.

    `finding` is None for what the configuration does not hold. `members` are the sysctls that a pattern fits.
    """

    kind: Kind
    name: str
    live: Optional[str]
    evidence: str
    readable: bool = True
    finding: Optional[Finding] = None
    members: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """What the files are asked about."""
        return self.members or (self.name,)

    @property
    def want(self) -> Optional[Want]:
        return self.finding.wanted.want if isinstance(self.finding, SysctlFinding) else None

    @property
    def group(self) -> str:
        """The pattern by which it is wanted, or an empty text."""
        return self.finding.wanted.group if isinstance(self.finding, SysctlFinding) else ""

    @property
    def provider(self) -> Optional[str]:
        """The module that brings it into being, if one does."""
        return self.finding.wanted.provider if isinstance(self.finding, SysctlFinding) else None


def find(asked: str, plan: Plan, host: LinuxHost) -> Subject:
    """Return what a name stands for. Raises NoNameError."""
    name = _cleaned(asked)
    if not name.isprintable() or not name.isascii() or not name:
        raise NoNameError(f"is no name of anything ({_EXAMPLE})")
    held = _held(name, plan)
    if held:
        return held
    if name == KUBE_IPVS or host.is_interface(name):
        return _interface(name, plan, host)
    return _dotted(name, host) if "." in name or "/" in name else _short(name, plan, host)


def is_own_name(asked: str, subject: Subject) -> bool:
    """Tell whether a subject was asked for by its own name, in whatever notation, and needs no word of that."""
    path = asked.removeprefix("/proc/sys/")
    own = {subject.name, subject.finding.name if subject.finding else subject.name}
    return bool(own & {asked, _sysctl_name(path), formats.module_name(asked), _parameter_name(asked)})


def _cleaned(asked: str) -> str:
    """Return the name within a command, an assignment or a path that somebody pasted."""
    words = re.sub(r"^\s*(?:sudo\s+)?(?:modprobe|insmod|rmmod|sysctl|module|options)\s+(?:-\w+\s+)*", "", asked).strip()
    name = words.partition("=")[0].strip().strip("'\"")
    of_module = re.match(r"/sys/module/([^/]+)(?:/parameters/([^/]+))?/?\Z", name)
    if of_module:
        return ".".join(filter(None, of_module.groups()))
    of_interface = re.match(r"/(?:sys/class/net|proc/sys/net/ipv[46]/(?:conf|neigh))/([^/]+)/?\Z", name)
    if of_interface:
        return of_interface[1]
    file = re.match(r"(?:.*/)?([A-Za-z0-9_-]+)\.ko(?:\.(?:gz|xz|zst))?\Z", name)
    return file[1] if file else name.removeprefix("/proc/sys/").removeprefix("proc/sys/")


def _held(name: str, plan: Plan) -> Optional[Subject]:
    """Return what is held under a name: by its name, as an alias or an alternative, or as a pattern."""
    spellings = {_sysctl_name(name), formats.module_name(name), _parameter_name(name), name} - {None}
    everything = (*plan.sysctls, *collapsed(plan.sysctls))
    for kind, findings in ((Kind.SYSCTL, everything), (Kind.PARAMETER, plan.parameters)):
        for finding in findings:
            if finding.name in spellings:
                readable = finding.verdict is not SysctlVerdict.UNREADABLE
                members = tuple(item.name for item in plan.sysctls if item.wanted.group == finding.name)
                return Subject(kind, finding.name, finding.found, finding.evidence, readable, finding, members)
    for item in plan.modules:
        if spellings & {item.name, item.module, *item.wanted.any_of}:
            return Subject(Kind.MODULE, item.module or item.name, item.verdict.value, item.evidence, finding=item)
    return None


def _dotted(name: str, host: LinuxHost) -> Subject:
    """Return what is there under the name of a sysctl or a parameter that the configuration does not hold."""
    sysctl, parameter = _sysctl_name(name), _parameter_name(name)
    if sysctl is None:
        raise NoNameError(f"is no sysctl, no module and no MODULE.PARAMETER ({_EXAMPLE})")
    if sysctls.is_pattern(sysctl):
        fitting = ", ".join(sorted(host.expand(sysctl))[:_MOST]) or "nothing"
        raise NoNameError(f"is a pattern that the configuration does not hold (it fits {fitting})")
    value = host.read_sysctl(sysctl)
    if isinstance(value, str):
        return Subject(Kind.SYSCTL, sysctl, value, f"is {value!r}")
    if isinstance(value, Unreadable):
        return Subject(Kind.SYSCTL, sysctl, None, value.reason, readable=False)
    if parameter:
        module = parameter.partition(".")[0]
        known, reading = host.kernel([module]), host.read_parameter(parameter).reading
        if isinstance(reading, str):
            return Subject(Kind.PARAMETER, parameter, reading, f"is {reading!r}")
        near = next((item for item in spelling.PARAMETERS if spelling.misspelt(parameter, item)), None)
        if near:
            raise NoNameError(f"is no parameter that /sys/module/{module} shows (did you mean {near}?)")
        if module in known.loadable | known.built_in or parameter in spelling.PARAMETERS:
            return Subject(Kind.PARAMETER, parameter, None, f"/sys/module/{module} shows no such parameter")
    release = host.kernel(()).release
    if not spelling.is_known(sysctl):
        meant = spelling.like(sysctl, host.expand(f"{sysctl.rpartition('.')[0]}.*"))
        hint = f"did you mean {meant}?" if meant else f"list those of this kernel: ls /proc/sys/{_directory(sysctl)}"
        raise NoNameError(f"is no sysctl that kernel {release} has, or that is known ({hint})")
    return Subject(Kind.SYSCTL, sysctl, None, f"kernel {release} has no such file in /proc/sys")


def _short(name: str, plan: Plan, host: LinuxHost) -> Subject:
    """Return what is called so for short: a module, the last part of a sysctl's name, a scheduler."""
    module = _module(name, host)
    if module:
        return module
    called = dict.fromkeys(found for word in spelling.called(name) for found in _spelled_out(word, host))
    held = {subject.name: subject for word in called for subject in [_held(word, plan)] if subject}
    # What the configuration holds is what is asked about, unless it holds several of that name.
    names = list(held or called)
    grouped = dict.fromkeys(subject.group or subject.name for subject in held.values())
    if len(grouped) == 1 and len(names) > 1:
        names = list(grouped)
    if len(names) == 1:
        return find(names[0], plan, host)
    if names:
        more = f" and {len(names) - _MOST} more" if len(names) > _MOST else ""
        raise NoNameError(f"stands for {', '.join(names[:_MOST])}{more} (give one of them)")
    meant = spelling.like(name) or spelling.nearest(name, [KUBE_IPVS], 0.8)
    hint = f"did you mean {meant}?" if meant else _EXAMPLE
    if name in PROFILES:
        hint = f"of the profile, 'ipvsd profile show {name}' tells all"
    raise NoNameError(f"is no module of kernel {host.kernel(()).release}, no sysctl and no interface ({hint})")


def _spelled_out(name: str, host: LinuxHost) -> Iterator[str]:
    """Yield a name with the interfaces that there are in place of IFACE, `all` at least."""
    if ".IFACE." not in name:
        yield name
        return
    found = list(host.expand(name.replace("IFACE", "*")))
    yield from found or [sysctls.ALIASES.get(whole, whole) for whole in [name.replace("IFACE", "all")]]


def _module(name: str, host: LinuxHost) -> Optional[Subject]:
    """Return the module of that name, or None if this kernel has none and none is known."""
    module = formats.module_name(name)
    if module is None:
        raise NoNameError(f"is no module, and no sysctl ({_EXAMPLE})")
    kernel = host.explain(host.kernel([module]), [module])
    live: Mapping[str, ModuleState] = host.modules([kernel.module(module)])
    found: ModuleFinding = verdicts.judge(WantedModule(module, Need.IF_SHIPPED, ""), Observed(kernel, live, {}))
    there = found.verdict not in _NO_SIGN
    if not there and module not in spelling.modules():
        return None
    return Subject(Kind.MODULE, found.module, found.verdict.value, found.evidence)


def _interface(name: str, plan: Plan, host: LinuxHost) -> Subject:
    live = "present" if host.is_interface(name) else "absent"
    if name == KUBE_IPVS:
        evidence = (
            "kube-proxy makes it in IPVS mode, keeps it down, and puts the addresses of all services on it; "
            "ipvsd leaves it alone"
        )
        return Subject(Kind.INTERFACE, name, live, evidence)
    key = name.replace(".", "/")
    held = [item.name for item in plan.sysctls if item.name.split(".")[3:4] == [key]]
    evidence = f"a network interface; held of it: {', '.join(held) or 'nothing'}"
    return Subject(Kind.INTERFACE, name, live, evidence)


def _directory(sysctl: str) -> str:
    return "/".join(part.replace("/", ".") for part in sysctl.split(".")[:-1])


def _sysctl_name(name: str) -> Optional[str]:
    parts = sysctls.parts(name, patterns=True)
    return sysctls.name(parts) if parts else None


def _parameter_name(name: str) -> Optional[str]:
    module, _, parameter = name.partition(".")
    known = formats.module_name(module) if re.match(r"[A-Za-z0-9_]{1,64}\Z", parameter) else None
    return f"{known}.{parameter}" if known else None
