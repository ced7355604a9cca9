"""/metrics, /healthz and /status over HTTP, from the latest Report, in a separate thread."""

from __future__ import annotations

import errno
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Callable, Optional

from ipvsd.config.dump import address
from ipvsd.model import printable
from ipvsd.model.report import Report, SourceState, State
from ipvsd.reporting import metrics, status_document
from ipvsd.runtime.http_request import Request
from ipvsd.runtime.http_server import Response, Server, listen

Latest = Callable[[], Optional[Report]]

_TEXT = {"Content-Type": "text/plain; charset=utf-8"}
_METRICS = {"Content-Type": "text/plain; version=0.0.4; charset=utf-8"}
_JSON = {"Content-Type": "application/json"}
# These names mean this machine, whatever a name server answers (RFC 6761; Debian's /etc/hosts).
_LOCAL = ("localhost", "ip6-localhost", "ip6-loopback")
_CACHE_SECONDS = 1.0  # seconds for which a page is cached while the report is the same


class HttpEndpoint:
    """Serves on the given addresses from the first `arm` on. Unavailable addresses are retried."""

    def __init__(self, latest: Latest, listen: Sequence[tuple[str, int]]) -> None:
        self.listen = tuple(listen)
        self._pages = Pages(latest)
        self._server: Optional[Server] = None
        self._open: list[tuple[str, int]] = []
        self._errors: dict[tuple[str, int], str] = {}
        self._expected: set[tuple[str, int]] = set()

    def arm(self) -> None:
        """Open the addresses that are not open yet. Never raises OSError."""
        if self._server and not self._server.alive:
            self.close()
        for place in self.listen:
            if place not in self._open:
                self._try(place)

    def _try(self, place: tuple[str, int]) -> None:
        try:
            self._server = self._server or Server(self._pages.answer)
            self._server.add(listen(*place))
        except (OSError, RuntimeError) as error:  # RuntimeError: no thread can start
            self._fail(place, error)
        else:
            self._open.append(place)
            self._errors.pop(place, None)

    def _fail(self, place: tuple[str, int], error: Exception) -> None:
        self._errors[place] = getattr(error, "strerror", None) or str(error)
        # Without IPv6, there is no ::1, on which ipvsd listens by default. That is not a fault.
        if place[0] == "::1" and getattr(error, "errno", 0) in (errno.EADDRNOTAVAIL, errno.EAFNOSUPPORT):
            self._expected.add(place)
        else:
            self._expected.discard(place)

    def state(self) -> SourceState:
        """Up if at least one address is served, or none is configured."""
        served = ", ".join(address(*place) for place in self._open)
        failed = [f"cannot listen on {address(*place)}: {error}" for place, error in self._errors.items()]
        trouble = self._server.error if self._server else ""
        up = (bool(self._open) and not trouble) or not self.listen
        return SourceState("web", up, "; ".join(filter(None, (served, *failed, trouble))) or "disabled", None)

    @property
    def listen_errors(self) -> str:
        """The unavailable addresses, each with the reason, or an empty text if that is not a fault."""
        errors = ((place, error) for place, error in self._errors.items() if place not in self._expected)
        return ", ".join(f"{address(*place)}: {error}" for place, error in errors)

    def close(self) -> None:
        if self._server is not None:
            self._server.stop()
            self._server = None
        self._open.clear()


class Pages:
    """The responses. A page is created for a request, and cached for a second."""

    def __init__(self, latest: Latest) -> None:
        self._latest = latest
        self._metrics = metrics.exposition(self._with_age)
        self._cache: dict[str, tuple[Optional[Report], float, Response]] = {}

    def answer(self, request: Request, local: str) -> Response:
        if not is_local(request.host, local):
            return Response(421, b"unknown host name (use an IP address, localhost or the name of this node)\n", _TEXT)
        page = self._PAGES.get(request.path)
        if page is None:
            return Response(404, b"unknown path (known: /healthz, /metrics, /status)\n", _TEXT)
        if request.method not in ("GET", "HEAD"):
            return Response(405, b"invalid method (use GET or HEAD)\n", {**_TEXT, "Allow": "GET, HEAD"})
        report, now = self._latest(), time.monotonic()
        cached = self._cache.get(request.path)
        if cached is None or cached[0] is not report or now - cached[1] >= _CACHE_SECONDS:
            cached = self._cache[request.path] = (report, now, page(self, self._with_age()))
        return cached[2]

    def _with_age(self) -> Optional[Report]:
        """Return the latest report with its age. The state of a report that is too old is failed."""
        report = self._latest()
        return report and status_document.with_age(report, time.clock_gettime(time.CLOCK_BOOTTIME))

    def _metrics_page(self, report: Optional[Report]) -> Response:  # noqa: ARG002 -- its collector reads the latest one
        return Response(200, self._metrics(), _METRICS)

    def _health_page(self, report: Optional[Report]) -> Response:
        healthy = report is not None and report.health.state is not State.FAILED
        line = report.health.summary if report else "no reconciliation yet"
        return Response(200 if healthy else 503, f"{line}\n".encode(), _TEXT)

    def _status_page(self, report: Optional[Report]) -> Response:
        body = printable.as_json(report and status_document.build_document(report), indent=2).encode() + b"\n"
        return Response(200 if report else 503, body, _JSON)

    _PAGES: Mapping[str, Callable[[Pages, Optional[Report]], Response]] = {
        "/metrics": _metrics_page,
        "/healthz": _health_page,
        "/status": _status_page,
    }


def is_local(host: Optional[str], local: str) -> bool:
    """Return whether a request to a local address may be intended for this machine.

    A website can resolve its own name to 127.0.0.1 (DNS rebinding), and a browser then treats the responses as its
    pages. So on loopback, the name must be one that no site can have. Elsewhere, Prometheus may use any name.
    """
    if host is None or not (local.startswith("127.") or local == "::1"):
        return True
    name = os.uname().nodename.lower()
    if host in (*_LOCAL, name, name.partition(".")[0]) or host.endswith(".localhost"):
        return True
    return _is_address(host)


def _is_address(host: str) -> bool:
    family, text = (socket.AF_INET6, host[1:-1]) if host[:1] == "[" else (socket.AF_INET, host)
    try:
        socket.inet_pton(family, text)
    except (OSError, ValueError):
        return False
    return True
