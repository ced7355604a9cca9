"""A small HTTP/1.1 server: one thread that never blocks, with limits on everything that a client can request.

A connection carries one request. Its timeout starts when it is accepted, so the oldest connection is the next to
expire. If no slot is free, the server closes the oldest connection of the address that has the most, but gives each
connection GRACE seconds to send its request. Meanwhile, new connections wait in the kernel's queue.

Facts:
- All clients on loopback share one address, so old connections must not keep new ones out.
- If a socket is closed with unsent data, the kernel keeps up to its send buffer, unless it is reset (SO_LINGER 0).
- If a socket is closed with unread data, the kernel resets it, which can destroy the response in transit. So after
  a response, the server reads and drops data until the client closes the connection.
"""

from __future__ import annotations

import contextlib
import errno
import math
import os
import select
import socket
import struct
import threading
import time
import traceback
from collections import Counter, deque
from collections.abc import Mapping
from http import HTTPStatus
from typing import Callable, NamedTuple, Optional

from ipvsd.runtime import capabilities, http_request, resources
from ipvsd.runtime.http_request import Request, RequestError
from ipvsd.runtime.journal import log

MAX_CLIENTS = 128  # simultaneous connections
MAX_CLIENTS_PER_PEER = 64  # connections from one address, or from one /64 of IPv6
MAX_HEAD = 8 << 10  # bytes of a request
MAX_DISCARDED = 64 << 10  # bytes that are dropped after the response
TIMEOUT = 10.0  # seconds that a connection lasts at most
_BACKLOG = 1024  # connections that wait in the kernel; net.core.somaxconn limits it further
_BATCH = 16  # connections that are accepted before the existing ones are served again
GRACE = 0.05  # seconds that every connection has to send its request
# Bytes in the kernel for each connection, which the kernel doubles (socket(7)) and counts as the service's memory.
_RECEIVE_BUFFER, _SEND_BUFFER = 16 << 10, 32 << 10
_BACKOFF = (0.1, 1.0)  # seconds without accepting after an error: initially, and at most
_LOG_INTERVAL = 60.0  # seconds without such an error, after which the next one is logged
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Response(NamedTuple):
    """A response to a request. The server adds the length, the date and the headers that close the connection."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8"}


# Called in the server's thread with the request and the local address that received it.
Handler = Callable[[Request, str], Response]


class _Client:
    def __init__(self, opened: socket.socket, peer: str, deadline: float) -> None:
        self.socket, self.peer, self.deadline = opened, peer, deadline
        self.head: Optional[bytearray] = bytearray()  # None as soon as there is a response
        self.answer = memoryview(b"")
        self.discarded = 0


class Server:
    """Serve on the added listening sockets until `stop`. `error` is the reason why it cannot accept, or empty."""

    def __init__(self, handler: Handler) -> None:
        """Raises OSError, and RuntimeError if no thread can start."""
        self._listeners: dict[int, socket.socket] = {}
        self._handler = handler
        self._max_clients = resources.max_clients(MAX_CLIENTS)
        self._added: deque[socket.socket] = deque()
        self._stopping = False
        self._clients: dict[int, _Client] = {}  # the oldest first
        self._clients_of: Counter[str] = Counter()
        self._reserve = -1
        self._backoff, self._paused_until = _BACKOFF[0], 0.0  # accepts nothing before `_paused_until`
        self._last_error, self._failed_at = "", -math.inf
        self._deaf = False  # True while a socket could not be registered
        self.error = ""
        self._read = self._wake = -1
        self._poller = select.epoll()
        try:
            self._read, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._poller.register(self._read, select.EPOLLIN)
            self._open_reserve()
            self._thread = threading.Thread(target=self._run, name="web", daemon=True)
            self._thread.start()
        except (OSError, RuntimeError):
            self._close()
            raise

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def add(self, listener: socket.socket) -> None:
        """Serve on this socket as well. `stop` closes it."""
        listener.setblocking(False)
        self._added.append(listener)
        os.write(self._wake, b"\0")

    def stop(self) -> None:
        self._stopping = True
        os.write(self._wake, b"\0")
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for client in list(self._clients.values()):
            self._close_client(client, reset=True)
        for opened in (*self._listeners.values(), *self._added):
            opened.close()
        self._poller.close()
        for descriptor in (self._reserve, self._read, self._wake):
            if descriptor >= 0:
                os.close(descriptor)

    # --- the loop -----------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a user's own sandbox can forbid even this
            capabilities.drop_all()  # no request can use one, such as the one that loads modules
        while not self._stopping:
            self._run_once()

    def _run_once(self) -> None:
        """Serve the descriptors that are ready, existing connections first."""
        ready = self._poller.poll(self._timeout())
        for fd, _ in ready:
            if fd == self._read:
                self._add_listeners()
            client = self._clients.get(fd)
            if client:
                self._advance(client)
        for fd, _ in ready:
            if fd in self._listeners and not self._paused_until:
                self._accept(self._listeners[fd])
        now = time.monotonic()
        while self._clients and now >= self._oldest().deadline:
            self._close_client(self._oldest(), reset=True)
        if self._paused_until and now >= self._paused_until:
            self._paused_until = 0.0
            self._register(*self._listeners.values())

    def _add_listeners(self) -> None:
        os.read(self._read, 4096)
        while self._added:
            listener = self._added.popleft()
            self._listeners[listener.fileno()] = listener
            if not self._paused_until:
                self._register(listener)

    def _timeout(self) -> Optional[float]:
        deadlines = [self._oldest().deadline] if self._clients else []
        deadlines += [self._paused_until] if self._paused_until else []
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

    def _oldest(self, peer: Optional[str] = None) -> _Client:
        return next(client for client in self._clients.values() if peer in (None, client.peer))

    # --- accepting connections ----------------------------------------------------------

    def _register(self, *listeners: socket.socket) -> None:
        for opened in listeners:
            try:
                self._poller.register(opened.fileno(), select.EPOLLIN)
            except OSError as error:
                self._back_off(opened, error)
                self._deaf = True
                return
        if self._deaf:
            self._deaf, self.error = False, ""

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BATCH):
            wait = self._make_room()
            if wait > 0:
                self._pause(wait)
                return
            try:
                opened, address = listener.accept()
                self._add_client(opened, _peer_of(str(address[0])))
            except BlockingIOError:
                self.error, self._backoff = "", _BACKOFF[0]
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._back_off(listener, error)
                return

    def _make_room(self) -> float:
        """Close a connection if necessary. Return the seconds until one may be closed, or 0.0 if there is room."""
        busiest = max(self._clients_of, key=self._clients_of.__getitem__, default="")
        if self._clients_of[busiest] < MAX_CLIENTS_PER_PEER and len(self._clients) < self._max_clients:
            return 0.0
        oldest = self._oldest(busiest)
        answered = oldest.head is None and not oldest.answer
        wait = 0.0 if answered else oldest.deadline - TIMEOUT + GRACE - time.monotonic()
        if wait <= 0:
            self._close_client(oldest, reset=True)
        return wait

    def _add_client(self, opened: socket.socket, peer: str) -> None:
        """Add a client. Raises OSError after it has closed the connection."""
        opened.setblocking(False)
        client = _Client(opened, peer, time.monotonic() + TIMEOUT)
        self._clients[opened.fileno()] = client
        self._clients_of[peer] += 1
        try:
            self._poller.register(opened.fileno(), select.EPOLLIN)
        except OSError:
            self._close_client(client, reset=True)
            raise
        self._advance(client)  # most clients have sent everything by now

    def _back_off(self, listener: socket.socket, error: OSError) -> None:
        """Pause after an error: the socket stays ready, so an immediate retry would keep a CPU busy."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            # Descriptors for a repair matter more than clients. A rejected client does not wait in vain.
            if self._clients:
                self._close_client(self._oldest(), reset=True)
            self._reject(listener)
        now = time.monotonic()
        self.error = f"cannot accept connections: {error.strerror}"
        if now - self._failed_at > _LOG_INTERVAL:
            log("warning", f"web: {self.error}")
        self._failed_at = now
        self._pause(self._backoff)
        self._backoff = min(2 * self._backoff, _BACKOFF[1])

    def _pause(self, seconds: float) -> None:
        for fd in self._listeners:
            with contextlib.suppress(FileNotFoundError):  # it could not be registered
                self._poller.unregister(fd)
        self._paused_until = time.monotonic() + seconds

    def _reject(self, listener: socket.socket) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1
            with contextlib.suppress(OSError):  # another thread accepted it first
                listener.accept()[0].close()
        self._open_reserve()

    def _open_reserve(self) -> None:
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._reserve = -1

    # --- one client ---------------------------------------------------------------------

    def _advance(self, client: _Client) -> None:
        try:
            if client.head is not None:
                self._receive(client, client.head)
            if client.head is None:
                self._send(client)
        except BlockingIOError:
            pass  # the poller reports when the socket is ready
        except OSError:
            self._close_client(client)

    def _receive(self, client: _Client, head: bytearray) -> None:
        """Receive until there is a response. Raises OSError."""
        while client.head is not None:
            searched = len(head)
            data = client.socket.recv(MAX_HEAD - searched)
            head += data
            length = http_request.head_length(head, searched)
            if length:
                self._respond(client, bytes(head[:length]))
            elif not data:
                if not head:
                    raise ConnectionResetError
                self._respond_error(client, RequestError(400, "incomplete request"))
            elif len(head) >= MAX_HEAD:
                self._respond_error(client, RequestError(431, f"more than {MAX_HEAD} bytes"))

    def _respond(self, client: _Client, head: bytes) -> None:
        request = http_request.parse(head)
        if isinstance(request, RequestError):
            self._respond_error(client, request)
            return
        local = _plain(client.socket.getsockname()[0])
        try:
            response = self._handler(request, local)
        except Exception:  # noqa: BLE001 -- a defect of a handler is logged, and ends neither the thread nor the daemon
            self._log_once(traceback.format_exc())
            response = Response(500, b"internal error\n")
        self._start_response(client, response, request.method == "HEAD")

    def _respond_error(self, client: _Client, error: RequestError) -> None:
        self._start_response(client, Response(error.status, f"{error.reason}\n".encode()), head_only=False)

    def _start_response(self, client: _Client, response: Response, head_only: bool) -> None:
        client.head = None
        head = _head(response)
        client.answer = memoryview(head if head_only else head + response.body)
        self._poller.modify(client.socket.fileno(), select.EPOLLOUT)

    def _send(self, client: _Client) -> None:
        """Send the rest of the response, then drop what the client still sends. Raises OSError."""
        while client.answer:
            client.answer = client.answer[client.socket.send(client.answer) :]
            if not client.answer:
                client.answer = memoryview(b"")
                client.socket.shutdown(socket.SHUT_WR)
                self._poller.modify(client.socket.fileno(), select.EPOLLIN)
        while client.discarded < MAX_DISCARDED:
            data = client.socket.recv(MAX_HEAD)
            client.discarded += len(data)
            if not data:
                self._close_client(client)
                return
        self._close_client(client, reset=True)

    def _close_client(self, client: _Client, reset: bool = False) -> None:
        if self._clients.pop(client.socket.fileno(), None) is None:
            return
        self._clients_of[client.peer] -= 1
        if not self._clients_of[client.peer]:
            del self._clients_of[client.peer]
        if reset:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        client.socket.close()  # this also removes it from the poller

    def _log_once(self, text: str) -> None:
        if text != self._last_error:
            self._last_error = text
            for line in text.splitlines():
                log("error", line)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an IP address, or for an empty text on all addresses. Raises OSError."""
    if not host:
        try:
            return _listen("::", port, only_ipv6=False)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # a kernel without IPv6
                raise
        host = "0.0.0.0"  # noqa: S104 -- the configuration requests all addresses
    return _listen(host, port, only_ipv6=True)


def _listen(host: str, port: int, only_ipv6: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_ipv6))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)  # accepted sockets inherit both
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def _head(response: Response) -> bytes:
    phrase = HTTPStatus(response.status).phrase
    headers = {
        "Date": time.strftime("%a, %d %b %Y %H:%M:%S GMT", time.gmtime()),
        "Server": "ipvsd",
        **response.headers,
        "Content-Length": str(len(response.body)),
        "Cache-Control": "no-store",
        "X-Content-Type-Options": "nosniff",
        "Connection": "close",
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return f"HTTP/1.1 {response.status} {phrase}\r\n{lines}\r\n".encode("latin-1")


def _plain(address: str) -> str:
    """Return an IPv4 address that a socket for both families shows as an IPv6 address, as IPv4 (RFC 4291, 2.5.5.2)."""
    return address.removeprefix("::ffff:") if "." in address else address


def _peer_of(address: str) -> str:
    """Return the key by which connections are counted: the IPv4 address, or the /64 that an IPv6 client usually has."""
    address = _plain(address)
    if ":" not in address:
        return address
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()
