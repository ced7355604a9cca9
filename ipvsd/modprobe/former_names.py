"""Former names of modules: the modules that replaced them, and the first kernel without them."""

from __future__ import annotations

import re
from typing import NamedTuple, Optional

from ipvsd.modprobe import kernel_names


class Former(NamedTuple):
    """`since` is the first version of Linux without the name. `source` is the commit or other evidence."""

    successor: str
    since: tuple[int, int]
    source: str


_FORMER_NAMES = (
    ("nf_conntrack_ipv4 nf_conntrack_ipv6 nf_conntrack_l3proto_ipv4 nf_conntrack_l3proto_ipv6",
     Former("nf_conntrack", (4, 19), "a0ae2562c6c4, netfilter: conntrack: remove l3proto abstraction")),
    ("ip_conntrack",
     Former("nf_conntrack", (2, 6), "the ip_conntrack of Linux 2.4 and early 2.6; nf_conntrack has the alias")),
    ("ip_nat",
     Former("nf_nat", (2, 6), "the ip_nat of Linux 2.4 and early 2.6")),
    ("nf_nat_ipv4 nf_nat_ipv6",
     Former("nf_nat", (5, 1), "3bf195ae6037, netfilter: nat: merge nf_nat_ipv4,6 into nat core")),
    ("nf_nat_masquerade_ipv4 nf_nat_masquerade_ipv6",
     Former("nf_nat", (5, 1), "d1aca8ab3104, netfilter: nat: merge ipv4 and ipv6 masquerade functionality")),
    ("ipt_MASQUERADE ip6t_MASQUERADE",
     Former("xt_MASQUERADE", (5, 2), "adf82accc5f5, netfilter: x_tables: merge ip and ipv6 masquerade modules")),
    ("nft_chain_nat_ipv4 nft_chain_nat_ipv6",
     Former("nft_chain_nat", (5, 1), "db8ab38880e0, netfilter: nf_tables: merge ipv4 and ipv6 nat chain types")),
    ("nft_chain_route_ipv4 nft_chain_route_ipv6",
     Former("nf_tables", (5, 2), "c1deb065cf3b, netfilter: nf_tables: merge route type into core")),
    ("nft_masq_ipv4 nft_masq_ipv6",
     Former("nft_masq", (5, 2), "net/netfilter/nft_masq.c serves all families since 5.2")),
    ("nft_redir_ipv4 nft_redir_ipv6",
     Former("nft_redir", (5, 2), "net/netfilter/nft_redir.c serves all families since 5.2")),
    ("nf_tables_ipv4 nf_tables_ipv6 nf_tables_inet nf_tables_bridge nf_tables_arp nf_tables_netdev",
     Former("nf_tables", (4, 17), "02c7b25e5f54, netfilter: nf_tables: build-in filter chain type")),
)  # fmt: skip
FORMER = {name: former for names, former in _FORMER_NAMES for name in names.split()}

# EL 8 backported the merge of nf_conntrack to its 4.18 with 8.3 (4.18.0-240.el8).
_EL8 = r"4\.18\.0-([0-9]{1,5})\b.*\.el8"
_EL8_MERGED = 240


def former(name: str, release: str) -> Optional[Former]:
    """Return the successor of a module if the kernel of a release does not have it any more, or None."""
    found, el8 = FORMER.get(name), re.match(_EL8, release)
    if found is None or (found.since == (4, 19) and el8 and int(el8[1]) >= _EL8_MERGED):
        return found
    return found if kernel_names.kernel_version(release) >= found.since else None


def successor(name: str, release: str) -> Optional[str]:
    found = former(name, release)
    return "no longer a module: part of {} since Linux {}.{}".format(found.successor, *found.since) if found else None
