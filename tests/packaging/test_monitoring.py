"""Prometheus accepts the metrics and the alerts, and each alert fires when it should and only then."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from ipvsd.reporting import metrics
from tests import alert_cases, monitoring, samples
from tests.packaging.built import PROJECT
from tests.packaging.locked import LOCK
from tests.packaging.prometheus import Prometheus, promtool, scraping


def test_the_metrics_obey_the_conventions() -> None:
    assert promtool("check", "metrics", given=metrics.exposition(lambda: samples.COMPLETE)().decode()) == (0, "")


@pytest.mark.parametrize("rules", [monitoring.RULES, monitoring.TEXTFILE_RULES], ids=lambda path: path.stem)
def test_the_rules_are_valid(rules: Path) -> None:
    code, out = promtool("check", "rules", "--lint=all", "--lint-fatal", str(rules))
    assert (code, f"{len(monitoring.alerts(rules))} rules found" in out) == (0, True), out


@pytest.mark.parametrize(
    ("rules", "cases"),
    [(monitoring.RULES, alert_cases.of_every_alert()), (monitoring.TEXTFILE_RULES, alert_cases.TEXTFILE)],
    ids=["ipvsd", "textfile"],
)
def test_each_alert_fires_when_it_should_and_only_then(
    rules: Path, cases: Sequence[tuple[str, alert_cases.Case]], tmp_path: Path
) -> None:
    given = tmp_path / "cases.json"  # JSON is valid YAML
    given.write_text(json.dumps(alert_cases.promtool(str(rules), monitoring.alerts(rules), cases)))
    code, out = promtool("test", "rules", str(given))
    assert code == 0, out[:4000]


# --- the dashboard ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def prometheus(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Prometheus]:
    """A Prometheus that has scraped a compliant and a broken node several times."""
    pages = [metrics.exposition(lambda: samples.COMPLETE), metrics.exposition(lambda: samples.BROKEN)]
    with scraping(tmp_path_factory.mktemp("prometheus"), monitoring.RULES, pages) as started:
        yield started


def test_prometheus_returns_a_result_for_every_query_of_the_dashboard(prometheus: Prometheus) -> None:
    empty = []
    for query in monitoring.queries():
        found = [prometheus.query(query.expr, instance) for instance in prometheus.instances]
        if not any(found):
            empty.append(query)
    assert empty == []


def test_the_variables_of_the_dashboard_select_the_job_and_the_nodes(prometheus: Prometheus) -> None:
    found = {one.name: prometheus.label_values(one.selector, one.label) for one in monitoring.variables()}
    assert found == {"job": ["ipvsd"], "instance": sorted(prometheus.instances)}


def test_prometheus_evaluates_every_alert(prometheus: Prometheus) -> None:
    rules = prometheus.rules()
    assert {rule["name"] for rule in rules} == set(monitoring.alerts())
    assert [rule for rule in rules if rule.get("lastError")] == []


@pytest.mark.skipif(sys.version_info < (3, 11), reason="Grafana's SDK needs Python 3.11")
def test_the_dashboard_is_what_the_sdk_builds_and_matches_its_schema(tmp_path: Path) -> None:
    command = [
        sys.executable, "-m", "pip", "-q", "--disable-pip-version-check", "install", "--retries", "5", "--no-deps",
        "--require-hashes", "--only-binary", ":all:", "--target", str(tmp_path), "-r", str(LOCK / "dashboard.txt"),
    ]  # fmt: skip
    subprocess.run(command, check=True)
    command = [sys.executable, str(PROJECT / "packaging/dashboard.py"), "--check"]
    done = subprocess.run(command, env={"PYTHONPATH": str(tmp_path)}, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", ""), "run 'make dashboard'"
