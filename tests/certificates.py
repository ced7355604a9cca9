"""Certificates for tests, by openssl(1): an authority, a server, and clients that it accepts or rejects."""

from __future__ import annotations

import subprocess
import time
from pathlib import Path

# The configuration of `openssl ca`. The directory of the test contains its files.
_CA = """\
[ca]
default_ca = own
[own]
database = {directory}/index.txt
new_certs_dir = {directory}
rand_serial = yes
default_md = sha256
policy = any
x509_extensions = server
[any]
commonName = supplied
[server]
subjectAltName = DNS:localhost,IP:127.0.0.1
subjectKeyIdentifier = hash
authorityKeyIdentifier = keyid
"""
_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def create_authority(directory: Path, name: str = "ca") -> Path:
    """Create a certificate authority, and return the path of its certificate."""
    certificate = directory / f"{name}.crt"
    _openssl(
        "req", "-x509", *_KEY, "-keyout", str(directory / f"{name}.key"), "-out", str(certificate), "-days", "30",
        "-subj", f"/CN={name}", "-addext", "keyUsage=critical,keyCertSign",  # Python 3.13 requires it
    )  # fmt: skip
    return certificate


def create(directory: Path, name: str, authority: str = "ca", days: int = 30) -> tuple[Path, Path]:
    """Create a certificate of an authority for localhost and 127.0.0.1, and return its path and that of its key.

    It expires in so many days, or did so if they are negative, which `openssl x509` accepts only before OpenSSL 3.4.
    """
    certificate, key, request = (directory / f"{name}.{ending}" for ending in ("crt", "key", "csr"))
    _openssl("req", "-new", *_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
    config, now = directory / "ca.cnf", time.time()
    config.write_text(_CA.format(directory=directory))
    (directory / "index.txt").write_text("")
    begin, end = (time.strftime("%Y%m%d%H%M%SZ", time.gmtime(now + 86400 * day)) for day in (min(0, days) - 1, days))
    _openssl(
        "ca", "-batch", "-config", str(config), "-cert", str(directory / f"{authority}.crt"),
        "-keyfile", str(directory / f"{authority}.key"), "-startdate", begin, "-enddate", end,
        "-in", str(request), "-out", str(certificate),
    )  # fmt: skip
    return certificate, key


def _openssl(*arguments: str) -> None:
    subprocess.run(["/usr/bin/openssl", *arguments], check=True, capture_output=True)
