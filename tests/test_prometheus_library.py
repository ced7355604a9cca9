"""prometheus-client is imported without its servers and clients, and works."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.service import REPOSITORY
from tests.trees import put

UNUSED = "http.server socketserver urllib.error urllib.request wsgiref wsgiref.simple_server email.message html".split()
METRIC = """
from ipvsd.reporting.prometheus_library import CollectorRegistry, GaugeMetricFamily, generate_latest

class Collector:
    def collect(self):
        return [GaugeMetricFamily("a", "text", 1)]

registry = CollectorRegistry()
registry.register(Collector())
assert b"a 1.0" in generate_latest(registry)
"""


def run(code: str, *places: Path) -> list[str]:
    """Return the words that a new Python prints, which looks for libraries in these places first."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(map(str, (*places, REPOSITORY)))}
    done = subprocess.run([sys.executable, "-c", code], env=environment, capture_output=True, text=True, check=True)
    return done.stdout.split()


def test_the_library_works_without_modules_that_ipvsd_does_not_use() -> None:
    assert run(f"{METRIC}\nimport sys\nprint(*(name for name in {UNUSED} if name in sys.modules))") == []


def test_other_code_can_use_these_modules_afterwards() -> None:
    code = f"{METRIC}\nimport importlib\nprint(*(importlib.import_module(name).__file__ for name in {UNUSED}))"
    assert len(run(code)) == len(UNUSED)


def test_modules_that_were_imported_before_stay() -> None:
    code = f"import sys, http.server as first\n{METRIC}\nprint(sys.modules['http.server'] is first)"
    assert run(code) == ["True"]


def test_a_library_that_needs_one_of_the_modules_gets_it(tmp_path: Path) -> None:
    """A later version could call a function while it is imported."""
    names = "CollectorRegistry, ProcessCollector, generate_latest, CounterMetricFamily, GaugeMetricFamily"
    put(tmp_path, "prometheus_client/__init__.py", f"from .core import *\nfrom .core import {names}\n")
    put(tmp_path, "prometheus_client/handler.py", "from http.server import BaseHTTPRequestHandler\n")
    uses = "from .handler import BaseHTTPRequestHandler\nfrom http.server import HTTPStatus\nHTTPStatus.OK\n"
    text = f"{uses}class Metric: pass\n{names}, HistogramMetricFamily = (Metric,) * 6\n"
    put(tmp_path, "prometheus_client/core.py", text)
    put(tmp_path, "prometheus_client/metrics_core.py", "from .core import Metric\n")
    put(tmp_path, "prometheus_client/exposition.py", "")
    code = """
import ipvsd.reporting.prometheus_library, http.server, prometheus_client.handler
print(prometheus_client.handler.BaseHTTPRequestHandler is http.server.BaseHTTPRequestHandler)
"""
    assert run(code, tmp_path) == ["True"]
