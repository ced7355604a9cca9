"""Certificates for tests, by openssl(1): an authority, a server, and clients that it accepts or rejects."""

from __future__ import annotations

import subprocess
from pathlib import Path

_KEY = ("-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes")


def create_authority(directory: Path, name: str = "ca") -> Path:
    """Create a certificate authority, and return the path of its certificate."""
    certificate = directory / f"{name}.crt"
    _openssl(
        "req", "-x509", *_KEY, "-keyout", str(directory / f"{name}.key"), "-out", str(certificate), "-days", "30",
        "-subj", f"/CN={name}",
    )  # fmt: skip
    return certificate


def create(directory: Path, name: str, authority: str = "ca", days: int = 30) -> tuple[Path, Path]:
    """Create a certificate of an authority for localhost and 127.0.0.1, and return its path and that of its key."""
    certificate, key, request = (directory / f"{name}.{ending}" for ending in ("crt", "key", "csr"))
    _openssl("req", "-new", *_KEY, "-keyout", str(key), "-out", str(request), "-subj", f"/CN={name}")
    extensions = directory / "extensions"
    extensions.write_text("subjectAltName=DNS:localhost,IP:127.0.0.1\n")
    _openssl(
        "x509", "-req", "-in", str(request), "-CA", str(directory / f"{authority}.crt"),
        "-CAkey", str(directory / f"{authority}.key"), "-CAcreateserial", "-days", str(days),
        "-extfile", str(extensions), "-out", str(certificate),
    )  # fmt: skip
    return certificate, key


def _openssl(*arguments: str) -> None:
    subprocess.run(["/usr/bin/openssl", *arguments], check=True, capture_output=True)
