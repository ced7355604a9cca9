"""The connections of the HTTP server: their number, their timeouts, and which one is closed for a new client."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Optional

from ipvsd.runtime import resources
from ipvsd.runtime.http_connection import TIMEOUT, Connection

MAX_CLIENTS = 128  # simultaneous connections
MAX_CLIENTS_PER_PEER = 64  # connections from one address, or from one /64 of IPv6
IDLE = 120.0  # seconds without a request, after which a kept connection is closed
# Seconds from the start of a request in which a client that sends complete messages is closed last. The second number
# applies if at most FEW of its address do so. More of them with that time would keep new clients out.
FAVOUR, FAVOUR_OF_FEW = 0.1, 1.0
FEW = 8


class Clients:
    """Busy connections, and unused ones, which wait for their next request. The order is that of their deadlines."""

    def __init__(self) -> None:
        self._limit = resources.max_clients(MAX_CLIENTS)
        # By descriptor, the oldest first.
        self._busy: dict[int, Connection] = {}
        self._unused: dict[int, Connection] = {}
        self._of_peer: Counter[str] = Counter()

    def __iter__(self) -> Iterator[Connection]:
        """Yield the unused connections, and then the busy ones."""
        yield from (*self._unused.values(), *self._busy.values())

    @property
    def busy(self) -> bool:
        """Whether a request is in progress."""
        return bool(self._busy)

    def get(self, fd: int) -> Optional[Connection]:
        return self._busy.get(fd) or self._unused.get(fd)

    def add(self, client: Connection) -> None:
        self._busy[client.socket.fileno()] = client
        self._of_peer[client.peer] += 1

    def remove(self, client: Connection) -> bool:
        """Remove a connection before its socket is closed. Return whether it was there."""
        fd = client.socket.fileno()
        if self._busy.pop(fd, None) is None and self._unused.pop(fd, None) is None:
            return False
        self._of_peer[client.peer] -= 1
        if not self._of_peer[client.peer]:
            del self._of_peer[client.peer]
        return True

    def keep(self, client: Connection, now: float) -> None:
        """Wait for the next request on a busy connection."""
        fd = client.socket.fileno()
        self._unused[fd] = self._busy.pop(fd)
        client.deadline = now + IDLE

    def begin(self, client: Connection, now: float) -> None:
        """Begin the next request if the connection was unused."""
        fd = client.socket.fileno()
        if fd in self._unused:
            self._busy[fd] = self._unused.pop(fd)
            client.begun, client.deadline = now, now + TIMEOUT

    def next_to_expire(self) -> Optional[Connection]:
        firsts = [next(iter(clients.values())) for clients in (self._busy, self._unused) if clients]
        return min(firsts, key=lambda client: client.deadline, default=None)

    def next_to_close(self, now: float) -> Optional[Connection]:
        """Return the connection that has to make room for a new client, or None if there is room."""
        busiest = max(self._of_peer, key=self._of_peer.__getitem__, default="")
        count = len(self._busy) + len(self._unused)
        if self._of_peer[busiest] < MAX_CLIENTS_PER_PEER and count < self._limit:
            return None
        return self.least_active(busiest, now)

    def least_active(self, peer: str, now: float) -> Connection:
        """Return a peer's first unused connection, or the one that has made no progress for longest.

        A prompt one is returned only if its time is over, or if there is no other.
        """
        found = next((client for client in self._unused.values() if client.peer == peer), None)
        if found:
            return found
        busy = [client for client in self._busy.values() if client.peer == peer]
        prompt = [client for client in busy if client.prompt]
        since = now - (FAVOUR_OF_FEW if len(prompt) <= FEW else FAVOUR)
        favoured = {client for client in prompt if client.requested > since}
        return min([client for client in busy if client not in favoured] or busy, key=lambda client: client.begun)
