"""promtool, and a Prometheus that scrapes pages of the tests and evaluates rules."""

from __future__ import annotations

import http.client
import json
import subprocess
import threading
import time
import urllib.parse
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

from tests.packaging.exporters import program, running_prometheus


def promtool(*arguments: str, given: str = "") -> tuple[int, str]:
    """Run promtool, and return its exit code and its output."""
    command = [program("prometheus", "promtool"), *arguments]
    done = subprocess.run(command, input=given, capture_output=True, text=True, check=False)
    return done.returncode, done.stdout + done.stderr


class Prometheus:
    """A running Prometheus, and the targets that it scrapes."""

    def __init__(self, port: int, instances: Sequence[str]) -> None:
        self._port, self.instances = port, instances

    def get(self, path: str) -> Any:
        """Return the data of an answer. Raises OSError."""
        connection = http.client.HTTPConnection("127.0.0.1", self._port, timeout=10)
        try:
            connection.request("GET", path)
            answer = connection.getresponse()
            body = answer.read()
        finally:
            connection.close()
        assert answer.status == 200, body
        return json.loads(body)["data"]

    def query(self, expr: str, instance: str = "") -> Sequence[Any]:
        """Return the series of a query of the dashboard, for a node of the job ipvsd."""
        parameters = urllib.parse.urlencode({"query": _interpolated(expr, instance)})
        found: Sequence[Any] = self.get(f"/api/v1/query?{parameters}")["result"]
        return found

    def label_values(self, selector: str, label: str) -> Sequence[str]:
        """Return the values of a variable of the dashboard, as Grafana requests them for `label_values`."""
        parameters = urllib.parse.urlencode({"match[]": _interpolated(selector)})
        found: Sequence[str] = self.get(f"/api/v1/label/{label}/values?{parameters}")
        return found

    def rules(self) -> Sequence[Any]:
        """Return the alerts, after each was evaluated at least once."""
        while True:
            found = [rule for group in self.get("/api/v1/rules")["groups"] for rule in group["rules"]]
            if found and all(rule["health"] != "unknown" for rule in found):
                return found
            time.sleep(0.1)


def _interpolated(expr: str, instance: str = "") -> str:
    """Return an expression with the values of the dashboard's variables."""
    for name, value in (("$instance", instance), ("$job", "ipvsd"), ("$__rate_interval", "1m")):
        expr = expr.replace(name, value)
    return expr


@contextmanager
def _serving(page: Callable[[], bytes]) -> Iterator[str]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = page()
            self.send_response(200)
            self.send_header("Content-Type", "text/plain; version=0.0.4; charset=utf-8")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.05})
        thread.start()
        try:
            yield f"127.0.0.1:{server.server_address[1]}"
        finally:
            server.shutdown()
            thread.join()


@contextmanager
def scraping(place: Path, rules: Path, pages: Sequence[Callable[[], bytes]]) -> Iterator[Prometheus]:
    """Run Prometheus with these rules, and yield it when it has scraped each page at least three times."""
    with ExitStack() as stack:
        targets = [stack.enter_context(_serving(page)) for page in pages]
        config = {
            "global": {"scrape_interval": "1s", "evaluation_interval": "1s"},
            "rule_files": [str(rules)],
            "scrape_configs": [{"job_name": "ipvsd", "static_configs": [{"targets": targets}]}],
        }
        made = Prometheus(stack.enter_context(running_prometheus(place, json.dumps(config))), targets)
        deadline = time.monotonic() + 60
        while not _scraped(made):
            assert time.monotonic() < deadline, (place / "program.log").read_text()
            time.sleep(0.1)
        yield made


def _scraped(made: Prometheus) -> bool:
    try:
        counts = made.query("count_over_time(up[1m])")
    except (OSError, AssertionError):
        return False
    return len(counts) == len(made.instances) and all(int(item["value"][1]) >= 3 for item in counts)
