"""The verdict on one module, sysctl or parameter: one of a closed set, with evidence and remedy.

The most specific cause applies. First comes proof that the module is loaded, then causes that no file can change (a
container, a former name), then the content of files.
"""

from __future__ import annotations

import errno

from ipvsd.decide import remedies
from ipvsd.model.types import (
    MISSING,
    Cause,
    DesiredModule,
    DesiredSysctl,
    Kernel,
    LoadBlocker,
    Missing,
    ModuleFinding,
    ModuleState,
    Observed,
    Outcome,
    Parameter,
    Policy,
    Reading,
    SysctlFinding,
    Unreadable,
)
from ipvsd.model.value_texts import text_of
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.modprobe import kernel_names
from ipvsd.sysctl import values

V = ModuleVerdict

# Errors of init_module(2) about a module's signature (certs/ and kernel/module/signing.c).
_SIGNATURE = {errno.EKEYREJECTED, errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.EBADMSG, errno.ENOPKG}

# The alternative with the first of these verdicts represents all of them.
_BEST_FIRST = (V.LIVE, V.BUILT_IN, V.LOADING, V.UNLOADING, V.LOADABLE)

_OF_CAUSE = {
    Cause.NOT_FOUND: V.ABSENT,
    Cause.ALIAS: V.OVERRIDDEN,
    Cause.FILE_MISSING: V.FILE_MISSING,
    Cause.COMPRESSION: V.COMPRESSION_UNSUPPORTED,
    Cause.BLACKLIST: V.BLACKLISTED,
    Cause.INSTALL: V.OVERRIDDEN,
    Cause.COMMAND_LINE: V.BLACKLISTED,
    Cause.OPTIONS: V.INVALID_OPTIONS,
}


def judge_module(wanted: DesiredModule, observed: Observed) -> ModuleFinding:
    if wanted.any_of:
        return _judge_alternatives(wanted, observed)
    kernel, module = observed.kernel, observed.kernel.module(wanted.name)
    verdict, evidence = _assess(module, observed)
    if verdict is not V.UNREADABLE and kernel_names.kernel_version(kernel.release) < wanted.kernel_since:
        since = "{}.{}".format(*wanted.kernel_since)
        verdict = V.KERNEL_TOO_OLD
        evidence = f"kernel {kernel.release} is older than {since}, the minimum for {wanted.origin}"
    if wanted.reason and verdict is not V.UNREADABLE:
        evidence = f"{evidence}; {wanted.reason}"
    if module != wanted.name:
        evidence = f"alias of {module}: {evidence}"
    return ModuleFinding(wanted, verdict, evidence, remedies.for_module(verdict, kernel, module), module)


def _judge_alternatives(wanted: DesiredModule, observed: Observed) -> ModuleFinding:
    members = [wanted._replace(name=name, any_of=()) for name in wanted.any_of]
    found = [judge_module(member, observed) for member in members]
    best = [finding for verdict in _BEST_FIRST for finding in found if finding.verdict is verdict]
    # A failed alternative is tried again after another one has failed.
    best.sort(key=lambda finding: not finding.compliant and finding.module == observed.failed.get(wanted.name))
    chosen = best[0] if best else found[0]
    others = "" if best else "".join(f"; {finding.name} {text_of(finding.verdict)}" for finding in found[1:])
    evidence = f"{chosen.name}: {chosen.evidence}{others}"
    return ModuleFinding(wanted, chosen.verdict, evidence, chosen.remedy, chosen.module)


def _assess(name: str, observed: Observed) -> tuple[ModuleVerdict, str]:
    kernel, state = observed.kernel, observed.modules.get(name)
    tree = f"/lib/modules/{kernel.release}"
    if state is ModuleState.LIVE:
        return V.LIVE, "/proc/modules: Live"
    if name in kernel.built_in:
        return V.BUILT_IN, kernel.built_in_evidence.get(name) or (
            f"{tree}/modules.builtin" if kernel.modular else "built into a kernel without module support"
        )
    if state is not None:
        return V.LOADING if state is ModuleState.COMING else V.UNLOADING, f"/proc/modules: {state.value}"
    if kernel.unreadable:
        return V.UNREADABLE, f"cannot read {kernel.unreadable}"
    if name in kernel.kconfig_unset:
        return V.NOT_BUILT, f"the configuration of kernel {kernel.release} {kernel.kconfig_unset[name]}"
    if not kernel.modular:
        return V.NO_MODULE_SUPPORT, "/proc/modules is missing"
    if name not in kernel.loadable:
        from ipvsd.modprobe import former_names  # a table that only missing items need

        former = former_names.successor(name, kernel.release)
        if former is not None:
            return V.MERGED, former
    if kernel.restrictions.incapable:
        return V.CAPABILITY_MISSING, "CAP_SYS_MODULE is not in this process's bounding set"
    if kernel.restrictions.nested:
        return V.CAPABILITY_MISSING, "a process in a user namespace cannot load modules"
    if name in kernel.loadable:
        return _loadable(name, kernel)
    return _not_listed(name, kernel, tree)


