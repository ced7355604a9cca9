"""The kernel's build configuration: whether an option that brings a module was set."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

# Where the option is not called as the module is: net/netfilter/Kconfig, net/bridge/Kconfig,
# net/ipv4/netfilter/Kconfig, net/ipv6/netfilter/Kconfig, drivers/net/Kconfig of the kernel.
_SYMBOLS = {
    "br_netfilter": "BRIDGE_NETFILTER",
    "nf_conntrack_ipv4": "NF_CONNTRACK_IPV4",
    "nf_nat": "NF_NAT",
    "ip_tables": "IP_NF_IPTABLES",
    "ip6_tables": "IP6_NF_IPTABLES",
    "iptable_nat": "IP_NF_NAT",
    "iptable_filter": "IP_NF_FILTER",
    "x_tables": "NETFILTER_XTABLES",
    "nft_chain_nat": "NFT_NAT",
    "nft_fib_inet": "NFT_FIB_INET",
    "ip_vs_twos": "IP_VS_TWOS",
    "overlay": "OVERLAY_FS",
}


def symbol(module: str) -> str:
    """Return the option that brings a module; a guess by its name for those that are not listed."""
    return f"CONFIG_{_SYMBOLS.get(module, module.upper())}"


def unset(text: str, modules: Collection[str]) -> Mapping[str, str]:
    """Return the line of a kernel's configuration for each module whose option it says is not set."""
    lines = {f"# {symbol(name)} is not set": name for name in modules}
    found = re.findall(r"^# CONFIG_\w+ is not set$", text, re.MULTILINE)
    return {lines[line]: line for line in found if line in lines}
