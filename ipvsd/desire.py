"""desired(config, kernel): what the profiles and the user's settings want on this kernel."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Union

from ipvsd import formats
from ipvsd.config import Config, ModuleSetting
from ipvsd.model import AtLeast, Desired, Exactly, Kernel, ModuleState, Need, Policy, WantedModule, WantedSysctl
from ipvsd.profiles import PROFILES, PerCpu, Profile, Switch, SysctlEntry, provider


def candidates(config: Config) -> frozenset[str]:
    """Return every module name about which the kernel's index has to be asked."""
    names = {f"ip_vs_{config.scheduler}", *config.modules}
    for name in config.profiles:
        profile = PROFILES[name]
        names.update(entry.name for entry in profile.modules)
        names.update(variant for variants in profile.alternatives for variant in variants)
    names.update(filter(None, (provider(key) for key in config.sysctls)))
    return frozenset(names)


def desired(config: Config, kernel: Kernel, loaded: Mapping[str, ModuleState]) -> Desired:
    """Return what is wanted, each thing once, in the order in which it is to be done and shown."""
    modules: dict[str, WantedModule] = {}
    sysctls: dict[str, WantedSysctl] = {}
    known = kernel.loadable | kernel.built_in | frozenset(loaded)
    for name in config.profiles:
        for module in _modules(name, config, known):
            old = modules.get(module.name)
            if old is None or _WEIGHT[module.need] > _WEIGHT[old.need]:
                modules[module.name] = module
        for sysctl in _sysctls(name, config, kernel):
            sysctls.setdefault(sysctl.key, sysctl)
    _adjust_modules(modules, config.modules)
    _adjust_sysctls(sysctls, config)
    return Desired(tuple(modules.values()), tuple(sysctls.values()))


_WEIGHT = {Need.IF_SHIPPED: 0, Need.WANTED: 1, Need.REQUIRED: 2}


def _on(switch: Union[Switch, None], config: Config) -> bool:
    states = {Switch.STRICT_ARP: config.strict_arp, Switch.BRIDGE_NETFILTER: config.bridge_netfilter}
    return switch is None or states[switch]


def _modules(name: str, config: Config, known: frozenset[str]) -> Iterator[WantedModule]:
    profile, origin = PROFILES[name], f"profile {name}"
    entries = [entry for entry in profile.modules if _on(entry.switch, config)]
    yield from (WantedModule(entry.name, entry.need, origin) for entry in entries if entry.need is Need.REQUIRED)
    if profile.scheduler:
        yield WantedModule(f"ip_vs_{config.scheduler}", Need.REQUIRED, f"scheduler: {config.scheduler}")
    yield from _alternatives(profile, known, origin)
    yield from (WantedModule(entry.name, entry.need, origin) for entry in entries if entry.need is not Need.REQUIRED)


def _alternatives(profile: Profile, known: frozenset[str], origin: str) -> Iterator[WantedModule]:
    for variants in profile.alternatives:
        present = [variant for variant in variants if variant in known]
        for variant in present or variants[:1]:  # none known: the first one stands for the failure
            yield WantedModule(variant, Need.REQUIRED, origin)


def _sysctls(name: str, config: Config, kernel: Kernel) -> Iterator[WantedSysctl]:
    version = formats.kernel_version(kernel.release)
    for entry in PROFILES[name].sysctls:
        if _on(entry.switch, config) and entry.since <= version < entry.before:
            yield WantedSysctl(
                entry.key, _want(entry, kernel.cpus), Policy.ENFORCE, entry.required, f"profile {name}",
                provider(entry.key),
            )  # fmt: skip


def _want(entry: SysctlEntry, cpus: int) -> Union[Exactly, AtLeast]:
    want = entry.want
    return AtLeast(min(want.most, max(want.least, want.each * cpus))) if isinstance(want, PerCpu) else want


def _adjust_modules(modules: dict[str, WantedModule], settings: Mapping[str, ModuleSetting]) -> None:
    for name, setting in settings.items():
        if setting.dropped:
            modules.pop(name, None)
        elif setting.required is not None or name not in modules:
            need = Need.WANTED if setting.required is False else Need.REQUIRED
            modules[name] = WantedModule(name, need, setting.origin)


def _adjust_sysctls(sysctls: dict[str, WantedSysctl], config: Config) -> None:
    for key, setting in config.sysctls.items():
        old = sysctls.get(key)
        want = setting.want or (old.want if old else None)
        if setting.dropped or want is None:
            sysctls.pop(key, None)
            continue
        sysctls[key] = WantedSysctl(
            key,
            want,
            setting.policy or (old.policy if old else Policy.ENFORCE),
            setting.required if setting.required is not None else (old.required if old else False),
            setting.origin,
            provider(key),
        )
