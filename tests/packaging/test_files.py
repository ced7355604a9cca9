"""Both kinds of packages contain the same files."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Iterable, Iterator
from pathlib import Path

from ipvsd.commands.doctor import GUIDE
from tests.packaging.built import bundled, debian, unbundled

# Paths that differ: the form in the .rpm of a path in the .deb.
PLACES = (
    (r"^lib/", "usr/lib/"),
    (r"^usr/lib/python3/dist-packages/ipvsd/", "usr/share/ipvsd/ipvsd/"),
    (r"^usr/share/doc/(.*)\.gz$", r"usr/share/doc/\1"),
)
ONLY_DEBIANS = {
    "etc/kernel/postinst.d/ipvsd",  # Fedora's kernels call kernel-install
    "usr/share/doc/ipvsd/changelog",
    "usr/share/doc/ipvsd/copyright",
    "usr/share/lintian/overrides/ipvsd",
}
ONLY_RPMS = {"usr/share/doc/ipvsd/CHANGELOG.md", "usr/share/licenses/ipvsd/LICENSE"}


def _run(*command: str) -> Iterator[str]:
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    yield from done.stdout.splitlines()


def _in_deb(package: Path) -> Iterator[str]:
    for line in _run("dpkg-deb", "--contents", str(package)):
        kind, path = line[0], line.split(None, 5)[5]
        if kind != "d" and ".dist-info/" not in path:
            path = path[2:]
            for pattern, place in PLACES:
                path = re.sub(pattern, place, path)
            yield path


def _in_rpm(package: Path, database: Path) -> Iterator[str]:
    form = "[%{FILEMODES:perms} %{FILENAMES}\\n]"
    for line in _run("rpm", "--dbpath", str(database), "-qp", "--qf", form, str(package)):
        permissions, path = line.split(" ", 1)
        if not permissions.startswith("d"):
            yield path[1:]


def _own(paths: Iterable[str]) -> set[str]:
    return {path for path in paths if not re.match(r"usr/share/(ipvsd/vendor|licenses/ipvsd/bundled)/", path)}


def test_both_have_the_guide_where_doctor_refers_to_it(tmp_path: Path) -> None:
    contents = _run("dpkg-deb", "--contents", str(debian()))
    assert GUIDE in {line.split(None, 5)[5][1:] for line in contents}  # not compressed
    assert GUIDE[1:] in set(_in_rpm(unbundled(), tmp_path))


def test_both_have_the_same_files(tmp_path: Path) -> None:
    deb = set(_in_deb(debian()))
    rpm = set(_in_rpm(unbundled(), tmp_path))
    assert deb - rpm == ONLY_DEBIANS
    assert rpm - deb == ONLY_RPMS


def test_bundling_adds_libraries_and_their_licences_and_nothing_else(tmp_path: Path) -> None:
    with_libraries = set(_in_rpm(bundled(), tmp_path))
    assert _own(with_libraries) == set(_in_rpm(unbundled(), tmp_path))
    assert len(with_libraries) > len(_own(with_libraries)) + 100
