"""plan(desired, observed): the only place that says what is right and what is to be done."""

from __future__ import annotations

import re

from ipvsd import remedies, values, verdicts
from ipvsd.model import (
    MISSING,
    Action,
    Desired,
    LoadModule,
    Missing,
    ModuleFinding,
    ModuleState,
    ModuleVerdict,
    Observed,
    Parameter,
    Plan,
    Policy,
    Reading,
    SysctlFinding,
    SysctlVerdict,
    Unreadable,
    WantedSysctl,
    WriteParameter,
    WriteSysctl,
)

IP_FORWARD = "net.ipv4.ip_forward"
_FOLLOWER = re.compile(r"net\.ipv4\.conf\.[^.]+\.forwarding\Z")


def plan(desired: Desired, observed: Observed) -> Plan:
    """Judge everything wanted, and return it with the smallest set of actions that makes it right.

    A module on its way out is loaded again like one that is gone; one on its way in is waited for.
    """
    modules = tuple(verdicts.judge(wanted, observed) for wanted in desired.modules)
    sysctls = tuple(judge(wanted, observed.sysctls.get(wanted.key, MISSING), observed) for wanted in desired.sysctls)
    parameters = tuple(_judge_parameter(wanted, observed) for wanted in desired.parameters)
    # Writes come before the loading of modules: a write takes microseconds.
    actions: list[Action] = [*_writes(sysctls, WriteSysctl), *_writes(parameters, WriteParameter)]
    actions += [_load(found) for found in modules if found.verdict in _TO_LOAD]
    return Plan(tuple(actions), modules, sysctls, parameters)


_TO_LOAD = (ModuleVerdict.LOADABLE, ModuleVerdict.UNLOADING)


def _load(finding: ModuleFinding) -> LoadModule:
    module = "" if finding.module == finding.name else finding.module
    return LoadModule(finding.name, module, finding.wanted.options)


def _writes(findings: tuple[SysctlFinding, ...], kind: type[WriteSysctl]) -> list[WriteSysctl]:
    writes = [
        kind(finding.name, finding.found or "", values.target(finding.wanted.want, finding.found or ""))
        for finding in findings
        if finding.verdict is SysctlVerdict.WRONG
        and finding.wanted.policy is not Policy.OBSERVE
        and values.can_be_met(finding.wanted.want, finding.found or "")
    ]
    # A change of ip_forward resets other values below net.ipv4.conf (RFC 1812 behaviour,
    # Documentation/networking/ip-sysctl.rst), so it comes first and the next round looks at them.
    return sorted(writes, key=lambda write: write.name != IP_FORWARD)


def leading(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Return the actions without those that the kernel itself takes with another one of them."""
    first = next((action for action in actions if action.name == IP_FORWARD), None)
    return actions if first is None else tuple(action for action in actions if not _follows(action, first))


def _follows(action: Action, first: Action) -> bool:
    """Tell whether the kernel does this by itself when ip_forward is written (inet_forward_change())."""
    if not isinstance(first, WriteSysctl) or not isinstance(action, WriteSysctl):
        return False
    return _FOLLOWER.match(action.name) is not None and values.same(action.name, action.value, first.value)


def judge(wanted: WantedSysctl, reading: Reading, observed: Observed) -> SysctlFinding:
    """Return the verdict on one sysctl, before anything is tried."""
    if isinstance(reading, Missing):
        return _judge_missing(wanted, observed)
    if isinstance(reading, Unreadable):
        remedy = remedies.PASSING if reading.passing else remedies.UNREADABLE
        return SysctlFinding(wanted, None, SysctlVerdict.UNREADABLE, reading.reason, remedy)
    if values.satisfies(wanted.key, reading, wanted.want):
        return SysctlFinding(wanted, reading, SysctlVerdict.RIGHT, f"is {reading!r}")
    remedy = remedies.OBSERVED if wanted.policy is Policy.OBSERVE else remedies.APPLY
    if not values.can_be_met(wanted.want, reading):
        remedy = remedies.NO_NUMBER
    elif wanted.policy is not Policy.OBSERVE and not observed.kernel.writable(wanted.key):
        assignment = f"{wanted.key}={values.target(wanted.want, reading)}"
        remedy = remedies.READ_ONLY.format(f'"{assignment}"' if " " in assignment else assignment)
        evidence = f"is {reading!r}, not {wanted.want}; /proc/sys is mounted read-only"
        return SysctlFinding(wanted, reading, SysctlVerdict.REFUSED, evidence, remedy)
    remedy = remedies.of_sysctl(wanted, remedy)
    return SysctlFinding(wanted, reading, SysctlVerdict.WRONG, f"is {reading!r}, not {wanted.want}", remedy)


def _judge_missing(wanted: WantedSysctl, observed: Observed) -> SysctlFinding:
    module = wanted.provider
    awaited = module is not None and module not in observed.kernel.built_in
    if awaited and observed.modules.get(module or "") is not ModuleState.LIVE:
        unknown = observed.kernel.unreadable and module not in observed.modules
        evidence = f"comes with module {module}, {'of which nothing can be read' if unknown else 'which is not live'}"
        return SysctlFinding(wanted, None, SysctlVerdict.PENDING, evidence, f"see module {module}")
    evidence = f"kernel {observed.kernel.release} has no such file in /proc/sys"
    if wanted.group == wanted.key:
        evidence = "nothing in /proc/sys fits the pattern"
    return SysctlFinding(wanted, None, SysctlVerdict.UNSUPPORTED, evidence, remedies.unsupported(wanted))


def _judge_parameter(wanted: WantedSysctl, observed: Observed) -> SysctlFinding:
    seen = observed.parameters.get(wanted.key, Parameter(MISSING))
    # It lies in /sys, whatever became of /proc/sys.
    elsewhere = observed._replace(kernel=observed.kernel._replace(read_only=frozenset()))
    finding = judge(wanted, seen.reading, elsewhere)
    if finding.verdict is SysctlVerdict.UNSUPPORTED:
        return finding._replace(evidence=f"/sys/module/{wanted.provider} shows no such parameter")
    if finding.verdict is not SysctlVerdict.WRONG or seen.writable:
        return finding
    if wanted.provider in observed.kernel.built_in:
        evidence, remedy = (
            f"{finding.evidence}; the module is built in",
            remedies.COMMAND_LINE.format(f"{wanted.key}={values.target(wanted.want, '')}"),
        )
        return finding._replace(verdict=SysctlVerdict.NEEDS_RELOAD, evidence=evidence, remedy=remedy)
    users = f"in use by {seen.users}" if seen.users else "not in use"
    evidence = f"{finding.evidence}; it is taken only when module {wanted.provider} is loaded, which is {users}"
    return finding._replace(verdict=SysctlVerdict.NEEDS_RELOAD, evidence=evidence, remedy=remedies.NEEDS_RELOAD)
