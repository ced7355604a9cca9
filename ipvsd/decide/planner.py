"""Plan actions. This is the only place that decides them."""

from __future__ import annotations

from ipvsd.decide import verdicts
from ipvsd.model.types import (
    MISSING,
    Action,
    Desired,
    LoadModule,
    Observed,
    Plan,
    Policy,
    SysctlFinding,
    WriteParameter,
    WriteSysctl,
)
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.sysctl import values

IP_FORWARD = "net.ipv4.ip_forward"


def plan(desired: Desired, observed: Observed) -> Plan:
    """Judge the desired state, and return the findings with the smallest set of actions that makes it compliant.

    A module that is being unloaded is loaded again like an absent one. One that is being loaded needs no action.
    """
    modules = tuple(verdicts.judge_module(wanted, observed) for wanted in desired.modules)
    sysctls = tuple(
        verdicts.judge_sysctl(wanted, observed.sysctls.get(wanted.key, MISSING), observed) for wanted in desired.sysctls
    )
    parameters = tuple(verdicts.judge_parameter(wanted, observed) for wanted in desired.parameters)
    # Writes come before the loading of modules, because a write takes microseconds.
    actions: list[Action] = [*_writes(sysctls, WriteSysctl), *_writes(parameters, WriteParameter)]
    actions += [
        LoadModule(found.name, "" if found.module == found.name else found.module, found.desired.options)
        for found in modules
        if found.verdict in (ModuleVerdict.LOADABLE, ModuleVerdict.UNLOADING)
    ]
    return Plan(tuple(actions), modules, sysctls, parameters)


def _writes(findings: tuple[SysctlFinding, ...], kind: type[WriteSysctl]) -> list[WriteSysctl]:
    writes = [
        kind(finding.name, finding.actual or "", values.value_to_write(finding.desired.want, finding.actual or ""))
        for finding in findings
        if finding.verdict is SysctlVerdict.NONCOMPLIANT
        and finding.desired.policy is not Policy.OBSERVE
        and values.can_be_met(finding.desired.want, finding.actual or "")
    ]
    # A change of ip_forward resets other values under net.ipv4.conf (RFC 1812 behaviour,
    # Documentation/networking/ip-sysctl.rst), so it comes first, and the next round observes them.
    return sorted(writes, key=lambda write: write.name != IP_FORWARD)


def without_followers(actions: tuple[Action, ...]) -> tuple[Action, ...]:
    """Return the actions without those that the kernel performs itself (inet_forward_change())."""
    first = next((action for action in actions if action.name == IP_FORWARD), None)
    if not isinstance(first, WriteSysctl):
        return actions

    def follows(action: Action) -> bool:
        same = isinstance(action, WriteSysctl) and values.equivalent(action.name, action.value, first.value)
        return same and action.name.startswith("net.ipv4.conf.") and action.name.endswith(".forwarding")

    return tuple(action for action in actions if not follows(action))
