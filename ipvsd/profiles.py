"""The built-in sets of modules and sysctls, as data with their sources beside them."""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Optional, Union

from ipvsd.model import Exactly, Need


class Switch(enum.Enum):
    """A setting of the configuration that turns an entry on."""

    STRICT_ARP = "strictARP"
    BRIDGE_NETFILTER = "bridgeNetfilter"


@dataclass(frozen=True)
class PerCpu:
    """At least `each` for every CPU and never below `least`; no more than `most` is demanded."""

    each: int
    least: int
    most: int


@dataclass(frozen=True)
class ModuleEntry:
    name: str
    need: Need = Need.REQUIRED
    switch: Optional[Switch] = None


@dataclass(frozen=True)
class SysctlEntry:
    """`since` and `before` bound the kernel versions (major, minor) on which it is wanted."""

    key: str
    want: Union[Exactly, PerCpu]
    required: bool = True
    switch: Optional[Switch] = None
    since: tuple[int, int] = (0, 0)
    before: tuple[int, int] = (9999, 0)


@dataclass(frozen=True)
class Profile:
    """`alternatives` are names of one thing: those that this kernel knows are required, at least one."""

    purpose: str
    modules: tuple[ModuleEntry, ...]
    alternatives: tuple[tuple[str, ...], ...] = ()
    sysctls: tuple[SysctlEntry, ...] = ()
    scheduler: bool = False  # the module of the configured scheduler is required, too


ON = Exactly("1")

# The connection tracker for IPv4 was a module of its own until Linux 4.19 (commit a0ae2562c6c4).
CONNTRACK = ("nf_conntrack", "nf_conntrack_ipv4")

# net/netfilter/ipvs/Kconfig. `twos` (5.12), `mh` (4.18) and others are not in every kernel.
SCHEDULERS = "rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos".split()

# The modules are those that kube-proxy demands before 1.27 (GetRequiredIPVSModules in its
# pkg/util/ipvs/ipvs.go); it writes the net.ipv4 keys itself when it starts and exits if it cannot
# (NewProxier in pkg/proxy/ipvs/proxier.go), so that all of them are required. bridge-nf-call-* it only ever read.
KUBE_PROXY_IPVS = Profile(
    purpose="what kube-proxy's IPVS mode needs",
    modules=(
        ModuleEntry("ip_vs"),
        ModuleEntry("ip_vs_rr"),
        ModuleEntry("ip_vs_wrr"),
        ModuleEntry("ip_vs_sh"),
        ModuleEntry("br_netfilter", Need.WANTED, Switch.BRIDGE_NETFILTER),
    ),
    alternatives=(CONNTRACK,),
    sysctls=(
        SysctlEntry("net.ipv4.ip_forward", ON),
        SysctlEntry("net.ipv4.conf.all.arp_ignore", ON, switch=Switch.STRICT_ARP),
        SysctlEntry("net.ipv4.conf.all.arp_announce", Exactly("2"), switch=Switch.STRICT_ARP),
        SysctlEntry("net.ipv4.vs.conntrack", ON),
        # Left alone from 5.9 on, where mode 1 no longer drops packets (kubernetes/kubernetes#102122).
        SysctlEntry("net.ipv4.vs.conn_reuse_mode", Exactly("0"), since=(4, 1), before=(5, 9)),
        SysctlEntry("net.ipv4.vs.expire_nodest_conn", ON),
        SysctlEntry("net.ipv4.vs.expire_quiescent_template", ON),
        SysctlEntry("net.bridge.bridge-nf-call-iptables", ON, required=False, switch=Switch.BRIDGE_NETFILTER),
        SysctlEntry("net.bridge.bridge-nf-call-ip6tables", ON, required=False, switch=Switch.BRIDGE_NETFILTER),
        # kube-proxy's conntrack.maxPerCore and conntrack.min; its cap since 1.36 (kubernetes/kubernetes#137002).
        SysctlEntry("net.netfilter.nf_conntrack_max", PerCpu(32768, 131072, 1048576)),
    ),
    scheduler=True,
)

LVS_FULL = Profile(
    purpose="a plain LVS director: every scheduler that this kernel provides",
    modules=(
        ModuleEntry("ip_vs"),
        *(ModuleEntry(f"ip_vs_{name}", Need.IF_SHIPPED) for name in SCHEDULERS),
        ModuleEntry("ip_vs_ftp", Need.IF_SHIPPED),
    ),
    alternatives=(CONNTRACK,),
)

PROFILES: Mapping[str, Profile] = {"kube-proxy-ipvs": KUBE_PROXY_IPVS, "lvs-full": LVS_FULL}

# Which module brings which sysctls into being; the first prefix that fits.
PROVIDERS: tuple[tuple[str, str], ...] = (
    ("net.ipv4.vs.lblc_", "ip_vs_lblc"),
    ("net.ipv4.vs.lblcr_", "ip_vs_lblcr"),
    ("net.ipv4.vs.", "ip_vs"),
    ("net.bridge.", "br_netfilter"),
    ("net.netfilter.nf_conntrack_", "nf_conntrack"),
)


def provider(key: str) -> Optional[str]:
    """Return the module without which the sysctl has no file, or None if none is known."""
    return next((module for prefix, module in PROVIDERS if key.startswith(prefix)), None)
