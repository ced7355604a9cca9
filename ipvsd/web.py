"""/metrics, /healthz and /status over HTTP, in threads of their own, reading the latest Report.

It sleeps until somebody connects. 16 clients are served at a time; one more is turned away, and
so is, to make room, whoever has taken more than 10 s.
"""

from __future__ import annotations

import contextlib
import http.server
import os
import selectors
import socket
import socketserver
import sys
import threading
import time
import traceback
from collections.abc import Sequence
from typing import Any, Callable, Optional

from ipvsd import capabilities, metrics, present, printable
from ipvsd.effective import address
from ipvsd.journal import log
from ipvsd.report import Report, SourceState, State

_CLIENTS = 16
_PATIENCE = 10.0  # seconds

Latest = Callable[[], Optional[Report]]


class Web:
    """Serves on the given addresses from the first `arm` on; an address that is not to be had is tried again."""

    def __init__(self, latest: Latest, listen: Sequence[tuple[str, int]]) -> None:
        self._latest = latest
        self.listen = tuple(listen)
        self._servers: dict[tuple[str, int], _Server] = {}
        self._errors: dict[tuple[str, int], str] = {}
        self._thread: Optional[_Thread] = None
        self._metrics = metrics.exposition(latest)

    def arm(self) -> None:
        """Open the addresses that are not open yet. Never raises OSError."""
        opened = {place: server for place in self.listen if place not in self._servers for server in self._open(place)}
        if opened:
            self._stop()
            self._servers.update(opened)
            self._thread = _Thread(list(self._servers.values()))
            self._thread.start()

    def _open(self, place: tuple[str, int]) -> list[_Server]:
        try:
            server = _Server(place, self._latest, self._metrics)
        except OSError as error:
            self._errors[place] = error.strerror or str(error)
            return []
        self._errors.pop(place, None)
        return [server]

    def state(self) -> SourceState:
        """Up where at least one address is served, or none was wanted."""
        parts = [address(*place) for place in self._servers]
        parts += [f"not {address(*place)} ({error})" for place, error in self._errors.items()]
        return SourceState("web", bool(self._servers) or not self.listen, ", ".join(parts) or "not wanted", None)

    def close(self) -> None:
        """Stop serving."""
        self._stop()
        for server in self._servers.values():
            server.server_close()
        self._servers.clear()

    def _stop(self) -> None:
        if self._thread is not None:
            self._thread.stop()
            self._thread = None


class _Thread(threading.Thread):
    """Accepts for all servers; unlike serve_forever() it does not wake up twice a second."""

    def __init__(self, servers: Sequence[_Server]) -> None:
        super().__init__(name="web", daemon=True)
        self._servers = servers
        self._read, self._write = os.pipe2(os.O_CLOEXEC)

    def run(self) -> None:
        # Nor have them the threads that serve: no request comes near to what loads modules.
        with contextlib.suppress(OSError):  # a sandbox of someone's own that forbids even this
            capabilities.drop_all()
        with selectors.DefaultSelector() as selector:
            selector.register(self._read, selectors.EVENT_READ)
            for server in self._servers:
                selector.register(server, selectors.EVENT_READ, server)
            while True:
                for key, _ in selector.select():
                    if key.data is None:
                        return
                    key.data.handle_request()

    def stop(self) -> None:
        os.write(self._write, b"\0")
        self.join()
        os.close(self._read)
        os.close(self._write)


class _Server(socketserver.ThreadingMixIn, http.server.HTTPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 64
    timeout = 0  # of handle_request(): the selector has already seen a connection

    def __init__(self, place: tuple[str, int], latest: Latest, exposition: Callable[[], bytes]) -> None:
        self.address_family = socket.AF_INET6 if ":" in place[0] else socket.AF_INET
        self.latest, self.exposition = latest, exposition
        self._clients: dict[socket.socket, float] = {}  # and when they came
        super().__init__(place, _Handler)

    def server_bind(self) -> None:
        if self.address_family == socket.AF_INET6:
            self.socket.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        socketserver.TCPServer.server_bind(self)  # HTTPServer's would look up the host's name

    def verify_request(self, request: Any, client_address: Any) -> bool:  # noqa: ARG002 -- socketserver names its arguments
        now = time.monotonic()
        if len(self._clients) < _CLIENTS:
            self._clients[request] = now
            return True
        for client, came in list(self._clients.items()):
            if now - came > _PATIENCE:
                with contextlib.suppress(OSError):
                    client.shutdown(socket.SHUT_RDWR)
        return False

    def shutdown_request(self, request: Any) -> None:
        self._clients.pop(request, None)
        super().shutdown_request(request)

    def handle_error(self, request: object, client_address: object) -> None:  # noqa: ARG002 -- as above
        """A client that went away is no event; whatever else went wrong is ours."""
        if not isinstance(sys.exc_info()[1], OSError):
            for line in traceback.format_exc().splitlines():
                log("error", line)


class _Handler(http.server.BaseHTTPRequestHandler):
    server: _Server
    server_version = "ipvsd"
    sys_version = ""
    timeout = _PATIENCE

    def do_GET(self) -> None:
        report = self.server.latest()
        path = self.path.partition("?")[0]
        if path == "/metrics":
            self._send(200, "text/plain; version=0.0.4; charset=utf-8", self.server.exposition())
        elif path == "/healthz":
            healthy = report is not None and report.health.state is not State.FAILED
            line = report.health.line if report else "not looked yet"
            self._send(200 if healthy else 503, "text/plain; charset=utf-8", f"{line}\n".encode())
        elif path == "/status":
            body = printable.as_json(report and present.document(report), indent=2).encode() + b"\n"
            self._send(200 if report else 503, "application/json", body)
        else:
            body = b"not found; there are /metrics, /healthz and /status\n"
            self._send(404, "text/plain; charset=utf-8", body)

    do_HEAD = do_GET  # noqa: N815 -- http.server looks it up by this name

    def _send(self, code: int, kind: str, body: bytes) -> None:
        self.send_response(code)
        self.send_header("Content-Type", kind)
        self.send_header("Content-Length", str(len(body)))
        self.send_header("Cache-Control", "no-store")
        self.send_header("X-Content-Type-Options", "nosniff")
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def log_message(
        self,
        format: str,  # noqa: A002 -- http.server names its arguments
        *args: object,
    ) -> None:
        """A scrape is no event."""
