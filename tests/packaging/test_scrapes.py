"""The examples in docs/web.md, with Debian's Prometheus and node_exporter."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests import certificates
from tests.packaging.exporters import fetch, node_exporter, program, prometheus
from tests.service import Service, Until, free_port
from tests.trees import make_tree, put
from tests.web_page import examples


class Node:
    """A daemon and its port. The certificates are those that the page names, in the tree and in `pki`."""

    def __init__(self, service: Service, place: Path) -> None:
        self.service, self.place, self.port = service, place, free_port()
        self.pki = place / "pki"
        self.pki.mkdir()
        for name in ("ca", "clients"):
            certificates.create_authority(self.pki, name)
        certificates.create(self.pki, "node")
        certificates.create(self.pki, "prometheus", "clients")
        (place / "ipvsd.password").write_text("test")
        target = service.tree / "etc/ipvsd/pki"
        target.mkdir(parents=True)
        for name in ("node.crt", "node.key", "clients.crt"):
            (target / name).write_bytes((self.pki / name).read_bytes())

    def serve(self, until: Until, configuration: str, *web: str) -> None:
        put(self.service.tree, "etc/ipvsd/conf.d/web.yaml", configuration.replace(":14787", f":{self.port}"))
        for text in web:
            put(self.service.tree, "etc/ipvsd/web.yml", text)
        self.service.ready()
        until(lambda: (self.service.source("web") or {"up": False})["up"], "it serves")

    def job(self, text: str) -> str:
        """Return an example for Prometheus, with this node and the files of the test."""
        text = re.sub(r"targets: .*", f'targets: ["127.0.0.1:{self.port}"]', text)
        return text.replace("/etc/prometheus", str(self.place))


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    service = Service(make_tree(tmp_path / "tree"))
    yield Node(service, tmp_path)
    service.close()


LISTEN = examples("A scrape with TLS", "web:")


@pytest.mark.parametrize("section", ["A scrape without TLS", "A scrape with TLS", "Client certificates", "Passwords"])
def test_prometheus_scrapes_as_the_page_says(node: Node, until: Until, section: str, tmp_path: Path) -> None:
    (job,) = examples(section, "scrape_configs")
    (listen,) = examples(section, "web:") or LISTEN
    node.serve(until, listen, *examples(section, "tls_server_config"))
    with prometheus(tmp_path, node.job(job)) as server:
        assert server.query('up{job="ipvsd"}') == 1
        assert server.query('ipvsd_state{state="ready"}') == 1
        # The second scrape uses the connection of the first one.
        assert server.query('count_over_time(up{job="ipvsd"}[1m]) > 2') > 2
    if section == "Client certificates":
        other = tmp_path / "other"
        other.mkdir()
        with prometheus(other, node.job(examples("A scrape with TLS", "scrape_configs")[0])) as server:
            assert server.query('up{job="ipvsd"}') == 0  # without a client certificate


def test_node_exporter_serves_the_textfile(node: Node, until: Until, tmp_path: Path) -> None:
    (configuration,) = examples("The textfile collector", "web:")
    directory = node.service.tree / "var/lib/prometheus/node-exporter"
    directory.mkdir(parents=True)
    node.serve(until, configuration)
    until((directory / "ipvsd.prom").exists, "the file is written")
    with node_exporter(tmp_path, directory) as url:
        text = fetch(url)
    assert '\nipvsd_state{state="ready"} 1\n' in text
    assert "\nnode_textfile_scrape_error 0\n" in text
    assert re.search(r'^node_textfile_mtime_seconds\{file=".*/ipvsd.prom"\} ', text, re.MULTILINE)


@pytest.mark.parametrize("section", ["A scrape without TLS", "A scrape with TLS", "Client certificates", "Passwords"])
def test_promtool_accepts_the_configuration(node: Node, section: str, tmp_path: Path) -> None:
    (tmp_path / "prometheus.yml").write_text(node.job(examples(section, "scrape_configs")[0]))
    command = [program("prometheus", "promtool"), "check", "config", str(tmp_path / "prometheus.yml")]
    assert subprocess.run(command, capture_output=True, check=False).returncode == 0
