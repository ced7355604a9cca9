"""Findings about what remains from another proxy mode: the table, the interface and the chains of kube-proxy."""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from ipvsd.doctor import sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.kernel.virtual_services import Table
from ipvsd.kube_proxy import known_values

# Chains that only iptables mode creates (pkg/proxy/iptables/proxier.go); IPVS mode has the others with KUBE-.
_IPTABLES_CHAIN = re.compile(r"^:(KUBE-(?:SVC|SEP|FW|EXT|XLB|SVL)-[A-Z0-9]{16}) ", re.MULTILINE)
# Programs that fill the table without kube-proxy.
DIRECTORS = ("keepalived", "ldirectord", "surealived", "gorb", "dpvs")
_CLEANUP = "kube-proxy --cleanup"


class RemainsFacts(NamedTuple):
    """`chains` are those of iptables mode by the command that printed them, and `tables` those of nftables mode.

    `directors` are running programs that also fill the table.
    """

    mode: Optional[str]
    table: Optional[Table] = None
    interface: bool = False
    chains: Sequence[tuple[str, Sequence[str]]] = ()
    tables: Sequence[str] = ()
    directors: Sequence[str] = ()


def iptables_chains(saved: str) -> Sequence[str]:
    """Return the chains of iptables mode in the output of iptables-save."""
    return tuple(dict.fromkeys(_IPTABLES_CHAIN.findall(saved)))


def nftables_tables(listed: str) -> Sequence[str]:
    """Return the tables of nftables mode in the output of `nft list tables` (pkg/proxy/nftables/proxier.go)."""
    return tuple(re.findall(r"^table ((?:ip|ip6) kube-proxy)$", listed, re.MULTILINE))


def findings(facts: RemainsFacts) -> Iterator[Finding]:
    """Yield what another mode has left. Without a running kube-proxy, nothing counts as left."""
    if facts.mode is None:
        return
    filled = facts.table is not None and facts.table.services > 0 and not facts.directors
    if facts.mode != known_values.IPVS and (facts.interface or filled):
        evidence = [f"/proc/net/ip_vs: {facts.table} virtual services"] if facts.table and facts.table.services else []
        evidence += ["the interface kube-ipvs0 exists"] if facts.interface else []
        yield Finding(
            "ipvs_remains",
            Severity.WARNING,
            f"kube-proxy runs in mode {facts.mode}, and objects of IPVS mode remain",
            tuple(evidence),
            "kube-proxy does not remove the objects of its former mode. IPVS still answers for the addresses of the "
            "former services",
            f"stop kube-proxy, run '{_CLEANUP}' (or 'ipvsadm -C' and 'ip link delete kube-ipvs0'), and start it again",
            sections.REMAINS,
        )
    if facts.mode == known_values.IPVS and facts.chains:
        yield Finding(
            "iptables_remains",
            Severity.WARNING,
            "kube-proxy runs in mode ipvs, and chains of iptables mode remain",
            tuple(
                f"{command}: {', '.join(chains[:3])}{' and others' if len(chains) > 3 else ''}"
                for command, chains in facts.chains
            ),
            "kube-proxy does not remove the rules of its former mode. They send the packets of services to endpoints "
            "that may no longer exist, before IPVS sees them",
            f"stop kube-proxy, run '{_CLEANUP}' (or reboot), and start it again",
            sections.REMAINS,
        )
    if facts.mode != known_values.NFTABLES and facts.tables:
        yield Finding(
            "nftables_remains",
            Severity.WARNING,
            f"kube-proxy runs in mode {facts.mode}, and tables of nftables mode remain",
            (f"nft list tables: {', '.join(facts.tables)}",),
            "a kube-proxy before 1.29 does not know nftables mode, and leaves its tables. Their rules send the packets "
            "of services to endpoints that may no longer exist",
            "run " + " and ".join(f"'nft delete table {table}'" for table in facts.tables),
            sections.REMAINS,
        )
