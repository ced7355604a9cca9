"""What the kernel gives the sysctls of the profiles by itself, as far as its documentation says so."""

from __future__ import annotations

from collections.abc import Mapping

_IP = "Documentation/networking/ip-sysctl.rst"
_IPVS = "Documentation/networking/ipvs-sysctl.rst"
_CONNTRACK = "Documentation/networking/nf_conntrack-sysctl.rst"

# By sysctl: the value and where the kernel's sources say it. ipvsd guesses no others.
DEFAULTS: Mapping[str, tuple[str, str]] = {
    "net.ipv4.ip_forward": ("0", _IP),
    "net.ipv4.conf.default.forwarding": ("0, or as net.ipv4.ip_forward since that was changed", _IP),
    "net.ipv4.conf.*.forwarding": ("as net.ipv4.conf.default.forwarding when the interface appears", _IP),
    "net.ipv4.conf.all.arp_ignore": ("0", _IP),
    "net.ipv4.conf.all.arp_announce": ("0", _IP),
    "net.bridge.bridge-nf-call-iptables": ("1", _IP),
    "net.bridge.bridge-nf-call-ip6tables": ("1", _IP),
    "net.ipv4.vs.conntrack": ("0", _IPVS),
    "net.ipv4.vs.conn_reuse_mode": ("1", _IPVS),
    "net.ipv4.vs.expire_nodest_conn": ("0", _IPVS),
    "net.ipv4.vs.expire_quiescent_template": ("0", _IPVS),
    "net.netfilter.nf_conntrack_max": ("as net.netfilter.nf_conntrack_buckets, which depends on memory", _CONNTRACK),
}
