"""Debian's Prometheus and node_exporter, unpacked once into the cache of the bench and run as this user."""

from __future__ import annotations

import json
import subprocess
import time
import urllib.parse
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from tests.service import free_port
from tests.vm import cache, packages

SUITE = "bookworm"


def program(package: str, name: str) -> str:
    """Return the path of a program of a package."""

    def fill(target: Path, work: Path) -> None:
        packages.unpack(package, SUITE, target, work, also=package)

    return str(cache.kept(package, (SUITE, Path(packages.__file__)), fill) / "usr/bin" / name)


@contextmanager
def _running(place: Path, *command: str) -> Iterator[None]:
    with (place / "program.log").open("w") as log:
        process = subprocess.Popen(command, cwd=place, stdout=log, stderr=log)
    try:
        yield
        assert process.poll() is None, (place / "program.log").read_text()
    finally:
        process.terminate()
        process.wait()


def fetch(url: str) -> str:
    """Return the body of a response as soon as there is one."""
    deadline = time.monotonic() + 60
    while True:
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                return str(answer.read().decode())
        except OSError:
            assert time.monotonic() < deadline
            time.sleep(0.1)


class Prometheus:
    def __init__(self, port: int) -> None:
        self._url = f"http://127.0.0.1:{port}/api/v1"

    def query(self, expression: str) -> Any:
        """Return the value of a query as soon as it has one."""
        deadline = time.monotonic() + 60
        while True:
            found = json.loads(fetch(f"{self._url}/query?{urllib.parse.urlencode({'query': expression})}"))
            if found["data"]["result"]:
                return float(found["data"]["result"][0]["value"][1])
            assert time.monotonic() < deadline, json.loads(fetch(f"{self._url}/targets"))
            time.sleep(0.1)


@contextmanager
def prometheus(place: Path, configuration: str) -> Iterator[Prometheus]:
    """Run Prometheus with a configuration."""
    with running_prometheus(place, f"global: {{scrape_interval: 1s}}\n{configuration}") as port:
        yield Prometheus(port)


@contextmanager
def running_prometheus(place: Path, configuration: str) -> Iterator[int]:
    """Run Prometheus with a complete configuration, and yield its port. Its log is `program.log`."""
    port = free_port()
    (place / "prometheus.yml").write_text(configuration)
    options = (f"--config.file={place}/prometheus.yml", f"--storage.tsdb.path={place}/data", "--log.level=error")
    with _running(place, program("prometheus", "prometheus"), *options, f"--web.listen-address=127.0.0.1:{port}"):
        yield port


@contextmanager
def node_exporter(place: Path, directory: Path) -> Iterator[str]:
    """Run node_exporter with a directory of textfiles, and yield the URL of its metrics."""
    port = free_port()
    options = ("--collector.disable-defaults", "--collector.textfile", f"--collector.textfile.directory={directory}")
    name = "prometheus-node-exporter"
    with _running(place, program(name, name), *options, f"--web.listen-address=127.0.0.1:{port}"):
        yield f"http://127.0.0.1:{port}/metrics"
