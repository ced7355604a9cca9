"""The kernel's build configuration: the option that explains the absence of a module."""

from __future__ import annotations

from typing import Optional

import pytest

from ipvsd.modprobe import kconfig


@pytest.mark.parametrize(
    ("text", "name", "found"),
    [
        ("CONFIG_NETFILTER=y\n# CONFIG_IP_VS is not set\n", "ip_vs_rr", "contains '# CONFIG_IP_VS is not set'"),
        ("CONFIG_NETFILTER=y\n# CONFIG_IP_VS is not set\n", "ip_vs", "contains '# CONFIG_IP_VS is not set'"),
        ("CONFIG_IP_VS=m\n# CONFIG_IP_VS_RR is not set\n", "ip_vs_rr", "contains '# CONFIG_IP_VS_RR is not set'"),
        ("# CONFIG_NETFILTER is not set\n", "ip_vs_rr", "contains '# CONFIG_NETFILTER is not set'"),
        ("# CONFIG_NETFILTER is not set\n", "nf_conntrack", "contains '# CONFIG_NETFILTER is not set'"),
        ("# CONFIG_NETFILTER is not set\n", "xt_mark", "contains '# CONFIG_NETFILTER is not set'"),
        ("CONFIG_NETFILTER=y\n# CONFIG_BRIDGE is not set\n", "br_netfilter", "contains '# CONFIG_BRIDGE is not set'"),
        ("CONFIG_NETFILTER=y\n# CONFIG_IP_SET is not set\n", "ip_set_hash_ip", "contains '# CONFIG_IP_SET is not set'"),
        ("CONFIG_IP_VS=m\nCONFIG_IP_VS_RR=m\n", "ip_vs_twos", "does not contain CONFIG_IP_VS_TWOS"),
        ("CONFIG_IP_VS=m\nCONFIG_IP_VS_RR=m\n", "ip_vs_rr", None),
        ("# CONFIG_IP_VS is not set\nCONFIG_IP_VS_RR=y\n", "ip_vs_rr", None),
        ("CONFIG_IP_VS=m\n", "xt_mark", None),  # only the options of IPVS certainly have the names of their modules
        ("CONFIG_IP_VS=m\n", "unknown", None),
        ("", "ip_vs", None),
    ],
)
def test_the_outermost_option_that_is_not_set_explains_a_missing_module(
    text: str, name: str, found: Optional[str]
) -> None:
    expected = {} if found is None else {name: found}
    assert kconfig.unset_options(kconfig.options(text), [name]) == expected


def test_a_module_whose_option_is_y_is_built_in() -> None:
    found = kconfig.options("CONFIG_IP_VS=y\nCONFIG_IP_VS_RR=m\n# CONFIG_IP_VS_SH is not set\n")
    built_in = kconfig.built_in(found, ["ip_vs", "ip_vs_rr", "ip_vs_sh", "nf_nat"])
    assert built_in == {"ip_vs": "the kernel's configuration: CONFIG_IP_VS=y"}
