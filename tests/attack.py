"""Attacks on the HTTP endpoint of a daemon, and their costs. `make attack` tries all of them.

Run as a program with the name of an attack and a port, it attacks until it is stopped. With names, it tries these.
"""

from __future__ import annotations

import base64
import errno
import http.client
import math
import re
import selectors
import socket
import ssl
import statistics
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple, Optional

from ipvsd.runtime.basic_auth import crypt
from tests import certificates
from tests.service import REPOSITORY, Service, free_port
from tests.trees import make_tree, put

_LINE = b"X-" + b"a" * 65_000 + b": b\r\n"  # a line of the size that Python's http.server accepts
ADDRESS = "127.0.0.1"
BOUND = 8_000_000  # bytes that the daemon may use in addition to those at rest
CALM = 1_000_000  # bytes: the daemon is at rest again within this distance of the former size
# With TLS, some small objects of OpenSSL and ssl keep the arenas of Python and glibc in use. Three attacks of each kind
# left 0.2 to 1.5 MB after the first one, and 0.4 to 1.6 MB after the third. Since PyYAML is imported in part, two
# attacks with handshakes leave 2.2 to 2.4 MB of a smaller size: 33.4 to 33.7 MB after 31.3, not 34.8 after 33.3.
CALM_TLS = 2_500_000
CALM_SECONDS = 20.0
_CLEAR_HWM = "5"  # proc(5), /proc/PID/clear_refs


class Attack(NamedTuple):
    """`clients` connections, reopened when they are closed. Each sends `first`, and then `then` repeatedly.

    `pause` is the time between two repetitions. `reads` means that the client reads responses. `ends` means that it
    sends nothing after `first` (a half-closed connection), and `leaves` that it closes the connection after it. With
    `tls`, each connection begins with a handshake.
    """

    what: str
    clients: int = 500
    first: bytes = b""
    then: bytes = b""
    pause: float = 0.0
    reads: bool = True
    ends: bool = False
    leaves: bool = False
    tls: bool = False


def _head(start: bytes, *headers: bytes) -> bytes:
    return b"".join(line + b"\r\n" for line in (start + b" HTTP/1.1", b"Host: localhost", *headers))


KEPT = _head(b"GET /metrics") + b"\r\n"
METRICS, STATUS = (_head(b"GET /" + page, b"Connection: close") + b"\r\n" for page in (b"metrics", b"status"))
_CHUNKED = _head(b"POST /status", b"Transfer-Encoding: chunked") + b"\r\n"
_LARGE = _head(b"PUT /metrics", b"Content-Length: 1000000000000") + b"\r\n"
_OPEN = KEPT[:-2]  # a head without its end

ATTACKS = {
    "idle": Attack("500 connections that send nothing"),
    "slow headers": Attack("500 requests at one byte a second", first=_OPEN + b"X-A: ", then=b"a", pause=1.0),
    "large headers": Attack("32 requests with 98 headers of 65 kB each", 32, _OPEN + 98 * _LINE + b"\r\n"),
    "endless headers": Attack("500 requests whose headers never end", first=_OPEN, then=_LINE),
    "endless line": Attack("500 requests whose first line never ends", first=b"GET /", then=b"a" * 65_536),
    "pipelining": Attack("500 connections with 100 requests at a time, nothing read", then=STATUS * 100, reads=False),
    "unread": Attack("500 requests whose response is not read", first=STATUS, reads=False),
    "half-closed": Attack("500 requests on half-closed connections, not read", first=STATUS, reads=False, ends=True),
    "reconnecting": Attack("50 clients that request, disconnect at once and reconnect", 50, METRICS, leaves=True),
    "requesting": Attack("500 clients that request as fast as they can", first=METRICS),
    "keep-alive": Attack("500 clients that stay connected and request all the time", first=KEPT, then=KEPT),
    "chunked": Attack("500 requests with invalid chunks", first=_CHUNKED, then=b"FFFFFFFFFFFFFFFF\r\n" + b"z" * 9_999),
    "large bodies": Attack("500 requests with a body of 1 TB", first=_LARGE, then=b"\0" * 65_536),
    "other protocol": Attack("500 clients of another protocol", then=bytes(range(256)) * 16),
}
_HELLO = b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03"  # of TLS, without the rest
WRONG = _head(b"GET /metrics", b"Authorization: Basic YTpi") + b"\r\n"

