"""The built-in profiles: modules and sysctls as data, with reasons and sources.

Sources that begin with pkg/ or cmd/ are files of kubernetes/kubernetes. Documentation/ and net/ are those of Linux.
"""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

import enum
from collections.abc import Mapping
from typing import NamedTuple, Optional, Union

from ipvsd.model.types import Exactly, Need

Version = tuple[int, int]


# KEP-5495, "Graduation Criteria". A feature gate of kube-proxy enables IPVS mode from the second version on.
IPVS_DEPRECATED: Version = (1, 35)
IPVS_OFF_BY_DEFAULT: Version = (1, 40)
IPVS_REMOVED: Version = (1, 43)


class Switch(enum.Enum):
    STRICT_ARP = "strictARP"
    BRIDGE_NETFILTER = "bridgeNetfilter"


class PerCpu(NamedTuple):
    """At least `each` per CPU and at least `minimum`, but no more than `maximum`."""

    each: int
    minimum: int
    maximum: int

    def __str__(self) -> str:
        return f">= {self.each} per CPU, limited to the range {self.minimum} to {self.maximum}"


class ModuleEntry(NamedTuple):
    """`kube_proxy_since` and `kube_proxy_before` limit the versions (major, minor) of kube-proxy that use it."""

    name: str
    why: str
    need: Need = Need.REQUIRED
    switch: Optional[Switch] = None
    kube_proxy_since: Version = (0, 0)
    kube_proxy_before: Optional[Version] = None
    kernel_since: Version = (0, 0)  # an older kernel is not supported, whatever modules it has
    ipv6: bool = False  # only if the kernel has IPv6
    silent: bool = False  # not reported if this kernel lacks it


class Alternatives(NamedTuple):
    """Names of the same module in different kernels. Those that this kernel has are required, at least one."""

    names: tuple[str, ...]
    why: str


class BackEnd(NamedTuple):
    """One of several backends of a program. One complete backend suffices (see `iptables_backend`)."""

    name: str
    modules: tuple[ModuleEntry, ...]
    alternatives: tuple[Alternatives, ...] = ()


class SysctlEntry(NamedTuple):
    """`since` and `before` limit the kernel versions (major, minor) to which the entry applies."""

    key: str
    want: Union[Exactly, PerCpu]
    why: str
    required: bool = True
    switch: Optional[Switch] = None
    since: Version = (0, 0)
    before: Version = (9999, 0)


class Profile(NamedTuple):
    """A set of modules and sysctls. The modules of one of the iptables `back_ends` are added."""

    purpose: str
    modules: tuple[ModuleEntry, ...]
    alternatives: tuple[Alternatives, ...] = ()
    back_ends: tuple[BackEnd, ...] = ()
    sysctls: tuple[SysctlEntry, ...] = ()
    scheduler: bool = False  # the module of the configured scheduler is required as well
    milestones: tuple[tuple[Version, str], ...] = ()  # notes that apply from a version of kube-proxy on


ON = Exactly("1")

# The connection tracker for IPv4 was a separate module until Linux 4.19 (commit a0ae2562c6c4).
CONNTRACK = Alternatives(
    ("nf_conntrack", "nf_conntrack_ipv4"),
    "connection tracking: whichever of these modules the kernel has; a single module since Linux 4.19",
)
# Until Linux 5.2, each family had a separate module (commit adf82accc5f5, x_tables: merge ip and ipv6 masquerade
# modules).
MASQUERADE = Alternatives(
    ("xt_MASQUERADE", "ipt_MASQUERADE", "ip6t_MASQUERADE"),
    "target of the masquerading rules; one module for both address families since Linux 5.2",
)
# The same until Linux 5.1 (commit db8ab38880e0, nf_tables: merge ipv4 and ipv6 nat chain types).
NAT_CHAINS = Alternatives(
    ("nft_chain_nat", "nft_chain_nat_ipv4", "nft_chain_nat_ipv6"),
    "the nat table of iptables-nft; one module for both address families since Linux 5.1",
)
SCHEDULER_WHY = "the configured scheduler (kube-proxy's ipvs.scheduler)"

# net/netfilter/ipvs/Kconfig. Older kernels lack `twos` (5.12), `mh` (4.18) and others.
SCHEDULERS = "rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos".split()

