"""The latest Report as Prometheus metrics, created on request; see docs/metrics.md."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

from prometheus_client import CollectorRegistry, ProcessCollector, generate_latest
from prometheus_client import exposition as exposition_formats
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
    ready = report.health.state is not State.FAILED
    text = "1 if every required item is compliant (ready or degraded), otherwise 0."
    yield _gauge("ready", text, {(): ready})
    text = (
        "1 if the kernel's IPVS responded to the last query over generic netlink. "
        "0 if it did not respond, or if there has been no query yet."
    )
    yield _gauge("ipvs_up", text, {(): report.ipvs.up is True})
    yield _gauge("build_info", "Always 1. The label is the running version of ipvsd.", {__version__: 1}, ["version"])
    config = report.config
    if config is not None:
        profiles = ",".join(config.profiles) or "none"
        text = (
            "Always 1. The labels contain a hash of the effective configuration, and the profiles, separated by commas "
            "(none if there are none)."
        )
        yield _gauge("config_info", text, {(config.hash, profiles): 1}, ["config_hash", "profiles"])
        text = "1 if ipvsd uses the newest configuration, 0 if it rejected that configuration."
        yield _gauge("config_last_reload_successful", text, {(): not config.errors})
    if report.backend:
        text = "Always 1. The label is the watch backend, which reports writes to sysctls: bpf, inotify or periodic."
        yield _gauge("watch_backend_info", text, {report.backend: 1}, ["backend"])
    text = "1 if the event source works."
    yield _gauge("source_up", text, {item.name: item.up for item in report.sources}, ["source"])
    text = "Total number of events that the kernel dropped because a buffer was full."
    lost = {item.name: item.events_lost for item in report.sources if item.events_lost is not None}
    yield _counter("events_lost", text, None, lost, ["source"])
    text = "1 if ipvsd's last attempt at this operation failed, otherwise 0. The state of the node does not change."
    failed = {operation.value: operation.value in report.failures for operation in Operation}
    yield _gauge("operation_failed", text, failed, ["operation"])


def _modules(report: Report) -> Iterator[Metric]:
    names = [finding.name for finding in report.modules]
    loaded = {finding.name: finding.compliant or is_last_verdict_valid(finding) for finding in report.modules}
    need = {finding.name: required(finding) for finding in report.modules}
    counters = report.counters
    label = ["module"]
    text = (
        "1 if the module is live or built in. Also 1 if the state of the module cannot be read, and the module was "
        "live or built in within the last two resync intervals."
    )
    yield _gauge("module_loaded", text, loaded, label)
    verdicts = {(finding.name, finding.verdict.value): 1 for finding in report.modules}
    text = "Always 1, with the verdict on the module as a label (see ipvsd(8))."
    yield _gauge("module_verdict", text, verdicts, ["module", "verdict"])
    yield _gauge("module_required", "1 if the module is required. Without it, the node is failed.", need, label)
    text = "Total number of times that ipvsd successfully loaded the module, that is, the module was live afterwards."
    yield _counter("module_loads", text, names, counters.loads, label)
    text = "Total number of times that ipvsd tried to load the module, but the module was not live afterwards."
    yield _counter("module_load_failures", text, names, counters.load_failures, label)
    text = "Total number of times that ipvsd found the module unloaded after it had been live."
    yield _counter("module_unloads", text, names, counters.unloads, label)


def _sysctls(report: Report) -> Iterator[Metric]:
    names = [finding.name for finding in report.sysctls]
    compliant = {finding.name: finding.compliant or is_last_verdict_valid(finding) for finding in report.sysctls}
    pending = {finding.name: finding.verdict is SysctlVerdict.PENDING for finding in report.sysctls}
    counters = report.counters
    label = ["sysctl"]
    text = (
        "1 if the sysctl is compliant. Also 1 if the sysctl cannot be read and was compliant within the last two "
        "resync intervals. 0 if the sysctl does not exist on this node, which is a problem only if the sysctl is "
        "required."
    )
    yield _gauge("sysctl_compliant", text, compliant, label)
    verdicts = {(finding.name, finding.verdict.value): 1 for finding in report.sysctls}
    text = "Always 1, with the verdict on the sysctl as a label (see ipvsd(8))."
    yield _gauge("sysctl_verdict", text, verdicts, ["sysctl", "verdict"])
    text = "1 if the sysctl does not exist because the module that provides it is not live."
    yield _gauge("sysctl_pending", text, pending, label)
    text = "Total number of times that ipvsd detected that a compliant sysctl had become noncompliant."
    yield _counter("sysctl_drifts", text, names, counters.drifts, label)
    text = "Total number of times that ipvsd repaired the sysctl."
    yield _counter("sysctl_repairs", text, names, counters.repairs, label)
    text = "Total number of times that ipvsd wrote the sysctl, but the sysctl was not compliant afterwards."
    yield _counter("sysctl_repair_failures", text, names, counters.repair_failures, label)
    contended = dict.fromkeys(names, 0) | {item.name: 1 for item in report.contended}
    text = (
        "1 if another program changes the sysctl repeatedly, so that ipvsd writes it only once per resync, or not at "
        "all. The log and the status name the program."
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
    names = [finding.name for finding in report.parameters]
    compliant = {finding.name: finding.compliant or is_last_verdict_valid(finding) for finding in report.parameters}
    counters, label = report.counters, ["parameter"]
    text = (
        "1 if the parameter is compliant. Also 1 if the parameter cannot be read and was compliant within the last "
        "two resync intervals."
    )
    yield _gauge("parameter_compliant", text, compliant, label)
    text = "Total number of times that ipvsd detected that a compliant parameter had become noncompliant."
    yield _counter("parameter_drifts", text, names, counters.drifts, label)
    text = "Total number of times that ipvsd repaired the parameter."
    yield _counter("parameter_repairs", text, names, counters.repairs, label)


def _kernels(report: Report) -> Iterator[Metric]:
    ready = {(item.release, str(item.running).lower()): health.could_be_ready(item) for item in report.kernels}
    text = "1 if the kernel has every required module. There is one series for each kernel in /lib/modules."
    yield _gauge("kernel_ready", text, ready, ["release", "running"])
    required = installed_kernels.reboot_required(report.kernels, report.kernel.release)
    text = (
        "1 if files show that the next boot uses a different kernel, or if the modules of the running kernel are "
        "missing."
    )
    yield _gauge("reboot_required", text, {(): required})


def _reconciliations(report: Report) -> Iterator[Metric]:
    counters = report.counters
    text = "Total number of completed reconciliations."
    yield _counter("reconciliations", text, None, {"": counters.reconciliations}, [])
    text = "Duration of the reconciliations, in seconds."
    yield _histogram("reconciliation_duration_seconds", text, counters.reconciliation_seconds)
    text = (
        "Time in seconds from the event that reports drift to the verification of the repair, for modules and "
        "sysctls. If no event reported the drift, the time is measured from the resync that detected it, not from the "
        "change itself."
    )
    yield _histogram("drift_repair_duration_seconds", text, counters.repair_seconds)
    text = "Time of the last reconciliation, in seconds since the epoch."
    yield _gauge("last_reconciliation_timestamp_seconds", text, {(): report.time})


# By subject, as in docs/metrics.md, which shows the help texts ('make tables').
GROUPS: Mapping[str, Callable[[Report], Iterator[Metric]]] = {
    "node": _node,
    "modules": _modules,
    "sysctls": _sysctls,
    "parameters": _parameters,
    "kernels": _kernels,
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
