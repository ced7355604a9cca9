"""Predict the next boot: the modules that are loaded and the sysctls that are set, without ipvsd and with it.

systemd-modules-load runs before systemd-sysctl, and both before ipvsd (systemd's units). `kernel.modules_disabled = 1`
prevents all later loading of modules. Other programs set values later, in the order of their start.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Collection, Iterator, Mapping
from typing import NamedTuple, Optional

from ipvsd.boot.kernel_command_line import command_line
from ipvsd.boot.loaded_modules import FailingLine, LoadResult, load_at_boot
from ipvsd.config.profiles import provider
from ipvsd.conflicts import detection
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.conflicts.modules_load import CMDLINE, DEBIAN_FILE, DIRECTORIES, lines, unread_lines
from ipvsd.conflicts.sysctl_d import from_command_line, simulate_systemd_sysctl, systemd_lines
from ipvsd.decide import remedies
from ipvsd.kernel import os_release
from ipvsd.kernel.roots import classify_root
from ipvsd.model.types import Finding, Kernel, ModuleFinding, Plan, Policy, SysctlFinding
from ipvsd.model.value_texts import listed, text_of
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.modprobe import kernel_names
from ipvsd.sysctl import semantics, values
from ipvsd.sysctl.catalog import DEFAULTS

# In the order of their start at boot. Programs that are not listed act at other times.
_AT_BOOT = (Program.KERNEL, Program.SYSTEMD_SYSCTL, Program.NETWORKD, Program.UFW, Program.TUNED, Program.REAPPLY)
_EARLY = (Program.KERNEL, Program.SYSTEMD_SYSCTL)
_UNITS = ("ipvsd.service", "ipvsd-apply.service")
_MODULES_DISABLED = "kernel/modules_disabled"
_MODULES_LOAD_SERVICE, _SYSCTL_SERVICE = "systemd-modules-load.service", "systemd-sysctl.service"

_SHOWN = 3
PERSIST = "ipvsd apply --persist"
NOT_LOADED = "nothing loads the module at boot"


class ModulesDisabled(NamedTuple):
    """The line that disables module loading at boot. `early` means that it does so before any module is loaded."""

    text: str
    origin: str
    early: bool


class Boot(NamedTuple):
    """The next boot. `unit` is ipvsd's unit that will run, or empty. `settings` with a `failure` have no effect."""

    release: str
    loaded: Mapping[str, str]  # the modules that are live before ipvsd starts, each with the line that loads it
    failing: tuple[FailingLine, ...]
    modules_disabled: Optional[ModulesDisabled]
    unit: str
    settings: tuple[ExternalSetting, ...]
    unreadable_files: Mapping[str, str]
    masked: Mapping[str, str]  # those of systemd's own units that do not run, with the reason


def predict(root: str, kernel: Kernel, names: Names) -> Boot:
    """Predict the next boot of a kernel. Raises rootfs.UnreadableError if a file of modprobe cannot be read."""
    tree = FileTree(root)
    cmdline = command_line(tree, classify_root(root), kernel.release)
    masked = {unit: f"{unit} is masked" for unit in (_MODULES_LOAD_SERVICE, _SYSCTL_SERVICE) if tree.masked(unit)}
    disabled = _find_modules_disabled(tree, cmdline, _SYSCTL_SERVICE in masked)
    early = disabled is not None and disabled.early
    found = (
        LoadResult({}, ())
        if early or _MODULES_LOAD_SERVICE in masked
        else load_at_boot(root, kernel.release, lines(tree, cmdline), cmdline)
    )
    known = {"proc/cmdline": cmdline, "proc/sys/kernel/osrelease": kernel.release}
    detected = detection.detect(root, names, known)
    context = _Context(found, kernel, root, early, masked)
    settings = tuple(_check_effect(item, context) for item in detected.settings)
    live = kernel.built_in if early else kernel.built_in | found.modules.keys()
    forbidden = (_forbidding_setting(root, name, disabled) for name in names.modules if disabled and name not in live)
    unit = next((unit for unit in _UNITS if tree.enabled(unit)), "")
    unread = {**detected.unreadable_files, **tree.unreadable_files}
    return Boot(kernel.release, found.modules, found.failing, disabled, unit, (*settings, *forbidden), unread, masked)


