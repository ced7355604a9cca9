"""Former names of modules: the first kernel without each of them, and the module that replaced it."""

from __future__ import annotations

import pytest

from ipvsd.modprobe.former_names import former, successor


@pytest.mark.parametrize(
    ("name", "last", "first", "now"),
    [
        ("nf_conntrack_ipv6", "4.18.0-1-amd64", "4.19.0-1-amd64", "nf_conntrack"),
        ("nf_conntrack_l3proto_ipv4", "4.18.20", "4.19", "nf_conntrack"),
        ("nf_conntrack_ipv4", "4.18.0-239.el8.x86_64", "4.18.0-240.el8.x86_64", "nf_conntrack"),  # backported by EL 8.3
        ("nf_nat_ipv4", "5.0.21", "5.1.0", "nf_nat"),
        ("nf_nat_ipv6", "4.18.0-553.el8_10.x86_64", "5.14.0-427.el9.x86_64", "nf_nat"),  # not backported
        ("nf_nat_masquerade_ipv6", "5.0.21", "5.1.0", "nf_nat"),
        ("nft_chain_nat_ipv4", "5.0.21", "5.1.0", "nft_chain_nat"),
        ("ipt_MASQUERADE", "5.1.21", "5.2.0", "xt_MASQUERADE"),
        ("nft_chain_route_ipv6", "5.1.21", "5.2.0", "nf_tables"),
        ("nft_masq_ipv4", "5.1.21", "5.2.0", "nft_masq"),
        ("nft_redir_ipv4", "5.1.21", "5.2.0", "nft_redir"),
        ("nf_tables_inet", "4.16.18", "4.17.0", "nf_tables"),
        ("ip_conntrack", "2.5.75", "2.6.39", "nf_conntrack"),
        ("ip_nat", "2.5.75", "2.6.39", "nf_nat"),
    ],
)
def test_a_former_name_has_a_successor_from_its_kernel_on(name: str, last: str, first: str, now: str) -> None:
    assert successor(name, last) is None
    for release in (first, "6.1.0-50-cloud-amd64", "7.2.13"):
        found = former(name, release)
        assert found is not None
        assert found.successor == now
        assert (successor(name, release) or "").startswith(f"no longer a module: part of {now} since Linux ")


def test_other_modules_have_no_successor() -> None:
    assert former("nf_conntrack", "6.1.0-50-cloud-amd64") is None
