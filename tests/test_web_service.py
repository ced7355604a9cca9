"""The daemon with a textfile for node_exporter, and with a socket from systemd."""

from __future__ import annotations

import os
import signal
import urllib.request
from pathlib import Path

import pytest

from tests.service import MAIN, QUIET, Service, Until, free_port
from tests.trees import put

pytestmark = pytest.mark.system


def read(path: Path) -> str:
    return path.read_text() if path.exists() else ""


def test_the_metrics_are_in_the_textfile_while_the_daemon_runs(service: Service, until: Until) -> None:
    directory = service.tree / "var/lib/node"
    directory.mkdir(parents=True)
    put(service.tree, MAIN, "web: {listen: [], textfile: /var/lib/node/ipvsd.prom}\n")
    service.ready()
    file = directory / "ipvsd.prom"
    until(lambda: '\nipvsd_state{state="ready"} 1.0\n' in read(file), "it is written")
    assert (file.stat().st_mode & 0o777, os.listdir(directory)) == (0o644, ["ipvsd.prom"])
    assert "process_" not in read(file)  # node_exporter has metrics with these names
    service.stop()
    assert os.listdir(directory) == []


def test_a_textfile_that_cannot_be_written_is_reported_and_another_one_is_not(service: Service, until: Until) -> None:
    put(service.tree, MAIN, "web: {listen: [], textfile: /none/ipvsd.prom}\n")
    service.ready()
    until(lambda: service.seen().get("sources"), "the status is published")
    service.process.send_signal(signal.SIGHUP)
    until(lambda: service.seen()["failures"], "it is reported")
    (failure,) = service.seen()["failures"]
    assert failure["operation"] == "write_textfile"
    assert failure["error"].endswith("/none: No such file or directory")
    put(service.tree, MAIN, QUIET)
    service.process.send_signal(signal.SIGHUP)
    until(lambda: not service.seen()["failures"], "it is over")


def test_a_socket_from_systemd_replaces_the_addresses(service: Service, until: Until) -> None:
    port, other = free_port(), free_port()
    put(service.tree, MAIN, f'web: {{listen: ["127.0.0.1:{other}"]}}\n')
    activate = f"""
import os, socket, sys
passed = socket.create_server(("127.0.0.1", {port}))
os.dup2(passed.fileno(), 3, inheritable=True)
os.set_inheritable(3, True)
os.environ.update(LISTEN_FDS="1", LISTEN_PID=str(os.getpid()))
os.execv(sys.executable, [sys.executable, "-m", "ipvsd", "run", "--root", {str(service.tree)!r}])
"""
    service.start(program=("-c", activate))
    service.hears("READY=1\n")
    until(lambda: (service.source("web") or {"up": False})["up"], "it serves")
    assert service.source("web")["detail"] == f"127.0.0.1:{port} from systemd"
    for _ in range(2):  # also after the configuration requests other addresses
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=10) as answer:
            assert answer.status == 200
        put(service.tree, MAIN, f'web: {{listen: ["127.0.0.1:{free_port()}"]}}\n')
        service.process.send_signal(signal.SIGHUP)
        service.hears("READY=1")
    with pytest.raises(OSError, match="refused"):
        urllib.request.urlopen(f"http://127.0.0.1:{other}/healthz", timeout=10)
