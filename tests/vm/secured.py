"""TLS on a node: a server certificate, a required client certificate, and a client that scrapes as Prometheus does."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.vm.node import Node

SCRAPE = Path(__file__).parent / "guest" / "scrape.py"
INTERVAL = 15  # seconds between scrapes
PKI = "/root/pki"
COUNT = "/run/scrapes"  # the file with the number of scrapes
_SERVER_PKI, _WEB, _DROP_IN = "/etc/ipvsd/pki", "/etc/ipvsd/web.yml", "/etc/ipvsd/conf.d/web.yaml"
_SETTINGS = """\
tls_server_config:
  cert_file: pki/server.crt
  key_file: pki/server.key
  client_ca_file: pki/ca.crt
  client_auth_type: RequireAndVerifyClientCert
"""
# Inside the machine, whose clock decides whether a certificate is valid yet. With the directory.
CREATE = """
set -eu
umask 077
mkdir "$1"
cd "$1"
key="-newkey ec -pkeyopt ec_paramgen_curve:prime256v1 -nodes"
echo subjectAltName=IP:127.0.0.1 > extensions
openssl req -x509 $key -keyout ca.key -out ca.crt -days 30 -subj /CN=ca
for name in server client; do
    openssl req -new $key -keyout $name.key -out $name.csr -subj /CN=$name
    openssl x509 -req -in $name.csr -CA ca.crt -CAkey ca.key -CAcreateserial -days 30 -extfile extensions -out $name.crt
done
"""


@contextmanager
def secured(node: Node) -> Iterator[None]:
    """Serve with TLS only, and only clients with a certificate, while the context lasts. Restart at both ends."""
    try:
        node.run(["sh", "-c", CREATE, "sh", PKI])
        node.run(f"mkdir {_SERVER_PKI}; cp {PKI}/ca.crt {PKI}/server.crt {PKI}/server.key {_SERVER_PKI}")
        node.machine.put(_SETTINGS.encode(), _WEB)
        node.machine.put(f"web: {{configFile: {_WEB}}}\n".encode(), _DROP_IN)
        node.pki = PKI
        node.start()
        node.get("/metrics")
        yield
    finally:
        node.pki = ""
        node.run(f"rm -rf {PKI} {_SERVER_PKI} {_WEB} {_DROP_IN}")
        node.start()


@contextmanager
def scraping(node: Node) -> Iterator[None]:
    """Scrape a secured node every INTERVAL seconds while the context lasts. Raises BenchError if a scrape fails."""
    node.machine.put(SCRAPE.read_bytes(), "/root/scrape.py")
    node.run(f"rm -f {COUNT}; systemd-run -q --unit=scrape python3 /root/scrape.py {PKI} {INTERVAL} {COUNT}")
    try:
        node.until(lambda: node.run(f"test -s {COUNT}", check=False).code == 0, "the first scrape")
        yield
        node.run("systemctl is-active scrape || { systemctl status scrape; false; }")
    finally:
        node.run("systemctl stop scrape; systemctl reset-failed scrape", check=False)
