"""The data for a bug report as a tar.gz: what ipvsd and kube-proxy observed, without secrets.

Files of other programs are not copied. The bundle contains only values that ipvsd has parsed, names of loaded
modules, and ends of logs, from which everything that looks like a secret is removed. No environment variable and no
command line of a process is read.
"""

from __future__ import annotations

import gzip
import io
import re
import tarfile
from collections.abc import Mapping, Sequence
from typing import Any

from ipvsd import __version__
from ipvsd.config.dump import as_mapping
from ipvsd.config.schema import Config
from ipvsd.doctor import redaction
from ipvsd.doctor.observation import Facts
from ipvsd.kernel import os_release
from ipvsd.model import printable
from ipvsd.model.report import Report
from ipvsd.reporting import status_document
from ipvsd.runtime import rootfs

MAX_MEMBER = 1 << 20  # characters of one file in it
_DIRECTORY = "ipvsd-bundle"
_NETFILTER = re.compile(r"IPVS|ip_vs|ip_set|nf_|nft_|xt_|ipt_|conntrack|netfilter|modprobe|avc:|apparmor=|audit")
_OS_RELEASE = ("ID", "VERSION_ID", "PRETTY_NAME")


def build(root: str, config: Config, document: Mapping[str, Any], report: Report, facts: Facts) -> bytes:
    """Return the archive. The names in it, their order and their dates are always the same."""
    kernel_log = [line for line in facts.kernel_log if _NETFILTER.search(line)]
    members = {
        "README": _README,
        "doctor.json": _json(document),
        "status.json": _json(status_document.build_document(report)),
        "configuration.json": _json(as_mapping(config)),
        "system.json": _json(_system(root, facts)),
        "modules.txt": _lines(sorted(_modules(root))),
        "kube-proxy.json": _json(_proxy(facts)),
        "kube-proxy.log": _lines(facts.proxy.log.lines),
        "kube-proxy-start.log": _lines(facts.proxy.log.start),
        "kernel.log": _lines(kernel_log),
    }
    return _archive({name: text.encode("ascii", "backslashreplace") for name, text in members.items()})


_README = f"""\
Data for a bug report, collected by 'ipvsd doctor --bundle' of ipvsd {__version__}.
Secrets are removed from texts of other programs. Read the files before you publish them.
"""


def _json(document: object) -> str:
    return f"{printable.as_json(redaction.redact_document(document), indent=2)}\n"[:MAX_MEMBER]


def _lines(lines: Sequence[str]) -> str:
    return "".join(f"{printable.line(line)}\n" for line in redaction.redact("\n".join(lines)).split("\n"))[-MAX_MEMBER:]


def _system(root: str, facts: Facts) -> Mapping[str, Any]:
    return {
        "ipvsd": __version__,
        "kernel": _text(root, "proc/sys/kernel/osrelease").strip(),
        "os_release": {name: value for name, value in _os_release(root).items() if name in _OS_RELEASE},
        "command_line": redaction.kernel_command_line(_text(root, "proc/cmdline")),
        "processes": sorted(filter(_NODE_PROCESS.fullmatch, facts.processes)),
    }


def _os_release(root: str) -> Mapping[str, str]:
    try:
        return os_release.read(root)
    except rootfs.UnreadableError:
        return {}


_NODE_PROCESS = re.compile(
    r"kube-proxy|kubelet|k3s(?:-server|-agent)?|rke2|containerd|crio|dockerd|firewalld|NetworkManager|systemd-network"
    r"|keepalived|tuned|ipvsd"
)


def _modules(root: str) -> list[str]:
    return [" ".join(line.split()[:5]) for line in _text(root, "proc/modules").splitlines()]


def _proxy(facts: Facts) -> Mapping[str, Any]:
    proxy = facts.proxy.proxy
    table = facts.proxy.table
    found: dict[str, Any] = {
        "running": proxy is not None,
        "virtual_services": table and table._asdict(),
        "log": facts.proxy.log.origin,
    }
    if proxy is None:
        return found
    return {
        **found,
        "process": str(proxy.process),
        "kind": proxy.process.kind.value,
        "flags": dict(proxy.process.flags),
        "files": proxy.files._asdict(),
        "effective": proxy.effective and proxy.effective._asdict(),
        "mode": proxy.mode,
        "healthz": proxy.healthz and proxy.healthz._asdict(),
        "version": proxy.version_text,
        "problems": list(proxy.problems),
    }


def _text(root: str, path: str) -> str:
    try:
        return rootfs.text(root, path) or ""
    except rootfs.UnreadableError:
        return ""


def _archive(members: Mapping[str, bytes]) -> bytes:
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as archive:
        for name, data in members.items():
            member = tarfile.TarInfo(f"{_DIRECTORY}/{name}")
            member.size, member.mode = len(data), 0o600
            archive.addfile(member, io.BytesIO(data))
    return gzip.compress(packed.getvalue(), mtime=0)
