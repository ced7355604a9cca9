"""The latest Report as Prometheus metrics, created on request; see docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, Callable, Optional

from ipvsd import __version__
from ipvsd.decide import health
from ipvsd.kube_proxy import known_values
from ipvsd.model import printable
from ipvsd.model.report import Histogram, NoteKind, Operation, Report, State
from ipvsd.model.types import Finding
from ipvsd.reporting.counters import BUCKETS
from ipvsd.reporting.prometheus_library import (
    CollectorRegistry,
    CounterMetricFamily,
    GaugeMetricFamily,
    HistogramMetricFamily,
    Metric,
    ProcessCollector,
    generate_latest,
)
from ipvsd.reporting.prometheus_library import exposition as exposition_formats


def exposition(latest: Callable[[], Optional[Report]], process: bool = True) -> Callable[[], bytes]:
    """Return a function that returns the text of /metrics for the current result of `latest`."""
    registry = create_registry(latest, process)
    return lambda: generate_latest(registry)


def create_registry(latest: Callable[[], Optional[Report]], process: bool = True) -> CollectorRegistry:
    """Return a registry for an encoder. It shows the current result of `latest`, and optionally this process."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(latest))  # type: ignore[arg-type] # its base class exists since 0.15
    if process:
        ProcessCollector(registry=registry)
    return registry


def choose_encoder(accept: str) -> tuple[Callable[[CollectorRegistry], bytes], str]:
    """Return the encoder for the Accept header of a request, and its content type: OpenMetrics or Prometheus' text."""
    if "application/openmetrics-text" in accept:
        return exposition_formats.choose_encoder(accept)
    # Later versions of the library name a newer version of the format for the same text.
    return generate_latest, "text/plain; version=0.0.4; charset=utf-8"


class _Collector:
    def __init__(self, latest: Callable[[], Optional[Report]]) -> None:
        self._latest = latest

    def collect(self) -> Iterable[Metric]:
        report = self._latest()
        if report is not None:
            for metrics in GROUPS.values():
                yield from metrics(report)

    def describe(self) -> Iterable[Metric]:
        return ()


def _node(report: Report) -> Iterator[Metric]:
    text = "1 for the current state of the node, 0 for the other two: ready, degraded or failed."
    yield _gauge("state", text, {state.value: state is report.health.state for state in State}, ["state"])
    text = (
        "1 if the kernel's IPVS responded to the last query over generic netlink, 0 if it did not. Absent if there "
        "was no query."
    )
    yield _gauge("ipvs_up", text, _known(report.ipvs.up))
    text = "Total number of times that all virtual services of IPVS were lost, because the ip_vs module was reloaded."
    yield _counter("table_lost", text, None, {"": report.counters.tables_lost}, [])
    text = "Always 1. There is one series for each kind of note that applies to the node."
    yield _gauge("note_info", text, {kind.value: 1 for kind in NoteKind if kind in report.note_kinds}, ["note"])
    text = (
        "1 if the files of 'ipvsd apply --persist' match the configuration, 0 if one differs. Absent if there are "
        "none, or if a file could not be compared."
    )
    yield _gauge("persisted_files_current", text, _known(report.persisted_files_current))


def _daemon(report: Report) -> Iterator[Metric]:
    yield _gauge("build_info", "Always 1. The label is the running version of ipvsd.", {__version__: 1}, ["version"])
    text = "1 if the event source works, 0 if it does not."
    yield _gauge("source_up", text, {item.name: item.up for item in report.sources}, ["source"])
    text = "Total number of events that the kernel dropped because a buffer was full."
    lost = {item.name: item.events_lost for item in report.sources if item.events_lost is not None}
    yield _counter("events_lost", text, None, lost, ["source"])
    text = "1 if ipvsd's last attempt at this operation failed, otherwise 0. The state of the node does not change."
    failed = {operation.value: operation.value in report.failures for operation in Operation}
    yield _gauge("operation_failed", text, failed, ["operation"])
    text = (
        "Time after which the certificate of the HTTP endpoint is not valid any more, in seconds since the epoch. "
        "Absent without TLS."
    )
    yield _gauge("web_certificate_expiry_timestamp_seconds", text, _known(report.web_certificate_expiry))