class _Context(NamedTuple):
    found: LoadResult
    kernel: Kernel
    root: str
    early: bool  # module loading is disabled before any module is loaded
    masked: Mapping[str, str]


def _find_modules_disabled(tree: FileTree, cmdline: str, masked: bool) -> Optional[ModulesDisabled]:
    for line in from_command_line(cmdline):
        if line.path == _MODULES_DISABLED and semantics.accepted_value(_MODULES_DISABLED, line.value or "") == "1":
            return ModulesDisabled(line.text, line.origin, early=True)
    lines_read = [] if masked else systemd_lines(tree)
    winner = simulate_systemd_sysctl(lines_read, [_MODULES_DISABLED]).winners.get(_MODULES_DISABLED)
    return ModulesDisabled(winner.text, winner.origin, early=False) if winner else None


def _forbidding_setting(root: str, name: str, disabled: ModulesDisabled) -> ExternalSetting:
    program = Program.KERNEL if disabled.early else Program.SYSTEMD_SYSCTL
    return ExternalSetting(
        name, Effect.BLOCKS, program, disabled.origin, disabled.text, remedy=modules_disabled_remedy(root, disabled)
    )


def modules_disabled_remedy(root: str, disabled: ModulesDisabled) -> str:
    if disabled.early:
        return f"remove {disabled.text} from the kernel command line"
    return f"run '{persist_command(root)}': modules-load.d is applied before sysctl.d"


def persist_command(root: str) -> str:
    return remedies.for_root(PERSIST, root)


def _unmask_remedy(unit: str, root: str) -> str:
    return remedies.for_root(f"run 'systemctl unmask {unit}'", root)


def _check_effect(setting: ExternalSetting, context: _Context) -> ExternalSetting:
    if setting.failure:
        return setting
    if setting.effect is Effect.LOADS:
        return _check_load(setting, context)
    if setting.effect is not Effect.SETS or setting.program not in _EARLY:
        return setting
    if setting.program is Program.SYSTEMD_SYSCTL and _SYSCTL_SERVICE in context.masked:
        return _with_failure(setting, context.masked[_SYSCTL_SERVICE], _unmask_remedy(_SYSCTL_SERVICE, context.root))
    needed = provider(setting.name)
    if needed is None or needed in context.kernel.built_in:
        return setting
    if setting.program is Program.SYSTEMD_SYSCTL and needed in context.found.modules:
        return setting
    return _with_failure(setting, f"{needed} is not loaded by then", f"run '{persist_command(context.root)}'")


def _check_load(setting: ExternalSetting, context: _Context) -> ExternalSetting:
    unit = _MODULES_LOAD_SERVICE
    if unit in context.masked:
        return _with_failure(setting, context.masked[unit], _unmask_remedy(unit, context.root))
    if context.early:
        return _with_failure(setting, "the kernel refuses all modules by then", setting.remedy)
    for item in context.found.failing:
        if item.line.origin == setting.origin != CMDLINE:
            return _with_failure(setting, item.reason, item.remedy)
    return setting


def _with_failure(setting: ExternalSetting, failure: str, remedy: str) -> ExternalSetting:
    return dataclasses.replace(setting, effective=False, failure=failure, remedy=remedy)


def plan_without_ipvsd(boot: Boot, plan: Plan, kernel: Kernel, root: str) -> Plan:
    """Return the findings after the boot if ipvsd does not run. `plan` contains those without any boot."""
    modules = tuple(_predict_module(found, boot, kernel, root) for found in plan.modules)
    possible = (*_CAN_BE_LOADED, ModuleVerdict.BUILT_IN, ModuleVerdict.MODULES_DISABLED)
    lost = {found.module or found.name for found in modules if found.verdict not in possible}
    lines: dict[str, list[ExternalSetting]] = {}
    for item in boot.settings:
        if item.effect is Effect.SETS:
            lines.setdefault(item.name, []).append(item)

    def predicted(found: SysctlFinding) -> SysctlFinding:
        found = _predict_sysctl(found, lines.get(found.name, ()), boot, kernel, root)
        if not found.missing or found.desired.provider not in lost:
            return found
        # ipvsd's drop-in files cannot set a sysctl whose module is unobtainable.
        return found._replace(remedy=f"see the remedy for module {found.desired.provider}")

    return Plan((), modules, tuple(map(predicted, plan.sysctls)), plan.parameters)