_FIXED_LIST = "on the fixed module list of kube-proxy before 1.27 (GetRequiredIPVSModules, pkg/util/ipvs/ipvs.go)"
_SETS_ONCE = (
    "kube-proxy sets this sysctl once, at startup, and exits if that fails (NewProxier, pkg/proxy/ipvs/proxier.go)"
)
_NFT = (
    "kube-proxy's rules use it (pkg/proxy/nftables/proxier.go); determined by loading such rules on Linux 5.10 and "
    "later"
)
_NFT_MODULES = (
    "nft_ct nft_chain_nat nft_nat nft_masq nft_numgen nft_reject_ipv4 nft_reject_ipv6 nft_fib_ipv4 nft_fib_ipv6".split()
)
_ALL_OR_NOTHING = "without it, iptables-restore rejects all rules (pkg/proxy/ipvs/proxier.go)"
_SETS = "without it, kube-proxy cannot create its sets (ipsetInfo, pkg/proxy/ipvs/proxier.go)"
_MODE_IPTABLES = "{} in iptables mode, to which kube-proxy 1.25 and older falls back (pkg/proxy/iptables/proxier.go)"
# `conntrack -D`, and since 1.32 kube-proxy itself, delete the entries of a removed endpoint.
_STALE = (
    "lets kube-proxy delete stale UDP connections; without it, packets of these connections still go to removed "
    "endpoints (pkg/proxy/conntrack)"
)

_BRIDGE = (ModuleEntry("br_netfilter", "provides the net.bridge sysctls", Need.OPTIONAL, Switch.BRIDGE_NETFILTER),)
_BRIDGE_SYSCTLS = tuple(
    SysctlEntry(
        f"net.bridge.bridge-nf-call-{tables}",
        ON,
        f"packets between containers on the same bridge traverse the {tables} rules; kube-proxy does not set this "
        "sysctl",
        required=False,
        switch=Switch.BRIDGE_NETFILTER,
    )
    for tables in ("iptables", "ip6tables")
)
_FORWARD = SysctlEntry("net.ipv4.ip_forward", ON, f"the node routes packets; {_SETS_ONCE}")
# The kernel copies only a change of net.ipv4.ip_forward to these (inet_forward_change() in net/ipv4/devinet.c), so
# they can differ later. It drops packets to be forwarded from an interface that does not forward.
_INTERFACES = (
    SysctlEntry("net.ipv4.conf.default.forwarding", ON, "a new interface inherits it"),
    SysctlEntry("net.ipv4.conf.*.forwarding", ON, "an interface without it drops packets that it should forward"),
)
_CONNTRACK_MAX = SysctlEntry(
    "net.netfilter.nf_conntrack_max",
    PerCpu(32768, 131072, 1048576),
    "kube-proxy's conntrack.maxPerCore and conntrack.min, with its cap since 1.36 (kubernetes/kubernetes#137002)",
)


def _silent(name: str, why: str) -> ModuleEntry:
    return ModuleEntry(name, why, Need.IF_SHIPPED, silent=True)


IPTABLES_NFT = BackEnd(
    "nft",
    (
        ModuleEntry("nf_tables", "iptables-nft: the tables themselves"),
        ModuleEntry("nft_compat", "iptables-nft: the xtables matches and targets (xt_*) in its rules"),
        # Part of nf_tables since Linux 5.17 (commit 023223dfbfb3, nf_tables: make counter support built-in).
        _silent("nft_counter", "iptables-nft: the counter of each rule; part of nf_tables since Linux 5.17"),
    ),
    (NAT_CHAINS,),
)
IPTABLES_LEGACY = BackEnd(
    "legacy",
    (
        ModuleEntry("ip_tables", "iptables-legacy: the tables themselves"),
        ModuleEntry("iptable_nat", "iptables-legacy: the nat table"),
        ModuleEntry("iptable_filter", "iptables-legacy: the filter table"),
        ModuleEntry(
            "iptable_mangle",
            "iptables-legacy: the mangle table, in which kubelet creates a chain that kube-proxy's image looks for",
        ),
        ModuleEntry("ip6_tables", "ip6tables-legacy: the tables themselves", ipv6=True),
        ModuleEntry("ip6table_nat", "ip6tables-legacy: the nat table", ipv6=True),
        ModuleEntry("ip6table_filter", "ip6tables-legacy: the filter table", ipv6=True),
        ModuleEntry("ip6table_mangle", "ip6tables-legacy: the mangle table", ipv6=True),
    ),
)

