"""The bill of materials: what is published and what it is made of, as SPDX 2.3 in JSON."""

from __future__ import annotations

import hashlib
import json
import re
import time
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import Any

from vendor import Library

LICENSE = "Apache-2.0"
DOCUMENT = "SPDXRef-DOCUMENT"
# The run-time libraries, which every package but the bundling .rpm takes from the distribution.
LIBRARIES = ("PyYAML", "prometheus-client", "pyroute2", "sdnotify", "watchdog")


def document(version: str, epoch: int, published: Sequence[Path], bundled: Sequence[Library]) -> str:
    """Return the text; the same for the same files. `published` has one source tarball."""
    (tarball,) = (path for path in published if path.name.endswith(".tar.gz"))
    binaries = [path for path in published if path != tarball]
    links = [(DOCUMENT, "DESCRIBES", _id(path.name)) for path in published]
    links += [(_id(path.name), "GENERATED_FROM", _id(tarball.name)) for path in binaries]
    for path in binaries:
        inside = bundled if _bundles(path) else ()
        links += [(_id(path.name), "CONTAINS", _id(library.name, library.version)) for library in inside]
        links += [
            (_id(path.name), "DEPENDS_ON", _id(name))
            for name in LIBRARIES
            if name not in {library.name for library in inside}
        ]
    body = {
        "spdxVersion": "SPDX-2.3",
        "dataLicense": "CC0-1.0",
        "SPDXID": DOCUMENT,
        "name": f"ipvsd-{version}",
        # Unique, as it has to be, and yet the same for the same files.
        "documentNamespace": f"https://ipvsd.invalid/spdx/ipvsd-{version}-{_digest(published)}",
        "creationInfo": {
            "created": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(epoch)),
            "creators": ["Organization: The ipvsd authors", f"Tool: ipvsd-bom-{version}"],
        },
        "packages": [
            *(_artefact(path, version, path == tarball, bundled if _bundles(path) else ()) for path in published),
            *map(_library, bundled),
            *map(_dependency, LIBRARIES),
        ],
        "relationships": [
            {"spdxElementId": one, "relationshipType": kind, "relatedSpdxElement": other} for one, kind, other in links
        ],
    }
    return json.dumps(body, indent=1) + "\n"


def _bundles(path: Path) -> bool:
    return path.suffix == ".rpm" and "unbundled" not in path.name


def _digest(published: Iterable[Path]) -> str:
    return hashlib.sha256("".join(map(sha256, published)).encode()).hexdigest()[:32]


def sha256(path: Path) -> str:
    """Return the digest of a file, in hexadecimal."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


def _id(*words: str) -> str:
    return "SPDXRef-" + re.sub(r"[^A-Za-z0-9.-]", "-", "-".join(words))


def _artefact(path: Path, version: str, is_source: bool, inside: Sequence[Library]) -> dict[str, Any]:
    expressions = {f"({library.license})" for library in inside}
    return {
        **_package("ipvsd", _id(path.name), " AND ".join((LICENSE, *sorted(expressions)))),
        "versionInfo": version,
        "packageFileName": path.name,
        "primaryPackagePurpose": "SOURCE" if is_source else "INSTALL",
        "checksums": [{"algorithm": "SHA256", "checksumValue": sha256(path)}],
    }


def _library(library: Library) -> dict[str, Any]:
    return {
        **_package(library.name, _id(library.name, library.version), library.license),
        "versionInfo": library.version,
        "downloadLocation": f"https://pypi.org/project/{library.name}/{library.version}/",
        "primaryPackagePurpose": "LIBRARY",
        "checksums": [{"algorithm": "SHA256", "checksumValue": library.sha256}],
        "externalRefs": [_purl(f"pkg:pypi/{library.name}@{library.version}")],
    }


def _dependency(name: str) -> dict[str, Any]:
    purl = _purl(f"pkg:pypi/{name.lower()}")
    return {**_package(name, _id(name)), "primaryPackagePurpose": "LIBRARY", "externalRefs": [purl]}


def _package(name: str, identity: str, license_: str = "NOASSERTION") -> dict[str, Any]:
    return {
        "name": name,
        "SPDXID": identity,
        "downloadLocation": "NOASSERTION",
        "filesAnalyzed": False,
        "licenseConcluded": license_,
        "licenseDeclared": license_,
        "copyrightText": "NOASSERTION",
    }


def _purl(locator: str) -> dict[str, str]:
    return {"referenceCategory": "PACKAGE-MANAGER", "referenceType": "purl", "referenceLocator": locator}
