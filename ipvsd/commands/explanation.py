"""All facts about one sysctl, module or parameter: its state, the reasons for its desired value, and its writers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Optional

from ipvsd.boot import installed_kernels, next_boot
from ipvsd.commands.subjects import Kind, Subject, find, is_own_name, possible_sysctls
from ipvsd.config import profiles
from ipvsd.config.desired_state import patterns
from ipvsd.config.schema import Config
from ipvsd.conflicts.detection import ConflictReport, complies
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.decide import remedies
from ipvsd.decide.health import tolerated, unreadable
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.roots import classify_root
from ipvsd.kube_proxy.known_values import INTERFACE as KUBE_IPVS
from ipvsd.model.types import DesiredModule, RootKind
from ipvsd.model.verdicts import ModuleVerdict
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.reporting import router_advertisements
from ipvsd.runtime import rootfs
from ipvsd.state import status_file, stored_json
from ipvsd.sysctl.catalog import DEFAULTS

_REMOVING = (Effect.BLOCKS, Effect.UNLOADS)


class NoKernelError(Exception):
    """There is no kernel by which to judge a root. The text is the reason."""


@dataclass(frozen=True)
class Explanation:
    """All facts about one item.

    `requested_name` is the name that the person used, if it is not the canonical one. `reasons` are pairs of an
    origin and a reason. `default` is the kernel's own value and its source. `repair` is the daemon's last repair of
    the item, and `contended` its contention, both from the status file.
    """

    requested_name: str
    subject: Subject
    reasons: tuple[tuple[str, str], ...]
    default: Optional[tuple[str, str]]
    daemon: bool  # it runs, and its observations are known
    repair: Optional[Mapping[str, Any]]
    contended: Optional[Mapping[str, Any]]
    conflicts: ConflictReport
    root_kind: RootKind
    release: str
    unit: str  # ipvsd's unit that will run at the next boot, or empty
    unusable: str  # the reason why the daemon's status file is unusable, or empty
    notes: tuple[str, ...] = ()

    def complies(self, setting: ExternalSetting) -> Optional[bool]:
        return complies(setting, self.subject.want(setting.name)) if self.subject.findings else None

    @property
    def exit_code(self) -> int:
        """Return 0 if the item is compliant and stays so, 1 if not, 2 if that is unknown."""
        findings = self.subject.findings
        if not findings:
            return 0 if self.subject.readable and not self.conflicts.unreadable_files else 2
        wrong = [found for found in findings if not (found.compliant or tolerated(found))]
        if wrong:
            return 2 if all(map(unreadable, wrong)) else 1
        settings = self.conflicts.settings
        effective = [item for item in settings if item.effective]
        counted = [self.complies(item) for item in effective if item.effect is not Effect.INTERFERES]
        lost = [item for item in settings if item.failure and item.effect is Effect.SETS]
        # `sysctl --system` sets nothing until someone runs it.
        made = [item for item in effective if item.program is not Program.PROCPS]
        if False in counted or (lost and not self.unit and True not in map(self.complies, made)):
            return 1
        return 2 if None in counted or self.conflicts.unreadable_files else 0


def explain(root: str, config: Config, name: str) -> Explanation:
    """Return the facts about a name, for an image after its first boot. Raises NoNameError and NoKernelError."""
    host, situation = LinuxHost(root), classify_root(root)
    if situation is RootKind.FIRST_BOOT:
        found = installed_kernels.predict_first_boot(root, config, possible_sysctls(name, patterns(config)))
        if found is None:
            raise NoKernelError(f"missing kernel in {installed_kernels.modules_directory(root)}")
        kernel, plan, host = found.kernel, found.plan, LinuxHost(root, release=found.kernel.release)
    else:
        kernel, plan = observe_and_plan(host, config)
    status, unusable = _status(root)
    plan = remedies.adapt(plan, root, daemon=root == "/" and status_file.exists(root))
    subject = find(name, plan, host, image=situation is RootKind.FIRST_BOOT)
    brought = (subject.provider,) if subject.provider else ()
    others = tuple(finding.module for finding in plan.modules)
    names = {
        Kind.SYSCTL: Names(sysctls=subject.names, modules=brought, others=others),
        Kind.PARAMETER: Names(parameters=subject.names, modules=brought, others=others),
        Kind.MODULE: Names(modules=subject.names, others=others),
        Kind.INTERFACE: Names(
            sysctls=[part.name for part in subject.parts], modules=("ip_vs",) if subject.name == KUBE_IPVS else ()
        ),
    }
    boot = next_boot.predict(root, kernel, names[subject.kind])
    if situation is RootKind.FIRST_BOOT and not subject.findings:
        subject = _after(boot, subject)
    # For the module that provides a sysctl, only settings that remove the module count. For the module of an
    # interface, only settings that disturb it count.
    removing = (Effect.INTERFERES,) if subject.kind is Kind.INTERFACE else _REMOVING
    settings = tuple(item for item in boot.settings if item.name in subject.names or item.effect in removing)
    return Explanation(
        "" if is_own_name(name, subject) else name,
        subject,
        tuple(_reasons(subject, config)),
        DEFAULTS.get(subject.name) or DEFAULTS.get(subject.pattern),
        status is not None,
        _last("repairs", status or {}, subject),
        _last("contended", status or {}, subject),
        ConflictReport(settings, boot.unreadable_files),
        situation,
        kernel.release,
        boot.unit,
        unusable,
        (*_dropped(subject, config), *router_advertisements.notes_of_tree(root, plan, subject.names)),
    )


def _status(root: str) -> tuple[Optional[Mapping[str, Any]], str]:
    try:
        return status_file.read(root), ""
    except (stored_json.UnusableError, rootfs.UnreadableError) as error:
        return None, str(error)


def _after(boot: next_boot.Boot, subject: Subject) -> Subject:
    """Return an unmanaged item as it is after the first boot of an image, as far as files determine it."""
    if subject.kind in (Kind.SYSCTL, Kind.PARAMETER):
        value, evidence = next_boot.predict_value(boot, subject.name)
        return replace(subject, actual=value, evidence=evidence)
    if subject.kind is Kind.MODULE and subject.actual == ModuleVerdict.LOADABLE.value:
        line = boot.loaded.get(subject.name)
        live = ModuleVerdict.LIVE.value if line else subject.actual
        return replace(subject, actual=live, evidence=f"{line} loads the module" if line else next_boot.NOT_LOADED)
    return subject


def _dropped(subject: Subject, config: Config) -> Iterator[str]:
    """Yield the setting because of which an item is not managed."""
    setting = config.sysctls.get(subject.name) or config.modules.get(subject.name)
    if setting is not None and setting.dropped and subject.finding is None:
        yield f"{setting.origin}: ipvsd does not manage {subject.name}, because its setting is 'false'"


def _reasons(subject: Subject, config: Config) -> Iterator[tuple[str, str]]:
    """Yield the origins and reasons of the desired state: first the effective one, then those of other profiles."""
    if subject.finding is None:
        return
    wanted, names = subject.finding.desired, (subject.finding.name, subject.name, subject.pattern)
    origin, because = wanted.origin, wanted.reason if isinstance(wanted, DesiredModule) else ""
    reasons_by_name = {
        profile: next(filter(None, (profiles.why(profile, name, because) for name in names)), "")
        for profile in config.profiles
    }
    if origin.startswith("scheduler: "):
        yield origin, profiles.SCHEDULER_WHY
    elif origin.removeprefix("profile ") not in reasons_by_name:
        yield origin, ""
    yield from ((f"profile {profile}", why) for profile, why in reasons_by_name.items() if why)


def _last(key: str, status: Mapping[str, Any], subject: Subject) -> Optional[Mapping[str, Any]]:
    """Return the last entry about the item in a list of a status document, or None."""
    names = (subject.name, *subject.names, subject.finding.name if subject.finding else subject.name)
    return next((item for item in reversed(status.get(key, [])) if item["name"] in names), None)
