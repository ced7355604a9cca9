"""The kernel's build configuration: whether the option of a module is set."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

# Options with another name than their module: net/netfilter/Kconfig, net/bridge/Kconfig,
# net/ipv4/netfilter/Kconfig, net/ipv6/netfilter/Kconfig, drivers/net/Kconfig of the kernel.
_SYMBOLS = {
    "br_netfilter": "BRIDGE_NETFILTER",
    "nf_conntrack_ipv4": "NF_CONNTRACK_IPV4",
    "nf_nat": "NF_NAT",
    "ip_tables": "IP_NF_IPTABLES",
    "ip6_tables": "IP6_NF_IPTABLES",
    "iptable_nat": "IP_NF_NAT",
    "iptable_filter": "IP_NF_FILTER",
    "iptable_mangle": "IP_NF_MANGLE",
    "ip6table_nat": "IP6_NF_NAT",
    "ip6table_filter": "IP6_NF_FILTER",
    "ip6table_mangle": "IP6_NF_MANGLE",
    "ipt_REJECT": "IP_NF_TARGET_REJECT",
    "ip6t_REJECT": "IP6_NF_TARGET_REJECT",
    "ipt_MASQUERADE": "IP_NF_TARGET_MASQUERADE",
    "ip6t_MASQUERADE": "IP6_NF_TARGET_MASQUERADE",
    "xt_MASQUERADE": "NETFILTER_XT_TARGET_MASQUERADE",
    "xt_mark": "NETFILTER_XT_MARK",
    "xt_nat": "NETFILTER_XT_NAT",
    "xt_set": "NETFILTER_XT_SET",
    "xt_tcpudp": "NETFILTER_XTABLES",
    **{
        f"xt_{match}": f"NETFILTER_XT_MATCH_{match.upper()}"
        for match in ("addrtype", "comment", "conntrack", "ipvs", "nfacct", "physdev", "recent", "sctp", "statistic")
    },
    "nf_conntrack_netlink": "NF_CT_NETLINK",
    "nft_chain_nat_ipv4": "NFT_CHAIN_NAT_IPV4",
    "nft_chain_nat_ipv6": "NFT_CHAIN_NAT_IPV6",
    "x_tables": "NETFILTER_XTABLES",
    "nft_chain_nat": "NFT_NAT",
    "nft_fib_inet": "NFT_FIB_INET",
    "ip_vs_twos": "IP_VS_TWOS",
    "overlay": "OVERLAY_FS",
}

# Modules whose option certainly has their name. If the configuration lacks the option, a later kernel introduced
# it.
_OF_THE_KERNEL = re.compile(r"ip_vs(_[a-z]+)?\Z")


# By the prefix of a module's name: net/netfilter/Kconfig and the files that it includes, net/bridge/Kconfig.
_PARENTS = (
    ("ip_vs", ("CONFIG_NETFILTER", "CONFIG_IP_VS")),
    ("ip_set", ("CONFIG_NETFILTER", "CONFIG_IP_SET")),
    ("xt_", ("CONFIG_NETFILTER", "CONFIG_NETFILTER_XTABLES")),
    ("nft_", ("CONFIG_NETFILTER", "CONFIG_NF_TABLES")),
    ("br_netfilter", ("CONFIG_NETFILTER", "CONFIG_BRIDGE", "CONFIG_BRIDGE_NETFILTER")),
    ("nf_", ("CONFIG_NETFILTER",)),
    ("ip", ("CONFIG_NETFILTER",)),  # ip_tables, iptable_nat, ip6t_REJECT
)


def symbol(module: str) -> str:
    """Return the option that builds a module. For unlisted modules, it is a guess from the name."""
    return f"CONFIG_{_SYMBOLS.get(module, module.upper())}"


def options(text: str) -> Mapping[str, str]:
    """Return the options of a kernel's configuration with their values, or with `is not set`."""
    return dict(re.findall(r"^(?:# )?(CONFIG_\w+)(?:=| (?=is not set))(.*)", text, re.MULTILINE))


def built_in(found: Mapping[str, str], modules: Collection[str]) -> Mapping[str, str]:
    """Return a text for each module that the kernel's configuration has built in."""
    pairs = ((name, symbol(name)) for name in modules)
    return {name: f"the kernel's configuration: {option}=y" for name, option in pairs if found.get(option) == "y"}


def unset_options(found: Mapping[str, str], modules: Collection[str]) -> Mapping[str, str]:
    """Return a text for each module whose option is not set or absent in a kernel's configuration.

    The configuration lacks an option that depends on an unset option. The text then names the unset option.
    """
    lines: dict[str, str] = {}
    for name in modules:
        option = symbol(name)
        parent = next((option for option in _parents(name) if found.get(option) == "is not set"), "")
        if found.get(option) == "is not set":
            lines[name] = f"contains '# {option} is not set'"
        elif option not in found and parent:
            lines[name] = f"contains '# {parent} is not set'"
        elif found and option not in found and _OF_THE_KERNEL.match(name):
            lines[name] = f"does not contain {option}"
    return lines


def _parents(name: str) -> tuple[str, ...]:
    """Return the options that a module's option depends on, the outermost first."""
    matching = (parents for prefix, parents in _PARENTS if name.startswith(prefix))
    own = symbol(name)
    return tuple(option for option in next(matching, ()) if option != own)