def plan_after_boot(boot: Boot, plan: Plan, kernel: Kernel, root: str) -> Plan:
    """Return the findings after the boot, with ipvsd if one of its units is enabled."""
    plan = plan_without_ipvsd(boot, plan, kernel, root)
    if not boot.unit:
        return plan
    evidence = f"{boot.unit} loads the module"
    modules = tuple(
        found._replace(verdict=ModuleVerdict.LIVE, evidence=evidence, remedy="")
        if found.verdict is ModuleVerdict.LOADABLE
        else found
        for found in plan.modules
    )
    live = {found.module for found in modules if found.compliant}
    sysctls = tuple(_with_value_written(found, boot, live) for found in plan.sysctls)
    return Plan((), modules, sysctls, plan.parameters)


_CAN_BE_LOADED = (ModuleVerdict.LIVE, ModuleVerdict.LOADABLE)


def _predict_module(found: ModuleFinding, boot: Boot, kernel: Kernel, root: str) -> ModuleFinding:
    module = found.module or found.name
    if module in kernel.built_in:
        return found
    # Among alternatives, the boot can load another one than ipvsd would load first.
    others = [kernel.module(name) for name in found.desired.any_of]
    module = next((name for name in (module, *others) if name in boot.loaded), module)
    if module in boot.loaded and (others or found.verdict in _CAN_BE_LOADED):
        evidence = f"{boot.loaded[module]} loads the module"
        return found._replace(verdict=ModuleVerdict.LIVE, evidence=evidence, remedy="", module=module)
    if found.verdict not in _CAN_BE_LOADED:
        return found
    if boot.modules_disabled:
        evidence = f"{boot.modules_disabled.origin}: {boot.modules_disabled.text}, before the module is loaded"
        remedy = modules_disabled_remedy(root, boot.modules_disabled)
        return found._replace(verdict=ModuleVerdict.MODULES_DISABLED, evidence=evidence, remedy=remedy)
    evidence, remedy = NOT_LOADED, f"run '{persist_command(root)}'"
    if _MODULES_LOAD_SERVICE in boot.masked:
        evidence, remedy = boot.masked[_MODULES_LOAD_SERVICE], _unmask_remedy(_MODULES_LOAD_SERVICE, root)
    remedy = f"{remedy}, or enable ipvsd.service"
    return found._replace(verdict=ModuleVerdict.LOADABLE, evidence=evidence, remedy=remedy)


def _predict_sysctl(
    found: SysctlFinding, settings: Collection[ExternalSetting], boot: Boot, kernel: Kernel, root: str
) -> SysctlFinding:
    needed = found.desired.provider
    if needed is not None and needed not in boot.loaded and needed not in kernel.built_in:
        lines = [item for item in settings if item.failure]
        evidence = f"provided by module {needed}, which nothing loads at boot"
        if lines:
            evidence = f"{lines[-1].origin}: {lines[-1].text}, but {needed} is not loaded by then"
        remedy = f"run '{persist_command(root)}'"
        return found._replace(actual=None, verdict=SysctlVerdict.PENDING, evidence=evidence, remedy=remedy)
    last = _last_setting(settings)
    if last is None:
        return _predict_default(found, settings, root)
    complies = detection.complies(last, found.desired.want)
    evidence = f"{last.origin}: {last.text}"
    if complies:
        return found._replace(actual=last.value, verdict=SysctlVerdict.COMPLIANT, evidence=evidence, remedy="")
    if complies is None:
        evidence = f"{evidence}; only {text_of(last.program)} can determine the effect"
    return found._replace(actual=last.value, verdict=SysctlVerdict.NONCOMPLIANT, evidence=evidence, remedy=last.remedy)


def _predict_default(found: SysctlFinding, settings: Collection[ExternalSetting], root: str) -> SysctlFinding:
    failing = next((item for item in settings if item.failure), None)
    remedy = (failing.remedy if failing else "") or f"run '{persist_command(root)}', or enable ipvsd.service"
    value, evidence = _kernel_default(found.name, failing, found.desired.pattern)
    right = value is not None and values.satisfies(found.name, value, found.desired.want)
    verdict = SysctlVerdict.COMPLIANT if right else SysctlVerdict.NONCOMPLIANT
    return found._replace(actual=value, verdict=verdict, evidence=evidence, remedy="" if right else remedy)


