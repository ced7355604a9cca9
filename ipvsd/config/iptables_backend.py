"""Choose the iptables backend that this node uses, with the reason.

The rules of the iptables program go to nf_tables (iptables-nft) or to legacy tables (iptables-legacy). kube-proxy on
the node uses the node's program. In a container, it uses the backend in which kubelet has created a chain with the
node's program (kubernetes-sigs/iptables-wrappers). So the node's program decides.

Legacy tables process each packet as soon as their modules are loaded, so the modules of an unused backend are not.
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
    """Return the only backend that is complete with the `known` modules, or else that of the node's program."""
    lacking = {back_end.name: missing(back_end, kernel, known) for back_end in back_ends}
    complete = [back_end for back_end in back_ends if not lacking[back_end.name]]
    if len(complete) == 1:
        others = (f"this kernel lacks {names[0]} of iptables-{name}" for name, names in lacking.items() if names)
        return Choice(complete[0], f"for iptables-{complete[0].name}: {'; '.join(others)}")
    name, reason = detect(kernel.iptables)
    back_end = next((item for item in back_ends if item.name == name), back_ends[0])
    return Choice(back_end, f"for iptables-{back_end.name}: {reason}")


def missing(back_end: BackEnd, kernel: Kernel, known: Collection[str]) -> Sequence[str]:
    """Return the modules that a backend requires and this kernel lacks."""
    wanted = (entry for entry in back_end.modules if entry.need is Need.REQUIRED and (kernel.ipv6 or not entry.ipv6))
    lacking = [entry.name for entry in wanted if entry.name not in known]
    return lacking + [item.names[0] for item in back_end.alternatives if not any(name in known for name in item.names)]


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
