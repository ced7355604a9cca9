"""Findings about the programs ipset and iptables of this node, and the modules that they need."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple

from ipvsd.config import iptables_backend
from ipvsd.config.profiles import BackEnd
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.kube_proxy import log_errors
from ipvsd.model.types import Kernel


class ProgramFacts(NamedTuple):
    """`needed` means that a kube-proxy outside of containers uses these programs. A path is empty if it is absent.

    `ipset_error` is the output of an ipset that fails.
    """

    needed: bool
    ipset: str = ""
    iptables: str = ""
    ipset_error: str = ""


def findings(
    facts: ProgramFacts, kernel: Kernel, known: Collection[str], back_ends: Sequence[BackEnd]
) -> Iterator[Finding]:
    """Yield the programs that are missing or cannot work. `known` are the modules that this kernel has."""
    if facts.needed:
        yield from _missing(facts)
    if facts.ipset_error:
        yield Finding(
            "ipset_fails",
            Severity.ERROR if facts.needed else Severity.WARNING,
            "the ipset program of this node fails",
            (f"{facts.ipset} version: {facts.ipset_error}",),
            "kube-proxy checks the version of ipset when it starts, and cannot use IPVS if that fails",
            "run 'modprobe ip_set', or install the package that contains the module",
            log_errors.IPSET_VERSION,
        )
    if facts.iptables:
        yield from _backend(kernel, known, back_ends)


def _missing(facts: ProgramFacts) -> Iterator[Finding]:
    absent = [name for name, path in (("ipset", facts.ipset), ("iptables", facts.iptables)) if not path]
    for name in absent:
        yield Finding(
            f"{name}_missing",
            Severity.ERROR,
            f"the program {name} is missing",
            (f"no {name} in /usr/local/sbin, /usr/local/bin, /usr/sbin, /usr/bin, /sbin, /bin",),
            "kube-proxy runs as a process of this node, and uses the programs of the node",
            f"run 'apt install {name}' (Debian, Ubuntu) or 'dnf install {name}' (EL, Fedora), and restart kube-proxy",
            log_errors.IPSET_VERSION if name == "ipset" else log_errors.RESTORE,
        )


def _backend(kernel: Kernel, known: Collection[str], back_ends: Sequence[BackEnd]) -> Iterator[Finding]:
    """Yield the backend that the program of the node uses, if this kernel lacks its modules."""
    name, reason = iptables_backend.detect(kernel.iptables)
    used = next((item for item in back_ends if item.name == name), None)
    lacking = iptables_backend.missing(used, kernel, known) if used else ()
    others = [
        item.name for item in back_ends if item.name != name and not iptables_backend.missing(item, kernel, known)
    ]
    if not lacking or not others:
        return  # the verdicts on the modules report a kernel that lacks both
    yield Finding(
        "iptables_backend_unusable",
        Severity.ERROR,
        f"iptables uses {name}, and this kernel lacks {', '.join(lacking)}",
        (reason,),
        f"this kernel has the modules of iptables-{others[0]}",
        f"run 'update-alternatives --set iptables /usr/sbin/iptables-{others[0]}' (Debian, Ubuntu), or boot a kernel "
        f"with {', '.join(lacking)}",
        log_errors.RESTORE,
    )
