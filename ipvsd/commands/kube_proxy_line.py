"""One line about the running kube-proxy, for `check`, `status` and `doctor`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, NamedTuple, Optional

from ipvsd.config.profiles import BY_MODE
from ipvsd.decide.health import required
from ipvsd.discovery import running
from ipvsd.discovery.running import KubeProxy
from ipvsd.kernel import virtual_services
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.virtual_services import Table
from ipvsd.kube_proxy import known_values
from ipvsd.kube_proxy.known_values import INTERFACE as KUBE_IPVS
from ipvsd.model.report import Report

_STRICT_ARP = "net.ipv4.conf.all.arp_ignore"  # ipvsd manages it only with strictARP
_HINT = " (this contradicts the configuration: run 'ipvsd doctor')"


class Managed(NamedTuple):
    """The profiles of ipvsd's configuration, and the live modules and the sysctls that it requires."""

    profiles: Collection[str] = ()
    names: Collection[str] = ()


def managed_by(report: Report, profiles: Collection[str]) -> Managed:
    """Return what ipvsd manages, from a report."""
    modules = [item.name for item in report.modules if item.compliant and required(item)]
    return Managed(profiles, {*modules, *(item.name for item in report.sysctls)})


def managed_in(document: Mapping[str, Any]) -> Managed:
    """Return what ipvsd manages, from a status document. Those of old versions have no profiles."""
    profiles = document["config"].get("profiles")
    modules = [item["name"] for item in document["modules"] if item["compliant"] and item["required"]]
    names = {*modules, *(item["name"] for item in document["sysctls"])}
    return Managed(profiles if isinstance(profiles, (list, tuple)) else (), names)


def observe(root: str, managed: Managed) -> Optional[dict[str, Any]]:
    """Return the running kube-proxy as values for JSON, or None if there is none.

    It is asked for its mode only on the running node.
    """
    from ipvsd.runtime import http_client

    proxy = running.observe(root, http_client.get if root == "/" else None)
    if proxy is None:
        return None
    try:
        table = virtual_services.read_table(root)
    except OSError:
        table = None
    interface = LinuxHost(root).is_interface(KUBE_IPVS)
    return document(proxy, table, interface, managed)


def document(
    proxy: Optional[KubeProxy], table: Optional[Table], interface: bool, managed: Managed
) -> Optional[dict[str, Any]]:
    """Return a kube-proxy as values for JSON, or None if none runs. `interface` means that kube-ipvs0 exists."""
    if proxy is None:
        return None
    return {
        "process": str(proxy.process),
        "kind": proxy.process.kind.value,
        "version": proxy.version_text or None,
        "mode": proxy.mode,
        "requested_mode": proxy.settings.requested_mode,
        "scheduler": proxy.scheduler,
        "virtual_services": table.services if table else None,
        "contradicts": _contradicts(proxy, managed) or running.is_table_lost(proxy, table, interface),
    }


def _contradicts(proxy: KubeProxy, managed: Managed) -> bool:
    """Return whether kube-proxy's mode differs from its configuration, or its settings from what ipvsd manages."""
    wanted = proxy.settings.requested_mode
    if None not in (proxy.mode, wanted) and proxy.mode != wanted:
        return True
    mode = proxy.mode or wanted
    if BY_MODE[known_values.IPVS] not in managed.profiles or mode is None:
        return False
    # Without the module, kube-proxy fails. If ipvsd does not require it, the node is ready without it.
    scheduler = proxy.scheduler is None or f"ip_vs_{proxy.scheduler}" in managed.names
    strict_arp = not proxy.settings.strict_arp or _STRICT_ARP in managed.names
    return mode != known_values.IPVS or not scheduler or not strict_arp


def text(values: Optional[Mapping[str, Any]], hint: str = _HINT) -> str:
    """Return the line for people, or an empty text if no kube-proxy runs. `hint` follows a contradiction."""
    if values is None:
        return ""
    name = f"kube-proxy {values['version']}" if values["version"] else "kube-proxy"
    mode = values["mode"] or values["requested_mode"]
    words = [f"mode {mode}" if values["mode"] else f"mode {mode} (configured)" if mode else "mode unknown"]
    if mode == known_values.IPVS:
        if values["scheduler"]:
            words.append(f"scheduler {values['scheduler']}")
        if values["virtual_services"] is not None:
            count = values["virtual_services"]
            words.append(f"{count} virtual service{'' if count == 1 else 's'}")
    return f"{name}: {', '.join(words)}{hint if values['contradicts'] else ''}"
