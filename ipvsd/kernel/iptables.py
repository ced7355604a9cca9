"""Detect the iptables of a node from its files."""

from __future__ import annotations

import os
from typing import Optional

from ipvsd.model.types import Iptables
from ipvsd.runtime import rootfs

# Directories that are searched for programs, in the order of systemd's and sudo's PATH.
_DIRECTORIES = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_TABLES = "proc/net/ip_tables_names"  # exists while ip_tables is loaded; only root can read it
_IPV6 = ("proc/net/if_inet6", "proc/sys/net/ipv6")
_MAX_LINKS = 8  # iptables, /etc/alternatives/iptables, iptables-nft, xtables-nft-multi


def detect(root: str, live: Optional[str] = None) -> Iptables:
    """Return the iptables of the node under `root`. Its /proc is under `live`, if that is another directory."""
    tables = rootfs.text_if_permitted(root if live is None else live, _TABLES) or ""
    return Iptables(find_program(root, "iptables"), tuple(tables.split()))


def has_ipv6(root: str) -> bool:
    """Return whether the kernel has IPv6: it can be built or booted without. An image is assumed to have it."""
    return not rootfs.exists(root, "proc/sys/net/ipv4") or any(rootfs.exists(root, path) for path in _IPV6)


def find_program(root: str, name: str) -> str:
    """Return the path of a program of the node, with links resolved, or an empty text. Raises UnreadableError."""
    for directory in _DIRECTORIES:
        # A directory that is a link, as in a merged /usr, is searched under its own name.
        if rootfs.read_link(root, directory) is None:
            path = f"/{directory}/{name}"
            if rootfs.lexists(root, path[1:]):
                return _resolve_link(root, path)
    return ""


def _resolve_link(root: str, path: str) -> str:
    for _ in range(_MAX_LINKS):
        target = rootfs.read_link(root, path.lstrip("/"))
        if target is None:
            return path
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return path
