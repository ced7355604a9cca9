"""Findings about the running kube-proxy: its mode, scheduler, table, health, version and log."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping
from dataclasses import dataclass
from typing import Optional

from ipvsd.config import profiles
from ipvsd.config.schema import Config
from ipvsd.discovery.log_reader import NO_LOG, Log
from ipvsd.discovery.processes import Kind, Process
from ipvsd.discovery.running import KubeProxy, is_table_lost
from ipvsd.doctor import kube_proxy_log, own_setting, sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.kernel.virtual_services import Table
from ipvsd.kube_proxy import known_values, log_errors, node_comparison
from ipvsd.kube_proxy.log_errors import LoggedError

PROFILE = profiles.BY_MODE[known_values.IPVS]


@dataclass(frozen=True)
class ProxyFacts:
    """`proxy` is None if none runs. `schedulers` are the modules ip_vs_* that this kernel has, loaded or not.

    `interface` means that kube-ipvs0 exists. `start_error` is an explained error of the start of the running process,
    and `logged` the last one of the log. `last_error` is the last line that reports an error, explained or not.
    """

    proxy: Optional[KubeProxy]
    table: Optional[Table]
    schedulers: Collection[str]
    interface: bool = False
    log: Log = NO_LOG
    start_error: Optional[LoggedError] = None
    logged: Optional[LoggedError] = None
    last_error: str = ""


def findings(facts: ProxyFacts, config: Config) -> Iterator[Finding]:
    """Yield the findings, causes before effects. A kube-proxy that does not run is a fact and no finding."""
    proxy = facts.proxy
    if proxy is None:
        yield from kube_proxy_log.stopped(facts.log, facts.logged, facts.last_error)
        return
    if proxy.process.other_network:
        yield _elsewhere(proxy)
        return
    wanted = proxy.settings.requested_mode
    causes = list(_changed(proxy))
    if known_values.IPVS in (wanted, proxy.mode):
        causes += _scheduler(facts, proxy)
    yield from causes
    if not any(found.severity is Severity.ERROR for found in causes):
        yield from _mode(facts, proxy, config)  # another mode is the effect of such a cause
    yield from kube_proxy_log.running(proxy, facts.log, facts.logged, facts.last_error)
    if proxy.mode == known_values.IPVS:
        yield from _table(facts, proxy)
    if (proxy.mode or wanted) == known_values.IPVS:
        yield from _agreement(proxy, config)
    yield from _health(proxy)
    if known_values.IPVS in (wanted, proxy.mode):
        yield from _version(proxy, config)


def _elsewhere(proxy: KubeProxy) -> Finding:
    return Finding(
        "kube_proxy_in_other_network_namespace",
        Severity.ERROR,
        f"{proxy.process} runs in a network namespace other than that of this command",
        (f"/proc/{proxy.process.pid}/ns/net differs from /proc/self/ns/net",),
        "the services that it creates are not those of this network namespace",
        "set 'hostNetwork: true' for the pod of kube-proxy, or run 'ipvsd doctor' in its network namespace: "
        f"'nsenter -t {proxy.process.pid} -n ipvsd doctor'",
        sections.CONTAINER,
    )


# --- its settings -----------------------------------------------------------------------


def restart(process: Process) -> str:
    """Return the command that restarts a kube-proxy."""
    if process.kind is Kind.EMBEDDED:
        return f"systemctl restart {process.unit or 'k3s'}"
    if process.kind is Kind.PROCESS:
        # A scope, such as that of a login session, cannot be restarted.
        service = process.unit.endswith(".service")
        return f"systemctl restart {process.unit}" if service else f"kill {process.pid}"
    return f"kill {process.pid}"  # kubelet, or the runtime, starts it again


def change(process: Process, setting: str, flag: str) -> str:
    """Return the line that changes a setting, in the file of the program that runs kube-proxy, and the restart."""
    if process.host_program:
        unit = process.unit or ("k3s" if process.host_program == "k3s" else "rke2-agent (or rke2-server)")
        unit = unit if process.kind is Kind.EMBEDDED else "rke2-agent (or rke2-server)"
        file = f"/etc/rancher/{process.host_program}/config.yaml"
        return f"write 'kube-proxy-arg: [\"{flag}\"]' in {file}, and run 'systemctl restart {unit}'"
    path = process.flags.get("config")
    if process.kind is Kind.POD:
        return (
            f"run 'kubectl -n kube-system edit configmap kube-proxy', set '{setting}', and run "
            "'kubectl -n kube-system rollout restart daemonset kube-proxy'"
        )
    if process.kind is Kind.STATIC_POD and not path:
        return f"add --{flag} to the command in the manifest of the static pod (staticPodPath of kubelet)"
    if path:
        return f"set '{setting}' in {path}, and run '{restart(process)}'"
    return f"add --{flag} to the command line of kube-proxy, and run '{restart(process)}'"


def _changed(proxy: KubeProxy) -> Iterator[Finding]:
    """Yield a configuration that was changed after kube-proxy had read it."""
    files, now = proxy.files, proxy.effective
    if now is None or not files.origin:
        return
    if "config" not in proxy.process.flags:
        return  # flags cannot change while a process runs
    pairs = (
        ("mode", files.requested_mode, now.requested_mode),
        ("ipvs.scheduler", files.scheduler or "rr", now.scheduler or "rr"),
        ("ipvs.strictARP", bool(files.strict_arp), bool(now.strict_arp)),
    )
    differing = [(name, file, actual) for name, file, actual in pairs if file != actual]
    if not differing:
        return
    yield Finding(
        "kube_proxy_not_restarted",
        Severity.ERROR if differing[0][0] == "mode" else Severity.WARNING,
        f"kube-proxy has not read the current configuration: {', '.join(name for name, *_ in differing)}",
        tuple(
            line
            for name, file, actual in differing
            for line in (f"{files.origin}: {name}: {_shown(file)}", f"{now.origin}: {name}: {_shown(actual)}")
        ),
        "kube-proxy reads its configuration only when it starts",
        f"run '{restart(proxy.process)}'{_remains(now.requested_mode, files.requested_mode)}",
        log_errors.USING_IPTABLES,
    )


def _shown(value: object) -> str:
    return str(value).lower() if isinstance(value, bool) else str(value)


# By the mode in which kube-proxy runs in spite of it.
_WITHOUT_SCHEDULER: Mapping[Optional[str], str] = {
    known_values.IPVS: "kube-proxy creates no virtual service without the scheduler",
    known_values.IPTABLES: "kube-proxy before 1.26 uses iptables mode if it starts without the scheduler",
}


def _scheduler(facts: ProxyFacts, proxy: KubeProxy) -> Iterator[Finding]:
    """Yield a scheduler for which this kernel has no module."""
    name = proxy.scheduler
    if name is None or f"ip_vs_{name}" in facts.schedulers or not facts.schedulers:
        return  # the verdicts on the modules report a kernel without any
    available = sorted(module.removeprefix("ip_vs_") for module in facts.schedulers)
    known = name in profiles.SCHEDULERS
    other = known_values.DEFAULT_SCHEDULER
    other = other if other in available else available[0]
    fix = change(proxy.process, f"ipvs.scheduler: {other}", f"ipvs-scheduler={other}")
    yield Finding(
        "scheduler_unavailable",
        Severity.ERROR,
        f"kube-proxy uses scheduler {name}, {'for which this kernel has no module' if known else 'which is unknown'}",
        (
            f"{proxy.settings.origin}: ipvs.scheduler: {name}",
            f"schedulers of this kernel: {', '.join(available)}",
        ),
        _WITHOUT_SCHEDULER.get(proxy.mode, "kube-proxy 1.26 and later exits at its start without the scheduler"),
        fix if not known else f"{fix}; or install the package with module ip_vs_{name}",
        log_errors.SCHEDULER_NOT_FOUND if proxy.mode == known_values.IPVS else log_errors.DUMMY_VS,
    )


def _mode(facts: ProxyFacts, proxy: KubeProxy, config: Config) -> Iterator[Finding]:
    """Yield the reason why kube-proxy is not in IPVS mode."""
    wanted, actual = proxy.settings.requested_mode, proxy.mode
    asked = f"{proxy.metrics_url}/proxyMode: {actual}"
    if actual is not None and wanted in known_values.MODES and actual != wanted:
        found = facts.start_error
        evidence = [asked, f"{proxy.settings.origin}: mode: {wanted}"]
        evidence += [f"{facts.log.origin}: {found.line}"] if found else []
        yield Finding(
            "mode_mismatch",
            Severity.ERROR,
            f"kube-proxy runs in mode {actual}, although its configuration requests {wanted}",
            tuple(evidence),
            found.known.explanation
            if found
            else "kube-proxy before 1.26 uses iptables mode if it cannot use IPVS at its start, and never tries again",
            f"run 'ipvsd check'; as soon as every module is live, run '{restart(proxy.process)}'"
            f"{_remains(actual, wanted)}",
            found.known.section if found else log_errors.USING_IPTABLES,
        )
        return
    # A kube-proxy that does not answer has the mode of its configuration, or is starting.
    mode = actual or wanted
    if mode is None or mode == known_values.IPVS or PROFILE not in config.profiles:
        return
    requested = proxy.settings.mode
    evidence = [asked] if actual else []
    evidence += [f"{proxy.settings.origin}: mode: {requested or 'not set'}"] if proxy.settings.origin else []
    odd = requested and requested not in known_values.MODES
    yield Finding(
        "mode_not_ipvs",
        Severity.ERROR,
        f"kube-proxy runs in mode {mode}, because its configuration "
        f"{f'requests {requested}' if requested else 'sets no mode'}",
        tuple(evidence),
        "kube-proxy accepts only the exact value ipvs"
        if odd
        else f"ipvsd prepares this node for IPVS (profile {PROFILE}), and kube-proxy does not use it. 'ipvsd doctor "
        "kube-proxy-config FILE' finds a mode in the wrong place",
        f"{change(proxy.process, 'mode: ipvs', 'proxy-mode=ipvs')}{_remains(actual, known_values.IPVS)}; if mode "
        f"{mode} is intended, set 'profiles:' in {own_setting.place(config.origins.get('profiles', ''))}",
        log_errors.UNKNOWN_MODE if odd else log_errors.USING_IPTABLES,
    )


def _remains(before: Optional[str], after: Optional[str]) -> str:
    """Return the end of a fix that changes the mode: kube-proxy leaves the objects of iptables and IPVS mode."""
    modes = (known_values.IPTABLES, known_values.IPVS)
    left = before != after and before in modes and after in modes
    return f"; then run 'ipvsd doctor' again, which reports the objects of mode {before} that remain" if left else ""


# --- its work ---------------------------------------------------------------------------


def _table(facts: ProxyFacts, proxy: KubeProxy) -> Iterator[Finding]:
    if not is_table_lost(proxy, facts.table, facts.interface):
        return
    yield Finding(
        "table_empty",
        Severity.ERROR,
        "kube-proxy runs in mode ipvs, and the table of virtual services is empty",
        ("/proc/net/ip_vs: 0 virtual services", f"{proxy.metrics_url}/proxyMode: ipvs"),
        "every cluster has at least the service 'kubernetes'. The table was emptied ('ipvsadm -C', or the module was "
        "unloaded), or kube-proxy cannot reach the API server or the kernel",
        f"run '{restart(proxy.process)}'; if the table stays empty, read the log of kube-proxy",
        sections.EMPTY_TABLE,
    )


def _agreement(proxy: KubeProxy, config: Config) -> Iterator[Finding]:
    """Yield the settings of ipvsd that differ from those of kube-proxy."""
    if PROFILE not in config.profiles:
        return
    lines = []
    if proxy.scheduler is not None and proxy.scheduler != config.scheduler:
        effect = node_comparison.scheduler_need(config, proxy.scheduler)
        lines.append((f"ipvs.scheduler: {proxy.scheduler}", f"scheduler: {proxy.scheduler}", effect, "scheduler"))
    if proxy.settings.strict_arp and not config.strict_arp:
        effect = "ipvsd keeps neither arp_ignore nor arp_announce"
        lines.append(("ipvs.strictARP: true", "strictARP: true", effect, "strict_arp"))
    for theirs, ours, effect, field in lines:
        yield Finding(
            "configurations_differ",
            Severity.WARNING,
            f"ipvsd's configuration does not contain '{ours}', as kube-proxy uses it",
            (f"{proxy.settings.origin}: {theirs}",),
            effect,
            own_setting.written(ours, config.origins.get(field, "")),
            log_errors.DUMMY_VS if "scheduler" in ours else "",
        )


def _health(proxy: KubeProxy) -> Iterator[Finding]:
    health = proxy.healthz
    if health is None or (health.healthy and health.node_eligible):
        return
    if not health.node_eligible:
        yield Finding(
            "node_not_eligible",
            Severity.NOTE,
            "kube-proxy reports that this node is being deleted",
            (f"{proxy.healthz_url}: nodeEligible false",),
            "the node has the taint ToBeDeletedByClusterAutoscaler or a deletion time, so load balancers avoid it",
            "remove the taint: 'kubectl taint node NODE ToBeDeletedByClusterAutoscaler-'",
            sections.UNHEALTHY,
        )
        return
    yield Finding(
        "kube_proxy_unhealthy",
        Severity.ERROR,
        "kube-proxy reports that it is not healthy",
        (f"{proxy.healthz_url}: status 503, last update {health.last_updated or 'unknown'}",),
        "it has received changes of services, and could not write them within twice the sync period",
        "read the log of kube-proxy; the other findings name the cause if it is on this node",
        sections.UNHEALTHY,
    )


def _version(proxy: KubeProxy, config: Config) -> Iterator[Finding]:
    version = proxy.version
    if version is None or version < profiles.IPVS_DEPRECATED:
        return
    text = proxy.version_text or f"{version[0]}.{version[1]}"
    fate = _fate(version)
    if config.kube_proxy is not None and _fate(config.kube_proxy) == fate:
        return  # a note about the configured version already says so
    yield Finding(
        "ipvs_mode_deprecated",
        Severity.ERROR if version >= profiles.IPVS_REMOVED else Severity.WARNING,
        f"kube-proxy {text}: IPVS mode is {fate}",
        (f"{proxy.metrics_url}/metrics: kubernetes_build_info",),
        "KEP-5495 removes IPVS mode; its successor is nftables mode, which is stable since 1.33 and needs Linux 5.13",
        "plan the change to nftables mode: 'profiles: [kube-proxy-nftables]' in "
        f"{own_setting.place(config.origins.get('profiles', ''))}, then "
        f"{change(proxy.process, 'mode: nftables', 'proxy-mode=nftables')}",
        sections.REMOVED,
    )


def _fate(version: tuple[int, int]) -> str:
    """Return what has become of IPVS mode in a version, or an empty text before its deprecation."""
    if version >= profiles.IPVS_REMOVED:
        return "removed"
    if version >= profiles.IPVS_OFF_BY_DEFAULT:
        return "off by default (feature gate KubeProxyIPVS)"
    return "deprecated, off by default in 1.40, and removed in 1.43" if version >= profiles.IPVS_DEPRECATED else ""
