"""Read what iptables and nftables mode have left: chains of iptables in each variant and family, and nftables tables.

A program runs only if it makes the kernel load no module. Each output is bounded in size and time.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import NamedTuple

from ipvsd.discovery.unit_log import Run
from ipvsd.doctor import remains
from ipvsd.kernel import iptables
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.types import Kernel
from ipvsd.runtime import rootfs

_MAX_SAVED, _SECONDS = 1 << 23, 10.0
_IPV6_TABLES = "proc/net/ip6_tables_names"  # exists while ip6_tables is loaded; only root can read it


class RuleSets(NamedTuple):
    """The chains of iptables mode by command, and the tables of nftables mode.

    `unchecked` are the reasons why a program could not read a part, and `missing` the parts without a program.
    """

    chains: Sequence[tuple[str, Sequence[str]]] = ()
    tables: Sequence[str] = ()
    unchecked: Sequence[str] = ()
    missing: Sequence[str] = ()


def read_chains(root: str, kernel: Kernel, run: Run) -> RuleSets:
    """Return the chains of iptables mode, of IPv4 and IPv6, in nf_tables and in the legacy tables. Raises OSError."""
    host = LinuxHost(root)
    nft = bool(host.modules(["nf_tables"]))
    families = {"iptables": kernel.iptables.tables}
    if kernel.ipv6:
        families["ip6tables"] = tuple((rootfs.text_if_permitted(root, _IPV6_TABLES) or "").split())
    chains, unchecked, missing = [], [], []
    for family, tables in families.items():
        saved = list(_commands(root, family))
        present = {"nf_tables": nft, "the legacy tables": "nat" in tables}
        for place in (name for name, exists in present.items() if exists):
            command = next((item for item, where in saved if where == place), None)
            if command is None:
                missing.append(f"the chains of {family} in {place}: no program of this node reads them")
                continue
            output = run((*command, "-t", "nat"), _MAX_SAVED, _SECONDS)
            if output.code:
                unchecked.append(f"the chains of {family}: {' '.join(command)} exited {output.code}")
                continue
            if output.code is None and len(output.text) < _MAX_SAVED:
                unchecked.append(f"the chains of {family}: {' '.join(command)} took more than {_SECONDS:g} s")
            found = remains.iptables_chains(output.text.decode("utf-8", "replace"))
            chains += [(" ".join(command), found)] if found else []
    return RuleSets(chains, (), unchecked, missing)


_OTHER_FAMILY = {"ip6tables": ("iptables", "iptables-nft", "iptables-legacy")}


def _commands(root: str, family: str) -> Iterator[tuple[Sequence[str], str]]:
    """Yield the programs that print the rules of a family, each with where it reads them. The one in use is first."""
    for name in (family, f"{family}-nft", f"{family}-legacy", *_OTHER_FAMILY.get(family, ())):
        program = iptables.find_program(root, name)
        if program:
            base = program.rpartition("/")[2]
            # One binary contains the programs of both families, and selects one by its first argument.
            if "multi" in base or name.startswith(family):
                command = (program, f"{family}-save") if "multi" in base else (f"{program}-save",)
                yield command, "nf_tables" if "nft" in base else "the legacy tables"


def read_tables(root: str, run: Run) -> RuleSets:
    """Return the tables of nftables mode. Raises OSError."""
    if not LinuxHost(root).modules(["nf_tables"]):
        return RuleSets()
    program = iptables.find_program(root, "nft")
    if not program:
        return RuleSets(missing=("the tables of nftables mode: the program nft is missing",))
    output = run((program, "list", "tables"), _MAX_SAVED, _SECONDS)
    if output.code:
        return RuleSets(unchecked=(f"the tables of nftables mode: {program} exited {output.code}",))
    return RuleSets(tables=remains.nftables_tables(output.text.decode("utf-8", "replace")))
