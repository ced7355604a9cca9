"""The kernel's build configuration: whether the option of a module is set."""

from __future__ import annotations

import re
from collections.abc import Collection, Mapping

# Options with another name than their module: net/netfilter/Kconfig, net/bridge/Kconfig,
# net/ipv4/netfilter/Kconfig, net/ipv6/netfilter/Kconfig, drivers/net/Kconfig of the kernel.
_SYMBOLS = {
    "br_netfilter": "BRIDGE_NETFILTER",
    **{
        f"{family}table_{table}": f"{family.upper()}_NF_{table.upper()}"
        for family in ("ip", "ip6")
        for table in ("nat", "filter", "mangle")
    },
    "ip_tables": "IP_NF_IPTABLES",
    "ip6_tables": "IP6_NF_IPTABLES",
    "ipt_REJECT": "IP_NF_TARGET_REJECT",
    "ip6t_REJECT": "IP6_NF_TARGET_REJECT",
    "ipt_MASQUERADE": "IP_NF_TARGET_MASQUERADE",
    "ip6t_MASQUERADE": "IP6_NF_TARGET_MASQUERADE",
    "xt_MASQUERADE": "NETFILTER_XT_TARGET_MASQUERADE",
    **{f"xt_{name}": f"NETFILTER_XT_{name.upper()}" for name in ("mark", "nat", "set")},
    "xt_tcpudp": "NETFILTER_XTABLES",
    **{
        f"xt_{match}": f"NETFILTER_XT_MATCH_{match.upper()}"
        for match in ("addrtype", "comment", "conntrack", "ipvs", "nfacct", "physdev", "recent", "sctp", "statistic")
    },
    "nf_conntrack_netlink": "NF_CT_NETLINK",
    "x_tables": "NETFILTER_XTABLES",
    "nft_chain_nat": "NFT_NAT",
    "overlay": "OVERLAY_FS",
}

# Modules whose option certainly has their name. A configuration that lacks it is that of an older kernel.
_OF_THE_KERNEL = r"ip_vs(_[a-z]+)?\Z"

# The options that a module's option depends on, the outermost first, by the prefix of its name: net/netfilter/Kconfig
# and the files that it includes, net/bridge/Kconfig.
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
    """Return a text for each module whose option, or an option that it depends on, is unset or absent."""
    lines: dict[str, str] = {}
    for name in modules:
        option = symbol(name)
        parents = next((options for prefix, options in _PARENTS if name.startswith(prefix)), ())
        parent = next((item for item in parents if item != option and found.get(item) == "is not set"), "")
        if found.get(option) == "is not set":
            lines[name] = f"contains '# {option} is not set'"
        elif option not in found and parent:
            lines[name] = f"contains '# {parent} is not set'"
        elif found and option not in found and re.match(_OF_THE_KERNEL, name):
            lines[name] = f"does not contain {option}"
    return lines
