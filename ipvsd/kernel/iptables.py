"""look(root): what the files of a node tell of its iptables."""

from __future__ import annotations

import os
from typing import Optional

from ipvsd.model.types import Iptables
from ipvsd.runtime import rootfs

# Where programs are looked for, in the order of systemd's and of sudo's PATH.
_DIRECTORIES = ("usr/local/sbin", "usr/local/bin", "usr/sbin", "usr/bin", "sbin", "bin")
_TABLES = "proc/net/ip_tables_names"  # there while ip_tables is loaded; readable for root alone
_IPV6 = ("proc/net/if_inet6", "proc/sys/net/ipv6")
_MAX_LINKS = 8  # iptables, /etc/alternatives/iptables, iptables-nft, xtables-nft-multi


def detect(root: str, live: Optional[str] = None) -> Iptables:
    """Return what is known of the node below `root`; its /proc is below `live`, if that is not the same."""
    tables = rootfs.text_if_permitted(root if live is None else live, _TABLES) or ""
    return Iptables(_program(root), tuple(tables.split()))


def has_ipv6(root: str) -> bool:
    """Tell whether there is IPv6, unless its kernel was built or booted without; of an image, take it for granted."""
    return not rootfs.exists(root, "proc/sys/net/ipv4") or any(rootfs.exists(root, path) for path in _IPV6)


def _program(root: str) -> str:
    for directory in _DIRECTORIES:
        # A link to a directory, as of a merged /usr, leads to one that is looked into by its own name.
        if rootfs.read_link(root, directory) is None:
            path = f"/{directory}/iptables"
            if rootfs.lexists(root, path[1:]):
                return _resolve_link(root, path)
    return ""


def _resolve_link(root: str, path: str) -> str:
    """Return the file to which a link leads, as the system whose root this is sees it."""
    for _ in range(_MAX_LINKS):
        target = rootfs.read_link(root, path.lstrip("/"))
        if target is None:
            return path
        path = os.path.normpath(os.path.join(os.path.dirname(path), target))
    return path
