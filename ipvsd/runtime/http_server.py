"""A small HTTP/1.1 server: one thread that never blocks, with limits on everything that a client can request.

A connection that waits for its next request (keep-alive) is closed after IDLE seconds, or when another client needs
its slot. Otherwise, the timeout of a request starts when its connection is accepted, or at its first byte. If no slot
is free, the server closes the oldest connection of the address that has the most, but gives each connection GRACE
seconds to send its request. Meanwhile, new connections wait in the kernel's queue. With TLS, each step of a handshake
has this time, and a client that sent a step as a whole is closed after those that send single bytes or nothing. So
is a client whose password waits for verification.

All clients on loopback share one address, so old connections must not keep new ones out.
"""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import threading
import time
import traceback
from collections import deque
from typing import TYPE_CHECKING, Callable, Optional

from ipvsd.runtime import capabilities, http_request, http_response
from ipvsd.runtime.accept_errors import AcceptErrors
from ipvsd.runtime.http_clients import Clients
from ipvsd.runtime.http_connection import Connection, InvalidRequestError, Stage
from ipvsd.runtime.http_request import Request, RequestError
from ipvsd.runtime.http_response import Response, text_response
from ipvsd.runtime.http_security import OPEN, Security
from ipvsd.runtime.journal import log
from ipvsd.runtime.listening import peer_of, plain_address
from ipvsd.runtime.wake_up_pipe import WakeUpPipe

if TYPE_CHECKING:
    from ipvsd.runtime.basic_auth import Credentials, PasswordChecker, Users
    from ipvsd.runtime.tls import MemoryTrimmer

_BATCH = 16  # connections that are accepted before the existing ones are served again
GRACE = 0.05  # seconds that every connection has to send its request
_JOIN = 1.0  # seconds between two attempts to wake a thread that has to end

_UNAUTHORIZED = text_response(401, "unauthorized", {"WWW-Authenticate": "Basic"})
_BUSY = text_response(503, "too many passwords to verify", {"Retry-After": "1"})

# Called in the server's thread with the request and the local address that received it.
Handler = Callable[[Request, str], Response]


