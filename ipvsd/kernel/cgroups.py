r"""What the path of a control group tells of a process: its systemd unit, its container and its pod.

Below the group of a unit, and of a container, others than root may make groups of any name (Delegate= in
systemd.resource-control(5)). So only that part of a path counts which programs of root make: the slices with which
it begins and the unit below them, or else what kubelet and container runtimes make beside those.
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
# A static pod's UID is the digest of its manifest.
_UID = r"[0-9a-f]{8}(?:[-_][0-9a-f]{4}){3}[-_][0-9a-f]{12}|[0-9a-f]{32}"
_QOS = ("burstable", "besteffort")
_CONTAINER = re.compile(rf"(?:.*[-:])?({_ID})(?:\.scope)?")
_POD = re.compile(rf"(?:(?:.+-)?kubepods(?:-(?:{'|'.join(_QOS)}))?-)?pod({_UID})(?:\.slice(?::.+)?)?")

# Where kubelet asks systemd for groups and the runtime does not, these make SLICE:PREFIX:ID below their own one.
_RUNTIMES = {
    f"{name}.service" for name in ("containerd", "crio", "docker", "k3s", "k3s-agent", "rke2-agent", "rke2-server")
}
# The group that kubelet takes for the root in kind, and in k3s in a container (its pkg/cgroups, CheckCgroups).
_ROOTS = ("kubelet", "k3s")


class CgroupOwner(NamedTuple):
    """Where a process belongs: a unit of the system's manager, the id of a container, the UID of a pod, or empty."""

    unit: str = ""
    container: str = ""
    pod: str = ""


def parse_path(text: str) -> str:
    """Return the path that systemd made, from the text of /proc/PID/cgroup (cgroups(7)), or an empty one."""
    paths: dict[str, str] = {}
    for line in text.splitlines():
        number, _, rest = line.partition(":")
        controllers, _, cgroup = rest.partition(":")
        if number == "0" or controllers == "name=systemd":
            paths[controllers] = cgroup
    # Where version 1 is mounted beside it, the tree of version 2 may hold everything in its root.
    return next((cgroup for cgroup in (paths.get(""), paths.get("name=systemd")) if cgroup and cgroup != "/"), "")


def relative_path(cgroup: str, first: str) -> str:
    """Return a path as seen from the root of the system's manager, by the path of process 1 (its cg_shift_path()).

    Where that is a container in the control group namespace of its host, its root is not the root of all groups.
    """
    root = first.removesuffix("/init.scope")
    return cgroup[len(root) :] if f"{cgroup}/".startswith(f"{root}/") else cgroup


def identify(cgroup: str) -> CgroupOwner:
    """Return what a path below the root of the system's manager tells."""
    # systemd puts an underscore before names that the kernel might take for its own files.
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
    """Return the groups of a pod and of its container where kubelet itself makes them, or nothing."""
    at = 1 if parts[:1] and parts[0] in _ROOTS else 0
    if parts[at : at + 1] != ["kubepods"]:
        return ()
    at += 2 if parts[at + 1 :] and parts[at + 1] in _QOS else 1
    return parts[at : at + 2]


def _last(pattern: re.Pattern[str], parts: Iterable[str]) -> str:
    found = [match[1] for match in map(pattern.fullmatch, parts) if match]
    return found[-1].replace("_", "-") if found else ""