# Of a daemon with TLS and passwords.
TLS_ATTACKS = {
    "idle, TLS": Attack("500 connections that send nothing"),
    "slow handshake": Attack("500 handshakes at one byte a second", first=_HELLO, then=b"a", pause=1.0),
    "slow headers, TLS": ATTACKS["slow headers"]._replace(tls=True),
    "handshakes": Attack("500 clients that disconnect after the handshake", first=b"G", leaves=True, tls=True),
    "requesting, TLS": ATTACKS["requesting"]._replace(tls=True),
    "keep-alive, TLS": ATTACKS["keep-alive"]._replace(tls=True),
    "unread, TLS": ATTACKS["unread"]._replace(tls=True),
    "wrong passwords": Attack("500 clients with a wrong password", first=WRONG, then=WRONG, tls=True),
    "no TLS": ATTACKS["other protocol"]._replace(what="500 clients of a protocol other than TLS"),
}
ALL = {**ATTACKS, **TLS_ATTACKS}
USER, PASSWORD = "prometheus", "correct horse"


class Attacker:
    """Attacks when `step` is called."""

    def __init__(self, attack: Attack, port: int) -> None:
        self._attack, self._place = attack, (ADDRESS, port)
        self._context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        self._context.check_hostname, self._context.verify_mode = False, ssl.CERT_NONE
        self._poller = selectors.DefaultSelector()
        self._due: dict[socket.socket, tuple[float, bytes]] = {}  # the time and the data of the next transmission

    def __enter__(self) -> Attacker:
        return self

    def __exit__(self, *_: object) -> None:
        for opened in list(self._due):
            self._drop(opened)
        self._poller.close()

    def step(self) -> None:
        """Do everything that is possible without blocking."""
        for _ in range(self._attack.clients - len(self._due)):
            opened = socket.socket(type=socket.SOCK_STREAM | socket.SOCK_NONBLOCK)
            if opened.connect_ex(self._place) not in (0, errno.EINPROGRESS):
                opened.close()
                break
            if self._attack.tls:
                opened = _Secured(self._context, opened)
            self._poller.register(opened, selectors.EVENT_READ | selectors.EVENT_WRITE)
            self._due[opened] = (0.0, self._attack.first)
        for key, events in self._poller.select(0.01):
            assert isinstance(key.fileobj, socket.socket)
            try:
                self._serve(key.fileobj, events)
            except (BlockingIOError, ssl.SSLWantReadError, ssl.SSLWantWriteError):
                pass
            except OSError:
                self._drop(key.fileobj)

    def _serve(self, opened: socket.socket, events: int) -> None:
        if events & selectors.EVENT_READ:
            if self._attack.reads:
                if not opened.recv(1 << 16):
                    raise ConnectionResetError
            else:
                self._poller.modify(opened, selectors.EVENT_WRITE)
        due, data = self._due[opened]
        now = time.monotonic()
        if not events & selectors.EVENT_WRITE or now < due:
            return
        if data:
            data = data[opened.send(data) :]
        if not data:
            if self._attack.leaves:
                raise ConnectionResetError
            if self._attack.ends:
                opened.shutdown(socket.SHUT_WR)
            data, due = self._attack.then, now + self._attack.pause
        if not data:
            self._poller.modify(opened, selectors.EVENT_READ)
        self._due[opened] = (due, data)

    def _drop(self, opened: socket.socket) -> None:
        self._poller.unregister(opened)
        del self._due[opened]
        opened.close()


