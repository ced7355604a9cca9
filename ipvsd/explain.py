"""Everything about one sysctl, module or parameter: what it is, what is wanted and why, who wrote it, who will."""

from __future__ import annotations

import enum
import re
import shlex
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Optional

from ipvsd import formats, profiles, remedies, statusfile, sysctls, verdicts
from ipvsd.config import Config
from ipvsd.defaults import DEFAULTS
from ipvsd.groups import collapsed
from ipvsd.health import harmless
from ipvsd.host import LinuxHost
from ipvsd.model import (
    Finding,
    Kernel,
    ModuleFinding,
    ModuleState,
    Need,
    Observed,
    Plan,
    SysctlFinding,
    SysctlVerdict,
    Unreadable,
    Want,
    WantedModule,
)
from ipvsd.reconcile import look
from ipvsd.rivals import Effect, Names, Setting
from ipvsd.rivals.survey import Survey, agrees, survey

_TAKES_AWAY = (Effect.FORBIDS, Effect.UNLOADS)


class Kind(enum.Enum):
    SYSCTL = "sysctl"
    PARAMETER = "parameter"
    MODULE = "module"


class NoNameError(Exception):
    """Nothing can be called so; the text says what can."""


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


@dataclass(frozen=True)
class Explanation:
    """`reasons` are (who wants it, why); `default` is the kernel's own value and who says so.

    `repair` is the last one that the daemon made of it, as it stands in its status file, and `contended`
    whoever fights for it, or an empty text.
    """

    subject: Subject
    reasons: tuple[tuple[str, str], ...]
    default: Optional[tuple[str, str]]
    daemon: bool  # it runs, and tells what it has seen
    repair: Optional[Mapping[str, Any]]
    contended: str
    survey: Survey

    def agrees(self, setting: Setting) -> Optional[bool]:
        """Tell whether a setting leaves the subject as it is wanted; None if that cannot be told, or nothing is."""
        return agrees(setting, self.subject.want) if self.subject.finding else None

    @property
    def exit_code(self) -> int:
        """Return 0 if it is right and stays so, 1 if it is not or does not, 2 if that cannot be told."""
        finding = self.subject.finding
        if finding is None:
            return 0 if self.subject.readable and not self.survey.unread else 2
        counted = [
            self.agrees(item) for item in self.survey.settings if item.wins and item.effect is not Effect.DISTURBS
        ]
        if not (finding.right or harmless(finding)):
            return 2 if finding.verdict is SysctlVerdict.UNREADABLE else 1
        if False in counted:
            return 1
        return 2 if None in counted or self.survey.unread else 0


def explain(root: str, config: Config, name: str) -> Explanation:
    """Return what is known about a name, held or not. Raises NoNameError; changes nothing."""
    host = LinuxHost(root)
    kernel, plan = look(host, config)
    status, below = statusfile.read(root), "" if root == "/" else shlex.quote(root)
    plan = remedies.fitted(plan, below, daemon=not below and status is not None)
    subject = _held(name, plan) or _other(name, host, kernel)
    provider = subject.finding.wanted.provider if isinstance(subject.finding, SysctlFinding) else None
    brought = (provider,) if provider else ()
    names = {
        Kind.SYSCTL: Names(sysctls=subject.names, modules=brought),
        Kind.PARAMETER: Names(parameters=subject.names, modules=brought),
        Kind.MODULE: Names(modules=subject.names),
    }
    found = survey(root, names[subject.kind])
    # Of the module that brings a sysctl, only what takes both away counts here.
    told = tuple(item for item in found.settings if item.name in subject.names or item.effect in _TAKES_AWAY)
    return Explanation(
        subject,
        tuple(_reasons(subject, config)),
        DEFAULTS.get(subject.name) or DEFAULTS.get(_group(subject)),
        status is not None,
        _last("repairs", status or {}, subject),
        str((_last("contended", status or {}, subject) or {}).get("rival", "")),
        Survey(told, found.unread),
    )


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


def _other(name: str, host: LinuxHost, kernel: Kernel) -> Subject:
    """Return what is there under a name that the configuration does not hold."""
    if "." not in name and "/" not in name:
        return _other_module(name, host)
    sysctl, parameter = _sysctl_name(name), _parameter_name(name)
    if sysctl is None:
        raise NoNameError("is no sysctl, no module and no MODULE.PARAMETER (give one, such as net.ipv4.ip_forward)")
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
        if module in known.loadable | known.built_in:
            return Subject(Kind.PARAMETER, parameter, None, f"/sys/module/{module} shows no such parameter")
    return Subject(Kind.SYSCTL, sysctl, None, f"kernel {kernel.release} has no such file in /proc/sys")


def _other_module(name: str, host: LinuxHost) -> Subject:
    module = formats.module_name(name)
    if module is None:
        raise NoNameError("is no module, and no sysctl (letters, digits, '_' and '-', at most 55)")
    kernel = host.explain(host.kernel([module]), [module])
    live: Mapping[str, ModuleState] = host.modules([kernel.module(module)])
    found: ModuleFinding = verdicts.judge(WantedModule(module, Need.IF_SHIPPED, ""), Observed(kernel, live, {}))
    return Subject(Kind.MODULE, found.module, found.verdict.value, found.evidence)


def _sysctl_name(name: str) -> Optional[str]:
    parts = sysctls.parts(name.removeprefix("/proc/sys/"), patterns=True)
    return sysctls.name(parts) if parts else None


def _parameter_name(name: str) -> Optional[str]:
    module, _, parameter = name.partition(".")
    known = formats.module_name(module) if re.match(r"[A-Za-z0-9_]{1,64}\Z", parameter) else None
    return f"{known}.{parameter}" if known else None


def _group(subject: Subject) -> str:
    """Return the pattern by which it is wanted, or an empty text."""
    return subject.finding.wanted.group if isinstance(subject.finding, SysctlFinding) else ""


def _reasons(subject: Subject, config: Config) -> Iterator[tuple[str, str]]:
    """Yield who wants it, and why: first whose word counts, then the other profiles that want it."""
    if subject.finding is None:
        return
    origin, names = subject.finding.wanted.origin, (subject.finding.name, subject.name, _group(subject))
    whys = {
        profile: next(filter(None, (profiles.why(profile, name) for name in names)), "") for profile in config.profiles
    }
    if origin.startswith("scheduler: "):
        yield origin, profiles.SCHEDULER_WHY
    elif origin.removeprefix("profile ") not in whys:
        yield origin, ""
    yield from ((f"profile {profile}", why) for profile, why in whys.items() if why)


def _last(key: str, status: Mapping[str, Any], subject: Subject) -> Optional[Mapping[str, Any]]:
    """Return the last item about it of a list in a status document, whatever version has written that."""
    names = (subject.name, subject.finding.name if subject.finding else subject.name)
    items = status.get(key)
    for item in reversed(items if isinstance(items, list) else []):
        if isinstance(item, dict) and item.get("name") in names:
            return item
    return None