def _configuration(report: Report) -> Iterator[Metric]:
    config = report.config
    if config is None:
        return
    text = "Always 1. The label is a hash of the effective configuration."
    yield _gauge("config_info", text, {config.hash: 1}, ["config_hash"])
    text = "Always 1. There is one series for each profile of the configuration."
    yield _gauge("profile_info", text, dict.fromkeys(config.profiles, 1), ["profile"])
    text = "1 if ipvsd uses the newest configuration, 0 if it rejected that configuration."
    yield _gauge("config_last_reload_successful", text, {(): not config.errors})
    text = (
        "Time at which ipvsd last loaded a valid configuration, in seconds since the epoch. Absent if it uses the "
        "last good configuration since its start."
    )
    yield _gauge("config_last_reload_success_timestamp_seconds", text, _known(report.config_loaded_at))
    text = "Interval of the resync, in seconds. The daemon reconciles the node at least this often."
    yield _gauge("resync_interval_seconds", text, {(): config.interval})


def _modules(report: Report) -> Iterator[Metric]:
    names = [finding.name for finding in report.modules]
    counters, label = report.counters, ["module"]
    text = "Always 1, with the verdict on the module as a label. A module is compliant if it is live or built_in."
    yield _gauge("module_verdict", text, _verdicts(report.modules), ["module", "verdict"])
    text = "1 if the module is required, otherwise 0. Without a required module, the node is failed."
    yield _gauge("module_required", text, _required(report.modules), label)
    text = "Total number of times that ipvsd successfully loaded the module, that is, the module was live afterwards."
    yield _counter("module_loads", text, names, counters.loads, label)
    text = "Total number of times that ipvsd tried to load a module, but the module was not live afterwards."
    yield _counter("module_load_failures", text, None, {"": sum(counters.load_failures.values())}, [])
    text = "Total number of times that ipvsd found a module unloaded after it had been live."
    yield _counter("module_unloads", text, None, {"": sum(counters.unloads.values())}, [])


def _sysctls(report: Report) -> Iterator[Metric]:
    yield from _values("sysctl", report.sysctls, report)
    names, label = [finding.name for finding in report.sysctls], ["sysctl"]
    contended = dict.fromkeys(names, 0) | {item.name: not item.yielded for item in report.contended}
    text = (
        "1 if another program changes the sysctl repeatedly, so that ipvsd writes it only once per resync. The log and "
        "the status name the program. 0 with the policy yield, which permits this."
    )
    yield _gauge("sysctl_contended", text, contended, label)
    guarded = [finding.name for finding in report.sysctls if finding.desired.guard]
    text = "Total number of writes by other programs to a guarded sysctl that the kernel refused."
    yield _counter("sysctl_refused_writes", text, guarded, report.refusals, label)
    yield from _patterns(report)


def _patterns(report: Report) -> Iterator[Metric]:
    label = ["pattern"]
    of_patterns = {finding.name: finding.members for finding in report.sysctls if finding.desired.pattern}
    text = "Number of sysctls that the pattern matches."
    yield _gauge("sysctl_pattern_members", text, {name: total for name, (_, total) in of_patterns.items()}, label)
    text = "Number of matching sysctls that are compliant."
    compliant = {name: count for name, (count, _) in of_patterns.items()}
    yield _gauge("sysctl_pattern_members_compliant", text, compliant, label)


def _parameters(report: Report) -> Iterator[Metric]:
    yield from _values("parameter", report.parameters, report)


def _values(kind: str, findings: Sequence[Finding], report: Report) -> Iterator[Metric]:
    """Yield the metrics that sysctls and parameters have in common."""
    names = [finding.name for finding in findings]
    counters, label = report.counters, [kind]
    text = f"Always 1, with the verdict on the {kind} as a label."
    yield _gauge(f"{kind}_verdict", text, _verdicts(findings), [kind, "verdict"])
    text = f"1 if the {kind} is required, otherwise 0. If a required {kind} is not compliant, the node is failed."
    yield _gauge(f"{kind}_required", text, _required(findings), label)
    text = f"Total number of times that ipvsd detected that a compliant {kind} had become noncompliant."
    yield _counter(f"{kind}_drifts", text, names, counters.drifts, label)
    text = f"Total number of times that ipvsd repaired the {kind}."
    yield _counter(f"{kind}_repairs", text, names, counters.repairs, label)
    text = f"Total number of times that ipvsd wrote the {kind}, but the {kind} was not compliant afterwards."
    yield _counter(f"{kind}_repair_failures", text, names, counters.repair_failures, label)


def _kernels(report: Report) -> Iterator[Metric]:
    label = ["release"]
    ready = {item.release: health.could_be_ready(item) for item in report.kernels}
    text = (
        "1 if the kernel has every required module, otherwise 0. There is one series for each kernel in /lib/modules."
    )
    yield _gauge("kernel_ready", text, ready, label)
    text = "Always 1. The label is the release of the running kernel."
    yield _gauge("kernel_running_info", text, {report.kernel.release: 1}, label)
    text = "Always 1. The label is the release of the kernel that the next boot uses. Absent if that is unknown."
    yield _gauge("kernel_next_info", text, {item.release: 1 for item in report.kernels if item.boots_next}, label)


