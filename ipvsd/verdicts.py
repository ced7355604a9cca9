"""The verdict on one module: exactly one of a closed set, with its evidence and its remedy."""

from __future__ import annotations

import errno

from ipvsd import formats, remedies
from ipvsd.model import (
    Kernel,
    ModuleFinding,
    ModuleState,
    ModuleVerdict,
    Observed,
    Outcome,
    WantedModule,
)

V = ModuleVerdict

# What init_module(2) says of a module's signature (certs/ and kernel/module/signing.c).
_SIGNATURE = {errno.EKEYREJECTED, errno.ENOKEY, errno.EKEYEXPIRED, errno.EKEYREVOKED, errno.EBADMSG, errno.ENOPKG}

# Of several alternatives the one with the first of these verdicts stands for them.
_BEST_FIRST = (V.LIVE, V.BUILT_IN, V.LOADING, V.UNLOADING, V.LOADABLE)


def judge(wanted: WantedModule, observed: Observed) -> ModuleFinding:
    """Return what has been seen of a wanted module, before anything is tried."""
    if wanted.any_of:
        return _judge_alternatives(wanted, observed)
    kernel, module = observed.kernel, observed.kernel.module(wanted.name)
    verdict, evidence = _seen(module, observed)
    if formats.kernel_version(kernel.release) < wanted.kernel_since:
        since = "{}.{}".format(*wanted.kernel_since)
        verdict, evidence = (
            V.KERNEL_TOO_OLD,
            f"kernel {kernel.release} is older than {since}, which {wanted.origin} needs",
        )
    if module != wanted.name:
        evidence = f"alias of {module}: {evidence}"
    return ModuleFinding(wanted, verdict, evidence, _remedy(verdict, kernel, module), module)


def _judge_alternatives(wanted: WantedModule, observed: Observed) -> ModuleFinding:
    members = [wanted._replace(name=name, any_of=()) for name in wanted.any_of]
    found = [judge(member, observed) for member in members]
    best = [finding for verdict in _BEST_FIRST for finding in found if finding.verdict is verdict]
    # One that failed has its turn again after another one did.
    best.sort(key=lambda finding: not finding.right and finding.module == observed.failed.get(wanted.name))
    chosen = best[0] if best else found[0]
    others = "" if best else "".join(f"; {finding.name} {finding.verdict.value}" for finding in found[1:])
    evidence = f"{chosen.name}: {chosen.evidence}{others}"
    return ModuleFinding(wanted, chosen.verdict, evidence, chosen.remedy, chosen.module)


def _seen(name: str, observed: Observed) -> tuple[ModuleVerdict, str]:
    kernel, state = observed.kernel, observed.modules.get(name)
    tree = f"/lib/modules/{kernel.release}"
    if state is ModuleState.LIVE:
        return V.LIVE, "/proc/modules: Live"
    if name in kernel.built_in:
        return V.BUILT_IN, f"{tree}/modules.builtin" if kernel.modular else "built into a kernel without modules"
    if not kernel.modular:
        return V.NO_SUPPORT, "there is no /proc/modules"
    if state is not None:
        return V.LOADING if state is ModuleState.COMING else V.UNLOADING, f"/proc/modules: {state.value}"
    if not kernel.indexed:
        return V.TREE_GONE, f"cannot read {tree}/modules.dep"
    if name in kernel.loadable:
        return _loadable(name, kernel)
    if name in kernel.unindexed:
        return V.INDEX_STALE, f"{tree}/modules.dep does not list {kernel.unindexed[name]}"
    if name in kernel.unset:
        return V.NOT_BUILT, f"the configuration of kernel {kernel.release} {kernel.unset[name]}"
    return V.ABSENT, f"{tree}/modules.dep does not list it"


def _loadable(name: str, kernel: Kernel) -> tuple[ModuleVerdict, str]:
    rule = kernel.rules.get(name)
    if rule and rule.forbids:
        return V.BLACKLISTED if rule.command == "blacklist" else V.OVERRIDDEN, f"{rule.origin}: {rule.text}"
    if kernel.lock.disabled:
        return V.DISABLED, "kernel.modules_disabled is 1"
    if kernel.lock.incapable:
        return V.INCAPABLE, "CAP_SYS_MODULE is not in this process's bounding set"
    return V.LOADABLE, "not loaded; modules.dep lists it"


def explain(finding: ModuleFinding, failed: Outcome, kernel: Kernel) -> ModuleFinding:
    """Return the finding with what the kernel said when it was tried in place of 'to be done'."""
    verdict = _refused(finding.module, failed, kernel)
    evidence = failed.error or "the loader reported success, but the module is not live"
    if verdict is V.SIGNATURE and kernel.lock.signed:
        evidence = f"{evidence} ({kernel.lock.signed})"
    if verdict is V.OTHER_KERNEL:
        evidence = f"{evidence}: made for kernel {failed.made_for}, this is {kernel.release}"
    if verdict is V.OVERRIDDEN:
        rule = kernel.rules[finding.module]
        evidence = f"{rule.origin}: {rule.text}: {evidence}"
    return finding._replace(verdict=verdict, evidence=evidence, remedy=_remedy(verdict, kernel, finding.module))


def _refused(module: str, failed: Outcome, kernel: Kernel) -> ModuleVerdict:
    if module in kernel.rules:
        return V.OVERRIDDEN
    if failed.errno in _SIGNATURE or (failed.errno == errno.EPERM and kernel.lock.signed):
        return V.SIGNATURE
    if failed.errno == errno.EPERM:
        return V.DISABLED if kernel.lock.disabled else V.INCAPABLE
    if failed.errno == errno.ENOEXEC and failed.made_for and failed.made_for != kernel.release:
        return V.OTHER_KERNEL
    return V.FAILED


def _remedy(verdict: ModuleVerdict, kernel: Kernel, module: str) -> str:
    return remedies.module(verdict, kernel, module)
