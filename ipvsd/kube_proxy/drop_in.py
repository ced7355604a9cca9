"""A drop-in for /etc/ipvsd that matches a configuration of kube-proxy."""

from __future__ import annotations

from collections.abc import Iterator

from ipvsd.config.profiles import BY_MODE, SCHEDULERS, Version
from ipvsd.kube_proxy.mode_rules import mode_of
from ipvsd.kube_proxy.node_comparison import CONNTRACK_MAX, MINIMUM, PER_CORE, conntrack_max
from ipvsd.kube_proxy.settings import Settings


def lines(settings: Settings, version: Version, known_version: bool, cpus: int) -> Iterator[str]:
    """Yield the lines of the drop-in. Without a known version, it does not limit ipvsd to one."""
    mode = mode_of(settings)
    yield f"# For kube-proxy in {mode or 'an unknown'} mode."
    if mode in BY_MODE:
        yield f"profiles: [{BY_MODE[mode]}]"
    elif mode:
        yield "# ipvsd has no profile for this mode."
        yield "profiles: []"
    if known_version:
        yield 'kubeProxyVersion: "{}.{}"'.format(*version)
    if mode != "ipvs":
        yield from _conntrack(settings, cpus, mode)
        return
    scheduler = settings.get("ipvs.scheduler", "") or "rr"
    if scheduler in SCHEDULERS:
        yield f"scheduler: {scheduler}"
    yield f"strictARP: {str(settings.get('ipvs.strictARP', False)).lower()}"
    yield from _conntrack(settings, cpus, mode)


def _conntrack(settings: Settings, cpus: int, mode: str) -> Iterator[str]:
    value = conntrack_max(settings, cpus)
    each, minimum = settings.get("conntrack.maxPerCore", PER_CORE), settings.get("conntrack.min", MINIMUM)
    if not value or not mode or (each, minimum) == (PER_CORE, MINIMUM):
        return
    yield f"# max({minimum}, {each} x CPUs) with {cpus} CPUs"
    yield "sysctls:"
    yield f"  {CONNTRACK_MAX}: {{atLeast: {value}}}"