def _kernel_default(name: str, failing: Optional[ExternalSetting], group: str = "") -> tuple[Optional[str], str]:
    """Return the kernel's default of a sysctl or of the pattern `group`, or None if unknown, and the evidence."""
    value, source = DEFAULTS.get(name) or DEFAULTS.get(group) or ("", "")
    known = values.integer(value) is not None
    if failing:
        evidence = f"{failing.origin}: {failing.text}, but {failing.failure}"
    elif known:
        evidence = f"no line sets the value; the kernel's default is {value} ({source})"
    else:
        evidence = f"no line sets the value; the kernel's default is {value or 'unknown before the next boot'}"
    return value if known else None, evidence


def _with_value_written(found: SysctlFinding, boot: Boot, live: Collection[str]) -> SysctlFinding:
    if found.compliant or found.desired.policy is Policy.OBSERVE:
        return found
    if found.missing and found.desired.provider not in live:
        return found._replace(remedy=f"see the remedy for module {found.desired.provider}")
    value = values.value_to_write(found.desired.want, found.actual or "")
    evidence = f"{boot.unit} sets the value"
    return found._replace(actual=value, verdict=SysctlVerdict.COMPLIANT, evidence=evidence, remedy="")


def _last_setting(settings: Collection[ExternalSetting]) -> Optional[ExternalSetting]:
    candidates = [item for item in settings if item.program in _AT_BOOT and item.effective and not item.failure]
    in_order = sorted(candidates, key=lambda item: _AT_BOOT.index(item.program))
    return in_order[-1] if in_order else None


def predict_value(boot: Boot, name: str) -> tuple[Optional[str], str]:
    """Return the value of a sysctl or parameter after the boot, or None if files leave it open, and the evidence."""
    settings = [item for item in boot.settings if item.name == name and item.effect is Effect.SETS]
    given = [item for item in settings if item.program is Program.MODPROBE and item.effective and not item.failure]
    last = _last_setting(settings) or next(reversed(given), None)
    if last is None:
        return _kernel_default(name, next((item for item in settings if item.failure), None))
    if not last.certain:
        return None, f"{last.origin}: {last.text}; only {text_of(last.program)} can determine the effect"
    return last.value, f"{last.origin}: {last.text}"


def names_of(plan: Plan) -> Names:
    modules = [found.module or found.name for found in plan.modules]
    return Names(sysctls=[found.name for found in plan.sysctls], modules=modules)


def notes(boot: Boot) -> tuple[str, ...]:
    """Return notes about lines that systemd-modules-load cannot load, and about unreadable files."""
    cannot = "systemd-modules-load cannot load"
    failing = (
        f"{item.line.origin}: {cannot} {item.line.text!r}: {item.reason} ({item.remedy})" for item in boot.failing
    )
    return (*failing, *(f"cannot read {file}: {reason}" for file, reason in boot.unreadable_files.items()))


def notes_about_unread_file(root: str) -> tuple[str, ...]:
    """Return a note if /etc/modules names modules that ipvsd knows, and systemd does not read this file of Debian.

    Raises rootfs.UnreadableError.
    """
    tree = FileTree(root)
    found = [kernel_names.module_name(line.text) for line in unread_lines(tree)]
    if not found:
        return ()
    from ipvsd.config import spelling  # needed only for such a file

    variables = os_release.read(root)
    known = [name for name in dict.fromkeys(found) if name in spelling.modules()]
    if not known or "debian" not in (variables.get("ID"), *variables.get("ID_LIKE", "").split()):
        return ()
    directory = tree.shown(DIRECTORIES[0])
    remedy = f"run 'ln -s ../modules {directory}/modules.conf', or write the names in a file in {directory}"
    cannot = "systemd-modules-load does not read this file, because no link in modules-load.d leads to it"
    return (f"{tree.shown(DEBIAN_FILE)} names {listed(known, _SHOWN)}, but {cannot} ({remedy})",)


def noncompliant(plan: Plan) -> Iterator[Finding]:
    everything: tuple[Finding, ...] = (*plan.modules, *plan.sysctls)
    yield from (found for found in everything if not found.compliant)
