"""The lock of the development tools: packaging/lock, as `make lock` writes it."""

from __future__ import annotations

import re
from pathlib import Path

from tests.packaging.built import PROJECT

LOCK = PROJECT / "packaging" / "lock"


def entries(path: Path) -> list[str]:
    """Return the requirements of a file, each as one line with its marker and its hashes."""
    lines = path.read_text().replace("\\\n", " ").splitlines()
    return [re.sub(r"\s+", " ", line) for line in lines if line and not line.startswith("#")]


def without_markers(names: set[str]) -> str:
    """Return a requirements file with the locked version of each of these packages, for any interpreter."""
    found = {entry.partition("==")[0]: entry for entry in entries(LOCK / "dev.txt")}
    return "".join(re.sub(r" ; .*? (?=--hash=)", " ", found[name]) + "\n" for name in sorted(names))
