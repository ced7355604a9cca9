"""The HTTP endpoint with TLS and passwords, in a daemon as a process: who is served, and which files are used."""

from __future__ import annotations

import base64
import contextlib
import http.client
import os
import shutil
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from ipvsd.runtime.basic_auth import crypt
from ipvsd.runtime.certificate_expiry import expiry
from tests import certificates
from tests.attack import forget_most, memory
from tests.service import MAIN, Service, Until, free_port
from tests.trees import put

pytestmark = pytest.mark.system

WEB = "etc/ipvsd/web.yml"
PASSWORD = "correct horse"
HASH = (crypt(PASSWORD.encode(), b"$2b$04$abcdefghijklmnopqrstuu") or b"").decode()
TLS = "tls_server_config: {cert_file: pki/server.crt, key_file: pki/server.key}\n"
CLIENTS = (
    "tls_server_config: {cert_file: pki/server.crt, key_file: pki/server.key, client_ca_file: pki/ca.crt, "
    "client_auth_type: RequireAndVerifyClientCert}\n"
)
USERS = f"basic_auth_users: {{prometheus: '{HASH}'}}\n"


@pytest.fixture(scope="module")
def authority(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with the certificates of an authority and of a foreign one."""
    directory = tmp_path_factory.mktemp("pki")
    certificates.create_authority(directory)
    certificates.create_authority(directory, "foreign")
    for name in ("server", "server2", "client"):
        certificates.create(directory, name)
    certificates.create(directory, "stranger", "foreign")
    certificates.create(directory, "expired", days=-1)
    return directory


class Site:
    """A daemon with a web configuration file."""

    def __init__(self, service: Service, authority: Path) -> None:
        self.service, self.authority, self.port = service, authority, free_port()
        put(service.tree, MAIN, f'web: {{listen: ["127.0.0.1:{self.port}"], configFile: /{WEB}}}\n')
        (service.tree / "etc/ipvsd/pki").mkdir(parents=True)
        for name in ("server.crt", "server.key", "ca.crt"):
            self.install(name)

    def install(self, name: str, instead: Optional[str] = None) -> None:
        data = (self.authority / (instead or name)).read_bytes()
        temporary = self.service.tree / "etc/ipvsd/pki/.new"
        temporary.write_bytes(data)
        temporary.rename(self.service.tree / f"etc/ipvsd/pki/{name}")

    def configure(self, text: str) -> None:
        put(self.service.tree, WEB, text)

    def connect(self, client: Optional[str] = None, **versions: ssl.TLSVersion) -> http.client.HTTPSConnection:
        context = ssl.create_default_context(cafile=str(self.authority / "ca.crt"))
        for name, version in versions.items():
            setattr(context, name, version)
        if client:
            context.load_cert_chain(self.authority / f"{client}.crt", self.authority / f"{client}.key")
        return http.client.HTTPSConnection("127.0.0.1", self.port, timeout=10, context=context)

    def ask(self, client: Optional[str] = None, **headers: str) -> int:
        """Return the status of a response, or 0 if the connection was rejected."""
        with contextlib.closing(self.connect(client)) as connection:
            try:
                connection.request("GET", "/metrics", headers=headers)
                return connection.getresponse().status
            except (OSError, http.client.HTTPException):
                return 0

    def subject(self) -> str:
        """Return the name in the certificate of the server, or an empty text if there is no connection."""
        with contextlib.closing(self.connect()) as connection:
            try:
                connection.connect()
            except OSError:
                return ""
            certificate: Any = connection.sock.getpeercert()
            return str(certificate["subject"][0][0][1])

    def start(self, until: Until) -> None:
        self.service.ready()
        until(lambda: (self.service.source("web") or {"up": False})["up"], "it serves")


@pytest.fixture
def site(service: Service, authority: Path) -> Site:
    return Site(service, authority)


def basic(user: str, password: str) -> dict[str, str]:
    return {"Authorization": "Basic " + base64.b64encode(f"{user}:{password}".encode()).decode()}


def test_a_client_needs_a_valid_certificate_of_the_authority(site: Site, until: Until) -> None:
    site.configure(CLIENTS)
    site.start(until)
    assert [site.ask(name) for name in ("client", None, "stranger", "expired", "client")] == [200, 0, 0, 0, 200]
    assert len(site.service.stop()[1]) == 2  # a rejected client is not logged


def test_a_client_certificate_that_is_optional_must_be_valid(site: Site, until: Until) -> None:
    site.configure(CLIENTS.replace("RequireAndVerifyClientCert", "VerifyClientCertIfGiven"))
    site.start(until)
    assert [site.ask(name) for name in (None, "client", "stranger", "expired", None)] == [200, 200, 0, 0, 200]


def test_a_client_needs_a_password(site: Site, until: Until) -> None:
    site.configure(TLS + USERS)
    site.start(until)
    rejected: tuple[dict[str, str], ...] = (
        {},
        basic("prometheus", "wrong"),
        basic("nobody", PASSWORD),
        {"Authorization": "Basic !"},
    )
    assert [site.ask(None, **headers) for headers in rejected] == [401] * 4
    assert [site.ask(None, **basic("prometheus", PASSWORD)) for _ in range(2)] == [200, 200]
    assert site.ask(None, **basic("prometheus", PASSWORD + "\0")) == 401


def test_the_versions_and_headers_of_the_file_apply(site: Site, until: Until) -> None:
    site.configure(
        "tls_server_config: {cert_file: pki/server.crt, key_file: pki/server.key, min_version: TLS13}\n"
        "http_server_config: {headers: {X-Frame-Options: deny}}\n"
    )
    site.start(until)
    with contextlib.closing(site.connect(maximum_version=ssl.TLSVersion.TLSv1_2)) as old, pytest.raises(OSError):
        old.connect()
    with contextlib.closing(site.connect()) as connection:
        for _ in range(3):  # on one connection
            connection.request("GET", "/healthz")
            answer = connection.getresponse()
            assert (answer.status, answer.headers["X-Frame-Options"]) == (200, "deny")
            answer.read()


def test_plain_http_on_the_port_for_tls_is_an_error(site: Site, until: Until) -> None:
    site.configure(TLS)
    site.start(until)
    with contextlib.closing(http.client.HTTPConnection("127.0.0.1", site.port, timeout=10)) as connection:
        connection.request("GET", "/metrics")
        assert connection.getresponse().status == 400


def test_the_end_of_a_certificate_is_known(site: Site, until: Until) -> None:
    end = expiry((site.authority / "server.crt").read_bytes())
    assert end is not None
    site.configure(TLS)
    site.start(until)
    with contextlib.closing(site.connect()) as connection:
        connection.connect()
        certificate: Any = connection.sock.getpeercert()
    assert ssl.cert_time_to_seconds(certificate["notAfter"]) == end


def test_an_expired_certificate_is_reported_once_and_leaves_the_node_ready(site: Site, until: Until) -> None:
    site.configure(TLS)
    site.install("server.crt", "expired.crt")
    site.install("server.key", "expired.key")
    site.start(until)
    service = site.service
    until(lambda: service.seen()["notes"], "it is reported")
    for _ in range(2):
        service.process.send_signal(signal.SIGHUP)
        service.hears("READY=1")
    (note,) = service.seen()["notes"]
    assert note.startswith("the certificate of the HTTP endpoint expired on ")
    assert (service.status()["state"], service.seen()["failures"]) == ("ready", [])
    for name in ("crt", "key"):
        site.install(f"server.{name}")
    until(lambda: not service.seen()["notes"], "the renewed certificate is used")
    assert [line.partition(": ")[2] for line in service.stop()[1] if "certificate" in line] == [f"warning: {note}"]


class Clients:
    """Threads that scrape without a pause. Every other one keeps its connection. `failures` must stay empty.

    `seen` are the names in the server's certificate at the last connection of each.
    """

    def __init__(self, site: Site, number: int) -> None:
        self._site, self._stop = site, threading.Event()
        self.failures: list[str] = []
        self.seen = [""] * number
        self._threads = [threading.Thread(target=self._run, args=(index,)) for index in range(number)]

    def __enter__(self) -> Clients:
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *raised: object) -> None:
        self._stop.set()
        for thread in self._threads:
            thread.join()

    def _run(self, index: int) -> None:
        with contextlib.closing(self._site.connect("client")) as connection:
            while not self._stop.is_set():
                try:
                    name = scrape(connection)
                except (OSError, http.client.HTTPException, AssertionError) as error:
                    self.failures.append(repr(error))
                    connection.close()
                else:
                    self.seen[index] = name
                if index % 2:
                    connection.close()


def scrape(connection: http.client.HTTPSConnection) -> str:
    """Scrape completely, and return the name in the certificate of the server."""
    if connection.sock is None:
        connection.connect()
    certificate: Any = connection.sock.getpeercert()
    connection.request("GET", "/metrics")
    answer = connection.getresponse()
    assert (answer.status, answer.read()[-1:]) == (200, b"\n")
    return str(certificate["subject"][0][0][1])


# The daemon waits less for further changes of the files, so that many rotations take little time.
IMPATIENT = (
    "import sys; from ipvsd.daemon import web_configuration; web_configuration.SETTLE = 0.02; "
    "from ipvsd import cli; sys.exit(cli.main(['run', '--root', sys.argv[1]]))"
)


def test_certificates_rotate_under_load_without_a_failed_scrape(site: Site, until: Until) -> None:
    site.configure(CLIENTS)
    site.service.start(program=("-c", IMPATIENT, str(site.service.tree)))
    site.service.hears("READY=1\n")
    until(lambda: (site.service.source("web") or {"up": False})["up"], "it serves")
    with Clients(site, 6) as clients:
        for name in ("server2", "server", "server2", "server", "server2"):
            site.install("server.crt", f"{name}.crt")
            site.install("server.key", f"{name}.key")
            until(lambda name=name: set(clients.seen) == {name}, "each client sees it")  # type: ignore[misc]
    assert clients.failures == []


def test_an_invalid_file_leaves_the_old_settings_and_is_reported_once(site: Site, until: Until) -> None:
    site.configure(TLS)
    site.start(until)
    site.configure("tls_server_config: {cert_file: pki/server.crt}\nport: 1\n")
    until(lambda: site.service.seen().get("failures"), "it is reported")
    path = site.service.tree / WEB
    (failure,) = site.service.seen()["failures"]
    problem = f"{path}:1: tls_server_config: missing key 'key_file' and 1 more"
    assert failure == {"operation": "load_web_configuration", "error": problem}
    assert (site.ask(), site.service.status()["state"]) == (200, "ready")
    site.configure(TLS + USERS)
    until(lambda: site.ask() == 401, "the valid file is used")
    until(lambda: not site.service.seen()["failures"], "the failure is over")
    log = [line.partition(": ")[2] for line in site.service.stop()[1] if "web conf" in line]
    assert log == [
        f"warning: cannot load the web configuration file: {problem} (ipvsd retries)",
        "ipvsd can load the web configuration file again",
        "web configuration file loaded",
    ]


def test_a_replaced_directory_is_watched_again(site: Site, until: Until) -> None:
    """Kubernetes replaces the directory of a volume's files by a link, and a package the whole directory."""
    site.configure(TLS)
    site.start(until)
    pki = site.service.tree / "etc/ipvsd/pki"
    for name in ("server2", "server"):
        shutil.rmtree(pki)
        pki.mkdir()
        site.install("server.crt", f"{name}.crt")
        site.install("server.key", f"{name}.key")
        until(lambda name=name: site.subject() == name, "the new certificate is used")  # type: ignore[misc]


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("tls_server_config: {cert_file: 1", "{web}:1: invalid YAML: "),
        (
            TLS.replace("server.key", "none.key"),
            "{web}:1: tls_server_config.key_file: {pki}/none.key: cannot read the file: No such file or directory",
        ),
        (TLS.replace("server.key", "server2.key"), "{web}:1: tls_server_config.key_file: {pki}/server2.key: the key "),
        (TLS.replace("server.key", "ca.crt"), "{web}:1: tls_server_config.key_file: {pki}/ca.crt: the file cont"),
        (CLIENTS.replace("ca.crt", "server.key"), "{web}:1: tls_server_config.client_ca_file: {pki}/server.key: "),
    ],
)
def test_an_invalid_file_at_the_start_keeps_the_endpoint_closed_until_it_is_valid(
    site: Site, until: Until, text: str, error: str
) -> None:
    site.install("server2.key")
    site.configure(text)
    site.service.ready()
    until(lambda: site.service.seen().get("failures"), "it is reported")
    web, pki = site.service.tree / WEB, site.service.tree / "etc/ipvsd/pki"
    (failure,) = site.service.seen()["failures"]
    assert failure["operation"] == "load_web_configuration"
    assert failure["error"].startswith(error.format(web=web, pki=pki))
    assert (site.service.source("web")["up"], site.service.status()["state"]) == (False, "ready")
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(("127.0.0.1", site.port), timeout=5)
    site.configure(TLS)
    until(lambda: (site.service.source("web") or {"up": False})["up"], "it serves")
    assert site.ask() == 200