def _kube_proxy(report: Report) -> Iterator[Metric]:
    proxy = report.kube_proxy
    text = (
        "1 if kube-proxy responded to the last query, 0 if it did not, or does not run. Absent if there was no query, "
        "or if kube-proxy runs and its address is unknown."
    )
    yield _gauge("kube_proxy_up", text, _known(proxy.up))
    text = (
        "Always 1. The label is the mode that kube-proxy uses: iptables, ipvs, nftables, userspace or other. Absent "
        "if it is unknown."
    )
    yield _gauge("kube_proxy_mode", text, _mode(proxy.mode), ["mode"])
    text = (
        "Always 1. The label is the mode that the configuration of kube-proxy requests, or its default. Absent if it "
        "is unknown."
    )
    yield _gauge("kube_proxy_requested_mode", text, _mode(proxy.requested_mode), ["mode"])


def _mode(mode: str) -> Mapping[str, float]:
    """Return the series of a mode. The answer is not trusted, so an unknown mode does not become a label."""
    return {mode if mode in known_values.MODES else "other": 1} if mode else {}


def _reconciliations(report: Report) -> Iterator[Metric]:
    counters = report.counters
    text = "Duration of the reconciliations, in seconds. The count is the total number of completed reconciliations."
    yield _histogram("reconciliation_duration_seconds", text, counters.reconciliation_seconds)
    text = (
        "Time in seconds from the event that reports drift to the verification of the repair, for modules and "
        "sysctls. If no event reported the drift, the time is measured from the resync that detected it, not from the "
        "change itself."
    )
    yield _histogram("drift_repair_duration_seconds", text, counters.repair_seconds)
    text = "Time of the last reconciliation, in seconds since the epoch."
    yield _gauge("last_reconciliation_timestamp_seconds", text, {(): report.time})


def _verdicts(findings: Iterable[Finding]) -> Mapping[Any, float]:
    return {(finding.name, finding.verdict.value): 1 for finding in findings}


def _required(findings: Iterable[Finding]) -> Mapping[Any, float]:
    return {finding.name: health.required(finding) for finding in findings}


def _known(value: Optional[float]) -> Mapping[Any, float]:
    """Return the one series of a value, or none if the value is unknown, which is not 0."""
    return {} if value is None else {(): value}


# By subject, as in docs/metrics.md, which shows the help texts ('make tables').
GROUPS: Mapping[str, Callable[[Report], Iterator[Metric]]] = {
    "node": _node,
    "daemon": _daemon,
    "configuration": _configuration,
    "modules": _modules,
    "sysctls": _sysctls,
    "parameters": _parameters,
    "kernels": _kernels,
    "kube-proxy": _kube_proxy,
    "reconciliations": _reconciliations,
}


def _gauge(name: str, text: str, values: Mapping[Any, float], labels: Optional[list[str]] = None) -> GaugeMetricFamily:
    family = GaugeMetricFamily(f"ipvsd_{name}", text, labels=labels or [])
    shown = {_labels((label,) if isinstance(label, str) else label): value for label, value in values.items()}
    for label, value in shown.items():
        family.add_metric(label, float(value))
    return family


def _counter(
    name: str, text: str, items: Optional[list[str]], counts: Mapping[str, int], labels: list[str]
) -> CounterMetricFamily:
    family = CounterMetricFamily(f"ipvsd_{name}", text, labels=labels)
    shown = {_labels((item,) if labels else ()): counts.get(item, 0) for item in (counts if items is None else items)}
    for label, count in shown.items():
        family.add_metric(label, count)
    return family


def _labels(values: Iterable[str]) -> tuple[str, ...]:
    """Return labels as they are shown. Series with equal shown labels are merged, or the scrape would fail."""
    return tuple(printable.line(value, printable.MAX_LABEL) for value in values)


def _histogram(name: str, text: str, histogram: Histogram) -> HistogramMetricFamily:
    buckets: list[tuple[str, float]] = []
    below = 0
    for bound, count in zip((*map(str, BUCKETS), "+Inf"), histogram.counts):
        below += count
        buckets.append((bound, below))
    family = HistogramMetricFamily(f"ipvsd_{name}", text)
    family.add_metric([], buckets, sum_value=histogram.total)
    return family
