"""Findings about denials by SELinux and AppArmor in the audit log and the kernel's log."""

from __future__ import annotations

import re
import shlex
from collections.abc import Iterator, Sequence
from typing import NamedTuple, Optional

from ipvsd.doctor import sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.model import printable

_AVC = re.compile(r"avc:  ?denied  ?\{ (?P<access>[\w ]{1,80}) \} for ")
_APPARMOR = re.compile(r'apparmor="DENIED" operation="(?P<access>[^"]{1,80})"')
_FIELD = re.compile(r'\b(comm|name|path|profile|scontext|tclass)=(?:"([^"]{0,200})"|(\S{1,200}))')
# Programs on which IPVS depends, and files that they need.
_PROGRAMS = re.compile(
    r"kube-proxy|hyperkube|k3s|ipvsd|modprobe|kmod|insmod|ipset|ip6?tables|xtables|nft\Z|conntrack|ipvsadm|sysctl"
)
_FILES = re.compile(r"/proc/sys/net/|/sys/module/|/lib/modules/|ip_vs|nf_conntrack|ip_set")
_MAX_LINE = 400


class Denial(NamedTuple):
    """One denial: the security module, the program, the access and the object, and the line of the log."""

    module: str
    program: str
    access: str
    object: str
    subject: str  # the profile of AppArmor, or the context of SELinux
    line: str


def parse(line: str) -> Optional[Denial]:
    """Return the denial in a line of a log if it concerns IPVS or its programs, or None."""
    line = line[:4096]
    selinux, apparmor = _AVC.search(line), _APPARMOR.search(line)
    found = selinux or apparmor
    if found is None:
        return None
    fields = {name: quoted or plain for name, quoted, plain in _FIELD.findall(line)}
    program, target = fields.get("comm", ""), fields.get("path") or fields.get("name", "")
    concerns = _PROGRAMS.search(program) or _FILES.search(target) or "module" in found["access"]
    if not concerns:
        return None
    subject = fields.get("scontext", "") if selinux else fields.get("profile", "")
    return Denial(
        "SELinux" if selinux else "AppArmor", program, found["access"], target, subject,
        printable.line(line.strip(), _MAX_LINE),
    )  # fmt: skip


def findings(denials: Sequence[Denial]) -> Iterator[Finding]:
    """Yield one finding for each program and security module, with the last line as evidence."""
    groups: dict[tuple[str, str], list[Denial]] = {}
    for denial in denials:
        groups.setdefault((denial.module, denial.program), []).append(denial)
    for (module, program), group in groups.items():
        last, times = group[-1], f" ({len(group)} times)" if len(group) > 1 else ""
        fix = (
            f"run 'ausearch -m avc -c {shlex.quote(program)} --raw | audit2allow -M ipvs-local', check the rules in "
            "ipvs-local.te, and run 'semodule -i ipvs-local.pp'"
            if module == "SELinux"
            else f"allow the access in AppArmor profile {last.subject or 'of the program'}, or run the container of "
            "kube-proxy with 'securityContext: {privileged: true}'"
        )
        yield Finding(
            "denied_by_security_module",
            Severity.WARNING,
            f"{module} denied {program or 'a program'} {last.access} of {last.object or 'an object'}{times}",
            (last.line,),
            "a denied access looks like a missing file or permission to kube-proxy and modprobe",
            fix,
            sections.DENIED,
        )
