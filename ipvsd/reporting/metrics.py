"""The latest Report as Prometheus metrics, created on request; see docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric

from ipvsd import __version__
from ipvsd.boot import installed_kernels
from ipvsd.decide import health
from ipvsd.decide.health import is_last_verdict_valid, required
from ipvsd.model import printable
from ipvsd.model.report import Histogram, Operation, Report, State
from ipvsd.model.types import SysctlVerdict
from ipvsd.reporting.counters import BUCKETS


def exposition(latest: Callable[[], Optional[Report]]) -> Callable[[], bytes]:
    """Return a function that returns the text of /metrics for the current result of `latest`."""
    registry = CollectorRegistry(auto_describe=False)
    registry.register(_Collector(latest))  # type: ignore[arg-type] # its base class exists since 0.15
    ProcessCollector(registry=registry)
    return lambda: generate_latest(registry)


class _Collector:
    def __init__(self, latest: Callable[[], Optional[Report]]) -> None:
        self._latest = latest

    def collect(self) -> Iterable[Metric]:
        report = self._latest()
        if report is not None:
            yield from _node(report)
            yield from _failures(report)
            yield from _modules(report)
            yield from _sysctls(report)
            yield from _parameters(report)
            yield from _kernels(report)
            yield from _work(report)

    def describe(self) -> Iterable[Metric]:
        return ()


def _node(report: Report) -> Iterator[Metric]:
    yield _gauge("build_info", "The running version of ipvsd.", {__version__: 1}, ["version"])
    config = report.config
    if config is not None:
        profiles = ",".join(config.profiles) or "none"
        text = "The hash and the profiles of the effective configuration."
        yield _gauge("config_info", text, {(config.hash, profiles): 1}, ["config_hash", "profiles"])
        text = "Whether ipvsd uses the newest configuration."
        yield _gauge("config_last_reload_successful", text, {(): not config.errors})
    ready = report.health.state is not State.FAILED
    yield _gauge("ready", "Whether every required item is compliant.", {(): ready})
    text = "Whether the kernel's IPVS responded to the last query over generic netlink."
    yield _gauge("ipvs_up", text, {(): report.ipvs.up is True})
    if report.backend:
        text = "The watch backend, which reports writes to sysctls."
        yield _gauge("watch_backend_info", text, {report.backend: 1}, ["backend"])
    text = "Total number of events that the kernel dropped because a buffer was full."
    lost = {item.name: item.events_lost for item in report.sources if item.events_lost is not None}
    yield _counter("events_lost", text, None, lost, ["source"])
    text = "Whether the event source works."
    yield _gauge("source_up", text, {item.name: item.up for item in report.sources}, ["source"])


def _failures(report: Report) -> Iterator[Metric]:
    text = "Whether ipvsd's last attempt at this operation failed."
    failed = {operation.value: operation.value in report.failures for operation in Operation}
    yield _gauge("operation_failed", text, failed, ["operation"])


def _modules(report: Report) -> Iterator[Metric]:
    names = [finding.name for finding in report.modules]
    loaded = {finding.name: finding.compliant or is_last_verdict_valid(finding) for finding in report.modules}
    need = {finding.name: required(finding) for finding in report.modules}
    counters = report.counters
    label = ["module"]
    yield _gauge("module_loaded", "Whether the module is live or built in.", loaded, label)
    verdicts = {(finding.name, finding.verdict.value): 1 for finding in report.modules}
    yield _gauge("module_verdict", "The verdict on the module. The value is always 1.", verdicts, ["module", "verdict"])
    yield _gauge("module_required", "Whether the module is required.", need, label)
    yield _counter("module_loads", "Total number of loads of the module by ipvsd.", names, counters.loads, label)
    text = "Total number of loads by ipvsd after which the module was not live."
    yield _counter("module_load_failures", text, names, counters.load_failures, label)
    text = "Total number of times that ipvsd detected that the live module had been unloaded."
    yield _counter("module_unloads", text, names, counters.unloads, label)


def _sysctls(report: Report) -> Iterator[Metric]:
    names = [finding.name for finding in report.sysctls]
    compliant = {finding.name: finding.compliant or is_last_verdict_valid(finding) for finding in report.sysctls}
    pending = {finding.name: finding.verdict is SysctlVerdict.PENDING for finding in report.sysctls}
    counters = report.counters
    label = ["sysctl"]
    yield _gauge("sysctl_compliant", "Whether the sysctl is compliant.", compliant, label)
    verdicts = {(finding.name, finding.verdict.value): 1 for finding in report.sysctls}
    yield _gauge("sysctl_verdict", "The verdict on the sysctl. The value is always 1.", verdicts, ["sysctl", "verdict"])
    yield _gauge("sysctl_pending", "Whether the sysctl is missing because its module is not live.", pending, label)
    text = "Total number of times that the sysctl drifted."
    yield _counter("sysctl_drifts", text, names, counters.drifts, label)
    yield _counter("sysctl_repairs", "Total number of repairs of the sysctl by ipvsd.", names, counters.repairs, label)
    text = "Total number of writes by ipvsd after which the sysctl was not compliant."
    yield _counter("sysctl_repair_failures", text, names, counters.repair_failures, label)
    contended = dict.fromkeys(names, 0) | {item.name: 1 for item in report.contended}
    yield _gauge("sysctl_contended", "Whether another program changes the sysctl repeatedly.", contended, label)
    guarded = [finding.name for finding in report.sysctls if finding.desired.guard]
    text = "Total number of writes to the guarded sysctl that the kernel refused."
    yield _counter("sysctl_refused_writes", text, guarded, report.refusals, label)
    yield from _patterns(report)


def _patterns(report: Report) -> Iterator[Metric]:
    label = ["pattern"]
    of_patterns = {finding.name: finding.members for finding in report.sysctls if finding.desired.pattern}
    text = "Number of sysctls that the pattern matches."
    yield _gauge("sysctl_pattern_members", text, {name: total for name, (_, total) in of_patterns.items()}, label)
    text = "Number of compliant sysctls that the pattern matches."
    compliant = {name: count for name, (count, _) in of_patterns.items()}
    yield _gauge("sysctl_pattern_members_compliant", text, compliant, label)


def _parameters(report: Report) -> Iterator[Metric]:
    names = [finding.name for finding in report.parameters]
    compliant = {finding.name: finding.compliant or is_last_verdict_valid(finding) for finding in report.parameters}
    counters, label = report.counters, ["parameter"]
    yield _gauge("parameter_compliant", "Whether the module parameter is compliant.", compliant, label)
    text = "Total number of times that the parameter drifted."
    yield _counter("parameter_drifts", text, names, counters.drifts, label)
    yield _counter(
        "parameter_repairs",
        "Total number of repairs of the parameter by ipvsd.",
        names,
        counters.repairs,
        label,
    )


def _kernels(report: Report) -> Iterator[Metric]:
    ready = {(item.release, str(item.running).lower()): health.could_be_ready(item) for item in report.kernels}
    text = "Whether the installed kernel has every required module."
    yield _gauge("kernel_ready", text, ready, ["release", "running"])
    required = installed_kernels.reboot_required(report.kernels, report.kernel.release)
    text = "Whether the next boot uses a different kernel, or the modules of the running kernel are missing."
    yield _gauge("reboot_required", text, {(): required})


def _work(report: Report) -> Iterator[Metric]:
    text = "Time from the event that reports drift to the verification of the repair, in seconds."
    yield _histogram("drift_repair_duration_seconds", text, report.counters.repair_seconds)
    yield _counter(
        "reconciliations", "Total number of completed reconciliations.", None, {"": report.counters.reconciliations}, []
    )
    text = "Duration of the reconciliations, in seconds."
    yield _histogram("reconciliation_duration_seconds", text, report.counters.reconciliation_seconds)
    text = "Time of the last reconciliation, in seconds since the epoch."
    yield _gauge("last_reconciliation_timestamp_seconds", text, {(): report.time})


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