def _loadable(name: str, kernel: Kernel) -> tuple[ModuleVerdict, str]:
    blocker = kernel.load_blockers.get(name)
    if blocker is not None and blocker.cause is Cause.FILE_MISSING and blocker.module in kernel.unindexed:
        return _moved(name, blocker, kernel)
    if blocker is not None:
        return _OF_CAUSE[blocker.cause], _evidence(blocker, name)
    if kernel.restrictions.disabled:
        return V.MODULES_DISABLED, "kernel.modules_disabled is 1"
    if name in kernel.pulled_in_by:
        why = f"because the module is a dependency of {kernel.pulled_in_by[name]}"
        return V.LOADABLE, f"not loaded yet; the blacklist line has no effect, {why}"
    return V.LOADABLE, "not loaded; modules.dep lists the module"


def _moved(name: str, blocker: LoadBlocker, kernel: Kernel) -> tuple[ModuleVerdict, str]:
    unindexed_file, compression = kernel.unindexed[blocker.module], kernel.compressed.get(blocker.module)
    evidence = f"{_evidence(blocker, name)}; {unindexed_file} exists"
    if compression:
        return V.COMPRESSION_UNSUPPORTED, f"{evidence}, compressed with {compression}, which this kmod does not support"
    return V.INDEX_STALE, evidence


def _not_listed(name: str, kernel: Kernel, tree: str) -> tuple[ModuleVerdict, str]:
    blocker = kernel.load_blockers.get(name)
    if blocker is not None and blocker.cause is Cause.ALIAS:
        return V.OVERRIDDEN, _evidence(blocker, name)
    if not kernel.indexed and not kernel.has_own_modules and name not in kernel.unindexed:
        other_trees = f"; other trees: {', '.join(kernel.other_releases)}" if kernel.other_releases else ""
        return V.MODULE_TREE_MISSING, f"no modules in {tree}{other_trees}"
    if name in kernel.compressed:
        packed = f"{kernel.unindexed[name]} is compressed with {kernel.compressed[name]}"
        return V.COMPRESSION_UNSUPPORTED, f"{packed}, which this kmod does not support"
    if name in kernel.unindexed and not kernel.indexed:
        return V.NO_INDEX, f"{tree}/modules.dep.bin is missing or damaged; {kernel.unindexed[name]} exists"
    if name in kernel.unindexed:
        return V.INDEX_STALE, f"{tree}/modules.dep does not list {kernel.unindexed[name]}"
    if not kernel.indexed:
        return V.ABSENT, f"{tree} contains neither the module nor a module index"
    return V.ABSENT, f"{tree}/modules.dep does not list the module"


def _evidence(blocker: LoadBlocker, name: str) -> str:
    """Return the evidence of a blocker. It names the dependency if that is the cause."""
    needs = "" if blocker.module == name else f"needs {blocker.module}: "
    if blocker.cause is Cause.FILE_MISSING:
        return f"{needs}modules.dep lists {blocker.text}, which is missing"
    if blocker.cause is Cause.COMPRESSION:
        return f"{needs}{blocker.text} is compressed with {blocker.detail}, which this kmod does not support"
    if blocker.cause is Cause.NOT_FOUND:
        return f"{needs}unknown module"
    line = f"{blocker.origin}: {blocker.text}" if blocker.origin else blocker.text
    if blocker.cause is Cause.OPTIONS:
        name, equals, value = blocker.detail.partition("=")
        trouble = f"{value!r} is not a number" if equals else f"the kernel reads {name} as a parameter without a value"
        return f"{needs}{line}: {trouble}"
    return f"{needs}{line}"


