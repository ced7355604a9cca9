"""The documented defaults of the kernel's sysctls."""

from __future__ import annotations

from collections.abc import Mapping

_IP = "Documentation/networking/ip-sysctl.rst"
_IPVS = "Documentation/networking/ipvs-sysctl.rst"
_CONNTRACK = "Documentation/networking/nf_conntrack-sysctl.rst"

# For each sysctl, the default and its source in the kernel. ipvsd guesses no others.
DEFAULTS: Mapping[str, tuple[str, str]] = {
    "net.ipv4.ip_forward": ("0", _IP),
    "net.ipv4.conf.default.forwarding": ("0, or the value of net.ipv4.ip_forward after that has been changed", _IP),
    "net.ipv4.conf.*.forwarding": ("the value of net.ipv4.conf.default.forwarding when the interface is created", _IP),
    "net.ipv4.conf.all.arp_ignore": ("0", _IP),
    "net.ipv4.conf.all.arp_announce": ("0", _IP),
    "net.bridge.bridge-nf-call-iptables": ("1", _IP),
    "net.bridge.bridge-nf-call-ip6tables": ("1", _IP),
    "net.ipv4.vs.conntrack": ("0", _IPVS),
    "net.ipv4.vs.conn_reuse_mode": ("1", _IPVS),
    "net.ipv4.vs.expire_nodest_conn": ("0", _IPVS),
    "net.ipv4.vs.expire_quiescent_template": ("0", _IPVS),
    "net.netfilter.nf_conntrack_max": (
        "the value of net.netfilter.nf_conntrack_buckets, which depends on the memory size",
        _CONNTRACK,
    ),
}
