"""The libraries that the .rpm bundles: had with pip, kept in the bench's cache, checked and unpacked."""

from __future__ import annotations

import hashlib
import os
import re
import subprocess
import sys
import tarfile
import tempfile
import time
import zipfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path, PurePosixPath

REQUIREMENTS = Path(__file__).parent / "rpm" / "requirements-vendor.txt"
_LINE = re.compile(r"(\S+)==(\S+) --hash=sha256:([0-9a-f]{64})  # license: (.+)")
_LICENSES = re.compile(r"(LICENSE|NOTICE|COPYING|AUTHORS)\b.*")


@dataclass(frozen=True)
class Library:
    """A pinned version of a project on PyPI: the hash of the file that is used, and an SPDX expression."""

    name: str
    version: str
    sha256: str
    license: str

    @property
    def package(self) -> str:
        """What is imported."""
        return self.name.replace("-", "_")


def libraries(text: str) -> tuple[Library, ...]:
    """Return what a requirements file pins, by name. Raises ValueError for a line that pins nothing."""
    found = []
    for line in text.splitlines():
        match = _LINE.fullmatch(line)
        if match:
            found.append(Library(*match.groups()))
        elif line and not line.startswith("#"):
            raise ValueError(f"{line!r} has not the form NAME==VERSION --hash=sha256:HASH  # license: EXPRESSION")
    return tuple(sorted(found, key=lambda library: library.name))


def fetch() -> Path:
    """Return a directory that holds the libraries' files as they were published, each with the right hash.

    Downloads (some seconds) unless they are in the cache; exits if that fails three times.
    """
    text = REQUIREMENTS.read_text()
    place = cache() / f"vendor-{hashlib.sha256(text.encode()).hexdigest()[:16]}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        print(f"downloading the libraries that the .rpm bundles to {place}", file=sys.stderr)
        with tempfile.TemporaryDirectory(prefix="building-", dir=place.parent) as work:
            target = Path(work) / "kept"
            _download(target)
            try:
                target.rename(place)
            except OSError:
                if not place.is_dir():  # else another build was quicker, and is as good
                    raise
    return place


def cache() -> Path:
    """Return the directory that tests/vm/cache.py uses too, because CI keeps one directory between runs."""
    chosen = os.environ.get("IPVSD_VM_CACHE")
    return Path(chosen or Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ipvsd-vm")


def _download(target: Path) -> None:
    command = [
        os.environ.get("PIP", "pip3"), "--quiet", "--disable-pip-version-check", "download", "--retries", "5",
        "--no-deps", "--require-hashes", "--requirement", str(REQUIREMENTS), "--dest", str(target),
        # pip asks the back end of an sdist for its metadata; a back end of its own would not be a pinned one.
        "--no-build-isolation",
    ]  # fmt: skip
    for attempt in range(3):
        time.sleep(5 * attempt)
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        print(f"pip failed (try {attempt + 1} of 3): {done.stderr[-2000:]}", file=sys.stderr)
    sys.exit("cannot download the libraries: pip failed three times (is PyPI reachable?)")


def unpack(target: Path, archives: Iterable[Path]) -> None:
    """Write each library's modules below `target`, and its licences below target/licenses/NAME.

    Exits if a file is missing or is not the one that was pinned.
    """
    by_hash = {hashlib.sha256(path.read_bytes()).hexdigest(): path for path in archives}
    for library in libraries(REQUIREMENTS.read_text()):
        if library.sha256 not in by_hash:
            sys.exit(f"cannot unpack {library.name}: no file has the hash that is in {REQUIREMENTS.name}")
        for path, data in _members(by_hash[library.sha256]):
            place = _place(library, PurePosixPath(path))
            if place:
                (target / place).parent.mkdir(parents=True, exist_ok=True)
                (target / place).write_bytes(_without_interpreter(data) if place.suffix == ".py" else data)


def _members(archive: Path) -> Iterator[tuple[str, bytes]]:
    if archive.suffix == ".whl":
        with zipfile.ZipFile(archive) as wheel:
            for info in wheel.infolist():
                if not info.is_dir():
                    yield info.filename, wheel.read(info)
    else:
        with tarfile.open(archive) as source:
            for member in source:
                file = source.extractfile(member) if member.isfile() else None
                if file:
                    yield member.name, file.read()


def _place(library: Library, path: PurePosixPath) -> PurePosixPath | None:
    """Return where a member belongs, if anywhere."""
    parts = path.parts
    if _LICENSES.fullmatch(path.name) and len(parts) <= 3:  # NAME.dist-info/licenses/LICENSE
        return PurePosixPath("licenses", library.name, path.name)
    # A wheel begins with the package, an sdist with NAME-VERSION/ and maybe src/.
    for depth in range(min(3, len(parts) - 1)):
        if parts[depth] == library.package and ".." not in parts:
            return PurePosixPath(*parts[depth:])
    return None


def _without_interpreter(source: bytes) -> bytes:
    # No line is lost, so that tracebacks stay right.
    return source[source.index(b"\n") :] if source.startswith(b"#!") else source


if __name__ == "__main__":
    # The spec file calls it: vendor.py TARGET ARCHIVE ...
    unpack(Path(sys.argv[1]), map(Path, sys.argv[2:]))