KUBE_PROXY_IPVS = Profile(
    purpose="for kube-proxy's IPVS mode",
    modules=(
        ModuleEntry("ip_vs", "IPVS itself"),
        ModuleEntry("ip_vs_rr", f"{_FIXED_LIST}; the default scheduler of kube-proxy", kube_proxy_before=(1, 27)),
        ModuleEntry("ip_vs_wrr", _FIXED_LIST, kube_proxy_before=(1, 27)),
        ModuleEntry("ip_vs_sh", _FIXED_LIST, kube_proxy_before=(1, 27)),
        ModuleEntry(
            "dummy", "without it, kube-proxy cannot create kube-ipvs0, the interface with the service addresses"
        ),
        ModuleEntry("nf_conntrack_netlink", _STALE),
        ModuleEntry("ip_set", "without it, the ipset program fails, and kube-proxy does not use IPVS"),
        ModuleEntry("ip_set_hash_ipport", _SETS),
        ModuleEntry("ip_set_hash_ipportip", _SETS),
        ModuleEntry("ip_set_hash_ipportnet", _SETS),
        ModuleEntry("ip_set_bitmap_port", _SETS),
        ModuleEntry(
            "ip_set_hash_ip",
            f"for the set KUBE-IPVS-IPS (kubernetes/kubernetes#108460); {_SETS}",
            kube_proxy_since=(1, 26),
        ),
        ModuleEntry("xt_set", f"matches IP sets in kube-proxy's rules; {_ALL_OR_NOTHING}"),
        ModuleEntry("xt_comment", f"adds comments to kube-proxy's rules; {_ALL_OR_NOTHING}"),
        ModuleEntry("xt_mark", f"matches and sets packet marks in kube-proxy's rules; {_ALL_OR_NOTHING}"),
        ModuleEntry("xt_conntrack", f"matches connection states in kube-proxy's rules; {_ALL_OR_NOTHING}"),
        ModuleEntry("xt_addrtype", f"matches address types in kube-proxy's rules for node ports; {_ALL_OR_NOTHING}"),
        ModuleEntry(
            "xt_physdev", f"matches bridge ports in kube-proxy's rules for external addresses; {_ALL_OR_NOTHING}"
        ),
        # `-m ipvs --vaddr` in KUBE-IPVS-OUT-FILTER: merged in October 2023, between 1.28 and 1.29.
        ModuleEntry(
            "xt_ipvs",
            "matches IPVS connections in kube-proxy's rules for loadBalancerSourceRanges "
            f"(kubernetes/kubernetes#119791); {_ALL_OR_NOTHING}",
            kube_proxy_since=(1, 29),
        ),
        ModuleEntry(
            "ipt_REJECT",
            f"rejects packets in kube-proxy's KUBE-IPVS-FILTER chain (kubernetes/kubernetes#108460); {_ALL_OR_NOTHING}",
        ),
        ModuleEntry("ip6t_REJECT", "same as ipt_REJECT, for IPv6", ipv6=True),
        *_BRIDGE,
        _silent("xt_nat", _MODE_IPTABLES.format("DNAT")),
        _silent("xt_tcpudp", _MODE_IPTABLES.format("TCP and UDP ports")),
        _silent("xt_statistic", _MODE_IPTABLES.format("distribution across endpoints")),
        _silent("xt_recent", _MODE_IPTABLES.format("session affinity")),
        _silent("xt_sctp", _MODE_IPTABLES.format("SCTP ports")),
        # It depends on nfnetlink_acct, which must not be loaded alone: kubernetes/kubernetes#142068.
        _silent("xt_nfacct", "the counters of iptables mode since kube-proxy 1.30 (kubernetes/kubernetes#122812)"),
        # kube-proxy can start even if its scheduler differs from the configured one, as far as the kernel has it.
        *(
            _silent(f"ip_vs_{name}", "a scheduler that kube-proxy can use (net/netfilter/ipvs/Kconfig)")
            for name in SCHEDULERS
        ),
    ),
    alternatives=(CONNTRACK, MASQUERADE),
    back_ends=(IPTABLES_NFT, IPTABLES_LEGACY),
    sysctls=(
        _FORWARD,
        *_INTERFACES,
        SysctlEntry("net.ipv4.conf.all.arp_ignore", ON, f"strictARP: {_SETS_ONCE}", switch=Switch.STRICT_ARP),
        SysctlEntry("net.ipv4.conf.all.arp_announce", Exactly("2"), "same as arp_ignore", switch=Switch.STRICT_ARP),
        SysctlEntry("net.ipv4.vs.conntrack", ON, f"required for masquerading; {_SETS_ONCE}"),
        SysctlEntry(
            "net.ipv4.vs.conn_reuse_mode",
            Exactly("0"),
            "kube-proxy sets it on kernels that drop packets if the value is 1 (kubernetes/kubernetes#102122)",
            since=(4, 1),
            before=(5, 9),
        ),
        SysctlEntry("net.ipv4.vs.expire_nodest_conn", ON, _SETS_ONCE),
        SysctlEntry("net.ipv4.vs.expire_quiescent_template", ON, _SETS_ONCE),
        *_BRIDGE_SYSCTLS,
        _CONNTRACK_MAX,
    ),
    scheduler=True,
    # KEP-5495; kubernetes/kubernetes#134539 for the first one.
    milestones=(
        (
            IPVS_DEPRECATED,
            "IPVS mode has been deprecated since 1.35, and will be off by default in 1.40 and removed in 1.43",
        ),
        (
            IPVS_OFF_BY_DEFAULT,
            "IPVS mode is off by default (featureGates.KubeProxyIPVS enables it), and will be removed in 1.43",
        ),
        (IPVS_REMOVED, "IPVS mode was removed in 1.43: kube-proxy exits if its mode is ipvs"),
    ),
)

