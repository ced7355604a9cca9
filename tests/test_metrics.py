from __future__ import annotations

from typing import Optional

import pytest

from ipvsd.model.report import ContendedSysctl, Histogram, InstalledKernel, Ipvs, KubeProxyState, Report, State
from ipvsd.model.types import Need
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reporting.counters import BUCKETS, EMPTY
from ipvsd.reporting.metrics import exposition
from tests.samples import default_profile, module, report, sysctl

REPORT = report(
    module(name="ip_vs"),
    module(ModuleVerdict.ABSENT, "br_netfilter", Need.OPTIONAL),
    sysctl(),
    sysctl(SysctlVerdict.PENDING, "net.ipv4.vs.conntrack", found=None),
)


def samples(made: Optional[Report]) -> list[str]:
    text = exposition(lambda: made)().decode()
    return [line for line in text.splitlines() if line and not line.startswith("#")]


def value(made: Report, sample: str) -> float:
    (line,) = [line for line in samples(made) if line.rpartition(" ")[0] == sample]
    return float(line.rpartition(" ")[2])


def test_every_metric_has_a_help_text_and_a_type() -> None:
    text = exposition(lambda: REPORT)().decode()
    helped = {line.split()[2] for line in text.splitlines() if line.startswith("# HELP ") and len(line.split()) > 3}
    typed = {line.split()[2] for line in text.splitlines() if line.startswith("# TYPE ")}
    assert helped == typed


@pytest.mark.parametrize("state", State)
def test_exactly_one_state_is_1(state: State) -> None:
    shown = {other: value(report(state=state), f'ipvsd_state{{state="{other.value}"}}') for other in State}
    assert shown == {other: float(other is state) for other in State}


def test_every_item_has_a_verdict_and_is_required_or_not() -> None:
    lines = samples(REPORT._replace(parameters=(sysctl(SysctlVerdict.WRITE_FAILED, "ip_vs.x", required=False),)))
    for line in (
        'ipvsd_module_verdict{module="ip_vs",verdict="live"} 1.0',
        'ipvsd_module_verdict{module="br_netfilter",verdict="absent"} 1.0',
        'ipvsd_module_required{module="ip_vs"} 1.0',
        'ipvsd_module_required{module="br_netfilter"} 0.0',
        'ipvsd_sysctl_verdict{sysctl="net.ipv4.vs.conntrack",verdict="pending"} 1.0',
        'ipvsd_sysctl_required{sysctl="net.ipv4.vs.conntrack"} 1.0',
        'ipvsd_parameter_verdict{parameter="ip_vs.x",verdict="write_failed"} 1.0',
        'ipvsd_parameter_required{parameter="ip_vs.x"} 0.0',
    ):
        assert line in lines


@pytest.mark.parametrize(("yielded", "shown"), [(False, 1), (True, 0)])
def test_a_contended_sysctl_is_no_problem_if_the_policy_permits_it(yielded: bool, shown: float) -> None:
    made = REPORT._replace(contended=(ContendedSysctl("net.ipv4.ip_forward", "agent[7]", yielded),))
    assert value(made, 'ipvsd_sysctl_contended{sysctl="net.ipv4.ip_forward"}') == shown
    assert value(made, 'ipvsd_sysctl_contended{sysctl="net.ipv4.vs.conntrack"}') == 0


UNKNOWN = (
    "ipvs_up", "persisted_files_current", "web_certificate_expiry_timestamp_seconds", "kube_proxy_up",
    "kube_proxy_mode", "kube_proxy_requested_mode", "config_last_reload_success_timestamp_seconds", "kernel_next_info",
    "note_info",
)  # fmt: skip


def test_a_value_that_is_unknown_is_absent_and_not_0() -> None:
    made = REPORT._replace(ipvs=Ipvs(None))
    assert [line for line in samples(made) if line.startswith(tuple(f"ipvsd_{name}" for name in UNKNOWN))] == []


@pytest.mark.parametrize("name", ["ipvs_up", "persisted_files_current", "kube_proxy_up"])
def test_a_check_that_failed_is_0(name: str) -> None:
    made = REPORT._replace(ipvs=Ipvs(False), persisted_files_current=False, kube_proxy=KubeProxyState(False))
    assert value(made, f"ipvsd_{name}") == 0


