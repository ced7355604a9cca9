"""What the path of a control group tells of a process: its systemd unit, its container and its pod."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Optional

_CONTAINER = re.compile(r"(?:\A|[-/:])([0-9a-f]{64})(?:\.scope)?(?=/|\Z)")
# A static pod's UID is the digest of its manifest. containerd may be given its cgroup as SLICE:PREFIX:ID.
_UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_POD = re.compile(rf"pod({_UID})(?:\.slice)?(?=[/:]|\Z)")


def path(text: str) -> str:
    """Return the path that systemd made, from the text of /proc/PID/cgroup (cgroups(7)), or an empty one."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, where = rest.partition(":")
        if number == "0" or controllers == "name=systemd":
            paths[controllers] = where
    # Where version 1 is mounted beside it, the tree of version 2 may hold everything in its root.
    return next((where for where in (paths.get(""), paths.get("name=systemd")) if where and where != "/"), "")


def unit(where: str) -> str:
    """Return the unit of the system's manager to which a group belongs, or an empty text."""
    for part in _parts(where):
        if not part.endswith(".slice"):
            kind = part.rpartition(".")[2]
            return part if kind in ("service", "scope", "socket", "mount", "swap") else ""
    return ""


def container(where: str) -> str:
    """Return the id of the container in which a group is: 64 hexadecimal digits, or none."""
    found: Optional[re.Match[str]] = None
    for match in _CONTAINER.finditer(where):
        found = match  # the innermost
    return found[1] if found else ""


def pod(where: str) -> str:
    """Return the UID of the Kubernetes pod in which a group is, or an empty text."""
    match = _POD.search(where)
    return match[1].replace("_", "-") if match else ""


def _parts(where: str) -> Iterator[str]:
    for part in where.split("/"):
        # systemd puts an underscore before names that the kernel might take for its own files.
        name = part.removeprefix("_")
        if name:
            yield name
