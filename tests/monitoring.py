"""The alerts and the dashboard in packaging/monitoring, and the names of metrics in their queries."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import yaml

from ipvsd.reporting import metrics
from tests import samples

ROOT = Path(__file__).parents[1]
MONITORING = ROOT / "packaging/monitoring"
RULES = MONITORING / "ipvsd.rules.yaml"
TEXTFILE_RULES = MONITORING / "ipvsd-textfile.rules.yaml"
PROMETHEUS_RULE = MONITORING / "ipvsd.prometheusrule.yaml"
DASHBOARD = MONITORING / "ipvsd.dashboard.json"
RUNBOOKS = ROOT / "docs/runbooks"
_HEADER = """\
# The alerts of ipvsd.rules.yaml for the Prometheus Operator. 'make tables' writes this file.
apiVersion: monitoring.coreos.com/v1
kind: PrometheusRule
metadata:
  name: ipvsd
  labels:
    app.kubernetes.io/name: ipvsd
spec:
"""


def alerts(rules: Path = RULES) -> Mapping[str, Mapping[str, Any]]:
    """Return each alert of a file by its name."""
    groups = yaml.safe_load(rules.read_text())["groups"]
    return {rule["alert"]: rule for group in groups for rule in group["rules"]}


def prometheus_rule() -> str:
    """Return the alerts as a PrometheusRule."""
    lines = (line for line in RULES.read_text().splitlines() if not line.startswith("#"))
    return _HEADER + "".join(f"  {line}\n" if line else "\n" for line in lines)


def alert_table() -> str:
    """Return the alerts as a table in Markdown."""
    rows = ["| alert | severity | after | meaning |", "|---|---|---|---|"]
    for name, rule in alerts().items():
        text = re.sub(r" on \{\{ \$labels\.instance \}\}", "", rule["annotations"]["summary"])
        text = re.sub(r"(?:\{\{ \$labels\.\w+ \}\})+", _placeholders, text)
        rows.append(f"| [{name}](runbooks/{name}.md) | {rule['labels']['severity']} | {rule['for']} | {text} |")
    return "\n".join(rows)


def _placeholders(labels: re.Match[str]) -> str:
    return " or ".join(re.findall(r"\.(\w+)", labels[0])).upper().replace(" OR ", " or ")


class Query(NamedTuple):
    """A query of the dashboard, in the panel of this title, in the row of this title."""

    row: str
    panel: str
    expr: str


def queries() -> Iterator[Query]:
    """Yield each query of the dashboard."""
    row = ""
    for panel in json.loads(DASHBOARD.read_text())["panels"]:
        if panel["type"] == "row":
            row = panel["title"]
        for target in panel.get("targets", ()):
            yield Query(row, panel["title"], target["expr"])


class Variable(NamedTuple):
    """A variable of the dashboard. Its values are those of a label of the series that the selector matches."""

    name: str
    selector: str
    label: str


def variables() -> Iterator[Variable]:
    """Yield each variable of the dashboard that is a query."""
    for variable in json.loads(DASHBOARD.read_text())["templating"]["list"]:
        if variable["type"] == "query":
            found = re.fullmatch(r"label_values\((.+), (\w+)\)", variable["query"])
            assert found, variable["query"]
            yield Variable(variable["name"], found[1], found[2])


def declared() -> Mapping[str, set[str]]:
    """Return the labels of each series that ipvsd can expose, by its name in queries."""
    found: dict[str, set[str]] = {}
    for group in metrics.GROUPS.values():
        for family in group(samples.COMPLETE):
            for sample in family.samples:
                found.setdefault(sample.name, set()).update(sample.labels)
    return found


def used(query: str) -> Iterator[tuple[str, set[str]]]:
    """Yield each metric of ipvsd in a query, with the labels that its selector names."""
    for found in re.finditer(r"\b(ipvsd_\w+)(?:\{([^}]*)\})?", query):
        yield found[1], set(re.findall(r'(\w+) ?(?:=~|!~|!=|=) ?"', found[2] or ""))
