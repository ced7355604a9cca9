"""Prometheus accepts the metrics and the alerts, and each alert fires when it should and only then."""

from __future__ import annotations

import json
from pathlib import Path

from ipvsd.reporting import metrics
from tests import alert_cases, monitoring, samples
from tests.packaging.prometheus import promtool


def test_the_metrics_obey_the_conventions() -> None:
    assert promtool("check", "metrics", given=metrics.exposition(lambda: samples.COMPLETE)().decode()) == (0, "")


def test_the_rules_are_valid() -> None:
    code, out = promtool("check", "rules", "--lint=all", "--lint-fatal", str(monitoring.RULES))
    assert (code, f"{len(monitoring.alerts())} rules found" in out) == (0, True), out


def test_each_alert_fires_when_it_should_and_only_then(tmp_path: Path) -> None:
    cases = tmp_path / "cases.json"  # JSON is valid YAML
    cases.write_text(json.dumps(alert_cases.promtool(str(monitoring.RULES), monitoring.alerts())))
    code, out = promtool("test", "rules", str(cases))
    assert code == 0, out[:4000]