def test_a_new_file_that_is_invalid_does_not_end_the_service(site: Site, until: Until) -> None:
    put(site.service.tree, MAIN, f'web: {{listen: ["127.0.0.1:{site.port}"]}}\n')
    site.start(until)
    put(site.service.tree, MAIN, f'web: {{listen: ["127.0.0.1:{site.port}"], configFile: /{WEB}}}\n')
    site.service.process.send_signal(signal.SIGHUP)
    until(lambda: site.service.seen().get("failures"), "it is reported")
    site.configure(TLS)
    until(lambda: not site.service.seen()["failures"], "the failure is over")
    assert site.ask() == 200


def hostile() -> Iterator[bytes]:
    """Yield at least 100 requests and damaged beginnings of TLS."""
    yield from (b"\x16\x03\x01" + bytes((n,)) * n for n in range(40))
    yield from (b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + os.urandom(n) for n in range(40))
    yield from (b"GET /" + b"a" * n + b" HTTP/1.1\r\n\r\n" for n in range(0, 20000, 1000))
    yield from (bytes((n,)) * 3000 for n in range(20))


def test_hostile_data_leaves_no_trace(site: Site, until: Until) -> None:
    site.configure(CLIENTS + USERS)
    site.start(until)
    pid = site.service.process.pid
    requests = list(hostile())
    assert len(requests) >= 100
    site.ask("client", **basic("prometheus", "wrong"))
    before = memory(pid).now
    forget_most(pid)
    for data in requests:
        with socket.create_connection(("127.0.0.1", site.port), timeout=10) as plain, contextlib.suppress(OSError):
            plain.sendall(data)
            plain.shutdown(socket.SHUT_WR)
            while plain.recv(1 << 16):
                pass
        with contextlib.closing(site.connect("client")) as secured:
            secured.connect()
            with contextlib.suppress(OSError):
                secured.sock.sendall(data + b"\r\n\r\n")
                assert secured.sock.recv(1 << 16)[9:10] in (b"4", b"5", b"")
    assert site.ask("client", **basic("prometheus", PASSWORD)) == 200
    assert memory(pid).most - before < 2_000_000
    assert len(site.service.stop()[1]) == 2