class _Secured(socket.socket):
    """A client's end with TLS, whose handshake takes place with the first bytes, on the descriptor of `opened`."""

    def __init__(self, context: ssl.SSLContext, opened: socket.socket) -> None:
        super().__init__(fileno=opened.detach())
        self._incoming, self._outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        self._tls = context.wrap_bio(self._incoming, self._outgoing)
        self._ready = False

    def _exchange(self) -> None:
        """Do as much of the handshake as possible. Raises BlockingIOError while it is not complete."""
        while True:
            try:
                self._tls.do_handshake()
                self._ready = True
            except ssl.SSLWantReadError:
                pass
            if self._outgoing.pending:
                super().send(self._outgoing.read())
            if self._ready:
                return
            data = super().recv(1 << 16)
            if not data:
                raise ConnectionResetError
            self._incoming.write(data)

    def recv(self, size: int, flags: int = 0) -> bytes:
        if not self._ready:
            self._exchange()
            raise BlockingIOError
        return super().recv(size, flags)

    def send(self, data: bytes, flags: int = 0) -> int:  # type: ignore[override] # of bytes only
        if not self._ready:
            self._exchange()
        sent = self._tls.write(data[: 1 << 14])
        super().send(self._outgoing.read(), flags)
        return sent


class Memory(NamedTuple):
    """Resident memory of a process now, and its maximum, in bytes."""

    now: int
    most: int


def memory(pid: int) -> Memory:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    found = {line.partition(":")[0]: line.split()[1] for line in lines if line.startswith(("VmRSS", "VmHWM"))}
    return Memory(int(found["VmRSS"]) * 1024, int(found["VmHWM"]) * 1024)


def forget_most(pid: int) -> None:
    """Reset the maximum of resident memory."""
    Path(f"/proc/{pid}/clear_refs").write_text(_CLEAR_HWM)


def ask(port: int, path: str = "/healthz", timeout: float = 20.0, authority: Optional[Path] = None) -> Optional[float]:
    """Return the seconds until a response, or None if there was none. With an authority, use TLS and the password."""
    headers = {"Authorization": "Basic " + base64.b64encode(f"{USER}:{PASSWORD}".encode()).decode()}
    if authority is None:
        client = http.client.HTTPConnection(ADDRESS, port, timeout=timeout)
    else:
        context = ssl.create_default_context(cafile=str(authority))
        client = http.client.HTTPSConnection(ADDRESS, port, timeout=timeout, context=context)
    begun = time.monotonic()
    with closing(client) as connection:
        try:
            connection.request("GET", path, headers=headers if authority else {})
            answer = connection.getresponse()
            answer.read()
        except (OSError, http.client.HTTPException):
            return None
    return time.monotonic() - begun if answer.status == 200 else None


@contextmanager
def daemon(tree: Path, tls: bool = False) -> Iterator[Target]:
    """Run a daemon on a tree, with TLS and a password if requested."""
    port = free_port()
    service = Service(make_tree(tree))
    web = "etc/ipvsd/web.yml"
    authority = _protect(tree, web) if tls else None
    protection = f", configFile: /{web}" if tls else ""
    put(tree, "etc/ipvsd/ipvsd.yaml", f'web: {{listen: ["{ADDRESS}:{port}"]{protection}}}\n')
    try:
        service.ready()
        deadline = time.monotonic() + 20
        while ask(port, "/metrics", authority=authority) is None and time.monotonic() < deadline:
            time.sleep(0.01)
        for path in ("/healthz", "/status") * 5:
            ask(port, path, authority=authority)
        yield Target(service, port, authority)
    finally:
        service.close()


