"""Series for each alert: one set that makes it fire, one that does not, and one that changes repeatedly.

A value is in the notation of promtool: `A+BxN` is A and N more values, each B higher. There is one value per minute.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, NamedTuple

JOB = "ipvsd"
NODE = {"instance": "node1:14787", "job": JOB}
MINUTES = 120
EVERY = range(0, MINUTES + 1, 5)

Series = Mapping[str, str]


class Case(NamedTuple):
    """`labels` are those of the alert, besides the node's. `fires` are the minutes at which it must fire."""

    series: Series
    fires: Sequence[int] = ()
    labels: Mapping[str, str] = {}
    node: Mapping[str, str] = NODE


class Cases(NamedTuple):
    """The alert fires if the condition lasts, does not fire without it, and does not follow each change of it."""

    firing: Case
    quiet: Case
    flapping: Case


def constant(value: float, minutes: int = MINUTES) -> str:
    return f"{value:g}+0x{minutes}"


def switching(*values: float, minutes: int, total: int = MINUTES) -> str:
    """Return these values in turn, each for so many minutes."""
    times = total // (minutes * len(values)) + 1
    return " ".join(constant(value, minutes - 1) for value in values * times)


def rising(step: float, minutes: int, total: int = MINUTES) -> str:
    """Return a counter that increases by `step` once in so many minutes."""
    return " ".join(constant(number * step, minutes - 1) for number in range(total // minutes + 1))


def appearing(minutes: int, first: int = 0, total: int = MINUTES) -> str:
    """Return a series that exists every other time for so many minutes, beginning with the `first` or second time.

    Prometheus marks a series that disappears from a scrape as stale.
    """
    parts = [f"1+0x{minutes - 1}", f"stale _x{minutes - 1}"]
    return " ".join([*parts[first:], *parts[:first]] * (total // minutes // 2 + 1))


def gauge(metric: str, bad: float, good: float, after: int, labels: Mapping[str, str] = {}, shown: str = "") -> Cases:
    """Return the cases of an alert on one series. It fires after `after` minutes with a bad value."""
    lasting = Case({metric: constant(bad)}, range(after + 5, MINUTES, 5), labels)
    return Cases(
        lasting, Case({metric: constant(good)}), Case({metric: switching(bad, good, minutes=max(1, after - 1))})
    )


def verdict(kind: str, good: str, bad: str, worse: str) -> Cases:
    """Return the cases of an alert on the verdict of a required item. A changing wrong verdict is one problem."""
    name, label = "x.y", f'{kind}="x.y"'
    required = {f"ipvsd_{kind}_required{{{label}}}": constant(1)}
    names = {found: f'ipvsd_{kind}_verdict{{{label},verdict="{found}"}}' for found in (good, bad, worse)}
    changing = {names[bad]: appearing(3), names[worse]: appearing(3, 1)}
    return Cases(
        Case({**required, **changing}, range(10, MINUTES, 5), {kind: name}),
        Case({f"ipvsd_{kind}_required{{{label}}}": constant(0), names[bad]: constant(1)}),
        Case({**required, names[good]: appearing(3), names[bad]: appearing(3, 1)}),
    )


_STALLED = " ".join(constant(60.0 * minute, 4) for minute in range(0, MINUTES, 5))
_INTERVAL = {"ipvsd_resync_interval_seconds": constant(60)}
_LAST = "ipvsd_last_reconciliation_timestamp_seconds"
_DRIFTS = 'ipvsd_sysctl_drifts_total{sysctl="x"}'
_READY, _NEXT = 'ipvsd_kernel_ready{release="6.12"}', 'ipvsd_kernel_next_info{release="6.12"}'
_MODE, _REQUESTED = "ipvsd_kube_proxy_mode", "ipvsd_kube_proxy_requested_mode"
_LOST = 'ipvsd_events_lost_total{source="uevents"}'
_EXPIRY = "ipvsd_web_certificate_expiry_timestamp_seconds"
DAY = 86400


def _skew(second: str) -> Series:
    return {
        f'ipvsd_config_info{{instance="a:1",job="{JOB}",config_hash="1"}}': constant(1),
        f'ipvsd_config_info{{instance="b:1",job="{JOB}",config_hash="1"}}': appearing(30),
        f'ipvsd_config_info{{instance="b:1",job="{JOB}",config_hash="2"}}': second,
    }


CASES: Mapping[str, Cases] = {
    "IpvsdDown": gauge("up", 0, 1, 5),
    "IpvsdStalled": Cases(
        Case({_LAST: f"0+60x20 {constant(1200)}", **_INTERVAL}, range(35, MINUTES, 5)),
        Case({_LAST: f"0+60x{MINUTES}", **_INTERVAL}),
        Case({_LAST: _STALLED, **_INTERVAL}),  # one reconciliation in five minutes
    ),
    "IpvsdNodeFailed": gauge('ipvsd_state{state="failed"}', 1, 0, 5, {"state": "failed"}),
    "IpvsdNodeDegraded": gauge('ipvsd_state{state="degraded"}', 1, 0, 30, {"state": "degraded"}),
    "IpvsdModuleMissing": verdict("module", "live", "loadable", "load_failed"),
    "IpvsdRequiredSysctlWrong": verdict("sysctl", "compliant", "write_failed", "noncompliant"),
    "IpvsdDriftStorm": Cases(
        Case({_DRIFTS: f"0+1x{MINUTES}"}, range(15, MINUTES, 5), {"sysctl": "x"}),
        Case({_DRIFTS: constant(1000)}),
        Case({_DRIFTS: rising(5, 20)}),
    ),
    "IpvsdContended": gauge('ipvsd_sysctl_contended{sysctl="x"}', 1, 0, 5, {"sysctl": "x"}),
    "IpvsdRepairFailing": Cases(
        Case({"ipvsd_module_load_failures_total": f"0+1x{MINUTES}"}, range(15, MINUTES, 5)),
        Case({"ipvsd_module_load_failures_total": constant(3)}),
        Case({"ipvsd_module_load_failures_total": rising(2, 20)}),
    ),
    "IpvsdConfigRefused": gauge("ipvsd_config_last_reload_successful", 0, 1, 5),
    "IpvsdOperationFailed": gauge('ipvsd_operation_failed{operation="listen"}', 1, 0, 15, {"operation": "listen"}),
    "IpvsdTableLost": Cases(
        Case({"ipvsd_table_lost_total": f"0+0x9 {constant(1)}"}, range(15, 25, 5)),
        Case({"ipvsd_table_lost_total": constant(1)}),
        # Losses at short intervals are one alert.
        Case({"ipvsd_table_lost_total": rising(1, 10)}, range(15, MINUTES, 5)),
    ),
    "IpvsdNextBootBreaksIpvs": Cases(
        Case({_READY: constant(0), _NEXT: constant(1)}, range(20, MINUTES, 5), {"release": "6.12"}),
        Case({_READY: constant(0), 'ipvsd_kernel_next_info{release="6.1"}': constant(1)}),
        Case({_READY: switching(0, 1, minutes=10), _NEXT: constant(1)}),
    ),
    "IpvsdFleetConfigSkew": Cases(
        Case(_skew(constant(1)), range(65, MINUTES, 5), node={"job": JOB}),
        Case(_skew("_x120"), node={"job": JOB}),
        Case(_skew(appearing(30, 1)), node={"job": JOB}),
    ),
    "IpvsdEventsLost": Cases(
        Case({_LOST: f"0+1x{MINUTES}"}, range(20, MINUTES, 5), {"source": "uevents"}),
        Case({_LOST: constant(7)}),
        Case({_LOST: rising(100, 30)}),
    ),
    "IpvsdKubeProxyModeMismatch": Cases(
        Case(
            {f'{_MODE}{{mode="iptables"}}': constant(1), f'{_REQUESTED}{{mode="ipvs"}}': constant(1)},
            range(20, MINUTES, 5), {"mode": "iptables"},
        ),
        Case({f'{_MODE}{{mode="ipvs"}}': constant(1), f'{_REQUESTED}{{mode="ipvs"}}': constant(1)}),
        Case(
            {
                f'{_MODE}{{mode="iptables"}}': appearing(10),
                f'{_MODE}{{mode="ipvs"}}': appearing(10, 1),
                f'{_REQUESTED}{{mode="ipvs"}}': constant(1),
            }
        ),
    ),
    "IpvsdCertificateExpiring": Cases(
        Case({_EXPIRY: constant(6 * DAY)}, range(65, MINUTES, 5)),
        Case({_EXPIRY: constant(30 * DAY)}),
        Case({_EXPIRY: switching(6 * DAY, 30 * DAY, minutes=30)}),
    ),
}  # fmt: skip

_PROFILE = {'ipvsd_profile_info{profile="kube-proxy-ipvs"}': constant(1)}
_BOTH = {**_PROFILE, 'ipvsd_profile_info{profile="kube-proxy-nftables"}': constant(1)}
_NFTABLES = {f'{_MODE}{{mode="nftables"}}': constant(1), f'{_REQUESTED}{{mode="nftables"}}': constant(1)}
# Further parts of the expressions.
MORE: Sequence[tuple[str, Case]] = (
    ("IpvsdRequiredSysctlWrong", verdict("parameter", "compliant", "write_failed", "noncompliant").firing),
    ("IpvsdRequiredSysctlWrong", verdict("parameter", "compliant", "write_failed", "noncompliant").quiet),
    ("IpvsdDriftStorm", Case({'ipvsd_module_loads_total{module="x"}': "0+1x120"}, (20, 100), {"module": "x"})),
    ("IpvsdDriftStorm", Case({'ipvsd_parameter_drifts_total{parameter="x"}': "0+1x120"}, (60,), {"parameter": "x"})),
    ("IpvsdRepairFailing", Case({'ipvsd_sysctl_repair_failures_total{sysctl="x"}': "0+1x120"}, (60,), {"sysctl": "x"})),
    ("IpvsdKubeProxyModeMismatch", Case({**_NFTABLES, **_PROFILE}, (20, 100), {"mode": "nftables"})),
    ("IpvsdKubeProxyModeMismatch", Case({**_NFTABLES, **_BOTH})),
    # A mode that kube-proxy does not report is no mismatch.
    ("IpvsdKubeProxyModeMismatch", Case({f'{_MODE}{{mode="ipvs"}}': constant(1), **_PROFILE})),
    # With a longer resync interval, an older reconciliation is normal.
    ("IpvsdStalled", Case({_LAST: " ".join(constant(600 * n, 9) for n in range(12)), "ipvsd_resync_interval_seconds":
                           constant(600)})),
)  # fmt: skip


_EXPORTER = {"instance": "node1:9100", "job": "node"}
_MTIME = 'node_textfile_mtime_seconds{file="/var/lib/prometheus/node-exporter/ipvsd.prom"}'
# Of the rules for node_exporter's textfile collector.
TEXTFILE: Sequence[tuple[str, Case]] = (
    ("IpvsdDown", Case({"up": constant(1)}, range(5, MINUTES, 5), node=_EXPORTER)),  # there is no file
    ("IpvsdDown", Case({"up": constant(1), _MTIME: constant(0)}, range(10, MINUTES, 5), node=_EXPORTER)),
    ("IpvsdDown", Case({"up": constant(1), _MTIME: f"0+60x{MINUTES}"}, node=_EXPORTER)),
    ("IpvsdDown", Case({"up": constant(1), _MTIME: rising(480, 8)}, node=_EXPORTER)),  # old every time for 3 minutes
    ("IpvsdDown", Case({"up": constant(0)}, node=_EXPORTER)),  # node_exporter is down
    # Another node, and another file, prove nothing about this one.
    (
        "IpvsdDown",
        Case(
            {
                "up": constant(1),
                _MTIME.replace("{", '{instance="node2:9100",job="node",'): f"0+60x{MINUTES}",
                _MTIME.replace("ipvsd", "other"): f"0+60x{MINUTES}",
            },
            range(5, MINUTES, 5),
            node=_EXPORTER,
        ),
    ),
)


def of_every_alert() -> Sequence[tuple[str, Case]]:
    """Return all cases of ipvsd.rules.yaml."""
    return [*((name, case) for name, found in CASES.items() for case in found), *MORE]


def promtool(
    rules: str, documents: Mapping[str, Mapping[str, Any]], cases: Sequence[tuple[str, Case]]
) -> Mapping[str, Any]:
    """Return the input of `promtool test rules`. `documents` are the alerts of the file `rules`, by name."""
    return {
        "rule_files": [rules],
        "evaluation_interval": "1m",
        "tests": [
            {
                "interval": "1m",
                "name": f"{name} {number}",
                "input_series": [
                    {"series": _with_node(series, case.node), "values": values}
                    for series, values in case.series.items()
                ],
                "alert_rule_test": list(_expected(name, case, documents[name])),
            }
            for number, (name, case) in enumerate(cases)
        ],
    }


def _with_node(series: str, node: Mapping[str, str]) -> str:
    if "instance=" in series:
        return series
    labels = ",".join(f'{name}="{value}"' for name, value in node.items())
    metric, _, others = series.partition("{")
    return f"{metric}{{{labels},{others}" if others else f"{metric}{{{labels}}}"


def _expected(name: str, case: Case, document: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """Yield the expectation for every fifth minute, or only those at which it must fire, if it does sometimes."""
    labels = {**case.node, **case.labels}
    alert = {
        "exp_labels": {**labels, **document["labels"]},
        "exp_annotations": {key: _rendered(text, labels) for key, text in document["annotations"].items()},
    }
    for minute in case.fires or EVERY:
        yield {"eval_time": f"{minute}m", "alertname": name, "exp_alerts": [alert] if case.fires else []}


def _rendered(text: str, labels: Mapping[str, str]) -> str:
    for label in ("instance", "job", "module", "sysctl", "parameter", "release", "mode", "source", "operation"):
        text = text.replace(f"{{{{ $labels.{label} }}}}", labels.get(label, ""))
    return text
