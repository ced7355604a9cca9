"""Read a file with a kube-proxy configuration, and the facts about this node that concern it."""

from __future__ import annotations

import errno
import os
from collections.abc import Iterator
from typing import Optional

from ipvsd.config import config_files
from ipvsd.config.parser import ConfigError
from ipvsd.config.profiles import SCHEDULERS
from ipvsd.config.schema import Config
from ipvsd.config.yaml_tree import MAX_BYTES
from ipvsd.kernel.host import LinuxHost
from ipvsd.kube_proxy.node_comparison import Node
from ipvsd.model.types import Kernel
from ipvsd.runtime import rootfs

# Places that show which programs run on the node: the manifests of static pods, and the logs of all pods.
_PLACES = (
    "etc/kubernetes/manifests", "var/log/pods", "var/lib/rancher/k3s/server/manifests",
    "var/lib/rancher/rke2/server/manifests",
    "etc/cni/net.d",
)  # fmt: skip
_STDIN = "-"


def read(name: str) -> bytes:
    """Return the content of a file, or of standard input for "-". Raises rootfs.UnreadableError."""
    try:
        if name == _STDIN:
            return rootfs.read_at_most(0, MAX_BYTES + 1)
        path = os.path.join(os.getcwd(), name)
        with rootfs.open_file("/", path) as fd:
            return rootfs.read_at_most(fd, MAX_BYTES + 1)
    except OSError as error:
        raise rootfs.UnreadableError(error.errno or errno.EIO, error.strerror or str(error), name) from None


def shown(name: str) -> str:
    """Return the name of a file for people."""
    return "<standard input>" if name == _STDIN else name


def observe(root: str, config_path: Optional[str]) -> tuple[Node, tuple[str, ...]]:
    """Return the facts of the node, and the reasons why some are unknown."""
    problems: list[str] = []
    config: Optional[Config] = None
    try:
        config = config_files.load(root, config_path)
    except ConfigError as error:
        problems.append(f"cannot compare with ipvsd's configuration: {error.errors[0]}")
    kernel = _kernel(root)
    available = kernel.loadable | kernel.built_in if kernel else frozenset()
    schedulers = frozenset(name for name in SCHEDULERS if f"ip_vs_{name}" in available)
    programs = list(_programs(root))
    users = tuple(
        f"{name} ({place})" for name, sign in (("MetalLB", "metallb"), ("kube-vip", "kube-vip"))
        for place in [next((place for place in programs if sign in place), "")] if place
    )  # fmt: skip
    calico = next((place for place in programs if "calico" in place), "")
    # A kernel without a module tree, or without any scheduler, says nothing about the node of kube-proxy.
    known = schedulers if kernel and kernel.indexed and schedulers else None
    return Node(config, kernel.cpus if kernel else 1, kernel.release if kernel else "", known, users, calico), tuple(
        problems
    )


def _kernel(root: str) -> Optional[Kernel]:
    try:
        return LinuxHost(root).kernel([f"ip_vs_{name}" for name in SCHEDULERS])
    except rootfs.UnreadableError:
        return None


def _programs(root: str) -> Iterator[str]:
    """Yield the paths of files that programs of the cluster leave on the node."""
    for place in _PLACES:
        try:
            names = rootfs.listing(root, place)
        except OSError:
            continue
        yield from (f"/{place}/{name}" for name in sorted(names)[:2000])
