from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

import pytest

from ipvsd import __version__
from ipvsd.model.report import Histogram, Ipvs, Report, State
from ipvsd.model.types import LastVerdict, ModuleVerdict, Need, SysctlVerdict
from ipvsd.reporting.counters import BUCKETS, EMPTY
from ipvsd.reporting.metrics import exposition
from tests.samples import module, report, sysctl

REPORT = report(
    module(name="ip_vs"),
    module(ModuleVerdict.ABSENT, "br_netfilter", Need.OPTIONAL),
    sysctl(),
    sysctl(SysctlVerdict.PENDING, "net.ipv4.vs.conntrack", found=None),
)


def each(metrics: str, values: str) -> Iterator[str]:
    """Yield the lines of metrics for the two items of a kind."""
    for metric in metrics.split():
        kind = metric.partition("_")[0]
        names = ("ip_vs", "br_netfilter") if kind == "module" else ("net.ipv4.ip_forward", "net.ipv4.vs.conntrack")
        yield from (f'ipvsd_{metric}{{{kind}="{name}"}} {value}.0' for name, value in zip(names, values.split()))


GOLDEN = [
    "ipvsd_ready 1.0",
    "ipvsd_ipvs_up 1.0",
    f'ipvsd_build_info{{version="{__version__}"}} 1.0',
    'ipvsd_config_info{config_hash="0123456789ab",profiles="kube-proxy-ipvs"} 1.0',
    "ipvsd_config_last_reload_successful 1.0",
    'ipvsd_watch_backend_info{backend="bpf"} 1.0',
    *(f'ipvsd_source_up{{source="{name}"}} {up}' for name, up in (("uevents", 1.0), ("config_files", 0.0))),
    'ipvsd_events_lost_total{source="uevents"} 3.0',
    *(
        f'ipvsd_operation_failed{{operation="{name}"}} 0.0'
        for name in (
            "listen",
            "load_web_configuration",
            "write_textfile",
            "store_configuration",
            "write_status",
            "write_history",
        )
    ),
    *each("module_loaded", "1 0"),
    'ipvsd_module_verdict{module="ip_vs",verdict="live"} 1.0',
    'ipvsd_module_verdict{module="br_netfilter",verdict="absent"} 1.0',
    *each("module_required", "1 0"),
    *each("module_loads_total module_load_failures_total module_unloads_total", "0 0"),
    *each("sysctl_compliant", "1 0"),
    'ipvsd_sysctl_verdict{sysctl="net.ipv4.ip_forward",verdict="compliant"} 1.0',
    'ipvsd_sysctl_verdict{sysctl="net.ipv4.vs.conntrack",verdict="pending"} 1.0',
    *each("sysctl_pending", "0 1"),
    *each("sysctl_drifts_total sysctl_repairs_total sysctl_repair_failures_total", "0 0"),
    *each("sysctl_contended", "0 1"),
    "ipvsd_reboot_required 0.0",
]


def samples(made: Optional[Report]) -> list[str]:
    text = exposition(lambda: made)().decode()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def value(made: Report, sample: str) -> float:
    (line,) = [line for line in samples(made) if line.rpartition(" ")[0] == sample]
    return float(line.rpartition(" ")[2])


def test_the_exposition_is_as_promised_and_counters_begin_at_zero() -> None:
    work = ("ipvsd_drift_", "ipvsd_reconciliation", "ipvsd_last_", "process_")
    assert [line for line in samples(REPORT) if not line.startswith(work)] == GOLDEN


def test_every_metric_has_a_help_text_and_a_type() -> None:
    text = exposition(lambda: REPORT)().decode()
    helped = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP ") and len(line.split()) > 3}
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert helped == typed


@pytest.mark.parametrize(("state", "ready"), [(State.READY, 1), (State.DEGRADED, 1), (State.FAILED, 0)])
def test_a_degraded_node_is_ready(state: State, ready: float) -> None:
    assert value(report(state=state), "ipvsd_ready") == ready


@pytest.mark.parametrize(("up", "shown"), [(True, 1), (False, 0), (None, 0)])
def test_ipvs_is_up_only_if_it_answered(up: Optional[bool], shown: float) -> None:
    assert value(REPORT._replace(ipvs=Ipvs(up)), "ipvsd_ipvs_up") == shown