def _protect(tree: Path, web: str) -> Path:
    """Write a web configuration file with its certificate, and return the certificate of the authority."""
    place = tree / "pki"
    place.mkdir()
    authority = certificates.create_authority(place)
    certificates.create(place, "server")
    hashed = (crypt(PASSWORD.encode(), b"$2b$10$abcdefghijklmnopqrstuu") or b"").decode()
    files = "cert_file: ../../pki/server.crt, key_file: ../../pki/server.key"
    put(tree, web, f"tls_server_config: {{{files}}}\nbasic_auth_users: {{{USER}: '{hashed}'}}\n")
    return authority


class Target(NamedTuple):
    """A daemon. `authority` is the certificate of its authority, or None without TLS."""

    service: Service
    port: int
    authority: Optional[Path]

    @property
    def calm(self) -> int:
        return CALM_TLS if self.authority else CALM

    @property
    def pid(self) -> int:
        return self.service.process.pid

    def ask(self, path: str = "/healthz") -> Optional[float]:
        return ask(self.port, path, authority=self.authority)


class Outcome(NamedTuple):
    """The result of an attack: memory in bytes, and the response times of /healthz for another client in seconds."""

    before: int
    most: int
    after: int
    asked: int
    times: tuple[float, ...]

    @property
    def growth(self) -> int:
        return self.most - self.before

    @property
    def left(self) -> int:
        return self.after - self.before

    @property
    def median(self) -> float:
        return statistics.median(self.times) if self.times else math.inf

    @property
    def slowest(self) -> float:
        return max(self.times, default=math.inf)


def measure(name: str, target: Target, seconds: float, path: str = "/healthz", before: Optional[int] = None) -> Outcome:
    """Attack a daemon for some seconds, with requests for a path meanwhile. Then wait until it is at rest.

    `before` is the memory at rest before all attacks, by default the present memory.
    """
    pid = target.pid
    before = memory(pid).now if before is None else before
    forget_most(pid)
    times: list[Optional[float]] = []
    with subprocess.Popen([sys.executable, "-m", "tests.attack", name, str(target.port)], cwd=REPOSITORY) as attacker:
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            times.append(target.ask(path))
            time.sleep(0.05)
        attacker.kill()
    deadline = time.monotonic() + CALM_SECONDS
    while memory(pid).now > before + target.calm and time.monotonic() < deadline:
        time.sleep(0.1)
    found = memory(pid)
    return Outcome(before, found.most, found.now, len(times), tuple(time for time in times if time is not None))


ROW = "| {:16} | {:58} | {:>6} | {:>7} | {:>10} | {:>10} | {:>6} | {:>7} |"
SECONDS = 10.0


def table(only: Sequence[str] = (), seconds: float = SECONDS) -> Iterator[str]:
    """Yield the lines of a table with the result of each attack, or of some: MB, and seconds."""
    yield ROW.format("attack", "what it does", "before", "at most", "afterwards", "answered", "median", "slowest")
    yield re.sub(r"[^|]", "-", ROW.format(*[""] * 8))
    for name, attack in ALL.items():
        if only and name not in only:
            continue
        with TemporaryDirectory() as tree, daemon(Path(tree), name in TLS_ATTACKS) as target:
            found = measure(name, target, seconds)
        answered = f"{len(found.times)} of {found.asked}"
        sizes = (f"{found.before / 1e6:.1f}", f"{found.growth / 1e6:+.1f}", f"{found.left / 1e6:+.1f}")
        yield ROW.format(name, attack.what, *sizes, answered, f"{found.median:.2f}", f"{found.slowest:.2f}")


def main(arguments: Sequence[str]) -> None:
    """Attack a port until this process is stopped, or try all attacks on own daemons and print a table."""
    if len(arguments) != 2 or not arguments[1].isdecimal():
        for line in table(arguments):
            print(line, flush=True)
        return
    name, port = arguments
    with Attacker(ALL[name], int(port)) as attacker, suppress(KeyboardInterrupt):
        while True:
            attacker.step()


if __name__ == "__main__":
    main(sys.argv[1:])
