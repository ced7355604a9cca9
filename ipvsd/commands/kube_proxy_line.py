"""One line about the running kube-proxy, for `check` and `status`."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from typing import Any, Optional

from ipvsd.config.profiles import BY_MODE
from ipvsd.discovery import running
from ipvsd.discovery.running import KubeProxy
from ipvsd.kernel import virtual_services
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.virtual_services import Table
from ipvsd.kube_proxy import known_values
from ipvsd.kube_proxy.known_values import INTERFACE as KUBE_IPVS


def observe(root: str, profiles: Optional[Collection[str]]) -> Optional[dict[str, Any]]:
    """Return the running kube-proxy as values for JSON, or None if there is none.

    `profiles` are those of the configuration, if they are known.

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
    return document(proxy, table, interface, profiles if isinstance(profiles, (list, tuple)) else ())


def document(
    proxy: Optional[KubeProxy], table: Optional[Table], interface: bool, profiles: Collection[str]
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
        "contradicts": _contradicts(proxy, profiles) or running.is_table_lost(proxy, table, interface),
    }


def _contradicts(proxy: KubeProxy, profiles: Collection[str]) -> bool:
    """Return whether the actual mode of kube-proxy differs from its configuration or from ipvsd's."""
    wanted = proxy.settings.requested_mode
    if None not in (proxy.mode, wanted) and proxy.mode != wanted:
        return True
    mode = proxy.mode or wanted
    return BY_MODE[known_values.IPVS] in profiles and mode not in (None, known_values.IPVS)


def text(values: Optional[Mapping[str, Any]]) -> str:
    """Return the line for people, or an empty text if no kube-proxy runs."""
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
    hint = " (this contradicts the configuration: run 'ipvsd doctor')" if values["contradicts"] else ""
    return f"{name}: {', '.join(words)}{hint}"
