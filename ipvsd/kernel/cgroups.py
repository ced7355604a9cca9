r"""Derive the systemd unit, the container and the pod of a process from the path of its cgroup.

Below the cgroup of a unit or a container, users other than root may create cgroups of any name (Delegate= in
systemd.resource-control(5)). So only the leading slices and the unit below them count, or the cgroups that kubelet
and container runtimes create outside slices.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Iterable, Sequence
from typing import NamedTuple

_NAME = r"[A-Za-z0-9:_.\\@-]+"  # VALID_CHARS_WITH_AT in systemd's src/basic/unit-name.c
_SLICE = re.compile(rf"{_NAME}\.slice")
_UNIT = re.compile(rf"{_NAME}\.(?:service|scope|socket|mount|swap)")

_ID = r"[0-9a-f]{64}"
# The UID of a static pod is the digest of its manifest.
_UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_QOS = ("burstable", "besteffort")
_CONTAINER = re.compile(rf"(?:.*[-:])?({_ID})(?:\.scope)?")
_POD = re.compile(rf"(?:(?:.+-)?kubepods(?:-(?:{'|'.join(_QOS)}))?-)?pod({_UID})(?:\.slice(?::.+)?)?")

# With systemd as cgroup driver of kubelet only, these create SLICE:PREFIX:ID below their own cgroup.
_RUNTIMES = {
    f"{name}.service" for name in ("containerd", "crio", "docker", "k3s", "k3s-agent", "rke2-agent", "rke2-server")
}
# The cgroup that kubelet uses as root in kind, and in k3s in a container (its pkg/cgroups, CheckCgroups).
_ROOTS = ("kubelet", "k3s")


class CgroupOwner(NamedTuple):
    """The owner of a process: a unit of the system manager, the ID of a container, and the UID of a pod, or empty."""

    unit: str = ""
    container: str = ""
    pod: str = ""


def parse_path(text: str) -> str:
    """Return the path in systemd's hierarchy from the text of /proc/PID/cgroup (cgroups(7)), or an empty one."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, cgroup = rest.partition(":")
        if number == "0" or controllers == "name=systemd":
            paths[controllers] = cgroup
    # If version 1 is also mounted, the root of version 2 can contain all processes.
    return next((cgroup for cgroup in (paths.get(""), paths.get("name=systemd")) if cgroup and cgroup != "/"), "")


def relative_path(cgroup: str, first: str) -> str:
    """Return a path relative to the root of the system manager, whose cgroup is that of process 1 (cg_shift_path())."""
    root = first.removesuffix("/init.scope")
    return cgroup[len(root) :] if f"{cgroup}/".startswith(f"{root}/") else cgroup


def identify(cgroup: str) -> CgroupOwner:
    """Return the owner that a path under the root of the system manager identifies."""
    # systemd puts an underscore before names that could collide with the kernel's own files.
    parts = [part.removeprefix("_") for part in cgroup.split("/") if part]
    slices = list(itertools.takewhile(_SLICE.fullmatch, parts))
    rest = parts[len(slices) :]
    first = "".join(rest[:1])
    if first in _RUNTIMES:
        return CgroupOwner(first, _last(_CONTAINER, rest[1:2]), _last(_POD, rest[1:2]))
    if slices or _UNIT.fullmatch(first):
        return CgroupOwner(first if _UNIT.fullmatch(first) else "", _last(_CONTAINER, rest[:1]), _last(_POD, slices))
    pods = _of_kubelet(rest)
    return CgroupOwner("", _last(_CONTAINER, pods or rest[:2]), _last(_POD, pods))


def _of_kubelet(parts: Sequence[str]) -> Sequence[str]:
    at = 1 if parts[:1] and parts[0] in _ROOTS else 0
    if parts[at : at + 1] != ["kubepods"]:
        return ()
    at += 2 if parts[at + 1 :] and parts[at + 1] in _QOS else 1
    return parts[at : at + 2]


def _last(pattern: re.Pattern[str], parts: Iterable[str]) -> str:
    found = [match[1] for match in map(pattern.fullmatch, parts) if match]
    return found[-1].replace("_", "-") if found else ""
