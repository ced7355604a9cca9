"""Sysctls as text: their names by the rule of sysctl.d(5), their values in one form."""

from __future__ import annotations

import re
from typing import Optional


def parts(key: str) -> Optional[tuple[str, ...]]:
    """Return the path of a sysctl below /proc/sys, by the rule of sysctl.d(5), or None if it has none there.

    The first of `.` and `/` that occurs is the separator; the other one then stands for itself
    turned round: `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are one.
    """
    if not key.isprintable() or not key.isascii() or any(character in key for character in " \\*?[]"):
        return None
    dot, slash = key.find("."), key.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        key = key.translate({ord("."): "/", ord("/"): "."})
    path = tuple(key.split("/"))
    return path if len(path) > 1 and not any(part in ("", ".", "..") for part in path) else None


def name(path: tuple[str, ...]) -> str:
    """Return the one name under which a sysctl is shown: dots between, `/` for a dot within."""
    return ".".join(part.replace(".", "/") for part in path)


def canonical(text: str) -> str:
    """Return the value with every run of white space as one space: the kernel prints tabs, people type spaces."""
    return " ".join(text.split())


def integer(text: str) -> Optional[int]:
    """Return the value of a decimal integer as the kernel prints it, or None."""
    return int(text) if re.match(r"-?[0-9]{1,20}\Z", text) else None
