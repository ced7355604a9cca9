"""The endpoints, over a real socket on loopback."""

from __future__ import annotations

import contextlib
import gzip
import http.client
import json
import os
import re
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from statistics import median
from typing import Any, Optional

import pytest

from ipvsd.model.report import Report, State
from ipvsd.model.types import Finding
from ipvsd.reporting.http_endpoint import HttpEndpoint, Pages, is_local
from ipvsd.reporting.status_document import build_document
from ipvsd.runtime.http_request import Request
from tests.samples import default_profile, module, report
from tests.service import REPOSITORY, free_port


def fresh(*findings: Finding, **parts: Any) -> Report:
    """Return the report of a reconciliation that has just ended."""
    return report(*findings, **parts)._replace(boottime=time.clock_gettime(time.CLOCK_BOOTTIME))


class Site:
    def __init__(self) -> None:
        self.report: Optional[Report] = fresh(module())
        self.port = free_port()
        self.web = HttpEndpoint(lambda: self.report, [("127.0.0.1", self.port)])

    def ask(self, path: str, method: str = "GET", **headers: str) -> tuple[int, http.client.HTTPMessage, bytes]:
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=10)
        with contextlib.closing(connection):
            connection.request(method, path, headers=headers)
            answer = connection.getresponse()
            return answer.status, answer.headers, answer.read()

    def connect(self) -> socket.socket:
        return socket.create_connection(("127.0.0.1", self.port), timeout=10)


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    site.web.arm()
    yield site
    site.web.close()


def test_the_metrics(site: Site) -> None:
    status, headers, body = site.ask("/metrics")
    assert (status, headers["Content-Type"]) == (200, "text/plain; version=0.0.4; charset=utf-8")
    assert b'\nipvsd_state{state="ready"} 1.0\n' in body


def test_the_metrics_as_openmetrics(site: Site) -> None:
    accepted = "application/openmetrics-text;version=1.0.0;q=0.5,text/plain;version=0.0.4;q=0.4,*/*;q=0.1"
    _, headers, body = site.ask("/metrics", Accept=accepted)
    assert headers["Content-Type"].startswith("application/openmetrics-text; version=")
    assert body.endswith(b"\n# EOF\n")
    assert headers["Vary"] == "Accept, Accept-Encoding"
    assert site.ask("/metrics")[1]["Content-Type"].startswith("text/plain;")  # each form has its own page


@pytest.mark.parametrize("path", ["/metrics", "/status"])
@pytest.mark.parametrize(
    ("accepted", "packed"),
    [
        ("gzip", True),
        ("br, GZIP;q=0.5", True),
        ("*", True),
        ("br", False),
        ("gzip;q=0", False),
        ("gzip; q=0.000", False),
    ],
)
def test_a_page_is_compressed_for_a_client_that_accepts_it(site: Site, path: str, accepted: str, packed: bool) -> None:
    _, headers, body = site.ask(path, **{"Accept-Encoding": accepted})
    assert headers["Content-Encoding"] == ("gzip" if packed else None)
    assert (gzip.decompress(body) if packed else body)[-2:] in (b"}\n", b"0\n")
    assert int(headers["Content-Length"]) == len(body)


def test_a_scrape_takes_less_than_20_ms(site: Site) -> None:
    pages, times = Pages(lambda: site.report), []
    request = Request("GET", "/metrics", "localhost", {"accept-encoding": "gzip"})
    for _ in range(9):
        # A new report, so that no page is cached.
        site.report = default_profile("legacy")._replace(boottime=time.clock_gettime(time.CLOCK_BOOTTIME))
        begun = time.thread_time()
        body = pages.answer(request, "127.0.0.1").body
        times.append(time.thread_time() - begun)
        assert 250 < len(re.findall(rb"^ipvsd_", gzip.decompress(body), re.MULTILINE)) <= 300
    assert median(times) < 0.02


