"""Packages of any Debian suite, unpacked into a directory by an apt with a configuration of its own.

The system's sources, its lists of packages and what is installed on it stay as they are.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"  # which mmdebstrap trusts, too
INSTALLED = "/var/lib/dpkg/status"

# Comes after the system's own settings, of which the proxy and what apt insists on matter here.
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
    """Unpack a package of a suite, and those it depends on whose names match `also` in full, into `target`.

    `status` tells what is installed already and need not be had again. Exits if the mirror cannot be used.
    """
    place = _private("deb", suite, work, status)
    plan = _apt(place, "install", "--simulate", "--no-install-recommends", package)
    versions = dict(re.findall(r"^Inst (\S+) (?:\[\S+\] )?\((\S+)", plan, re.MULTILINE))
    _apt(place, "download", *(f"{name}={version}" for name, version in versions.items() if re.fullmatch(also, name)))
    for path in (place / "debs").iterdir():
        subprocess.run(["dpkg-deb", "-x", path, target], check=True)


def source(package: str, suite: str, target: Path, work: Path) -> None:
    """Unpack the source of a package of a suite, with the distribution's patches, into the new directory `target`.

    Exits if the mirror cannot be used.
    """
    place = _private("deb-src", suite, work, os.devnull)
    _apt(place, "source", "--download-only", "--only-source", package)
    (description,) = (place / "debs").glob("*.dsc")
    # apt has compared it with the sums of the signed list; the uploader's own key need not be known here.
    command = ["dpkg-source", "--no-check", "--extract", str(description), str(target)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cannot unpack {description.name}: {done.stderr[-2000:]}")


def _private(kind: str, suite: str, work: Path, status: str) -> Path:
    """Return the place of an apt that knows the lists of a suite, of packages (deb) or of sources (deb-src)."""
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
