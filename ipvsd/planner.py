"""plan(desired, observed): the only place that says what is right and what is to be done."""

from __future__ import annotations

from ipvsd import remedies, sysctls, verdicts
from ipvsd.model import (
    Action,
    AtLeast,
    Desired,
    LoadModule,
    Missing,
    ModuleFinding,
    ModuleState,
    ModuleVerdict,
    Observed,
    Plan,
    Policy,
    SysctlFinding,
    SysctlVerdict,
    Unreadable,
    Want,
    WantedSysctl,
    WriteSysctl,
)

IP_FORWARD = "net.ipv4.ip_forward"


def plan(desired: Desired, observed: Observed) -> Plan:
    """Judge everything wanted, and return it with the smallest set of actions that makes it right.

    A module on its way out is loaded again like one that is gone; one on its way in is waited for.
    """
    modules = tuple(verdicts.judge(wanted, observed) for wanted in desired.modules)
    sysctls = tuple(_judge_sysctl(wanted, observed) for wanted in desired.sysctls)
    loads = [_load(found) for found in modules if found.verdict in _TO_LOAD]
    # What can be written is written before modules are loaded: a write takes microseconds.
    return Plan((*_writes(sysctls), *loads), modules, sysctls)


_TO_LOAD = (ModuleVerdict.LOADABLE, ModuleVerdict.UNLOADING)


def _load(finding: ModuleFinding) -> LoadModule:
    return LoadModule(finding.name, "" if finding.module == finding.name else finding.module)


def _writes(findings: tuple[SysctlFinding, ...]) -> list[Action]:
    writes: list[Action] = [
        WriteSysctl(finding.name, finding.found or "", target(finding.wanted.want))
        for finding in findings
        if finding.verdict is SysctlVerdict.WRONG and finding.wanted.policy is Policy.ENFORCE
    ]
    # A change of ip_forward resets other values below net.ipv4.conf (RFC 1812 behaviour,
    # Documentation/networking/ip-sysctl.rst), so it comes first and the next round looks at them.
    return sorted(writes, key=lambda write: write.name != IP_FORWARD)


def target(want: Want) -> str:
    """Return the value to write for a want."""
    return str(want.floor) if isinstance(want, AtLeast) else want.value


def satisfies(value: str, want: Want) -> bool:
    """Tell whether a value as the kernel prints it is what is wanted."""
    if isinstance(want, AtLeast):
        number = sysctls.integer(value)
        return number is not None and number >= want.floor
    return value == want.value


def _judge_sysctl(wanted: WantedSysctl, observed: Observed) -> SysctlFinding:
    reading = observed.sysctls.get(wanted.key, Missing())
    if isinstance(reading, Missing):
        return _judge_missing(wanted, observed)
    if isinstance(reading, Unreadable):
        return SysctlFinding(wanted, None, SysctlVerdict.UNREADABLE, reading.reason, remedies.UNREADABLE)
    if satisfies(reading, wanted.want):
        return SysctlFinding(wanted, reading, SysctlVerdict.RIGHT, f"is {reading!r}")
    remedy = remedies.OBSERVED if wanted.policy is Policy.OBSERVE else remedies.APPLY
    return SysctlFinding(wanted, reading, SysctlVerdict.WRONG, f"is {reading!r}, not {wanted.want}", remedy)


def _judge_missing(wanted: WantedSysctl, observed: Observed) -> SysctlFinding:
    module = wanted.provider
    awaited = module is not None and module not in observed.kernel.built_in
    if awaited and observed.modules.get(module or "") is not ModuleState.LIVE:
        evidence = f"comes with module {module}, which is not live"
        return SysctlFinding(wanted, None, SysctlVerdict.PENDING, evidence, f"see module {module}")
    evidence = f"kernel {observed.kernel.release} has no such file in /proc/sys"
    return SysctlFinding(wanted, None, SysctlVerdict.UNSUPPORTED, evidence, remedies.UNSUPPORTED)
