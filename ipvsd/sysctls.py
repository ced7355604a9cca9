"""Sysctls as text: their names by the rule of sysctl.d(5), their values in one form."""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Collection
from typing import Optional

# Two names of one value; each way round it is shown under the second.
ALIASES = {
    "net.nf_conntrack_max": "net.netfilter.nf_conntrack_max",
    "net.ipv4.conf.all.forwarding": "net.ipv4.ip_forward",  # net/ipv4/devinet.c, ctl_forward_entry
}

_WILDCARDS = "*?[]"


def parts(key: str, patterns: bool = False) -> Optional[tuple[str, ...]]:
    """Return the path of a sysctl below /proc/sys, by the rule of sysctl.d(5), or None if it has none there.

    The first of `.` and `/` that occurs is the separator; the other one then stands for itself
    turned round: `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are one.
    """
    forbidden = " \\" if patterns else f" \\{_WILDCARDS}"
    if not key.isprintable() or not key.isascii() or any(character in key for character in forbidden):
        return None
    dot, slash = key.find("."), key.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        key = key.translate({ord("."): "/", ord("/"): "."})
    path = tuple(key.split("/"))
    return path if len(path) > 1 and not any(part in ("", ".", "..") for part in path) else None


def name(path: tuple[str, ...]) -> str:
    """Return the one name under which a sysctl is shown: dots between, `/` for a dot within."""
    shown = ".".join(part.replace(".", "/") for part in path)
    return ALIASES.get(shown, shown)


def is_pattern(key: str) -> bool:
    """Tell whether a name stands for all sysctls that it fits (fnmatch(3), within each part)."""
    return any(character in key for character in _WILDCARDS)


def excluded(pattern: str, key: str, excludes: Collection[str]) -> bool:
    """Tell whether what a wildcard of the pattern stands for in the key is one of `excludes`, or fits one."""
    wilds = pattern.split(".")
    names = (name.split(".") for name in (key, *(alias for alias, name in ALIASES.items() if name == key)))
    stood_for = [
        part.replace("/", ".")
        for parts in names
        if len(parts) == len(wilds)
        for wild, part in zip(wilds, parts)
        if is_pattern(wild)
    ]
    return any(fnmatch.fnmatchcase(part, exclude) for part in stood_for for exclude in excludes)


def canonical(text: str) -> str:
    """Return the value with every run of white space as one space: the kernel prints tabs, people type spaces."""
    return " ".join(text.split())


def integer(text: str) -> Optional[int]:
    """Return the value of a decimal integer as the kernel prints it, or None."""
    return int(text) if re.match(r"-?[0-9]{1,20}\Z", text) else None
