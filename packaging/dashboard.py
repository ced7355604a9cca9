"""Build the Grafana dashboard with Grafana's foundation SDK: `make dashboard`.

The first rows show the fleet, the other ones one node. With `--check`, nothing is written, and the exit code is 1 if
the file differs. The result is read back with the schema of the SDK, which accepts only known values.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Union

from grafana_foundation_sdk.builders import common as common_builders
from grafana_foundation_sdk.builders import dashboard as builders
from grafana_foundation_sdk.builders import prometheus, stat, table, timeseries
from grafana_foundation_sdk.cog import plugins
from grafana_foundation_sdk.cog.encoder import JSONEncoder
from grafana_foundation_sdk.models import common, dashboard
from grafana_foundation_sdk.models.prometheus import PromQueryFormat

TARGET = Path(__file__).parent / "monitoring/ipvsd.dashboard.json"
SOURCE = dashboard.DataSourceRef(type_val="prometheus", uid="${datasource}")
FLEET, NODE = 'job=~"$job"', 'job=~"$job",instance="$instance"'

Panel = Union[stat.Panel, table.Panel, timeseries.Panel]
# The text that names the series, and the query. {} stands for the matchers of the fleet or the node.
Query = tuple[str, str]


def _target(query: Query, number: int, instant: bool, tabular: bool = False) -> prometheus.Dataquery:
    legend, expr = query
    made = prometheus.Dataquery().expr(expr).legend_format(legend).ref_id(chr(ord("A") + number)).datasource(SOURCE)
    made = made.instant() if instant else made.range()
    return made.format(PromQueryFormat.TABLE) if tabular else made


def number(title: str, text: str, query: Query, width: int = 4, unit: str = "short", bad: float = 0.0) -> Panel:
    """Return a panel with one number for each series. It is red from `bad` on, unless that is 0."""
    steps = [dashboard.Threshold(0.0, "green"), *([dashboard.Threshold(bad, "red")] if bad else [])]
    mode = common.BigValueTextMode.VALUE_AND_NAME if query[0] else common.BigValueTextMode.VALUE
    return (
        stat.Panel()
        .title(title)
        .description(text)
        .datasource(SOURCE)
        .height(4)
        .span(width)
        .unit(unit)
        .thresholds(builders.ThresholdsConfig().mode(dashboard.ThresholdsMode.ABSOLUTE).steps(steps))
        .text_mode(mode)
        .reduce_options(common_builders.ReduceDataOptions().calcs(["lastNotNull"]))
        .with_target(_target(query, 0, instant=True))
    )


def listing(title: str, text: str, *exprs: str, width: int = 12, values: Sequence[str] = ()) -> Panel:
    """Return a panel with one row for each series, and a column for each label.

    `values` are the headings of the values, one for each query. Without them, the values are hidden.
    """
    made = table.Panel().title(title).description(text).datasource(SOURCE).height(8).span(width)
    made = made.no_value("none").show_header(True)
    for index, expr in enumerate(exprs):
        made = made.with_target(_target(("", expr), index, instant=True, tabular=True))
    made = made.with_transformation(dashboard.DataTransformerConfig(id_val="merge", options={}))
    columns = ["Value"] if len(exprs) == 1 else [f"Value #{chr(ord('A') + index)}" for index in range(len(exprs))]
    hidden = ["Time", "__name__", "job", *([] if values else columns)]
    options = {"excludeByName": dict.fromkeys(hidden, True), "renameByName": dict(zip(columns, values))}
    return made.with_transformation(dashboard.DataTransformerConfig(id_val="organize", options=options))


def graph(title: str, text: str, *queries: Query, width: int = 12, unit: str = "short") -> Panel:
    """Return a panel with the course of each series."""
    made = timeseries.Panel().title(title).description(text).datasource(SOURCE).height(8).span(width).unit(unit).min(0)
    made = made.fill_opacity(10).tooltip(common_builders.VizTooltipOptions().mode(common.TooltipDisplayMode.MULTI))
    made = made.legend(common_builders.VizLegendOptions().show_legend(True).placement(common.LegendPlacement.BOTTOM))
    for index, query in enumerate(queries):
        made = made.with_target(_target(query, index, instant=False))
    return made


def _nodes_by(title: str, text: str, label: str, metric: str) -> Panel:
    return listing(title, text, f"count by ({label}) ({metric}{{{FLEET}}})", width=6, values=["nodes"])


def fleet() -> Sequence[Panel]:
    each = f"{{{FLEET}}}"
    return (
        number("Nodes by state", "Nodes in each state.", ("{{state}}", f"sum by (state) (ipvsd_state{each})"), 6),
        number(
            "Not scraped", "Targets that Prometheus cannot scrape.",
            ("", f"count(up{each} == 0) or vector(0)"), bad=1,
        ),
        number(
            "Next boot breaks IPVS", "Nodes whose next boot uses a kernel without a required module.",
            ("", f"count((ipvsd_kernel_ready{each} == 0) and ipvsd_kernel_next_info{each}) or vector(0)"), bad=1,
        ),
        number(
            "Configurations", "Number of different effective configurations.",
            ("", f"count(count by (config_hash) (ipvsd_config_info{each}))"), bad=2,
        ),
        number(
            "Lost tables", "Losses of all virtual services, in the last day.",
            ("", f"sum(increase(ipvsd_table_lost_total{each}[1d]))"), 6, bad=1,
        ),
        listing(
            "Nodes that are not ready", "One row for each degraded or failed node.",
            f'ipvsd_state{{{FLEET},state!="ready"}} == 1',
        ),
        listing(
            "Items that are not compliant", "One row for each item and node, with the verdict.",
            f'ipvsd_module_verdict{{{FLEET},verdict!~"live|built_in"}}',
            f'ipvsd_sysctl_verdict{{{FLEET},verdict!="compliant"}}',
            f'ipvsd_parameter_verdict{{{FLEET},verdict!="compliant"}}',
        ),
        listing(
            "Contended sysctls", "Another program changes these sysctls repeatedly.",
            f"ipvsd_sysctl_contended{each} == 1",
        ),
        listing("Notes", "Facts that do not change the state.", f"ipvsd_note_info{each}"),
        graph(
            "Drift", "Drift per second, on the ten nodes with the most.",
            ("{{instance}}", f"topk(10, sum by (instance) (rate(ipvsd_sysctl_drifts_total{each}[$__rate_interval])))"),
        ),
        graph(
            "Failed repairs", "Failed writes and loads per second, on the ten nodes with the most.",
            ("{{instance}} sysctls",
             f"topk(10, sum by (instance) (rate(ipvsd_sysctl_repair_failures_total{each}[$__rate_interval])))"),
            ("{{instance}} modules", f"topk(10, rate(ipvsd_module_load_failures_total{each}[$__rate_interval]))"),
        ),
        _nodes_by("Configurations", "Nodes by configuration.", "config_hash", "ipvsd_config_info"),
        _nodes_by("Profiles", "Nodes by profile.", "profile", "ipvsd_profile_info"),
        _nodes_by("Versions", "Nodes by version of ipvsd.", "version", "ipvsd_build_info"),
        _nodes_by("Kernels", "Nodes by running kernel.", "release", "ipvsd_kernel_running_info"),
        _nodes_by("Modes of kube-proxy", "Nodes by the mode that kube-proxy uses.", "mode", "ipvsd_kube_proxy_mode"),
        listing("kube-proxy does not respond", "One row for each node.", f"ipvsd_kube_proxy_up{each} == 0", width=6),
        listing(
            "Rejected configurations", "Nodes that rejected their newest configuration.",
            f"ipvsd_config_last_reload_successful{each} == 0", width=6,
        ),
        listing(
            "Outdated persisted files", "Nodes on which the files of 'ipvsd apply --persist' differ.",
            f"ipvsd_persisted_files_current{each} == 0", width=6,
        ),
    )  # fmt: skip


def node() -> Sequence[Panel]:
    one = f"{{{NODE}}}"
    rate = f"{one}[$__rate_interval]"
    return (
        number("State", "1 for the current state.", ("{{state}}", f"ipvsd_state{one} == 1")),
        number("IPVS responds", "1 if the kernel's IPVS responded.", ("", f"ipvsd_ipvs_up{one}")),
        number(
            "kube-proxy", "The mode that kube-proxy uses, and the requested one.",
            ("{{__name__}} {{mode}}", f"ipvsd_kube_proxy_mode{one} or ipvsd_kube_proxy_requested_mode{one}"), 6,
        ),
        number(
            "Last reconciliation", "Time since the last reconciliation, as a multiple of the resync interval.",
            ("", f"(time() - ipvsd_last_reconciliation_timestamp_seconds{one}) / ipvsd_resync_interval_seconds{one}"),
            bad=3,
        ),
        number(
            "Configuration loaded", "Time since ipvsd last loaded a valid configuration.",
            ("", f"time() - ipvsd_config_last_reload_success_timestamp_seconds{one}"), 3, unit="s",
        ),
        number(
            "Certificate", "Time until the certificate of the endpoint expires.",
            ("", f"ipvsd_web_certificate_expiry_timestamp_seconds{one} - time()"), 3, unit="s",
        ),
        listing(
            "Modules", "The verdict on each module.",
            f"ipvsd_module_verdict{one} * on (job, instance, module) group_left () ipvsd_module_required{one}",
            values=["required"],
        ),
        listing(
            "Sysctls and parameters", "The verdict on each sysctl and parameter.",
            f"ipvsd_sysctl_verdict{one} * on (job, instance, sysctl) group_left () ipvsd_sysctl_required{one}",
            f"ipvsd_parameter_verdict{one} * on (job, instance, parameter) group_left () "
            f"ipvsd_parameter_required{one}",
            values=["sysctl required", "parameter required"],
        ),
        graph(
            "Drift", "Changes of compliant items by other programs, per second.",
            ("{{sysctl}}", f"rate(ipvsd_sysctl_drifts_total{rate})"),
            ("{{parameter}}", f"rate(ipvsd_parameter_drifts_total{rate})"),
            ("unloaded modules", f"rate(ipvsd_module_unloads_total{rate})"),
        ),
        graph(
            "Repairs", "Verified repairs per second.",
            ("{{sysctl}}", f"rate(ipvsd_sysctl_repairs_total{rate})"),
            ("{{parameter}}", f"rate(ipvsd_parameter_repairs_total{rate})"),
            ("{{module}}", f"rate(ipvsd_module_loads_total{rate})"),
        ),
        graph(
            "Failed repairs", "Failed writes and loads per second.",
            ("{{sysctl}}", f"rate(ipvsd_sysctl_repair_failures_total{rate})"),
            ("{{parameter}}", f"rate(ipvsd_parameter_repair_failures_total{rate})"),
            ("modules", f"rate(ipvsd_module_load_failures_total{rate})"),
        ),
        graph(
            "Refused writes", "Writes to guarded sysctls that the kernel refused, per second.",
            ("{{sysctl}}", f"rate(ipvsd_sysctl_refused_writes_total{rate})"),
        ),
        graph(
            "Time to repair", "From the event to the verified repair.",
            *((f"p{q}", f"histogram_quantile(0.{q}, rate(ipvsd_drift_repair_duration_seconds_bucket{rate}))")
              for q in (50, 99)),
            unit="s",
        ),
        graph(
            "Reconciliations", "Mean duration of a reconciliation.",
            ("duration", f"rate(ipvsd_reconciliation_duration_seconds_sum{rate}) / "
                         f"rate(ipvsd_reconciliation_duration_seconds_count{rate})"),
            unit="s",
        ),
        graph(
            "Matching sysctls", "Sysctls that match each pattern, and the compliant ones.",
            ("{{pattern}}", f"ipvsd_sysctl_pattern_members{one}"),
            ("{{pattern}} compliant", f"ipvsd_sysctl_pattern_members_compliant{one}"),
        ),
        graph(
            "Lost events", "Events that the kernel dropped, per second.",
            ("{{source}}", f"rate(ipvsd_events_lost_total{rate})"),
        ),
        listing("Event sources that are down", "One row for each source.", f"ipvsd_source_up{one} == 0", width=6),
        listing("Failed operations", "Operations of ipvsd itself.", f"ipvsd_operation_failed{one} == 1", width=6),
        listing("Kernels", "1 for a kernel with every required module.", f"max by (release) (ipvsd_kernel_ready{one})",
                width=6, values=["ready"]),
        graph("Memory", "Resident memory of ipvsd.", ("resident", f"process_resident_memory_bytes{one}"), width=6,
              unit="bytes"),
    )  # fmt: skip


def build() -> Any:
    """Return the dashboard as values for JSON."""
    jobs, nodes = (
        builders.QueryVariable(name)
        .label(label)
        .query(query)
        .datasource(SOURCE)
        .refresh(dashboard.VariableRefresh.ON_TIME_RANGE_CHANGED)
        .sort(dashboard.VariableSort.ALPHABETICAL_ASC)
        for name, label, query in (
            ("job", "Job", "label_values(ipvsd_build_info, job)"),
            ("instance", "Node", 'label_values(ipvsd_build_info{job=~"$job"}, instance)'),
        )
    )
    made = (
        builders.Dashboard("ipvsd")
        .uid("ipvsd-fleet")
        .description("IPVS readiness of the nodes: the fleet, then one node.")
        .tags(["ipvsd", "ipvs", "kube-proxy"])
        .refresh("1m")
        .time("now-6h", "now")
        .timezone("browser")
        .with_variable(builders.DatasourceVariable("datasource").label("Data source").type("prometheus"))
        .with_variable(jobs.include_all(True).multi(True))
        .with_variable(nodes)
    )
    for title, panels in (("Fleet", fleet()), ("Node $instance", node())):
        made = made.with_row(builders.Row(title))
        for panel in panels:
            made = made.with_panel(panel)
    found = made.build()
    for identity, panel in enumerate(found.panels or (), 1):
        panel.id_val = identity
    return json.loads(json.dumps(found, cls=JSONEncoder))


def main() -> int:
    plugins.register_default_plugins()
    values = build()
    again = json.loads(json.dumps(dashboard.Dashboard.from_json(values), cls=JSONEncoder))
    if again != values:
        sys.exit("the dashboard does not match its schema")
    text = json.dumps(values, indent=2, sort_keys=True) + "\n"
    if "--check" in sys.argv[1:]:
        return int(TARGET.read_text() != text)
    TARGET.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
