"""One connection of the HTTP server: its stage, its limits, and the bytes that it receives and sends.

No function blocks: each raises BlockingIOError if it has to wait, and `wanted` is then the event to wait for.

Facts:
- If a socket is closed with unsent data, the kernel keeps up to its send buffer, unless it is reset (SO_LINGER 0).
- If a socket is closed with unread data, the kernel resets it, which can destroy the response in transit. So after
  the last response, the server reads and drops data until the client closes the connection.
"""

from __future__ import annotations

import contextlib
import enum
import fcntl
import select
import socket
import struct

from ipvsd.runtime import http_request
from ipvsd.runtime.http_request import RequestError
from ipvsd.runtime.http_security import OPEN, Security

MAX_HEAD = 8 << 10  # bytes of a request
MAX_DISCARDED = 64 << 10  # bytes that are dropped after the last response
MAX_REQUESTS = 100  # requests on one connection
TIMEOUT = 10.0  # seconds for a request and its response
_SIOCOUTQ = 0x5411  # <linux/sockios.h>: bytes that were not acknowledged
_RESET_ON_CLOSE = struct.pack("ii", 1, 0)


class Stage(enum.Enum):
    RECEIVE = enum.auto()  # the head of a request
    WAIT = enum.auto()  # for the verification of a password
    SEND = enum.auto()  # the response
    DROP = enum.auto()  # data that the client still sends after the last response


class Connection:
    """A client. `closes` means that the current response is the last one."""

    def __init__(self, opened: socket.socket, peer: str, now: float, security: Security = OPEN) -> None:
        self.socket, self.peer, self.security = opened, peer, security
        self.begun, self.deadline = now, now + TIMEOUT
        self.stage = Stage.RECEIVE
        self.wanted = select.EPOLLIN
        self.registered = 0  # the events that the poller reports
        self.served = 0  # responses
        self.closes = True
        self._head = bytearray()
        self._answer = memoryview(b"")
        self._discarded = 0

    @property
    def unused(self) -> bool:
        """Whether the connection waits for nothing but the next request, or its end."""
        return self.stage is Stage.DROP or (self.stage is Stage.RECEIVE and self.served > 0 and not self._head)

    @property
    def prompt(self) -> bool:
        """Whether the client has sent each message as a whole, so that the next one is probably on its way."""
        return self.stage is Stage.WAIT

    @property
    def requested(self) -> float:
        """The start of the request."""
        return self.deadline - TIMEOUT

    @property
    def delivered(self) -> bool:
        """Whether the client's kernel has received everything that was sent."""
        try:
            return fcntl.ioctl(self.socket.fileno(), _SIOCOUTQ, b"\0" * 4) == b"\0" * 4
        except OSError:
            return True

    def receive(self) -> bytes:
        """Return the head of a request. Raises OSError, and InvalidRequestError if there cannot be a head."""
        while True:
            searched = len(self._head)
            data = self._receive(MAX_HEAD - searched)
            self._head += data
            error = None if searched else http_request.reject_start(self._head)
            if error:
                raise InvalidRequestError(error)
            length = http_request.head_length(self._head, searched)
            if length:
                head = bytes(self._head[:length])
                # Requests that follow at once (pipelining) are dropped, so that a client cannot queue them here.
                self.closes = len(self._head) > length or self._buffered or self.served + 1 >= MAX_REQUESTS
                self._head = bytearray()
                return head
            if not data:
                if not self._head:
                    raise ConnectionResetError
                raise InvalidRequestError(RequestError(400, "incomplete request"))
            if len(self._head) >= MAX_HEAD:
                raise InvalidRequestError(RequestError(431, f"more than {MAX_HEAD} bytes"))

    @property
    def begins(self) -> bool:
        """Whether a part of a request has arrived."""
        return self.stage is Stage.RECEIVE and bool(self._head)

    def respond(self, data: bytes) -> None:
        self._answer = memoryview(data)
        self.stage = Stage.SEND

    def send(self) -> bool:
        """Send the rest of the response, and return whether another request may follow. Raises OSError."""
        self.wanted = select.EPOLLOUT
        while self._answer:
            self._answer = self._answer[self._send(self._answer) :]
        self._answer = memoryview(b"")
        self.served += 1
        self.wanted = select.EPOLLIN
        self.stage = Stage.DROP if self.closes else Stage.RECEIVE
        if self.closes:
            self._end()
        return not self.closes

    def drop(self) -> bool:
        """Drop what the client still sends. Return whether it closed the connection. Raises OSError."""
        while self._discarded < MAX_DISCARDED:
            data = self.socket.recv(MAX_HEAD)
            self._discarded += len(data)
            if not data:
                return True
        return False

    def close(self, reset: bool) -> None:
        if reset:
            with contextlib.suppress(OSError):  # without memory for it, the kernel keeps the data until its own timeout
                self.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET_ON_CLOSE)
        self.socket.close()  # this also removes it from the poller

    # --- the transport ------------------------------------------------------------------

    def _receive(self, size: int) -> bytes:
        return self.socket.recv(size)

    @property
    def _buffered(self) -> bool:
        """Whether received data waits in this process."""
        return False

    def _send(self, data: memoryview) -> int:
        return self.socket.send(data)

    def _end(self) -> None:
        self.socket.shutdown(socket.SHUT_WR)


class InvalidRequestError(Exception):
    """There is no valid request. The response is the last one on the connection."""

    def __init__(self, error: RequestError) -> None:
        super().__init__(error.reason)
        self.error = error