def test_the_configuration_is_shown() -> None:
    assert REPORT.config is not None
    refused = REPORT.config._replace(errors=("f:1: no",))
    assert value(REPORT._replace(config=refused), "ipvsd_config_last_reload_successful") == 0
    two = REPORT.config._replace(profiles=("kube-proxy-ipvs", "lvs-full"))
    lines = samples(REPORT._replace(config=two, config_loaded_at=12.0))
    assert [line for line in lines if line.startswith(("ipvsd_config_info", "ipvsd_profile", "ipvsd_resync"))] == [
        'ipvsd_config_info{config_hash="0123456789ab"} 1.0',
        'ipvsd_profile_info{profile="kube-proxy-ipvs"} 1.0',
        'ipvsd_profile_info{profile="lvs-full"} 1.0',
        "ipvsd_resync_interval_seconds 60.0",
    ]
    assert "ipvsd_config_last_reload_success_timestamp_seconds 12.0" in lines


@pytest.mark.parametrize(("mode", "shown"), [("ipvs", "ipvs"), ("nftables", "nftables"), ("x" * 60, "other")])
def test_a_mode_that_does_not_exist_is_other(mode: str, shown: str) -> None:
    made = REPORT._replace(kube_proxy=KubeProxyState(True, mode, mode))
    assert value(made, f'ipvsd_kube_proxy_mode{{mode="{shown}"}}') == 1
    assert value(made, f'ipvsd_kube_proxy_requested_mode{{mode="{shown}"}}') == 1


def test_a_kernel_is_identified_by_its_release_alone() -> None:
    missing = module(ModuleVerdict.ABSENT)
    kernels = (
        InstalledKernel("6.1.0", running=False, boots_next=False, modules=(missing,)),
        InstalledKernel("6.12.0", running=False, boots_next=True, modules=()),
    )
    lines = [line for line in samples(REPORT._replace(kernels=kernels)) if line.startswith("ipvsd_kernel_")]
    assert lines == [
        'ipvsd_kernel_ready{release="6.1.0"} 0.0',
        'ipvsd_kernel_ready{release="6.12.0"} 1.0',
        f'ipvsd_kernel_running_info{{release="{REPORT.kernel.release}"}} 1.0',
        'ipvsd_kernel_next_info{release="6.12.0"} 1.0',
    ]


@pytest.mark.parametrize("backend", ["nft", "legacy"])
def test_the_default_profile_with_three_kernels_has_at_most_300_series(backend: str) -> None:
    made = default_profile(backend)
    assert (len(made.modules), len(made.sysctls)) == (45 if backend == "nft" else 49, 9)
    assert len(samples(made)) <= 300


def test_counts_are_shown_per_name() -> None:
    tally = EMPTY._replace(
        loads={"ip_vs": 3}, drifts={"net.ipv4.ip_forward": 2}, unloads={"ip_vs": 2, "dummy": 1},
        load_failures={"dummy": 5}, tables_lost=4,
    )  # fmt: skip
    made = REPORT._replace(counters=tally)
    assert value(made, 'ipvsd_module_loads_total{module="ip_vs"}') == 3
    assert value(made, 'ipvsd_sysctl_drifts_total{sysctl="net.ipv4.ip_forward"}') == 2
    assert value(made, 'ipvsd_module_loads_total{module="br_netfilter"}') == 0
    assert value(made, "ipvsd_module_unloads_total") == 3
    assert value(made, "ipvsd_module_load_failures_total") == 5
    assert value(made, "ipvsd_table_lost_total") == 4
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
    assert b"ipvsd_state" not in text()
    latest[0] = REPORT
    assert b'\nipvsd_state{state="ready"} 1.0\n' in text()


def test_a_name_can_not_break_out_of_its_label() -> None:
    made = report(module(name='a"} 1\nevil'))
    assert all("\nevil" not in line for line in samples(made))
    assert not [line for line in samples(made) if line.startswith("evil")]


def test_the_scrape_is_text_without_duplicate_series_for_any_name() -> None:
    names = ["a\x1b[31m", "\udcff", r"\xff", "\ud800", "b" * 5000, "b" * 6000, "c\u2028d"]
    found = samples(report(*(module(name=name) for name in names)))
    loaded = [line for line in found if line.startswith("ipvsd_module_required{")]
    assert len(loaded) == len(set(loaded)) == len(names) - 2
    assert all(line.isprintable() and len(line) < 1000 for line in found)