class Server:
    """Serve on the added listening sockets until `stop`. `error` is the reason why it cannot accept, or empty."""

    def __init__(self, handler: Handler, security: Security = OPEN) -> None:
        """Raises OSError, and RuntimeError if no thread can start."""
        self._listeners: dict[int, socket.socket] = {}
        self._handler = handler
        self.security = security  # replaced as a whole
        self._passwords: Optional[PasswordChecker] = None
        self._checked: deque[tuple[Connection, Request, bool]] = deque()
        self._trimmer: Optional[MemoryTrimmer] = None
        self._added: deque[socket.socket] = deque()
        self._stopping = False
        self._clients = Clients()
        self._errors = AcceptErrors()
        self._paused_until = 0.0  # accepts nothing before this time
        self._last_error = ""
        self._deaf = False  # True while a socket could not be registered
        self._pipe = WakeUpPipe()
        try:
            self._poller = select.epoll()
        except OSError:
            self._pipe.close()
            raise
        try:
            self._poller.register(self._pipe.reader, select.EPOLLIN)
            self._errors.open_reserve()
            self._thread = threading.Thread(target=self._run, name="web", daemon=True)
            self._thread.start()
        except (OSError, RuntimeError):
            self._close()
            raise

    @property
    def error(self) -> str:
        return self._errors.text

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def add(self, listener: socket.socket) -> None:
        """Serve on this socket as well. `stop` closes it. Raises OSError after it has closed the socket."""
        with contextlib.ExitStack() as stack:
            stack.callback(listener.close)
            listener.setblocking(False)
            self._added.append(listener)
            try:
                self._pipe.wake_up()
            except OSError:
                with contextlib.suppress(ValueError):  # the thread was awake, and serves on it
                    self._added.remove(listener)
                    raise
            stack.pop_all()

    def stop(self) -> None:
        self._stopping = True
        while self._thread.is_alive():
            with contextlib.suppress(OSError):
                self._pipe.wake_up()
            self._thread.join(_JOIN)
        if self._passwords:
            self._passwords.stop()
        self._close()

    def _close(self) -> None:
        for client in self._clients:
            self._close_client(client, reset=True)
        for opened in (*self._listeners.values(), *self._added):
            opened.close()
        self._poller.close()
        self._pipe.close()
        self._errors.close()

    # --- the loop -----------------------------------------------------------------------

    def _run(self) -> None:
        with contextlib.suppress(OSError):  # a user's own sandbox can forbid even this
            capabilities.drop_all()  # no request can use one, such as the one that loads modules
        while not self._stopping:
            self._run_once()

    def _run_once(self) -> None:
        """Serve the descriptors that are ready, existing connections first."""
        ready = self._poller.poll(self._timeout())
        self._pipe.drain()
        self._add_listeners()
        self._continue_checked()  # after any event, because the pipe can have had no memory for a byte
        for fd, _ in ready:
            client = self._clients.get(fd)
            if client:
                self._advance(client)
        for fd, _ in ready:
            if fd in self._listeners and not self._paused_until:
                self._accept(self._listeners[fd])
        now = time.monotonic()
        expired = self._clients.next_to_expire()
        while expired and now >= expired.deadline:
            self._close_client(expired, reset=True)
            expired = self._clients.next_to_expire()
        if self._paused_until and now >= self._paused_until:
            self._paused_until = 0.0
            self._register(*self._listeners.values())
        if self._trimmer and not self._clients.busy:
            self._trimmer.trim()

    def _add_listeners(self) -> None:
        while self._added:
            listener = self._added.popleft()
            self._listeners[listener.fileno()] = listener
            if not self._paused_until:
                self._register(listener)

    def _timeout(self) -> Optional[float]:
        client = self._clients.next_to_expire()
        deadlines = [client.deadline] if client else []
        deadlines += [self._paused_until] if self._paused_until else []
        return max(0.0, min(deadlines) - time.monotonic()) if deadlines else None

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
            self._deaf, self._errors.text = False, ""

    def _accept(self, listener: socket.socket) -> None:
        for _ in range(_BATCH):
            wait = self._make_room()
            if wait > 0:
                self._pause(wait)
                return
            try:
                opened, address = listener.accept()
                self._add_client(opened, peer_of(str(address[0])))
            except BlockingIOError:
                self._errors.clear()
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._back_off(listener, error)
                return

    def _make_room(self) -> float:
        """Close a connection if necessary. Return the seconds until one may be closed, or 0.0 if there is room."""
        oldest = self._clients.next_to_close(time.monotonic())
        if oldest is None:
            return 0.0
        if oldest.unused and oldest.delivered:
            self._close_client(oldest)
            return 0.0
        if oldest.begun + GRACE <= time.monotonic():
            self._advance(oldest)  # its data may have arrived while others were served
        wait = oldest.begun + GRACE - time.monotonic()
        if wait <= 0:
            self._close_client(oldest, reset=True)
        return wait

    def _add_client(self, opened: socket.socket, peer: str) -> None:
        """Add a client. Raises OSError after it has closed the connection."""
        try:
            opened.setblocking(False)
        except OSError:
            opened.close()
            raise
        client = self._connection(opened, peer)
        self._clients.add(client)
        try:
            self._poller.register(client.socket.fileno(), client.wanted)
            client.registered = client.wanted
        except OSError:
            self._close_client(client, reset=True)
            raise
        self._advance(client)  # most clients have sent everything by now

    def _connection(self, opened: socket.socket, peer: str) -> Connection:
        """Raises OSError after it has closed the connection."""
        security, now = self.security, time.monotonic()
        if security.tls is None:
            return Connection(opened, peer, now, security)
        from ipvsd.runtime import tls

        self._trimmer = self._trimmer or tls.MemoryTrimmer()
        return tls.TlsConnection(opened, peer, now, security, security.tls)

    def _back_off(self, listener: socket.socket, error: OSError) -> None:
        """Pause after an error."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            # Descriptors for a repair matter more than clients.
            oldest = next(iter(self._clients), None)
            if oldest:
                self._close_client(oldest, reset=True)
            self._errors.reject(listener)
        self._pause(self._errors.add(error))

    def _pause(self, seconds: float) -> None:
        for fd in self._listeners:
            with contextlib.suppress(FileNotFoundError):  # it could not be registered
                self._poller.unregister(fd)
        self._paused_until = time.monotonic() + seconds

    # --- one client ---------------------------------------------------------------------

    def _advance(self, client: Connection) -> None:
        """Serve a client as far as possible without waiting, but at most to the end of one response."""
        try:
            self._continue(client)
        except BlockingIOError:
            self._wait(client)
        except OSError:
            self._close_client(client)

    def _continue(self, client: Connection) -> None:
        """Raises BlockingIOError when the client must be waited for, and another OSError when it is lost."""
        if client.stage is Stage.WAIT:  # nothing is expected, so the client is gone
            raise ConnectionResetError
        if client.stage is Stage.RECEIVE:
            self._receive(client)
        if client.stage is Stage.SEND and client.send():
            self._keep(client)
        if client.stage is Stage.DROP:
            self._close_client(client, reset=not client.drop())

    def _wait(self, client: Connection) -> None:
        if client.wanted != client.registered:
            try:
                self._poller.modify(client.socket.fileno(), client.wanted)
            except OSError:  # the kernel would never report it
                self._close_client(client, reset=True)
                return
            client.registered = client.wanted

    def _keep(self, client: Connection) -> None:
        """Keep a connection for its next request."""
        self._clients.keep(client, time.monotonic())
        self._wait(client)

    def _receive(self, client: Connection) -> None:
        """Receive until there is a response. Raises OSError."""
        try:
            head = client.receive()
        except BlockingIOError:
            if client.begins:
                self._clients.begin(client, time.monotonic())
            raise
        except InvalidRequestError as invalid:
            self._clients.begin(client, time.monotonic())
            self._reject_request(client, invalid.error)
            return
        self._clients.begin(client, time.monotonic())
        request = http_request.parse(head)
        if isinstance(request, RequestError):
            self._reject_request(client, request)
        else:
            # A connection with other settings for TLS ends with its next response.
            client.closes = client.closes or not request.persistent or client.security.tls is not self.security.tls
            self._authenticate(client, request)

    def _authenticate(self, client: Connection, request: Request) -> None:
        """Start the response, if necessary after the verification of the password. Raises BlockingIOError."""
        users = self.security.users
        credentials = users and users.parse(request.headers.get("authorization"))
        if not users or (credentials and users.verified(credentials)):
            self._start_answer(client, request)
        elif not credentials:
            self._start_response(client, _UNAUTHORIZED, request.method == "HEAD")
        elif self._verify(client, request, users, credentials):
            raise BlockingIOError
        else:
            self._start_response(client, _BUSY, request.method == "HEAD")

    def _verify(self, client: Connection, request: Request, users: Users, credentials: Credentials) -> bool:
        """Verify a password in another thread. Return False if too many others wait."""
        from ipvsd.runtime import basic_auth

        def done(correct: bool) -> None:
            self._checked.append((client, request, correct))
            with contextlib.suppress(OSError):  # the next event, or the timeout of the client, wakes the thread
                self._pipe.wake_up()

        def needed() -> bool:
            return client.socket.fileno() >= 0

        client.stage, client.wanted = Stage.WAIT, 0
        self._passwords = self._passwords or basic_auth.PasswordChecker()
        return self._passwords.submit(basic_auth.Job(client.peer, users, credentials, needed, done))

    def _continue_checked(self) -> None:
        while self._checked:
            client, request, correct = self._checked.popleft()
            if client.stage is not Stage.WAIT or self._clients.get(client.socket.fileno()) is not client:
                continue
            try:
                if correct:
                    self._start_answer(client, request)
                else:
                    self._start_response(client, _UNAUTHORIZED, request.method == "HEAD")
            except OSError:
                self._close_client(client, reset=True)
                continue
            client.wanted = select.EPOLLOUT
            self._advance(client)

    def _start_answer(self, client: Connection, request: Request) -> None:
        """Raises OSError."""
        address = plain_address(client.socket.getsockname()[0])
        self._start_response(client, self._answer(request, address), request.method == "HEAD")

    def _answer(self, request: Request, address: str) -> Response:
        try:
            return self._handler(request, address)
        except Exception:  # noqa: BLE001 -- a defect of a handler is logged, and ends neither the thread nor the daemon
            self._log_once(traceback.format_exc())
            return text_response(500, "internal error")

    def _reject_request(self, client: Connection, error: RequestError) -> None:
        client.closes = True
        self._start_response(client, text_response(error.status, error.reason), head_only=False)

    def _start_response(self, client: Connection, response: Response, head_only: bool) -> None:
        client.begun = time.monotonic()
        head = http_response.head(response, client.closes, self.security.headers)
        client.respond(head if head_only else head + response.body)

    def _close_client(self, client: Connection, reset: bool = False) -> None:
        if not self._clients.remove(client):
            return
        client.close(reset)
        if self._trimmer and client.security.tls:
            self._trimmer.count()

    def _log_once(self, text: str) -> None:
        if text != self._last_error:
            self._last_error = text
            for line in text.splitlines():
                log("error", line)
