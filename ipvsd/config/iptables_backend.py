"""Choose the iptables backend that this node uses, with the reason.

The iptables program has two backends. Its rules go to nf_tables (iptables-nft) or to legacy tables
(iptables-legacy). kube-proxy on the node uses the node's program. kube-proxy in a container contains both, and uses
the one in which kubelet has created a chain. kubelet used the node's program (kubernetes-sigs/iptables-wrappers).
So the node's program decides.

Legacy tables process each packet as soon as their modules are loaded, even without rules. So ipvsd does not load
the modules of an unused backend.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import NamedTuple

from ipvsd.config.profiles import BackEnd
from ipvsd.model.types import Iptables, Kernel, Need


class Choice(NamedTuple):
    back_end: BackEnd
    reason: str


def choose(back_ends: Sequence[BackEnd], kernel: Kernel, known: Collection[str]) -> Choice:
    """Return the backend whose modules are desired. `known` are the modules that this kernel has, loaded or not.

    If the kernel has all modules of only one backend, that one is used.
    """
    lacking = {back_end.name: missing(back_end, kernel, known) for back_end in back_ends}
    complete = [back_end for back_end in back_ends if not lacking[back_end.name]]
    if len(complete) == 1:
        others = (f"this kernel lacks {names[0]} of iptables-{name}" for name, names in lacking.items() if names)
        return _choice(complete[0], "; ".join(others))
    name, reason = detect(kernel.iptables)
    return _choice(next((item for item in back_ends if item.name == name), back_ends[0]), reason)


def _choice(back_end: BackEnd, reason: str) -> Choice:
    return Choice(back_end, f"for iptables-{back_end.name}: {reason}")


def missing(back_end: BackEnd, kernel: Kernel, known: Collection[str]) -> Sequence[str]:
    """Return the modules that a backend requires and this kernel lacks."""
    wanted = (entry for entry in back_end.modules if entry.need is Need.REQUIRED and (kernel.ipv6 or not entry.ipv6))
    lacking = [entry.name for entry in wanted if entry.name not in known]
    return [
        *lacking,
        *(item.names[0] for item in back_end.alternatives if not any(name in known for name in item.names)),
    ]


def detect(iptables: Iptables) -> tuple[str, str]:
    """Return the backend that the node's files indicate, and the reason."""
    program = iptables.program.rpartition("/")[2]
    # Before 1.8, there was one program, xtables-multi, and before 1.4.11 iptables itself. Both use legacy tables.
    # Since then, the file is named iptables-nft or xtables-nft-multi, or the same with legacy.
    if "nft" in program:
        return "nft", f"iptables is {iptables.program}"
    if "legacy" in program or program == "xtables-multi":
        return "legacy", f"iptables is {iptables.program}"
    if iptables.tables:
        return "legacy", f"legacy tables exist ({', '.join(iptables.tables)})"
    return "nft", "the default backend"
