"""Compare the settings of kube-proxy with those of ipvsd, with this kernel, and with other programs of the cluster."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Optional

from ipvsd.config.desired_state import need_of
from ipvsd.config.profiles import BY_MODE, PROFILES, SCHEDULERS, PerCpu, Version
from ipvsd.config.schema import Config, SysctlSetting
from ipvsd.kube_proxy import yaml_edits
from ipvsd.kube_proxy.findings import Effect, Severity
from ipvsd.kube_proxy.mode_rules import mode_of
from ipvsd.kube_proxy.settings import Settings
from ipvsd.model.types import Exactly, Need, Within

CONNTRACK_MAX = "net.netfilter.nf_conntrack_max"
PER_CORE, MINIMUM, MAXIMUM = 32768, 131072, 1048576  # defaults.go; the maximum since 1.36
CAPPED: Version = (1, 36)  # kubernetes/kubernetes#137002
_NO_FALLBACK: Version = (1, 26)  # kubernetes/kubernetes#111806
_RAISES_ONLY: tuple[Version, Version] = ((1, 23), (1, 29))  # kubernetes/kubernetes#103174 and #120448
# Fields of kube-proxy with their sysctls and their default in seconds, or None if kube-proxy keeps the value.
_TIMEOUTS = (
    ("conntrack.tcpEstablishedTimeout", "net.netfilter.nf_conntrack_tcp_timeout_established", 86400.0),
    ("conntrack.tcpCloseWaitTimeout", "net.netfilter.nf_conntrack_tcp_timeout_close_wait", 3600.0),
    ("conntrack.udpTimeout", "net.netfilter.nf_conntrack_udp_timeout", 0.0),
    ("conntrack.udpStreamTimeout", "net.netfilter.nf_conntrack_udp_timeout_stream", 0.0),
)


@dataclass(frozen=True)
class Node:
    """The node on which kube-proxy runs. A part is None or empty if it is unknown."""

    config: Optional[Config] = None
    cpus: int = 1
    release: str = ""
    schedulers: Optional[frozenset[str]] = None  # those of this kernel
    strict_arp_users: tuple[str, ...] = ()  # MetalLB or kube-vip, each with its evidence
    calico: str = ""  # the evidence of Calico


def compare(settings: Settings, node: Node) -> None:
    """Report the settings that do not fit the node."""
    mode = mode_of(settings)
    if mode == "ipvs":
        _scheduler(settings, node)
        _strict_arp(settings, node)
    _masquerade_all(settings, node, mode)
    if node.config is not None:
        _profile(settings, node.config, mode)
        _conntrack_max(settings, node.config, node.cpus)
        _timeouts(settings, node.config)


def conntrack_max(settings: Settings, cpus: int) -> int:
    """Return the maximum number of connections that kube-proxy sets with this number of CPUs, or 0 for none."""
    each: int = settings.get("conntrack.maxPerCore", PER_CORE)
    minimum: int = settings.get("conntrack.min", MINIMUM)
    if not each or (settings.embedded and not settings.given("conntrack.maxPerCore")):  # k3s sets 0
        return 0
    value = max(minimum, each * cpus)
    return min(value, MAXIMUM) if settings.version >= CAPPED else value


def _scheduler(settings: Settings, node: Node) -> None:
    setting = settings.given("ipvs.scheduler")
    if setting is None and "ipvs.scheduler" in settings.known and not settings.is_document:
        return  # a variable
    name = (setting.value if setting else "") or "rr"
    config = node.config
    reported = any(finding.key == settings.name("ipvs.scheduler") for finding in settings.findings)
    if reported or (name not in SCHEDULERS and name not in settings.schedulers):
        return
    exits = settings.version >= _NO_FALLBACK
    effect = Effect.EXITS if exits else Effect.OTHER_MODE
    reaction = "kube-proxy exits" if exits else "kube-proxy falls back to iptables mode"
    if node.schedulers is not None and name not in node.schedulers:
        settings.report(
            "ipvs.scheduler", Severity.ERROR,
            f"scheduler {name!r} is unavailable: kernel {node.release} has no ip_vs_{name}",
            effect, reaction, settings.written("ipvs.scheduler", "rr"), setting.replace("rr") if setting else (),
        )  # fmt: skip
        return
    if config is None or BY_MODE["ipvs"] not in config.profiles or name == config.scheduler:
        return
    module = config.modules.get(f"ip_vs_{name}")
    if module and not module.dropped:
        return
    settings.report(
        "ipvs.scheduler", Severity.WARNING,
        f"kube-proxy uses {name}, ipvsd has {config.scheduler}: {scheduler_need(config, name)}",
        effect, f"{reaction} if the kernel has no ip_vs_{name}", f"set 'scheduler: {name}' in /etc/ipvsd",
    )  # fmt: skip


def scheduler_need(config: Config, name: str) -> str:
    """Return how ipvsd treats the module of a scheduler that its configuration does not select, as text."""
    need = need_of(config, f"ip_vs_{name}")
    if need is None:
        return f"ipvsd does not manage ip_vs_{name}"
    if need is Need.REQUIRED:
        return f"ipvsd requires ip_vs_{config.scheduler}, too"
    return f"ipvsd loads ip_vs_{name}, but does not require it"


def _strict_arp(settings: Settings, node: Node) -> None:
    strict, config = settings.get("ipvs.strictARP", False), node.config
    if not strict and node.strict_arp_users:
        edits = (
            yaml_edits.set_field(settings.source, settings.root, "ipvs", "strictARP", "true") if settings.root else ()
        )
        users = ", ".join(node.strict_arp_users)
        settings.report(
            "ipvs.strictARP", Severity.WARNING, f"missing strictARP: {users} requires it", Effect.NONE,
            "every node answers ARP requests for the addresses of all services, so clients can reach the wrong node",
            settings.written("ipvs.strictARP", "true"), edits,
        )  # fmt: skip
    elif config is not None and BY_MODE["ipvs"] in config.profiles and strict != config.strict_arp:
        given, own = str(strict).lower(), str(config.strict_arp).lower()
        problem = f"kube-proxy has strictARP {given}, ipvsd has {own}"
        problem += ": ipvsd does not manage arp_ignore and arp_announce" if strict else ""
        consequence = "kube-proxy sets both sysctls once, at its start"
        settings.report(
            "ipvs.strictARP", Severity.WARNING, problem, Effect.NONE,
            consequence if strict else "kube-proxy does not set the sysctls, and ipvsd does",
            f"set 'strictARP: {given}' in /etc/ipvsd",
        )  # fmt: skip


def _masquerade_all(settings: Settings, node: Node, mode: str) -> None:
    path = "nftables.masqueradeAll" if mode == "nftables" else "iptables.masqueradeAll"
    setting = settings.given(path)
    if not setting or setting.value is not True or not mode or not node.calico:
        return
    problem = f"masqueradeAll conflicts with the policies of Calico ({node.calico}): it hides the addresses of clients"
    settings.report(
        path, Severity.WARNING, problem, Effect.NONE, "kube-proxy masquerades all traffic to addresses of services",
        settings.written(path, "false"), setting.replace("false", is_string=False),
    )  # fmt: skip


def _profile(settings: Settings, config: Config, mode: str) -> None:
    if not settings.get("mode", "") or mode not in ("ipvs", "nftables", "iptables"):
        return
    wanted = BY_MODE.get(mode, "")
    if wanted in config.profiles or (not wanted and set(BY_MODE.values()).isdisjoint(config.profiles)):
        return
    have = ", ".join(config.profiles) or "no profile"
    settings.report(
        "mode", Severity.NOTE, f"kube-proxy uses {mode} mode, ipvsd has {have}", Effect.NONE,
        "ipvsd prepares the node for another mode", f"set 'profiles: [{wanted}]' in /etc/ipvsd",
    )  # fmt: skip


def _conntrack_max(settings: Settings, config: Config, cpus: int) -> None:
    theirs = conntrack_max(settings, cpus)
    own = _own_conntrack_max(config, cpus)
    if not theirs or own is None:
        return
    each, minimum = settings.get("conntrack.maxPerCore", PER_CORE), settings.get("conntrack.min", MINIMUM)
    changed = [
        path for path, value, default in (
            ("conntrack.maxPerCore", each, PER_CORE), ("conntrack.min", minimum, MINIMUM)
        ) if value != default
    ]  # fmt: skip
    setting = config.sysctls.get(CONNTRACK_MAX, SysctlSetting(""))
    paths = " ".join(changed or ["conntrack.maxPerCore", "conntrack.min"])
    cap = f", at most {MAXIMUM} from 1.36 on" if settings.version >= CAPPED else ""
    wants = f"kube-proxy wants max({minimum}, {each} x CPUs){cap}"
    remedy = f"set 'sysctls: {{{CONNTRACK_MAX}: {{atLeast: {theirs}}}}}' in /etc/ipvsd"
    if isinstance(setting.want, Exactly):
        if str(theirs) != setting.want.value:
            problem = f"{wants}, which is {theirs} on this node; ipvsd wants {setting.want.value}"
            settings.report(paths, Severity.WARNING, problem, Effect.NONE, _WRITES, "set maxPerCore: 0")
        return
    floor, ceiling = own
    default = setting.want is None
    if default and not changed:
        return
    ours = f"max({MINIMUM}, {PER_CORE} x CPUs)" if default else str(floor)
    problem = f"{wants}; ipvsd wants at least {ours}"
    if (ceiling is not None and theirs > ceiling) or theirs < floor:
        if theirs < floor and _RAISES_ONLY[0] <= settings.version < _RAISES_ONLY[1]:
            return
        limit = f"at most {ceiling}" if theirs >= floor else f"at least {ours}"
        problem = f"{wants}, which is {theirs} on this node; ipvsd wants {limit}"
        settings.report(paths, Severity.WARNING, problem, Effect.NONE, _WRITES, f"set maxPerCore: 0, or {remedy}")
    elif theirs > floor or default:
        settings.report(paths, Severity.NOTE, problem, Effect.NONE, "kube-proxy writes its own number", remedy)


_WRITES = "kube-proxy writes its number at its start, and ipvsd replaces it"


def _own_conntrack_max(config: Config, cpus: int) -> Optional[tuple[int, Optional[int]]]:
    """Return the bounds of ipvsd, or None if it does not manage the sysctl."""
    setting = config.sysctls.get(CONNTRACK_MAX)
    if setting and setting.dropped:
        return None
    if setting and isinstance(setting.want, Exactly):
        return 0, None
    wants = (entry.want for name in config.profiles for entry in PROFILES[name].sysctls if entry.key == CONNTRACK_MAX)
    profile = next((want for want in wants if isinstance(want, PerCpu)), None)
    floor = min(profile.maximum, max(profile.minimum, profile.each * cpus)) if profile else None
    ceiling = None
    if setting and isinstance(setting.want, Within):
        ceiling = setting.want.ceiling
        floor = setting.want.floor if setting.want.floor is not None else floor
    return None if floor is None and ceiling is None else (floor or 0, ceiling)


def _timeouts(settings: Settings, config: Config) -> None:
    for path, key, default in _TIMEOUTS:
        own = config.sysctls.get(key)
        seconds = settings.get(path, 0.0 if settings.embedded else default)
        if not own or not isinstance(own.want, Exactly) or not seconds or str(int(seconds)) == own.want.value:
            continue
        problem = f"kube-proxy wants {int(seconds)} s, ipvsd wants {key} = {own.want.value}"
        settings.report(
            path, Severity.WARNING, problem, Effect.NONE, _WRITES, settings.written(path, f"{own.want.value}s")
        )


def mentions(texts: Iterable[str]) -> tuple[tuple[str, ...], str]:
    """Return the programs that documents name and that require strictARP, and the evidence of Calico or an empty text.

    The documents are those of other programs, without comments.
    """
    lower = " ".join(texts).lower()
    users = tuple(name for name in ("MetalLB", "kube-vip") if name.lower() in lower)
    return users, "named in the file" if "calico" in lower else ""