def judge_sysctl(wanted: DesiredSysctl, reading: Reading, observed: Observed) -> SysctlFinding:
    if isinstance(reading, Missing):
        return _judge_missing(wanted, observed)
    if isinstance(reading, Unreadable):
        remedy = remedies.TRANSIENT if reading.transient else remedies.UNREADABLE
        verdict = SysctlVerdict.UNREADABLE
        return SysctlFinding(wanted, None, verdict, reading.reason, remedy, transient=reading.transient)
    if values.satisfies(wanted.key, reading, wanted.want):
        return SysctlFinding(wanted, reading, SysctlVerdict.COMPLIANT, f"actual value {reading!r}")
    evidence = f"actual value {reading!r}, desired value {wanted.want}"
    remedy = remedies.OBSERVED if wanted.policy is Policy.OBSERVE else remedies.APPLY
    if not values.can_be_met(wanted.want, reading):
        remedy = remedies.NO_NUMBER
    elif wanted.policy is not Policy.OBSERVE and not observed.kernel.writable(wanted.key):
        assignment = f"{wanted.key}={values.value_to_write(wanted.want, reading)}"
        remedy = remedies.READ_ONLY.format(f'"{assignment}"' if " " in assignment else assignment)
        evidence = f"{evidence}; /proc/sys is mounted read-only"
        return SysctlFinding(wanted, reading, SysctlVerdict.WRITE_FAILED, evidence, remedy)
    remedy = remedies.for_sysctl(wanted, remedy)
    return SysctlFinding(wanted, reading, SysctlVerdict.NONCOMPLIANT, evidence, remedy)


def _judge_missing(wanted: DesiredSysctl, observed: Observed) -> SysctlFinding:
    module = wanted.provider
    awaited = module is not None and module not in observed.kernel.built_in
    if awaited and observed.modules.get(module or "") is not ModuleState.LIVE:
        unknown = observed.kernel.unreadable and module not in observed.modules
        evidence = f"provided by module {module}, which is not {'known to be live' if unknown else 'live'}"
        return SysctlFinding(wanted, None, SysctlVerdict.PENDING, evidence, f"see the remedy for module {module}")
    evidence = f"kernel {observed.kernel.release} does not have this sysctl"
    if wanted.pattern == wanted.key:
        evidence = "no sysctl matches the pattern"
    return SysctlFinding(wanted, None, SysctlVerdict.UNSUPPORTED, evidence, remedies.for_unsupported(wanted))


def judge_parameter(wanted: DesiredSysctl, observed: Observed) -> SysctlFinding:
    seen = observed.parameters.get(wanted.key, Parameter(MISSING))
    # Parameters are in /sys, so a read-only /proc/sys does not matter.
    elsewhere = observed._replace(kernel=observed.kernel._replace(read_only=frozenset()))
    finding = judge_sysctl(wanted, seen.reading, elsewhere)
    if finding.verdict is SysctlVerdict.UNSUPPORTED:
        return finding._replace(evidence=f"unknown parameter: not in /sys/module/{wanted.provider}/parameters")
    if finding.verdict is not SysctlVerdict.NONCOMPLIANT or seen.writable:
        return finding
    if wanted.provider in observed.kernel.built_in:
        why = "the module is built in"
        remedy = remedies.COMMAND_LINE.format(f"{wanted.key}={values.value_to_write(wanted.want, '')}")
    else:
        users = f"in use by {seen.users}" if seen.users else "not in use"
        why = f"the kernel accepts this parameter only while it loads module {wanted.provider}; the module is {users}"
        remedy = remedies.NEEDS_RELOAD
    evidence = f"{finding.evidence}; {why}"
    return finding._replace(verdict=SysctlVerdict.NEEDS_MODULE_RELOAD, evidence=evidence, remedy=remedy)


def explain(finding: ModuleFinding, failed: Outcome, kernel: Kernel) -> ModuleFinding:
    """Return the finding with the error of a failed load instead of 'loadable'."""
    verdict = _refused(finding.module, failed, kernel)
    evidence = failed.error or "the loader reported success, but the module is not live"
    if verdict is V.SIGNATURE_REFUSED and kernel.restrictions.signed:
        evidence = f"{evidence} ({kernel.restrictions.signed})"
    if verdict is V.VERMAGIC_MISMATCH:
        evidence = f"{evidence}: built for kernel {failed.built_for}, not {kernel.release}"
    if verdict is V.OVERRIDDEN:
        line = kernel.install_commands[finding.module]
        evidence = f"{_evidence(line, finding.module)}: {evidence}"
    remedy = remedies.for_module(verdict, kernel, finding.module)
    return finding._replace(verdict=verdict, evidence=evidence, remedy=remedy)


def _refused(module: str, failed: Outcome, kernel: Kernel) -> ModuleVerdict:
    if module in kernel.install_commands:
        return V.OVERRIDDEN
    if failed.errno in _SIGNATURE or (failed.errno == errno.EPERM and kernel.restrictions.signed):
        return V.SIGNATURE_REFUSED
    if failed.errno == errno.EPERM:
        return V.MODULES_DISABLED if kernel.restrictions.disabled else V.CAPABILITY_MISSING
    if failed.errno == errno.ENOEXEC and failed.built_for and failed.built_for != kernel.release:
        return V.VERMAGIC_MISMATCH
    return V.LOAD_FAILED
