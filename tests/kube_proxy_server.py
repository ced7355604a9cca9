"""A server on loopback with the answers of kube-proxy, and kube-proxy's processes in trees."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

from tests.trees import put, put_process

PID = 4711
UNIT = "system.slice/kube-proxy.service"
METRICS = 'kubernetes_build_info{{build_date="x",git_version="{}",major="1"}} 1\n'
HEALTHY = (200, b'{"lastUpdated": "2026-11-27 00:00:00","currentTime": "2026-11-27 00:00:01", "nodeEligible": true}')

Answers = Mapping[str, tuple[int, bytes]]


def answers(mode: str = "ipvs", requested: str = "ipvs", scheduler: str = "", version: str = "v1.30.5") -> Answers:
    """Return the answers of a healthy kube-proxy."""
    # The internal type of its configuration has no names for JSON, so its keys are those of Go.
    settings = {"Mode": requested, "IPVS": {"Scheduler": scheduler, "StrictARP": False}}
    return {
        "/proxyMode": (200, mode.encode()),
        "/configz": (200, json.dumps({"kubeproxy.config.k8s.io": settings}).encode()),
        "/metrics": (200, b"x 1\n" * 1000 + METRICS.format(version).encode()),
        "/healthz": HEALTHY,
    }


@contextmanager
def serving(given: Answers) -> Iterator[int]:
    """Serve answers on a free port of 127.0.0.1, and yield the port."""

    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            status, body = given.get(self.path, (404, b"404 page not found\n"))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(body)

        def log_message(self, *arguments: object) -> None:
            pass

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield server.server_address[1]
        finally:
            server.shutdown()
            thread.join()


def put_kube_proxy(root: Path, port: int = 1, config: str = "mode: ipvs\n", age: int = 3600) -> None:
    """Create a kube-proxy of a unit, with a configuration file, in a tree. It listens on the port."""
    put_process(root, PID, "kube-proxy", ["/usr/bin/kube-proxy", "--config=/etc/kube-proxy.yaml"], UNIT, age)
    text = f"{config}metricsBindAddress: 127.0.0.1:{port}\nhealthzBindAddress: 127.0.0.1:{port}\n"
    put(root, f"proc/{PID}/root/etc/kube-proxy.yaml", text)


def put_table(root: Path, services: int) -> None:
    """Create the table of virtual services."""
    header = "IP Virtual Server version 1.2.1 (size=4096)\nProt LocalAddress:Port Scheduler Flags\n"
    header += "  -> RemoteAddress:Port Forward Weight ActiveConn InActConn\n"
    lines = [f"TCP  0A60000A:{number:04X} rr \n  -> 0A000001:1F90 Masq 1 0 0\n" for number in range(services)]
    put(root, "proc/net/ip_vs", header + "".join(lines))