@pytest.mark.parametrize("stands", [True, False])
def test_what_cannot_be_read_is_shown_as_it_was_while_that_stands(stands: bool) -> None:
    live, right = (LastVerdict(verdict, 0.0, stands) for verdict in (ModuleVerdict.LIVE, SysctlVerdict.COMPLIANT))
    made = report(
        module(ModuleVerdict.UNREADABLE)._replace(last_verdict=live),
        sysctl(SysctlVerdict.UNREADABLE)._replace(last_verdict=right),
    )
    text = exposition(lambda: made)().decode()
    assert f'ipvsd_module_loaded{{module="ip_vs"}} {float(stands)}\n' in text
    assert f'ipvsd_sysctl_compliant{{sysctl="net.ipv4.ip_forward"}} {float(stands)}\n' in text


def test_the_configuration_is_shown() -> None:
    assert REPORT.config is not None
    refused = REPORT.config._replace(errors=("f:1: no",))
    assert value(REPORT._replace(config=refused), "ipvsd_config_last_reload_successful") == 0
    for profiles, shown in (((), "none"), (("kube-proxy-ipvs", "lvs-full"), "kube-proxy-ipvs,lvs-full")):
        made = REPORT._replace(config=REPORT.config._replace(profiles=profiles))
        assert value(made, f'ipvsd_config_info{{config_hash="0123456789ab",profiles="{shown}"}}') == 1


def test_counts_are_shown_per_name() -> None:
    tally = EMPTY._replace(loads={"ip_vs": 3}, drifts={"net.ipv4.ip_forward": 2}, reconciliations=7)
    made = REPORT._replace(counters=tally)
    assert value(made, 'ipvsd_module_loads_total{module="ip_vs"}') == 3
    assert value(made, 'ipvsd_sysctl_drifts_total{sysctl="net.ipv4.ip_forward"}') == 2
    assert value(made, "ipvsd_reconciliations_total") == 7
    assert value(made, "ipvsd_last_reconciliation_timestamp_seconds") == REPORT.time


def test_a_histogram_is_cumulated() -> None:
    counts = [0] * (len(BUCKETS) + 1)
    counts[0], counts[2], counts[-1] = 1, 2, 1
    made = REPORT._replace(counters=EMPTY._replace(repair_seconds=Histogram(tuple(counts), 123.5)))
    name = "ipvsd_drift_repair_duration_seconds"
    assert value(made, f'{name}_bucket{{le="0.001"}}') == 1
    assert value(made, f'{name}_bucket{{le="0.005"}}') == 3
    assert value(made, f'{name}_bucket{{le="60.0"}}') == 3
    assert value(made, f'{name}_bucket{{le="+Inf"}}') == 4
    assert (value(made, f"{name}_count"), value(made, f"{name}_sum")) == (4, 123.5)


def test_before_the_first_reconciliation_there_are_only_process_metrics() -> None:
    names = {line.split()[0] for line in samples(None)}
    assert "process_resident_memory_bytes" in names
    assert all(name.startswith("process_") for name in names)


def test_the_exposition_follows_the_latest_report() -> None:
    latest: list[Optional[Report]] = [None]
    text = exposition(lambda: latest[0])
    assert b"ipvsd_ready" not in text()
    latest[0] = REPORT
    assert b"\nipvsd_ready 1.0\n" in text()


def test_a_name_can_not_break_out_of_its_label() -> None:
    made = report(module(name='a"} 1\nevil'))
    assert all("\nevil" not in line for line in samples(made))
    assert not [line for line in samples(made) if line.startswith("evil")]


def test_the_scrape_is_text_without_duplicate_series_for_any_name() -> None:
    names = ["a\x1b[31m", "\udcff", r"\xff", "\ud800", "b" * 5000, "b" * 6000, "c\u2028d"]
    found = samples(report(*(module(name=name) for name in names)))
    loaded = [line for line in found if line.startswith("ipvsd_module_loaded{")]
    assert len(loaded) == len(set(loaded)) == len(names) - 2
    assert all(line.isprintable() and len(line) < 1000 for line in found)
