"""A failure of ipvsd's own operation appears once in the log, in the status and in the metrics, and its end once."""

from __future__ import annotations

import json
import signal
import socket
import urllib.request
from pathlib import Path
from typing import Any

import pytest

from ipvsd.model.report import Operation
from ipvsd.reporting.metrics import exposition
from ipvsd.reporting.operation_failures import OperationFailures
from tests.asking import said
from tests.samples import report
from tests.service import MAIN, STATUS, Service, Until
from tests.trees import put

pytestmark = pytest.mark.system

Log = pytest.CaptureFixture[str]


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_a_failure_is_logged_when_it_begins_changes_and_ends(operation: Operation, capsys: Log) -> None:
    failures = OperationFailures()
    failures.record(operation)
    assert said(capsys) == []
    for error in ("disk full", "disk full", "no such disk", "no such disk", "", ""):
        failures.record(operation, error)
        assert failures.current == ({operation.value: error} if error else {})
    begun, other, over = said(capsys)
    assert begun.startswith("warning: cannot ")
    assert begun.endswith(": disk full (ipvsd retries)")
    assert other.endswith(": no such disk (ipvsd retries)")
    assert over.startswith("ipvsd can ")


def test_a_failed_attempt_names_the_file() -> None:
    failures = OperationFailures()
    failures.attempt(Operation.WRITE_STATUS, lambda: Path("/nowhere/status.json").read_text())
    assert failures.current == {"write_status": "/nowhere/status.json: No such file or directory"}
    failures.attempt(Operation.WRITE_STATUS, lambda: None)
    assert failures.current == {}


@pytest.mark.parametrize("operation", Operation, ids=lambda operation: operation.value)
def test_the_metrics_have_every_operation(operation: Operation) -> None:
    made = report()._replace(failures={operation.value: "no"})
    text = exposition(lambda: made)().decode()
    for other in Operation:
        assert f'ipvsd_operation_failed{{operation="{other.value}"}} {float(other is operation)}\n' in text


def failures(service: Service) -> Any:
    return {item["operation"]: item["error"] for item in service.seen().get("failures", ())}


def test_a_port_in_use_is_logged_once_and_opened_when_it_is_free(service: Service, until: Until) -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        place = f"127.0.0.1:{taken.getsockname()[1]}"
        put(service.tree, MAIN, f'web: {{listen: ["{place}"]}}\n')
        service.ready()
        until(lambda: "listen" in failures(service), "the status tells of it")
        assert failures(service) == {"listen": f"{place}: Address already in use"}
        assert service.status()["state"] == "ready"

    def status() -> Any:
        try:
            with urllib.request.urlopen(f"http://{place}/status", timeout=10) as answer:
                return json.load(answer)
        except OSError:
            return None

    until(status, "it is open")
    until(lambda: not failures(service), "the complaint ended")
    assert status()["failures"] == []
    log = [line for line in service.stop()[1] if "listen" in line]
    assert log == [
        f"ipvsd: warning: cannot listen on the addresses in 'web.listen': {place}: Address already in use "
        "(ipvsd retries)",
        "ipvsd: ipvsd can listen on the addresses in 'web.listen' again",
    ]


def test_a_last_good_configuration_that_cannot_be_stored_is_reported_and_stored_later(
    service: Service, until: Until
) -> None:
    (service.tree / "var/lib/ipvsd").rmdir()
    service.ready()
    until(lambda: "store_configuration" in failures(service), "the status tells of it")
    (service.tree / "var/lib/ipvsd").mkdir()
    put(service.tree, MAIN, "web: {listen: []}\ninterval: 50s\n")
    until((service.tree / "var/lib/ipvsd/last-good.json").exists, "it is kept")
    until(lambda: not failures(service), "the complaint ended")
    assert len([line for line in service.stop()[1] if "last good" in line]) == 2


def test_a_status_that_cannot_be_written_is_reported_once(service: Service, until: Until) -> None:
    service.ready()
    until((service.tree / STATUS).exists, "the status is published")
    run = service.tree / "run/ipvsd"
    run.rename(service.tree / "run/away")
    for _ in range(2):
        service.process.send_signal(signal.SIGHUP)
        service.hears("READY=1")
    until(lambda: "write the status" in (service.tree / "log").read_text(), "the log tells of it")
    run.mkdir()
    service.process.send_signal(signal.SIGHUP)
    until((service.tree / STATUS).exists, "the status is published")
    assert failures(service) == {}
    log = [line for line in service.stop()[1] if "write the status" in line]
    assert [line.split(" write")[0] for line in log] == ["ipvsd: warning: cannot", "ipvsd: ipvsd can"]
