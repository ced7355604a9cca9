"""/metrics, /healthz and /status over HTTP, from the latest Report, in a separate thread."""

from __future__ import annotations

import errno
import math
import os
import socket
import time
from collections.abc import Mapping, Sequence
from typing import Callable, Optional

from ipvsd.config.dump import address
from ipvsd.model import printable
from ipvsd.model.report import Report, SourceState, State
from ipvsd.reporting import metrics, status_document
from ipvsd.runtime.http_request import Request, accepts_gzip
from ipvsd.runtime.http_response import Response, text_response
from ipvsd.runtime.http_security import OPEN, Security
from ipvsd.runtime.http_server import Server
from ipvsd.runtime.listening import listen

Latest = Callable[[], Optional[Report]]

_JSON = {"Content-Type": "application/json"}
# These names mean this machine, whatever a name server answers (RFC 6761; Debian's /etc/hosts).
_LOCAL = ("localhost", "ip6-localhost", "ip6-loopback")
_MIN_COMPRESSED = 1 << 10  # bytes of a page, below which compression saves no packet
_COMPRESSION = 6  # zlib's default level
_GZIP = 31  # zlib's window bits for the gzip format with the largest window
_CACHE_SECONDS = 1.0  # seconds for which a page is cached while the report is the same


class HttpEndpoint:
    """Serves on the given addresses from the first `arm` on. Unavailable addresses are retried.

    If there are `inherited` sockets (by address), it serves on them and ignores the other addresses.
    """

    def __init__(
        self,
        latest: Latest,
        listen: Sequence[tuple[str, int]],
        security: Security = OPEN,
        inherited: Optional[Mapping[tuple[str, int], socket.socket]] = None,
    ) -> None:
        self.listen = tuple(listen)
        self._security = security
        self._inherited = inherited or {}
        self._pages = Pages(latest)
        self._server: Optional[Server] = None
        self._open: list[tuple[str, int]] = []
        self._errors: dict[tuple[str, int], str] = {}
        self._expected: set[tuple[str, int]] = set()

    def secure(self, security: Security) -> None:
        """Use these settings for new connections and requests."""
        self._security = security
        if self._server:
            self._server.security = security

    def arm(self) -> None:
        """Open the addresses that are not open yet. Never raises OSError."""
        if self._server and not self._server.alive:
            self.close()
        for place in self._inherited or self.listen:
            if place not in self._open:
                self._try(place)

    def _try(self, place: tuple[str, int]) -> None:
        try:
            self._server = self._server or Server(self._pages.answer, self._security)
            # The original of an inherited socket stays open for a later server.
            self._server.add(self._inherited[place].dup() if self._inherited else listen(*place))
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
        served += " from systemd" if served and self._inherited else ""
        up = (bool(self._open) and not trouble) or not (self._inherited or self.listen)
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
    """The responses. A page is created for a request, and cached in each of its forms for a second."""

    def __init__(self, latest: Latest) -> None:
        self._latest = latest
        self._registry = metrics.create_registry(self._with_age)
        self._cached_for: tuple[Optional[Report], float] = (None, -math.inf)
        self._cache: dict[tuple[str, str, bool], Response] = {}  # by path, form and encoding

    def answer(self, request: Request, local: str) -> Response:
        if not is_local(request.host, local):
            return text_response(421, "unknown host name (use an IP address, localhost or the name of this node)")
        page = _PAGES.get(request.path)
        if page is None:
            return text_response(404, "unknown path (known: /healthz, /metrics, /status)")
        if request.method not in ("GET", "HEAD"):
            return text_response(405, "invalid method (use GET or HEAD)", {"Allow": "GET, HEAD"})
        report, now = self._latest(), time.monotonic()
        if self._cached_for[0] is not report or now - self._cached_for[1] >= _CACHE_SECONDS:
            self._cached_for = (report, now)
            self._cache.clear()
        accept = request.headers.get("accept", "")
        key = (request.path, metrics.choose_encoder(accept)[1] if request.path == "/metrics" else "")
        plain = self._cached((*key, False), lambda: page(self, accept))
        if len(plain.body) < _MIN_COMPRESSED or not accepts_gzip(request):
            return plain
        return self._cached((*key, True), lambda: _compress(plain))

    def _cached(self, key: tuple[str, str, bool], create: Callable[[], Response]) -> Response:
        if key not in self._cache:
            self._cache[key] = create()
        return self._cache[key]

    def _with_age(self) -> Optional[Report]:
        """Return the latest report with its age. The state of a report that is too old is failed."""
        report = self._latest()
        return report and status_document.with_age(report, time.clock_gettime(time.CLOCK_BOOTTIME))

    def metrics_page(self, accept: str) -> Response:
        encode, form = metrics.choose_encoder(accept)
        return Response(200, encode(self._registry), {"Content-Type": form, "Vary": "Accept, Accept-Encoding"})

    def health_page(self, _: str) -> Response:
        report = self._with_age()
        healthy = report is not None and report.health.state is not State.FAILED
        line = report.health.summary if report else "no reconciliation yet"
        return text_response(200 if healthy else 503, line)

    def status_page(self, _: str) -> Response:
        report = self._with_age()
        body = printable.as_json(report and status_document.build_document(report), indent=2).encode() + b"\n"
        return Response(200 if report else 503, body, {**_JSON, "Vary": "Accept-Encoding"})


# Each returns the response for the Accept header of a request.
_PAGES: Mapping[str, Callable[[Pages, str], Response]] = {
    "/metrics": Pages.metrics_page,
    "/healthz": Pages.health_page,
    "/status": Pages.status_page,
}


def _compress(plain: Response) -> Response:
    import zlib  # only for a client that accepts it

    packer = zlib.compressobj(_COMPRESSION, wbits=_GZIP)
    body = packer.compress(plain.body) + packer.flush()
    return plain._replace(body=body, headers={**plain.headers, "Content-Encoding": "gzip"})


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
