"""Findings about the place of this command: a container, or a network namespace other than the host's."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from ipvsd.doctor import sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.model.types import LoadRestrictions


class PlaceFacts(NamedTuple):
    """`container` is the evidence that this is a container, or empty. The namespaces are those of the command."""

    container: str = ""
    own_network: str = ""
    init_network: str = ""  # of process 1
    conntrack_read_only: bool = False  # the kernel offers nf_conntrack_max read-only: not the initial namespace


def findings(facts: PlaceFacts, restrictions: LoadRestrictions) -> Iterator[Finding]:
    """Yield the reasons why this command does not see, or cannot change, the host."""
    other = facts.own_network and facts.init_network and facts.own_network != facts.init_network
    if other or facts.conntrack_read_only:
        evidence = [f"network namespace of this command: {facts.own_network}"] if facts.own_network else []
        if other:
            evidence.append(f"network namespace of process 1: {facts.init_network}")
        if facts.conntrack_read_only:
            evidence.append(
                "net.netfilter.nf_conntrack_max is read-only, as in a network namespace other than the first"
            )
        yield Finding(
            "other_network_namespace",
            # In a container that is a whole node (kind), kube-proxy uses the same namespace.
            Severity.ERROR if other or not facts.container else Severity.NOTE,
            "this command runs in a network namespace other than the host's",
            tuple(evidence),
            "its sysctls, its table of virtual services and its addresses are not those that kube-proxy uses",
            "run the command on the host: 'nsenter -t 1 -m -n ipvsd doctor', or set 'hostNetwork: true' for its pod",
            sections.CONTAINER,
        )
    if facts.container and (restrictions.incapable or restrictions.nested):
        yield Finding(
            "container",
            Severity.NOTE,
            "this command runs in a container that may not load modules",
            (facts.container,),
            "only the host of the container can load modules",
            "run ipvsd on the host, or grant CAP_SYS_MODULE to the container",
            sections.CONTAINER,
        )
