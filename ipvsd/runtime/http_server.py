"""A small HTTP/1.1 server: one thread, no waiting, and bounds on everything that a client can ask for.

One connection is one request. Its time begins when it is accepted and never again, so that the order of
arrival is also the order in which time runs out. Where there is no room the oldest connection of the address
with the most of them goes, but none before it had time to say what it wants. Until then the others wait in the
kernel's queue: a slow client keeps nobody waiting for longer than that, and a flood of them is slowed down.

Facts: all clients of loopback share one address, so a new client must not be turned away for the sake of old
ones. A socket that is closed with data unsent stays in the kernel with up to its send buffer, unless it is
reset (SO_LINGER of 0 s). A socket that is closed with data unread is reset, which can destroy the answer on its
way; so after an answer what comes is read and dropped until the client ends.
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
from ipvsd.runtime.http_request import Refusal, Request
from ipvsd.runtime.journal import log

CLIENTS = 128  # connections at a time
OF_ONE = 64  # of them from one address, or from one /64 of IPv6
MAX_HEAD = 8 << 10  # bytes of a request
MAX_REST = 64 << 10  # bytes that are dropped after the answer
SECONDS = 10.0  # that a connection lasts at most
_BACKLOG = 1024  # connections that wait in the kernel; net.core.somaxconn bounds it further
_BATCH = 16  # connections that are accepted before the others have their turn
GRACE = 0.05  # seconds that every connection is left to send its request
# Bytes in the kernel for each connection, which doubles them (socket(7)). They count as the service's memory.
_RECEIVE, _SEND = 16 << 10, 32 << 10
_REST = (0.1, 1.0)  # seconds without accepting after an error: at first, and at most
_QUIET = 60.0  # seconds without such an error, after which the next one is logged
_RESET = struct.pack("ii", 1, 0)


class Response(NamedTuple):
    """What answers a request; the length, the date and what closes the connection are added."""

    status: int
    body: bytes
    headers: Mapping[str, str] = {"Content-Type": "text/plain; charset=utf-8"}


# Asked in the server's thread with the request and the local address that it came to.
Handler = Callable[[Request, str], Response]


class _Client:
    def __init__(self, opened: socket.socket, who: str, due: float) -> None:
        self.socket, self.who, self.due = opened, who, due
        self.head: Optional[bytearray] = bytearray()  # None once the answer is known
        self.answer = memoryview(b"")
        self.dropped = 0


class Server:
    """Serves on the listening sockets that it is given until `stop`. `error` is why it cannot accept, if so."""

    def __init__(self, handler: Handler) -> None:
        """Raises OSError, and RuntimeError if there is no thread to be had."""
        self._listening: dict[int, socket.socket] = {}
        self._handler = handler
        self._most = resources.clients(CLIENTS)
        self._added: deque[socket.socket] = deque()
        self._stopping = False
        self._clients: dict[int, _Client] = {}  # the oldest first
        self._of: Counter[str] = Counter()
        self._reserve = -1
        self._rest, self._until = _REST[0], 0.0  # `until` when nothing is accepted
        self._told, self._failed_at = "", -math.inf
        self._deaf = False  # a socket could not be registered
        self.error = ""
        self._read = self._wake = -1
        self._poller = select.epoll()
        try:
            self._read, self._wake = os.pipe2(os.O_CLOEXEC | os.O_NONBLOCK)
            self._poller.register(self._read, select.EPOLLIN)
            self._keep_reserve()
            self._thread = threading.Thread(target=self._run, name="web", daemon=True)
            self._thread.start()
        except (OSError, RuntimeError):
            self._close()
            raise

    @property
    def alive(self) -> bool:
        return self._thread.is_alive()

    def add(self, listening: socket.socket) -> None:
        """Serve on this socket, too, and close it in the end."""
        listening.setblocking(False)
        self._added.append(listening)
        os.write(self._wake, b"\0")

    def stop(self) -> None:
        """End every connection and close the sockets."""
        self._stopping = True
        os.write(self._wake, b"\0")
        self._thread.join()
        self._close()

    def _close(self) -> None:
        for client in list(self._clients.values()):
            self._end(client, reset=True)
        for opened in (*self._listening.values(), *self._added):
            opened.close()
        self._poller.close()
        for descriptor in (self._reserve, self._read, self._wake):
            if descriptor >= 0:
                os.close(descriptor)

    # --- the loop -----------------------------------------------------------------------

    def _run(self) -> None:
        try:  # no request comes near to what loads modules
            capabilities.drop_all()
        except OSError:
            pass  # a sandbox of someone's own that forbids even this
        while not self._stopping:
            self._turn()

    def _turn(self) -> None:
        """Serve whoever is ready, those who are known first."""
        ready = self._poller.poll(self._patience())
        for fd, _ in ready:
            if fd == self._read:
                self._take()
            client = self._clients.get(fd)
            if client:
                self._serve(client)
        for fd, _ in ready:
            if fd in self._listening and not self._until:
                self._accept(self._listening[fd])
        now = time.monotonic()
        while self._clients and now >= self._oldest().due:
            self._end(self._oldest(), reset=True)
        if self._until and now >= self._until:
            self._until = 0.0
            self._listen(*self._listening.values())

    def _take(self) -> None:
        os.read(self._read, 4096)
        while self._added:
            listening = self._added.popleft()
            self._listening[listening.fileno()] = listening
            if not self._until:
                self._listen(listening)

    def _patience(self) -> Optional[float]:
        dues = [self._oldest().due] if self._clients else []
        dues += [self._until] if self._until else []
        return max(0.0, min(dues) - time.monotonic()) if dues else None

    def _oldest(self, who: Optional[str] = None) -> _Client:
        return next(client for client in self._clients.values() if who in (None, client.who))

    # --- accepting ----------------------------------------------------------------------

    def _listen(self, *listening: socket.socket) -> None:
        for opened in listening:
            try:
                self._poller.register(opened.fileno(), select.EPOLLIN)
            except OSError as error:
                self._cannot(opened, error)
                self._deaf = True
                return
        if self._deaf:
            self._deaf, self.error = False, ""

    def _accept(self, listening: socket.socket) -> None:
        for _ in range(_BATCH):
            wait = self._make_room()
            if wait > 0:
                self._pause(wait)
                return
            try:
                opened, peer = listening.accept()
                self._welcome(opened, _who(str(peer[0])))
            except BlockingIOError:
                self.error, self._rest = "", _REST[0]
                return
            except ConnectionAbortedError:
                continue
            except OSError as error:
                self._cannot(listening, error)
                return

    def _make_room(self) -> float:
        """End a connection if the next one might have no room; return for how many seconds there is none to end."""
        most = max(self._of, key=self._of.__getitem__, default="")
        if self._of[most] < OF_ONE and len(self._clients) < self._most:
            return 0.0
        oldest = self._oldest(most)
        answered = oldest.head is None and not oldest.answer
        wait = 0.0 if answered else oldest.due - SECONDS + GRACE - time.monotonic()
        if wait <= 0:
            self._end(oldest, reset=True)
        return wait

    def _welcome(self, opened: socket.socket, who: str) -> None:
        """Begin with a client. Raises OSError, and then it is gone."""
        opened.setblocking(False)
        client = _Client(opened, who, time.monotonic() + SECONDS)
        self._clients[opened.fileno()] = client
        self._of[who] += 1
        try:
            self._poller.register(opened.fileno(), select.EPOLLIN)
        except OSError:
            self._end(client, reset=True)
            raise
        self._serve(client)  # most have sent all by now

    def _cannot(self, listening: socket.socket, error: OSError) -> None:
        """Back off: the socket stays ready, and to try again at once would keep a CPU busy."""
        if error.errno in (errno.EMFILE, errno.ENFILE):
            # Room for a repair matters more than who asks, and whoever waits learns that it is in vain.
            if self._clients:
                self._end(self._oldest(), reset=True)
            self._turn_away(listening)
        now = time.monotonic()
        self.error = f"cannot accept connections: {error.strerror}"
        if now - self._failed_at > _QUIET:
            log("warning", f"web: {self.error}")
        self._failed_at = now
        self._pause(self._rest)
        self._rest = min(2 * self._rest, _REST[1])

    def _pause(self, seconds: float) -> None:
        """Accept nothing for a moment."""
        for fd in self._listening:
            with contextlib.suppress(FileNotFoundError):  # it could not be registered
                self._poller.unregister(fd)
        self._until = time.monotonic() + seconds

    def _turn_away(self, listening: socket.socket) -> None:
        if self._reserve >= 0:
            os.close(self._reserve)
            self._reserve = -1
            try:
                listening.accept()[0].close()
            except OSError:
                pass  # another thread was faster
        self._keep_reserve()

    def _keep_reserve(self) -> None:
        try:
            self._reserve = os.open(os.devnull, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._reserve = -1

    # --- one client ---------------------------------------------------------------------

    def _serve(self, client: _Client) -> None:
        """Go on with a client until it would have to be waited for."""
        try:
            if client.head is not None:
                self._hear(client, client.head)
            if client.head is None:
                self._say(client)
        except BlockingIOError:
            pass  # the poller tells when to go on
        except OSError:
            self._end(client)

    def _hear(self, client: _Client, head: bytearray) -> None:
        """Read until the request is known. Raises OSError."""
        while client.head is not None:
            known = len(head)
            data = client.socket.recv(MAX_HEAD - known)
            head += data
            length = http_request.end(head, known)
            if length:
                self._answer(client, bytes(head[:length]))
            elif not data:
                if not head:
                    raise ConnectionResetError
                self._refuse(client, Refusal(400, "incomplete request"))
            elif len(head) >= MAX_HEAD:
                self._refuse(client, Refusal(431, f"more than {MAX_HEAD} bytes"))

    def _answer(self, client: _Client, head: bytes) -> None:
        request = http_request.parse(head)
        if isinstance(request, Refusal):
            self._refuse(client, request)
            return
        local = client.socket.getsockname()[0]
        try:
            response = self._handler(request, local)
        except Exception:  # noqa: BLE001 -- a mistake of ours is told, and ends neither thread nor daemon
            self._tell(traceback.format_exc())
            response = Response(500, b"internal error\n")
        self._begin(client, response, request.method == "HEAD")

    def _refuse(self, client: _Client, refusal: Refusal) -> None:
        self._begin(client, Response(refusal.status, f"{refusal.reason}\n".encode()), bare=False)

    def _begin(self, client: _Client, response: Response, bare: bool) -> None:
        client.head = None
        head = _head(response)
        client.answer = memoryview(head if bare else head + response.body)
        self._poller.modify(client.socket.fileno(), select.EPOLLOUT)

    def _say(self, client: _Client) -> None:
        """Send what is left of the answer, then drop what is still sent to us. Raises OSError."""
        while client.answer:
            client.answer = client.answer[client.socket.send(client.answer) :]
            if not client.answer:
                client.answer = memoryview(b"")
                client.socket.shutdown(socket.SHUT_WR)
                self._poller.modify(client.socket.fileno(), select.EPOLLIN)
        while client.dropped < MAX_REST:
            data = client.socket.recv(MAX_HEAD)
            client.dropped += len(data)
            if not data:
                self._end(client)
                return
        self._end(client, reset=True)

    def _end(self, client: _Client, reset: bool = False) -> None:
        if self._clients.pop(client.socket.fileno(), None) is None:
            return
        self._of[client.who] -= 1
        if not self._of[client.who]:
            del self._of[client.who]
        if reset:
            client.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
        client.socket.close()  # which takes it from the poller, too

    def _tell(self, text: str) -> None:
        if text != self._told:
            self._told = text
            for line in text.splitlines():
                log("error", line)


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an IP address. Raises OSError."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE)  # its connections inherit both
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND)
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


def _who(address: str) -> str:
    """Return whom an address counts as: who has one address of IPv6 has the /64 that it is in."""
    if ":" not in address:
        return address
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()