def test_a_scrape_reads_only_files_about_the_process_itself() -> None:
    code = """
import sys, tests.samples
from ipvsd.reporting.http_endpoint import Pages
from ipvsd.runtime.http_request import Request
pages, opened = Pages(lambda: tests.samples.COMPLETE), []
ask = lambda accept: pages.answer(Request("GET", "/metrics", "localhost", {"accept": accept}), "127.0.0.1")
for accept in ("", "application/openmetrics-text"):
    ask(accept)  # imports
sys.addaudithook(lambda name, arguments: opened.append(str(arguments[0])) if name in ("open", "os.listdir") else None)
pages._cache.clear()
print(ask("").status, *sorted(set(opened)), sep="\\n")
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=REPOSITORY, capture_output=True, text=True, check=True)
    code, *opened = done.stdout.split()
    assert code == "200"
    assert all(re.fullmatch("/proc/(self|[0-9]+)/(stat|limits|fd)", path) for path in opened)


def test_the_status(site: Site) -> None:
    status, headers, body = site.ask("/status")
    assert (status, headers["Content-Type"]) == (200, "application/json")
    assert site.report
    shown = json.loads(body)
    assert 0.0 <= shown["age"] < 60.0
    assert {**shown, "age": 0.0} == build_document(site.report)


def test_a_report_that_is_too_old_is_not_a_verdict(site: Site) -> None:
    assert site.report
    site.report = site.report._replace(boottime=site.report.boottime - 121.0)
    status, _, body = site.ask("/healthz")
    assert (status, body.startswith(b"failed: outdated result: the last reconciliation was 12")) == (503, True)
    assert b'\nipvsd_state{state="failed"} 1.0\n' in site.ask("/metrics")[2]
    assert json.loads(site.ask("/status")[2])["state"] == "failed"


@pytest.mark.parametrize(("state", "code"), [(State.READY, 200), (State.DEGRADED, 200), (State.FAILED, 503)])
def test_the_health_is_one_line(site: Site, state: State, code: int) -> None:
    site.ask("/healthz")  # the latest report is served
    site.report = fresh(state=state, line="the line")
    assert site.ask("/healthz?verbose=1")[::2] == (code, b"the line\n")


def test_before_the_first_reconciliation_the_node_is_not_healthy(site: Site) -> None:
    site.report = None
    assert site.ask("/healthz")[::2] == (503, b"no reconciliation yet\n")
    assert site.ask("/status")[0] >= 400


@pytest.mark.parametrize("path", ["/", "/metrics/", "/nothing", "/healthz/../status", "/%2e%2e/etc/passwd"])
def test_nothing_else_is_there(site: Site, path: str) -> None:
    assert site.ask(path)[::2] == (404, b"unknown path (known: /healthz, /metrics, /status)\n")


@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/status", "/nothing"])
def test_head_is_get_without_the_body(site: Site, path: str) -> None:
    status, headers, body = site.ask(path, "HEAD")
    assert (status, body) == (site.ask(path)[0], b"")
    assert int(headers["Content-Length"]) > 0


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "OPTIONS", "TRACE"])
def test_nothing_can_be_changed(site: Site, method: str) -> None:
    status, headers, _ = site.ask("/status", method)
    assert (status, headers["Allow"]) == (405, "GET, HEAD")


def test_the_server_does_not_reveal_its_python_version(site: Site) -> None:
    assert site.ask("/status")[1]["Server"].strip() == "ipvsd"


def test_a_page_is_made_once_for_many_who_ask_at_once() -> None:
    reports = [report(module())]
    pages = Pages(lambda: reports[-1])
    ask = Request("GET", "/metrics", "localhost", {})
    made = pages.answer(ask, "127.0.0.1")
    assert pages.answer(ask, "127.0.0.1") is made
    reports.append(report(module()))
    assert pages.answer(ask, "127.0.0.1") is not made


def test_a_client_that_disconnects_does_not_affect_others(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    client = site.connect()
    client.sendall(b"GET /metrics HTTP/1.0\r\n\r\n")
    client.close()
    assert site.ask("/healthz")[0] == 200
    assert capfd.readouterr() == ("", "")


def test_a_defect_of_a_handler_is_logged(site: Site, capfd: pytest.CaptureFixture[str]) -> None:
    site.report = "no report"  # type: ignore[assignment]
    assert [site.ask("/healthz")[0] for _ in range(2)] == [500, 500]
    assert capfd.readouterr().err.count("AttributeError") == 1


def test_a_served_address_is_up_until_it_is_closed(site: Site) -> None:
    before = threading.enumerate()
    site.web.arm()  # again, which changes nothing
    assert threading.enumerate() == before
    assert (site.web.state().up, site.web.state().detail) == (True, f"127.0.0.1:{site.port}")
    site.web.close()
    with socket.socket() as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        probe.bind(("127.0.0.1", site.port))


def test_a_taken_port_is_reported_and_tried_again() -> None:
    site = Site()
    with socket.create_server(("127.0.0.1", site.port)):
        site.web.arm()
        site.web.arm()
        assert site.web.listen_errors == f"127.0.0.1:{site.port}: Address already in use"
        failure = f"cannot listen on 127.0.0.1:{site.port}: Address already in use"
        assert (site.web.state().up, site.web.state().detail) == (False, failure)
    with contextlib.closing(site.web):
        site.web.arm()
        assert (site.web.listen_errors, site.web.state().up) == ("", True)
        assert site.ask("/healthz")[0] == 200


def test_one_address_of_two_suffices() -> None:
    site = Site()
    taken = free_port()
    with socket.create_server(("127.0.0.1", taken)):
        web = HttpEndpoint(lambda: site.report, [("127.0.0.1", taken), ("127.0.0.1", site.port)])
        with contextlib.closing(web):
            web.arm()
            failure = f"cannot listen on 127.0.0.1:{taken}: Address already in use"
            assert (web.state().up, web.state().detail) == (True, f"127.0.0.1:{site.port}; {failure}")
            assert site.ask("/healthz")[0] == 200


def test_nothing_to_listen_on_is_fine() -> None:
    web = HttpEndpoint(lambda: None, [])
    web.arm()
    assert (web.state().up, web.state().detail) == (True, "disabled")
    web.close()


# --- DNS rebinding ----------------------------------------------------------------------

MACHINE = os.uname().nodename


@pytest.mark.parametrize(
    "host",
    [
        "localhost", "LOCALHOST:80", "localhost.:14787", "ipvsd.localhost", "ip6-localhost", "127.0.0.1",
        "10.9.8.7:14787", "[::1]:14787", MACHINE, MACHINE.partition(".")[0].upper(),
    ],
)  # fmt: skip
def test_on_loopback_an_address_and_a_name_of_this_machine_are_answered(site: Site, host: str) -> None:
    assert site.ask("/status", Host=host)[0] == 200


@pytest.mark.parametrize(
    "host",
    ["evil.example", "evil.example:14787", "localhost.evil.example", f"{MACHINE}.evil.example", "[evil]", "1.2.3", ""],
)
@pytest.mark.parametrize("path", ["/metrics", "/healthz", "/status", "/nothing"])
def test_on_loopback_the_name_of_a_website_is_refused(site: Site, host: str, path: str) -> None:
    status, _, body = site.ask(path, Host=host)
    assert (status, b"ready" in body) == (421, False)


def test_on_other_addresses_prometheus_asks_by_whatever_name_it_knows() -> None:
    assert is_local("node1.example.com", "10.0.0.1")
    assert is_local("ipvsd.monitoring.svc", "2001:db8::1")
    assert not is_local("node1.example.com", "127.0.0.2")
    assert not is_local("node1.example.com", "::1")
    assert is_local(None, "127.0.0.1")  # HTTP/1.0 without a host is not a browser