KUBE_PROXY_NFTABLES = Profile(
    purpose="for kube-proxy's nftables mode",
    modules=(
        # kube-proxy refuses older kernels (KEP-3866, "kernel support").
        ModuleEntry("nf_tables", "nftables itself, on a kernel that kube-proxy accepts", kernel_since=(5, 13)),
        *(ModuleEntry(name, _NFT) for name in _NFT_MODULES),
        ModuleEntry("nf_conntrack_netlink", _STALE),
        _silent("nft_counter", f"{_NFT}; part of nf_tables since Linux 5.17"),
        *_BRIDGE,
    ),
    alternatives=(CONNTRACK,),
    sysctls=(_FORWARD, *_INTERFACES, *_BRIDGE_SYSCTLS, _CONNTRACK_MAX),
    # KEP-3866.
    milestones=(
        ((0, 0), "there is no nftables mode: it is alpha in 1.29, beta in 1.31 and stable in 1.33"),
        ((1, 29), "nftables mode is not stable before 1.33, and is off by default before 1.31"),
        ((1, 33), ""),
    ),
)

LVS_FULL = Profile(
    purpose="for an LVS director: every scheduler of the kernel",
    modules=(
        ModuleEntry("ip_vs", "IPVS itself"),
        *(
            ModuleEntry(f"ip_vs_{name}", "a scheduler in net/netfilter/ipvs/Kconfig", Need.IF_SHIPPED)
            for name in SCHEDULERS
        ),
        ModuleEntry("ip_vs_ftp", "active FTP through NAT", Need.IF_SHIPPED),
    ),
    alternatives=(CONNTRACK,),
)

PROFILES: Mapping[str, Profile] = {
    "kube-proxy-ipvs": KUBE_PROXY_IPVS,
    "kube-proxy-nftables": KUBE_PROXY_NFTABLES,
    "lvs-full": LVS_FULL,
}
BY_MODE: Mapping[str, str] = {"ipvs": "kube-proxy-ipvs", "nftables": "kube-proxy-nftables"}  # modes of kube-proxy

# The modules that provide sysctls. The first matching prefix applies.
PROVIDERS: tuple[tuple[str, str], ...] = (
    ("net.ipv4.vs.lblc_", "ip_vs_lblc"),
    ("net.ipv4.vs.lblcr_", "ip_vs_lblcr"),
    ("net.ipv4.vs.", "ip_vs"),
    ("net.bridge.", "br_netfilter"),
    ("net.netfilter.nf_conntrack_", "nf_conntrack"),
)


def provider(key: str) -> Optional[str]:
    """Return the module that provides the sysctl, or None if it is unknown."""
    return next((module for prefix, module in PROVIDERS if key.startswith(prefix)), None)


def entries(profile: Profile) -> tuple[ModuleEntry, ...]:
    """Return every module that a profile can name, including those of its backends."""
    return (*profile.modules, *(entry for back_end in profile.back_ends for entry in back_end.modules))


def alternatives(profile: Profile) -> tuple[Alternatives, ...]:
    return (*profile.alternatives, *(item for back_end in profile.back_ends for item in back_end.alternatives))


def module_names(profile: Profile) -> frozenset[str]:
    """Return every name of a module that a profile can request, except for that of its scheduler."""
    named = (entry.name for entry in entries(profile))
    return frozenset((*named, *(name for choice in alternatives(profile) for name in choice.names)))


def why(profile: str, name: str, reason: str = "") -> str:
    """Return why a profile, with the `reason` for a backend, requests an item, or an empty text if it does not."""
    known = PROFILES[profile]
    if name in module_names(known) - module_names(known._replace(back_ends=())):
        return f"{_reason(known, name)}; {reason}" if reason else ""
    return _reason(known, name)


def _reason(known: Profile, name: str) -> str:
    reasons = {name: item.why for item in alternatives(known) for name in item.names}
    # If a module has two entries, the reason of the first one applies.
    reasons.update((entry.name, entry.why) for entry in reversed(entries(known)))
    reasons.update((entry.key, entry.why) for entry in known.sysctls)
    return reasons.get(name, "")


def notes(names: tuple[str, ...], kube_proxy: Optional[Version]) -> tuple[str, ...]:
    found = []
    for name in names:
        reached = [text for since, text in PROFILES[name].milestones if kube_proxy and kube_proxy >= since]
        found += [f"kube-proxy {kube_proxy[0]}.{kube_proxy[1]}: {text}" for text in reached[-1:] if kube_proxy and text]
    return tuple(found)
