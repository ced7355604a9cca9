"""ipvsd profile: the built-in profiles, each entry with its reason."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any

from ipvsd.commands import formatting
from ipvsd.commands.output import print_errors, print_json, print_lines
from ipvsd.config.profiles import PROFILES, SCHEDULER_WHY, Alternatives, ModuleEntry, Profile, SysctlEntry
from ipvsd.model.types import Need
from ipvsd.model.value_texts import text_of

NONE = "no built-in items; only those in the configuration"


def listed(output: str) -> int:
    """Print every profile with its purpose."""
    purposes = {**{name: profile.purpose for name, profile in PROFILES.items()}, "none": NONE}
    if output == "json":
        print_json(purposes)
    else:
        width = max(map(len, purposes))
        print_lines(*(f"{name:{width}}  {purpose}" for name, purpose in purposes.items()))
    return 0


def show(name: str, output: str) -> int:
    """Print the entries of one profile with reasons. Exits 64 for an unknown profile."""
    profile = Profile(NONE, ()) if name == "none" else PROFILES.get(name)
    if profile is None:
        known = ", ".join([*PROFILES, "none"])
        print_errors(f"ipvsd: cannot show profile {name}: unknown profile (known: {known})")
        return os.EX_USAGE
    if output == "json":
        modules, sysctls = list(_modules(profile)), list(_sysctls(profile))
        print_json({"name": name, "purpose": profile.purpose, "modules": modules, "sysctls": sysctls})
    else:
        print_lines(*_lines(name, profile))
    return 0


def _modules(profile: Profile) -> Iterator[dict[str, Any]]:
    yield from (_module(entry) for entry in profile.modules)
    yield from map(_choice, profile.alternatives)
    if profile.scheduler:
        yield {"name": "ip_vs_SCHEDULER", "need": Need.REQUIRED.value, "condition": "", "reason": SCHEDULER_WHY}
    for back_end in profile.back_ends:
        used = f"the iptables backend is {back_end.name}"
        yield from (_module(entry, used) for entry in back_end.modules)
        yield from (_choice(choice, used) for choice in back_end.alternatives)


def _module(entry: ModuleEntry, used: str = "") -> dict[str, Any]:
    when = " and ".join(filter(None, (used, _when_module(entry))))
    return {"name": entry.name, "need": entry.need.value, "condition": when, "reason": entry.why}


def _choice(choice: Alternatives, used: str = "") -> dict[str, Any]:
    return {"name": " ".join(choice.names), "need": Need.REQUIRED.value, "condition": used, "reason": choice.why}


def _sysctls(profile: Profile) -> Iterator[dict[str, Any]]:
    for entry in profile.sysctls:
        need = Need.REQUIRED.value if entry.required else Need.OPTIONAL.value
        values = {"value": str(entry.want), "need": need, "condition": _when(entry), "reason": entry.why}
        yield {"name": entry.key, **values}


def _when_module(entry: ModuleEntry) -> str:
    conditions = [f"{entry.switch.value} is true"] if entry.switch else []
    if entry.kube_proxy_since > (0, 0):
        conditions.append("kubeProxyVersion is not set or is {}.{} or later".format(*entry.kube_proxy_since))
    if entry.kube_proxy_before:
        conditions.append("kubeProxyVersion is not set or is before {}.{}".format(*entry.kube_proxy_before))
    if entry.kernel_since > (0, 0):
        conditions.append("the kernel is {}.{} or newer".format(*entry.kernel_since))
    if entry.ipv6:
        conditions.append("the kernel has IPv6")
    return " and ".join(conditions)


def _when(entry: SysctlEntry) -> str:
    conditions = [f"{entry.switch.value} is true"] if entry.switch else []
    if entry.since > (0, 0):
        conditions.append("the kernel is {}.{} or newer and older than {}.{}".format(*entry.since, *entry.before))
    return " and ".join(conditions)


def _lines(name: str, profile: Profile) -> Iterator[str]:
    yield from formatting.folded(f"{name}: {profile.purpose}")
    for title, items in (("MODULES", list(_modules(profile))), ("SYSCTLS", list(_sysctls(profile)))):
        if items:
            yield ""
            yield title
        for item in items:
            value = f" = {item['value']}".replace("= >=", ">=") if "value" in item else ""
            joint = "and" if item["need"] == Need.IF_SHIPPED.value else "if"
            when = f" {joint} {item['condition']}" if item["condition"] else ""
            yield from formatting.indented(f"{item['name']}{value}  ({text_of(item['need'])}{when})", 2, 6)
            yield from formatting.indented(item["reason"], 6, 6)
