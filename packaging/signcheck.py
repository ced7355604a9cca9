"""What has to be true before a release is signed: signcheck.py [--rehearse].

Builds everything twice under different circumstances and compares bit for bit; with `--rehearse`
that is all, beside what holds between releases, too. Says every problem, and exits 1 if there is one.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path

import bom
import build
import changelog
import source
import vendor

# Two builders that have little in common but the distribution. Each has also its own directory,
# and files of its own age.
CIRCUMSTANCES: Mapping[str, Mapping[str, str]] = {
    "a": {"TZ": "UTC", "LC_ALL": "C", "HOME": "/", "UMASK": "022"},
    "another/builder": {"TZ": "Pacific/Kiritimati", "LC_ALL": "C.UTF-8", "HOME": "/nonexistent", "UMASK": "077"},
}
_LATER = 400 * 86400  # seconds
_SUM = re.compile(r"([0-9a-f]{64})  (\S+)")


def reproducible(work: Path) -> Iterator[str]:
    """Yield what differs between two builds; leaves them in `work`."""
    for number, (name, circumstances) in enumerate(CIRCUMSTANCES.items()):
        place = work / name
        place.mkdir(parents=True)
        tree = place / "tree"
        source.copy(tree, tracked_only=True)
        for path in tree.rglob("*"):
            os.utime(path, (source.epoch() + number * _LATER,) * 2, follow_symlinks=False)
        _build(tree, place / "dist", circumstances, later=number > 0)
    one, other = (work / name / "dist" for name in CIRCUMSTANCES)
    yield from differences(one, other)


def _build(tree: Path, target: Path, circumstances: Mapping[str, str], later: bool) -> None:
    environment = {**os.environ, "SOURCE_DATE_EPOCH": str(source.epoch()), **circumstances}
    environment.setdefault("IPVSD_VM_CACHE", str(vendor.cache()))
    script = f'umask {circumstances["UMASK"]}; exec "$@"'
    clock = ["faketime", "-f", f"+{_LATER // 86400}d"] if later and shutil.which("faketime") else []
    command = [sys.executable, "-B", "packaging/build.py", "--work", "../work", "--dist", str(target), "--no-check"]
    subprocess.run(["/bin/sh", "-c", script, "sh", *clock, *command, "dist"], cwd=tree, env=environment, check=True)


def differences(one: Path, other: Path) -> Iterator[str]:
    """Yield what differs between two directories of finished files."""
    for name in sorted({path.name for path in (*one.iterdir(), *other.iterdir())}):
        if not ((one / name).exists() and (other / name).exists()):
            yield f"{name} is not in both of {one} and {other}"
        elif (one / name).read_bytes() != (other / name).read_bytes():
            yield f"{name} differs (see: diffoscope {one / name} {other / name})"


def sums(dist: Path) -> Iterator[str]:
    """Yield what SHA256SUMS has wrong or does not have."""
    path = dist / build.SUMS
    if not path.exists():
        yield f"there is no {path} (run: make dist)"
        return
    said = {name: digest for digest, name in _SUM.findall(path.read_text())}
    there = {found.name for found in dist.iterdir()} - {build.SUMS}
    yield from (f"{name} is in {build.SUMS} but not in {dist}" for name in sorted(said.keys() - there))
    yield from (f"{name} is in {dist} but not in {build.SUMS}" for name in sorted(there - said.keys()))
    for name in sorted(there & said.keys()):
        if bom.sha256(dist / name) != said[name]:
            yield f"{name} has not the sum that is in {build.SUMS}"


def versions(dist: Path) -> Iterator[str]:
    """Yield which of the places that have a version has another one than ipvsd/__init__.py."""
    version = source.version()
    newest = changelog.releases((source.ROOT / "CHANGELOG.md").read_text())[0]
    found = {"the first section of CHANGELOG.md": newest.version}
    for path in sorted(dist.iterdir()):
        if path.suffix == ".deb":
            found[path.name] = _said("dpkg-deb", "--field", str(path), "Version")
        elif path.suffix == ".rpm":
            with tempfile.TemporaryDirectory() as database:
                found[path.name] = _said("rpm", "--dbpath", database, "-qp", "--qf", "%{VERSION}", str(path))
        elif path.name != build.SUMS and f"-{version}." not in path.name:
            found[path.name] = "another version"
    yield from (f"{place} has {other}, not {version}" for place, other in found.items() if other != version)
    if not newest.changes:
        yield f"CHANGELOG.md says nothing of {version}"


def released() -> Iterator[str]:
    """Yield what is missing to make this commit the release."""
    version = source.version()
    newest = changelog.releases((source.ROOT / "CHANGELOG.md").read_text())[0]
    if newest.date is None:
        yield f"the section of {version} in CHANGELOG.md has no date yet"
    changed = source.git("status", "--porcelain").splitlines()
    if changed:
        yield f"the tree is not as it was committed: {', '.join(line[3:] for line in changed)}"
    here = [tag for tag in source.git("tag", "--points-at", "HEAD").split() if tag.startswith("v")]
    if here and here != [f"v{version}"]:
        yield f"this commit is tagged {' '.join(here)}, but its version is {version}"
    if not here and source.git("tag", "--list", f"v{version}"):
        yield f"v{version} is the tag of another commit"


def _said(*command: str) -> str:
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip()


def main() -> int:
    """Say every problem; 1 if there is one."""
    parser = argparse.ArgumentParser(description="Check what has to be true before a release is signed.")
    parser.add_argument("--rehearse", action="store_true", help="between releases: leave out dist/, tag and date")
    rehearse = parser.parse_args().rehearse
    published = source.ROOT / "dist"
    with tempfile.TemporaryDirectory(prefix="ipvsd-") as name:
        problems = list(reproducible(Path(name)))
        built = Path(name) / next(iter(CIRCUMSTANCES)) / "dist"
        problems += [*sums(built), *versions(built)]
        if not rehearse:
            problems += [*sums(published), *released()]
            problems += differences(published, built) if published.is_dir() else []
        for problem in problems:
            print(f"signcheck: {problem}", file=sys.stderr)
        if not problems:
            print(f"built twice, bit for bit the same: {', '.join(sorted(path.name for path in built.iterdir()))}")
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
