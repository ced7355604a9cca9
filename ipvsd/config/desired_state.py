"""The desired state on a kernel, from the profiles and the user's settings."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import NamedTuple, Optional, Union

from ipvsd.config import iptables_backend
from ipvsd.config.profiles import (
    PROFILES,
    Alternatives,
    ModuleEntry,
    PerCpu,
    Switch,
    SysctlEntry,
    module_names,
    provider,
)
from ipvsd.config.schema import Config, ModuleSetting, SysctlSetting
from ipvsd.model.types import (
    Desired,
    DesiredModule,
    DesiredSysctl,
    Exactly,
    Kernel,
    ModuleState,
    Need,
    Policy,
    Want,
    Within,
)
from ipvsd.modprobe import kernel_names
from ipvsd.sysctl import sysctl_names
from ipvsd.sysctl.patterns import Patterns, Scope, renumber


class PatternRule(NamedTuple):
    """The desired value of all sysctls that match a pattern, which is the key, except for the parts in `exclude`."""

    wanted: DesiredSysctl
    exclude: tuple[str, ...]


def candidates(config: Config) -> frozenset[str]:
    names = {f"ip_vs_{config.scheduler}"}
    for key, setting in config.modules.items():
        names.update(setting.any_of or (key,))
    for name in config.profiles:
        names.update(module_names(PROFILES[name]))
    names.update(filter(None, (provider(key) for key in config.sysctls)))
    return frozenset(names)


def patterns(config: Config) -> tuple[str, ...]:
    """Return the patterns among the sysctls, which have to be expanded."""
    entries = (entry for name in config.profiles for entry in PROFILES[name].sysctls)
    keys = (entry.key for entry in entries if _is_enabled(entry.switch, config))
    dropped = {key for key, setting in config.sysctls.items() if setting.dropped}
    # A person's position in the order applies, as in `pattern_rules`.
    named = dict.fromkeys((*(key for key in keys if key not in config.sysctls), *config.sysctls))
    return tuple(key for key in named if sysctl_names.is_pattern(key) and key not in dropped)


def pattern_rules(config: Config, kernel: Kernel) -> tuple[PatternRule, ...]:
    """Return the rules of all patterns, in order. If two match the same sysctl, the later one applies."""
    wanted = _wanted_sysctls(config, kernel)
    return tuple(
        PatternRule(item, config.sysctls.get(key, SysctlSetting("")).exclude)
        for key, item in wanted.items()
        if sysctl_names.is_pattern(key)
    )


class PatternRules:
    def __init__(self, rules: Sequence[PatternRule]) -> None:
        self._rules = rules
        self._scopes: dict[int, Scope] = {}
        self._index: Optional[Patterns] = None

    def match(self, name: str) -> Optional[DesiredSysctl]:
        """Return the desired value of the last pattern that matches a sysctl, or None."""
        if self._index is None:  # the first reconciliation does not need it
            self._index = Patterns(sysctl_names.globs(rule.wanted.key) or () for rule in self._rules)
        matching = 0
        for path in sysctl_names.paths(name):
            matching |= self._index.matching_mask(path)
        number = self.last(name, matching)
        return None if number is None else self._rules[number].wanted

    def last(self, name: str, matching: int) -> Optional[int]:
        """Return the last rule in the mask `matching` that does not exclude a sysctl, or None."""
        while matching:
            number = matching.bit_length() - 1
            if self._admits(number, name):
                return number
            matching ^= 1 << number
        return None

    def _admits(self, number: int, name: str) -> bool:
        wanted, exclude = self._rules[number]
        if not exclude or name == wanted.key:  # the pattern itself is the name if its matches are unknown
            return True
        if number not in self._scopes:
            self._scopes[number] = Scope(wanted.key, exclude)
        return name in self._scopes[number]


def build_desired(
    config: Config, kernel: Kernel, loaded: Mapping[str, ModuleState], expanded: Mapping[str, Collection[str]]
) -> Desired:
    """Return the desired state, in the order of actions and output, with the `expanded` sysctls of each pattern."""
    modules: dict[str, DesiredModule] = {}
    known = kernel.loadable | kernel.built_in | frozenset(loaded)
    for name in config.profiles:
        for module in _modules(name, config, kernel, known):
            old = modules.get(module.name)
            if old is None or _WEIGHT[module.need] > _WEIGHT[old.need]:
                modules[module.name] = module
    _adjust_modules(modules, config.modules)
    named = [item for key, item in _wanted_sysctls(config, kernel).items() if not sysctl_names.is_pattern(key)]
    expanded_sysctls = _expand(config, named, pattern_rules(config, kernel), expanded)
    return Desired(tuple(modules.values()), (*named, *expanded_sysctls), tuple(_parameters(modules, config)))


def need_of(config: Config, module: str) -> Optional[Need]:
    """Return whether the configuration requires a module on a kernel that has it, or None if it does not request it."""
    kernel = Kernel("", "", cpus=1, modular=True, indexed=True, loadable=frozenset((module,)), built_in=frozenset())
    wanted = build_desired(config, kernel, {}, {}).modules
    return next((item.need for item in wanted if module == item.name or module in item.any_of), None)


_WEIGHT = {Need.IF_SHIPPED: 0, Need.OPTIONAL: 1, Need.REQUIRED: 2}


def _is_enabled(switch: Union[Switch, None], config: Config) -> bool:
    states = {Switch.STRICT_ARP: config.strict_arp, Switch.BRIDGE_NETFILTER: config.bridge_netfilter}
    return switch is None or states[switch]


def _modules(name: str, config: Config, kernel: Kernel, known: frozenset[str]) -> Iterator[DesiredModule]:
    profile, origin = PROFILES[name], f"profile {name}"
    wanted = [
        DesiredModule(entry.name, entry.need, origin, kernel_since=entry.kernel_since)
        for entry in profile.modules
        if _applies(entry, config, kernel, known)
    ]
    yield from (module for module in wanted if module.need is Need.REQUIRED)
    if profile.scheduler:
        yield DesiredModule(f"ip_vs_{config.scheduler}", Need.REQUIRED, f"scheduler: {config.scheduler}")
    yield from _alternatives(profile.alternatives, known, origin)
    if profile.back_ends:
        chosen, reason = iptables_backend.choose(profile.back_ends, kernel, known)
        for entry in chosen.modules:
            if _applies(entry, config, kernel, known):
                yield DesiredModule(entry.name, entry.need, origin, reason=reason)
        yield from _alternatives(chosen.alternatives, known, origin, reason)
    yield from (module for module in wanted if module.need is not Need.REQUIRED)


def _applies(entry: ModuleEntry, config: Config, kernel: Kernel, known: frozenset[str]) -> bool:
    if not _is_enabled(entry.switch, config) or (entry.ipv6 and not kernel.ipv6):
        return False
    if entry.silent and entry.name not in known:
        return False
    version, before = config.kube_proxy, entry.kube_proxy_before
    return version is None or (entry.kube_proxy_since <= version and (before is None or version < before))


def _alternatives(
    choices: Collection[Alternatives], known: frozenset[str], origin: str, reason: str = ""
) -> Iterator[DesiredModule]:
    for choice in choices:
        present = [variant for variant in choice.names if variant in known]
        for variant in present or choice.names[:1]:  # if no name is known, the first one represents the failure
            yield DesiredModule(variant, Need.REQUIRED, origin, reason=reason)


def _sysctls(name: str, config: Config, kernel: Kernel) -> Iterator[DesiredSysctl]:
    version = kernel_names.kernel_version(kernel.release)
    for entry in PROFILES[name].sysctls:
        if _is_enabled(entry.switch, config) and entry.since <= version < entry.before:
            want, origin = _want(entry, kernel.cpus), f"profile {name}"
            yield DesiredSysctl(entry.key, want, Policy.ENFORCE, entry.required, origin, provider(entry.key))


def _want(entry: SysctlEntry, cpus: int) -> Want:
    want = entry.want
    return Within(min(want.maximum, max(want.minimum, want.each * cpus))) if isinstance(want, PerCpu) else want


def _adjust_modules(modules: dict[str, DesiredModule], settings: Mapping[str, ModuleSetting]) -> None:
    for name, setting in settings.items():
        old = modules.get(name)
        if setting.dropped:
            modules.pop(name, None)
            continue
        # A name without parameters requests the module. With parameters, it only adds them to the profile's module.
        explicit = old is None or (old.need is Need.IF_SHIPPED and not setting.parameters)
        base = old or DesiredModule(name, Need.REQUIRED, setting.origin)
        need = Need.REQUIRED if explicit else base.need
        if setting.required is not None:
            need = Need.REQUIRED if setting.required else Need.OPTIONAL
        origin = setting.origin if setting.required is not None or explicit else base.origin
        options = tuple(f"{parameter}={value}" for parameter, value in setting.parameters.items())
        modules[name] = base._replace(need=need, origin=origin, any_of=setting.any_of, options=options)


def _parameters(modules: Mapping[str, DesiredModule], config: Config) -> Iterator[DesiredSysctl]:
    for name in modules:
        setting = config.modules.get(name, ModuleSetting(""))
        for parameter, value in setting.parameters.items():
            want = Exactly(value)
            yield DesiredSysctl(f"{name}.{parameter}", want, Policy.ENFORCE, False, setting.origin, name)


def _wanted_sysctls(config: Config, kernel: Kernel) -> Mapping[str, DesiredSysctl]:
    wanted: dict[str, DesiredSysctl] = {}
    for name in config.profiles:
        for sysctl in _sysctls(name, config, kernel):
            wanted.setdefault(sysctl.key, sysctl)
    for key, setting in config.sysctls.items():
        # If a person names a pattern of a profile, the person's position in the order applies.
        old = wanted.pop(key, None) if sysctl_names.is_pattern(key) else wanted.get(key)
        want = _merge_bounds(setting.want, old.want if old else None)
        if setting.dropped or want is None:
            wanted.pop(key, None)
            continue
        policy = setting.policy or (old.policy if old else Policy.ENFORCE)
        required = old.required if old and setting.required is None else bool(setting.required)
        guard = bool(setting.guard)
        wanted[key] = DesiredSysctl(key, want, policy, required, setting.origin, provider(key), guard=guard)
    return wanted


def _merge_bounds(configured: Optional[Want], old: Optional[Want]) -> Optional[Want]:
    """Merge a person's bounds with the range of a profile, whose floor grows with the CPUs up to the ceiling."""
    if not isinstance(configured, Within) or not isinstance(old, Within):
        return configured or old
    floor = old.floor if configured.floor is None else configured.floor
    ceiling = old.ceiling if configured.ceiling is None else configured.ceiling
    if configured.floor is None and None not in (floor, ceiling):
        floor = min(floor or 0, ceiling or 0)
    return Within(floor, ceiling)


def _expand(
    config: Config,
    wanted: Collection[DesiredSysctl],
    rules: Sequence[PatternRule],
    expanded: Mapping[str, Collection[str]],
) -> Iterator[DesiredSysctl]:
    """Yield the sysctls of the patterns. A named sysctl overrides them, and a later pattern an earlier one.

    So each sysctl takes one step, however many patterns match it.
    """
    named = {*(item.key for item in wanted), *(key for key in config.sysctls if not sysctl_names.is_pattern(key))}
    index, found = PatternRules(rules), renumber(expanded, [rule.wanted.key for rule in rules])
    keys: dict[int, list[str]] = {}
    matched = 0
    for name, numbers in found.masks.items():
        matched |= numbers
        last = None if name in named else index.last(name, numbers)
        if last is not None:
            keys.setdefault(last, []).append(name)
    for number, (template, _) in reversed(list(enumerate(rules))):
        chosen = keys.get(number, ()) if matched >> number & 1 else (template.key,)
        yield from (template._replace(key=key, pattern=template.key) for key in chosen)
