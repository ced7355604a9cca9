"""The alerts, their runbooks and the dashboard fit the metrics. tests/packaging/test_monitoring.py runs the queries."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests import alert_cases, monitoring, prose

NAMES = """
    IpvsdDown IpvsdStalled IpvsdNodeFailed IpvsdNodeDegraded IpvsdModuleMissing IpvsdRequiredSysctlWrong
    IpvsdDriftStorm IpvsdContended IpvsdRepairFailing IpvsdConfigRefused IpvsdOperationFailed IpvsdTableLost
    IpvsdNextBootBreaksIpvs IpvsdFleetConfigSkew IpvsdEventsLost IpvsdKubeProxyModeMismatch IpvsdCertificateExpiring
""".split()
ALERTS = monitoring.alerts()


def test_every_alert_exists_and_has_a_case_for_firing_not_firing_and_flapping() -> None:
    assert list(ALERTS) == NAMES
    assert set(alert_cases.CASES) == set(ALERTS)
    assert [name for name, cases in alert_cases.CASES.items() if not cases.firing.fires or cases.quiet.fires] == []
    # Only a repeated loss of the table must not end the alert in between.
    assert [name for name, cases in alert_cases.CASES.items() if cases.flapping.fires] == ["IpvsdTableLost"]


@pytest.mark.parametrize(("name", "alert"), [*ALERTS.items(), *monitoring.alerts(monitoring.TEXTFILE_RULES).items()])
def test_an_alert_is_complete(name: str, alert: Mapping[str, Any]) -> None:
    assert re.fullmatch("[0-9]+[mh]", alert["for"])
    assert alert["labels"]["severity"] in ("critical", "warning", "info")
    annotations = alert["annotations"]
    words = {word: term for term, rejected in prose.glossary().items() for word in rejected}
    assert annotations["runbook"] == f"/usr/share/doc/ipvsd/docs/runbooks/{name}.md"
    for text in (annotations["summary"], annotations["description"]):
        assert text.endswith(".")
        assert list(prose.findings(Path("x.md"), text, words)) == []


@pytest.mark.parametrize("name", NAMES)
def test_a_runbook_starts_with_the_command_to_run(name: str) -> None:
    text = (monitoring.RUNBOOKS / f"{name}.md").read_text()
    assert re.match(rf"# {name}\n\n```sh\n\S.*\n```\n\n", text)


def test_there_is_a_runbook_for_each_alert_and_no_other() -> None:
    assert sorted(path.stem for path in monitoring.RUNBOOKS.iterdir()) == sorted(NAMES)


@pytest.mark.parametrize("name", NAMES)
def test_an_alert_uses_only_metrics_and_labels_that_exist(name: str) -> None:
    declared = monitoring.declared()
    used = list(monitoring.used(ALERTS[name]["expr"]))
    assert [metric for metric, labels in used if not labels <= declared.get(metric, {"is missing"})] == []
    assert used or name == "IpvsdDown"
    known = {"instance", "job"}.union(*(declared[metric] for metric, _ in used))
    texts = " ".join(ALERTS[name]["annotations"].values())
    assert set(re.findall(r"\$labels\.(\w+)", texts)) <= known


def test_a_prometheus_rule_contains_the_same_groups() -> None:
    document = yaml.safe_load(monitoring.PROMETHEUS_RULE.read_text())
    assert (document["apiVersion"], document["kind"]) == ("monitoring.coreos.com/v1", "PrometheusRule")
    assert document["spec"] == yaml.safe_load(monitoring.RULES.read_text())


# --- the dashboard ----------------------------------------------------------------------

QUERIES, VARIABLES = list(monitoring.queries()), list(monitoring.variables())


def test_the_dashboard_uses_only_metrics_and_labels_that_exist() -> None:
    declared = monitoring.declared()
    common = {"job", "instance"}
    texts = [*(query.expr for query in QUERIES), *(variable.selector for variable in VARIABLES)]
    wrong = [
        text
        for text in texts
        for metric, labels in monitoring.used(text)
        if not labels - common <= declared.get(metric, {"is missing"})
    ]
    assert wrong == []


def test_the_dashboard_shows_the_fleet_and_then_one_node() -> None:
    assert list(dict.fromkeys(query.row for query in QUERIES)) == ["Fleet", "Node $instance"]
    for query in QUERIES:
        selectors = re.findall(r"\w+\{([^}]*)\}", query.expr)
        assert selectors
        assert all(('instance="$instance"' in labels) is (query.row != "Fleet") for labels in selectors), query
        assert all('job=~"$job"' in labels for labels in selectors), query


def test_every_metric_is_in_an_alert_or_in_the_dashboard() -> None:
    texts = [*(alert["expr"] for alert in ALERTS.values()), *(query.expr for query in QUERIES)]
    used = {re.sub(r"_(bucket|sum|count)$", "", metric) for text in texts for metric, _ in monitoring.used(text)}
    shown = {re.sub(r"_(bucket|sum|count)$", "", metric) for metric in monitoring.declared()}
    assert shown - used == set()


def test_the_dashboard_has_no_null() -> None:
    """Grafana's schema permits none, but the SDK reads and writes it."""
    assert not re.search(r"\bnull\b", monitoring.DASHBOARD.read_text())
