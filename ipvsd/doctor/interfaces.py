"""Findings about programs that manage kube-ipvs0 or the firewall: systemd-networkd, NetworkManager and firewalld."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Program
from ipvsd.doctor import sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.kube_proxy.known_values import INTERFACE as KUBE_IPVS
from ipvsd.model.value_texts import text_of


class InterfaceFacts(NamedTuple):
    """`managers` are the programs that manage kube-ipvs0 now, each with the line of its state file."""

    managers: Sequence[tuple[Program, str]] = ()
    firewalld_distrusts: bool = False  # it runs, and no zone that accepts everything has a network or an interface


def findings(facts: InterfaceFacts, settings: Sequence[ExternalSetting], ipvs: bool) -> Iterator[Finding]:
    """Yield the programs that manage the interface. `ipvs` means that kube-proxy runs in IPVS mode."""
    remedies = {item.program: item for item in settings if item.effect is Effect.INTERFERES}
    for program, line in facts.managers:
        setting = remedies.get(program)
        yield Finding(
            "interface_managed",
            Severity.ERROR if ipvs else Severity.WARNING,
            f"{text_of(program)} manages {KUBE_IPVS}",
            tuple(filter(None, (line, f"{setting.origin}: {setting.text}" if setting else ""))),
            f"it can remove the addresses of the services from {KUBE_IPVS}; traffic to services then leaves the node",
            setting.remedy if setting and setting.remedy else _FIX[program],
            sections.INTERFACE,
        )
    # Lines by which firewalld unloads modules are findings about files.
    if facts.firewalld_distrusts:
        yield Finding(
            "firewalld_runs",
            Severity.WARNING,
            "firewalld runs on this node, and trusts neither the pods nor the services",
            (
                "firewalld is a running process",
                'no zone in /etc/firewalld/zones with target="ACCEPT" has a source or an interface, and no connection '
                "of NetworkManager has such a zone",
            ),
            "firewalld rejects forwarded packets of zones that it does not trust, and packets to node ports",
            "run 'firewall-cmd --permanent --zone=trusted --add-source=POD_CIDR' and 'firewall-cmd --reload', or "
            "'systemctl disable --now firewalld'",
            sections.FIREWALLD,
        )


_FIX = {
    Program.NETWORKD: (
        f"put '[Match]', 'Name={KUBE_IPVS}', '[Link]' and 'Unmanaged=yes', each on its own line, into "
        f"/etc/systemd/network/00-{KUBE_IPVS}.network, and run 'networkctl reload'"
    ),
    Program.NETWORK_MANAGER: (
        f"put '[keyfile]' and 'unmanaged-devices+=interface-name:{KUBE_IPVS}', each on its own line, into "
        "/etc/NetworkManager/conf.d/90-kube-ipvs0.conf, and run 'nmcli general reload'"
    ),
}


def networkd_manages(text: str) -> str:
    """Return the line of a file in /run/systemd/netif/links by which networkd manages the link, or an empty text."""
    line = next((line for line in text.splitlines() if line.startswith("ADMIN_STATE=")), "")
    return line if line and line.partition("=")[2] not in ("unmanaged", "pending", "initialized", "linger") else ""


def networkmanager_manages(text: str) -> str:
    """Return the line of a file in /run/NetworkManager/devices by which it manages the link, or an empty text."""
    return next((line for line in text.splitlines() if line.replace(" ", "") == "managed=true"), "")


_ACCEPTS = re.compile(r"<zone\b[^<>]*\btarget=[\"']ACCEPT[\"']")
_MEMBER = re.compile(r"<(?:source|interface)\b")
_COMMENT = re.compile(r"<!--.*?(?:-->|\Z)", re.DOTALL)


_CONNECTION_ZONE = re.compile(r"^[ \t]*(?:zone|ZONE)[ \t]*=[ \t]*[\"']?([^\s\"']+)", re.MULTILINE)


def firewalld_trusts(configuration: str, zones: Mapping[str, str], connections: Iterable[str] = ()) -> bool:
    """Return whether firewalld accepts the packets of some network or interface (firewalld.zones(5)).

    `configuration` is the text of firewalld.conf, and `zones` are the files in /etc/firewalld/zones by their names.
    `connections` are the files of NetworkManager, into which firewall-cmd writes the zone of an interface that
    NetworkManager manages. The networks of the pods are unknown here, so any one counts.
    """
    default = re.search(r"(?m)^[ \t]*DefaultZone\s*=\s*(\S+)", configuration)
    texts = {name.removesuffix(".xml"): _COMMENT.sub("", text) for name, text in zones.items()}
    accepting = {name for name, text in texts.items() if _ACCEPTS.search(text)} | {"trusted"}
    chosen = {name for text in connections for name in _CONNECTION_ZONE.findall(text)}
    chosen |= {default[1]} if default else set()
    return not accepting.isdisjoint(chosen) or any(_MEMBER.search(texts.get(name, "")) for name in accepting)
