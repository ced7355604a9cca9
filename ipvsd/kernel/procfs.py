"""Parsers for the kernel's texts. They accept any text, and leave out what they cannot parse."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping
from typing import Optional

from ipvsd.model.types import ModuleState

_STATES = {state.value: state for state in ModuleState}
_INIT_STATES = {"live": ModuleState.LIVE, "coming": ModuleState.COMING, "going": ModuleState.GOING}


def proc_modules(text: str, names: Collection[str]) -> Mapping[str, ModuleState]:
    """Return the states of those of `names` that /proc/modules lists: `NAME SIZE REFCOUNT USERS STATE ADDRESS`."""
    states: dict[str, ModuleState] = {}
    for line in text.splitlines():
        name, _, rest = line.partition(" ")
        if name in names:
            fields = rest.split()
            if len(fields) >= 4 and fields[3] in _STATES:
                states[name] = _STATES[fields[3]]
    return states


def live_modules(text: str) -> frozenset[str]:
    fields = (line.split() for line in text.splitlines())
    return frozenset(line[0] for line in fields if len(line) >= 5 and line[4] == ModuleState.LIVE.value)


def read_only(mounts: str, path: str) -> bool:
    """Return whether the mount at or above a path of /proc is read-only, by a mountinfo (proc_pid_mountinfo(5))."""
    path = path.rstrip("/")
    found: tuple[int, bool] = (0, False)
    for line in mounts.splitlines():
        fields = line.split()
        point = fields[4].rstrip("/") if len(fields) > 5 else ""
        above = point.startswith("/proc") and (path == point or path.startswith(f"{point}/"))
        # The innermost mount counts, and at the same place the last one.
        if above and len(point) >= found[0]:
            # Either the flags of the mount or those of the file system, which come last, make it read-only.
            found = len(point), "ro" in (*fields[5].split(","), *fields[-1].split(","))
    return found[1]


def module_initstate(text: str) -> Optional[ModuleState]:
    """Return the state in /sys/module/NAME/initstate (Documentation/ABI/stable/sysfs-module), or None."""
    return _INIT_STATES.get(text.strip())


def ipv6_default_routes(text: str) -> Mapping[str, bool]:
    """Return the interfaces with an IPv6 default route, and whether router advertisements set it."""
    routes: dict[str, bool] = {}
    for line in text.splitlines():
        # DESTINATION LENGTH SOURCE LENGTH GATEWAY METRIC REFERENCES USES FLAGS INTERFACE
        fields = line.split()
        if len(fields) == 10 and fields[0] == "0" * 32 and fields[1] == "00" and fields[9] != "lo":
            flags = int(fields[8], 16) if re.match("[0-9a-f]{1,8}\\Z", fields[8]) else 0
            learnt = bool(flags & 0x40000)  # RTF_ADDRCONF of <linux/ipv6_route.h>
            routes[fields[9]] = routes.get(fields[9], False) or learnt
    return routes


def cpu_count(text: str) -> int:
    """Return the number of CPUs in a list such as `0-3,5` (Documentation/admin-guide/cputopology.rst), or 0."""
    total = 0
    for part in text.strip().split(","):
        match = re.match(r"([0-9]{1,6})(?:-([0-9]{1,6}))?\Z", part)
        if match:
            total += max(0, int(match[2] or match[1]) - int(match[1]) + 1)
    return total
