"""Packages of any Debian suite, unpacked into a directory by an apt with its own configuration.

The system's sources, lists of packages and installed packages are unchanged.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"  # mmdebstrap trusts it as well
INSTALLED = "/var/lib/dpkg/status"

# Follows the system's own settings, of which the proxy and apt's requirements matter here.
PRIVATE = """
Dir::State "{place}/state";
Dir::State::status "{status}";
Dir::Cache "{place}/cache";
Dir::Etc::sourcelist "{place}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::main "/dev/null";
Dir::Etc::parts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "/dev/null";
APT::Default-Release "/^{suite}(-security)?$/";
APT::Sandbox::User "root";
APT::Update::Error-Mode "any";
Acquire::Retries "5";
Debug::NoLocking "true";
"""


def unpack(package: str, suite: str, target: Path, work: Path, also: str, status: str = os.devnull) -> None:
    """Unpack a package of a suite, and the dependencies whose names match `also` completely, into `target`.

    `status` lists packages that are already installed. Exits if the mirror is unavailable.
    """
    place = _private("deb", suite, work, status)
    plan = _apt(place, "install", "--simulate", "--no-install-recommends", package)
    versions = dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", plan, re.MULTILINE))
    _apt(place, "download", *(f"{name}={version}" for name, version in versions.items() if re.fullmatch(also, name)))
    for path in (place / "debs").iterdir():
        subprocess.run(["dpkg-deb", "-x", path, target], check=True)


def source(package: str, suite: str, target: Path, work: Path) -> None:
    """Unpack the source of a package of a suite, with the distribution's patches, into the new directory `target`.

    Exits if the mirror is unavailable.
    """
    place = _private("deb-src", suite, work, os.devnull)
    _apt(place, "source", "--download-only", "--only-source", package)
    (description,) = (place / "debs").glob("*.dsc")
    # apt has verified it with the checksums of the signed list, so the uploader's key is not needed here.
    command = ["dpkg-source", "--no-check", "--extract", str(description), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cannot unpack {description.name}: {done.stderr[-2000:]}")


def _private(kind: str, suite: str, work: Path, status: str) -> Path:
    """Return the place of an apt with the package lists (deb) or source lists (deb-src) of a suite."""
    place = work / "apt"
    for name in ("state/lists/partial", "cache/archives/partial", "debs"):
        (place / name).mkdir(parents=True)
    (place / "sources.list").write_text("".join(f"{kind} {line}\n" for line in _sources(suite)))
    (place / "apt.conf").write_text(_settings() + PRIVATE.format(place=place, suite=suite, status=status))
    _apt(place, "update")
    return place


def _sources(suite: str) -> Iterator[str]:
    stable = suite.replace("-backports", "")
    main = _mirror("Debian", "http://deb.debian.org/debian")
    for name in {stable: main, suite: main}:
        yield f"[signed-by={KEYRING}] {main} {name} main"
    if suite != "sid":
        security = _mirror("Debian-Security", "http://deb.debian.org/debian-security")
        yield f"[signed-by={KEYRING}] {security} {stable}-security main"


def _mirror(label: str, otherwise: str) -> str:
    filters = ("Origin: Debian", f"Label: {label}", "Identifier: Packages", "Component: main")
    command = ["apt-get", "indextargets", "--format", "$(REPO_URI)", *filters]
    found = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
    return found[0] if found else otherwise


def _settings() -> str:
    lines = subprocess.run(["apt-config", "dump"], capture_output=True, text=True, check=True).stdout.splitlines()
    # The system's own hooks before and after updates are left out.
    return "\n".join(line for line in lines if not re.match(r"DPkg\b|\S*-Invoke", line))


def _apt(place: Path, *arguments: str) -> str:
    environment = {**os.environ, "LC_ALL": "C", "APT_CONFIG": str(place / "apt.conf")}
    command = ["apt-get", "-q", *arguments]
    done = subprocess.run(command, cwd=place / "debs", env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cannot build the bench: 'apt-get {arguments[0]}' failed with {done.stderr[-2000:]}")
    return done.stdout
