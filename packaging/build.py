"""Build what is published: build.py [--work DIR] [--dist DIR] [--no-check] deb|rpm|dist

Everything is made in a copy below `--work`, and only finished files come to `--dist`.
"""

from __future__ import annotations

import argparse
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import bom
import changelog
import source
import vendor

# The distribution's own programs, whatever else comes first on the caller's PATH.
PATH = "/usr/sbin:/usr/bin:/sbin:/bin"
SUMS = "SHA256SUMS"
# Neither the machine nor the time shows in a package.
RPM_MACROS = {
    "_buildhost": "reproducible",
    "use_source_date_epoch_as_buildtime": "1",
    "clamp_mtime_to_source_date_epoch": "1",
    "build_mtime_policy": "clamp_to_source_date_epoch",  # the same for rpm 4.20 and later
    "_binary_payload": "w9.gzdio",  # which every rpm can read
}


def deb(work: Path, dist: Path) -> None:
    """Build the .deb."""
    place = _fresh(work / "deb")
    tree = place / f"ipvsd-{source.version()}"
    source.copy(tree)
    (tree / "packaging/debian").rename(tree / "debian")
    (tree / "debian/changelog").write_text(changelog.debian(*_history()))
    _run(["dpkg-buildpackage", "-us", "-uc", "-b"], tree, {"DEB_BUILD_OPTIONS": "nocheck"}, place / "build.log")
    _publish(place.glob("*.deb"), dist, "*.deb")


def rpm(work: Path, dist: Path, bundled: bool, check: bool) -> None:
    """Build the .rpm that bundles its libraries, or the one that takes the distribution's."""
    place = _fresh(work / ("rpm" if bundled else "rpm-unbundled"))
    for name in ("SOURCES", "SPECS", "BUILDROOT", "db"):
        (place / name).mkdir()
    source.tarball(place / f"SOURCES/ipvsd-{source.version()}.tar.gz")
    archives = sorted(vendor.fetch().iterdir()) if bundled else []
    for archive in archives:
        shutil.copy(archive, place / "SOURCES")
    spec = place / "SPECS/ipvsd.spec"
    spec.write_text(specification([archive.name for archive in archives]))
    macros = {**RPM_MACROS, "_topdir": str(place), "_dbpath": str(place / "db"), "_tmppath": str(place)}
    options = [f"--define={name} {value}" for name, value in macros.items()]
    options += [] if bundled else ["--without=bundled_deps"]
    # Without the distribution's libraries there is nothing that %check could run.
    options += [] if check and bundled else ["--nocheck"]
    # Debian's rpm has a database of its own, in which no package is installed.
    _run(["rpmbuild", "-bb", "--nodeps", *options, str(spec)], place, {}, place / "build.log")
    _publish(place.glob("RPMS/noarch/*.rpm"), dist, "*[0-9].noarch.rpm" if bundled else "*.unbundled.noarch.rpm")


def specification(archives: Sequence[str]) -> str:
    """Return the spec file with what is filled in."""
    pinned = vendor.libraries(vendor.REQUIREMENTS.read_text())
    operands = {name for library in pinned for name in _operands(library.license)} - {bom.LICENSE}
    filled = {
        "VERSION": source.version(),
        "LICENSES": "".join(f" AND {name}" for name in sorted(operands)),
        "SOURCES": "\n".join(f"Source{number}:        {name}" for number, name in enumerate(archives, 1)),
        "ARCHIVES": " ".join(f"%{{SOURCE{number}}}" for number, _ in enumerate(archives, 1)),
        "PROVIDES": "\n".join(
            f"Provides:       bundled(python3dist({library.name})) = {library.version}" for library in pinned
        ),
        "CHANGELOG": changelog.rpm(*_history()),
    }
    text = (source.ROOT / "packaging/rpm/ipvsd.spec").read_text()
    for name, value in filled.items():
        text = text.replace(f"@{name}@", value)
    return text


def _operands(expression: str) -> Sequence[str]:
    return [f"({expression})"] if " OR " in expression else expression.split(" AND ")


def _history() -> tuple[tuple[changelog.Release, ...], str, int]:
    found = changelog.releases((source.ROOT / "CHANGELOG.md").read_text())
    return found, source.maintainer(), source.epoch()


def dist(work: Path, target: Path, check: bool) -> None:
    """Build the source tarball and the packages, and write the bill of materials and the sums of them all."""
    for path in target.glob("*") if target.is_dir() else ():
        path.unlink()
    target.mkdir(parents=True, exist_ok=True)
    name = f"ipvsd-{source.version()}"
    source.tarball(target / f"{name}.tar.gz", tracked_only=True)
    deb(work, target)
    rpm(work, target, bundled=True, check=check)
    rpm(work, target, bundled=False, check=check)
    built = sorted(target.iterdir())
    pinned = vendor.libraries(vendor.REQUIREMENTS.read_text())
    (target / f"{name}.spdx.json").write_text(bom.document(source.version(), source.epoch(), built, pinned))
    lines = [f"{bom.sha256(path)}  {path.name}\n" for path in sorted(target.iterdir())]
    (target / SUMS).write_text("".join(lines))


def _fresh(place: Path) -> Path:
    shutil.rmtree(place, ignore_errors=True)
    place.mkdir(parents=True)
    return place


def _publish(found: Iterable[Path], target: Path, former: str) -> None:
    target.mkdir(parents=True, exist_ok=True)
    for path in target.glob(former):
        path.unlink()
    for path in found:
        shutil.copyfile(path, target / path.name)
        print(target / path.name)


def _run(command: Sequence[str], place: Path, environment: Mapping[str, str], log: Path) -> None:
    settings = {**os.environ, "SOURCE_DATE_EPOCH": str(source.epoch()), "PATH": PATH, **environment}
    with log.open("w") as out:
        done = subprocess.run(command, cwd=place, env=settings, stdout=out, stderr=subprocess.STDOUT, check=False)
    if done.returncode:
        sys.exit("".join(log.read_text().splitlines(keepends=True)[-40:]) + f"cannot build: {command[0]} failed")


def main() -> None:
    """Run one of the targets."""
    parser = argparse.ArgumentParser(description="Build what is published.")
    parser.add_argument("--work", type=Path, default=source.ROOT / "build", help="where to build (default: build)")
    parser.add_argument("--dist", type=Path, default=source.ROOT / "dist", help="where to put it (default: dist)")
    parser.add_argument("--no-check", dest="check", action="store_false", help="build the .rpm without its %%check")
    parser.add_argument("target", choices=("deb", "rpm", "dist"))
    arguments = parser.parse_args()
    os.umask(0o022)
    work, target = arguments.work.resolve(), arguments.dist.resolve()
    if arguments.target == "deb":
        deb(work, target)
    elif arguments.target == "rpm":
        rpm(work, target, bundled=True, check=arguments.check)
        rpm(work, target, bundled=False, check=arguments.check)
    else:
        dist(work, target, arguments.check)


if __name__ == "__main__":
    main()
