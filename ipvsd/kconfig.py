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

# Names whose option is surely called like them: one that the configuration does not know came with a later kernel.
_OF_THE_KERNEL = re.compile(r"ip_vs(_[a-z]+)?\Z")


def symbol(module: str) -> str:
    """Return the option that brings a module; a guess by its name for those that are not listed."""
    return f"CONFIG_{_SYMBOLS.get(module, module.upper())}"


def left_out(text: str, modules: Collection[str]) -> Mapping[str, str]:
    """Return what a kernel's configuration says of each module whose option is not set, or that it does not have."""
    options = dict(re.findall(r"^(?:# )?(CONFIG_\w+)(?: (is not set)|=)", text, re.MULTILINE))
    found: dict[str, str] = {}
    for name in modules:
        option = symbol(name)
        if options.get(option) == "is not set":
            found[name] = f"says '# {option} is not set'"
        elif options and option not in options and _OF_THE_KERNEL.match(name):
            found[name] = f"does not know {option}"
    return found
