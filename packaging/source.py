"""The files of the project, and what is the same wherever and whenever something is made of them."""

from __future__ import annotations

import gzip
import io
import os
import re
import subprocess
import tarfile
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).parents[1]
_NOT_IN_A_TARBALL = {"build", "dist", "__pycache__", "PKG-INFO"}


def version() -> str:
    """Return the version, which is in one place. Raises ValueError if it is not there."""
    found = re.search(r'^__version__ = "(\S+)"$', (ROOT / "ipvsd/__init__.py").read_text(), re.MULTILINE)
    if not found:
        raise ValueError("there is no __version__ in ipvsd/__init__.py")
    return str(found[1])


def maintainer() -> str:
    """Return who signs changelogs, as in Debian's control file."""
    text = (ROOT / "packaging/debian/control").read_text()
    return str(re.findall(r"^Maintainer: (.+)$", text, re.MULTILINE)[0])


def epoch() -> int:
    """Return the time that is in everything built: $SOURCE_DATE_EPOCH, else that of the commit or of the tarball."""
    chosen = os.environ.get("SOURCE_DATE_EPOCH")
    if chosen:
        return int(chosen)
    if (ROOT / ".git").exists():
        return int(git("log", "-1", "--pretty=%ct"))
    return int((ROOT / "CHANGELOG.md").stat().st_mtime)


def files(tracked_only: bool = False) -> tuple[Path, ...]:
    """Return the project's files below ROOT, without what is built; new ones count unless `tracked_only`."""
    if (ROOT / ".git").exists():
        others = () if tracked_only else ("--others", "--exclude-standard")
        names = {Path(name) for name in git("ls-files", "-z", "--cached", *others).split("\0") if name}
        return tuple(sorted(path for path in names if os.path.lexists(ROOT / path)))
    return tuple(sorted(_walk(ROOT)))


def _walk(directory: Path) -> Iterator[Path]:
    for path in directory.iterdir():
        if path.name.startswith(".") and path.name not in (".ci", ".githooks", ".gitignore"):
            continue
        if path.name in _NOT_IN_A_TARBALL or path.name.endswith(".egg-info"):
            continue
        if path.is_dir() and not path.is_symlink():
            yield from _walk(path)
        else:
            yield path.relative_to(ROOT)


def git(*arguments: str) -> str:
    """Return what git says of the project."""
    # A checkout that belongs to somebody else is read all the same.
    command = ["git", "-c", f"safe.directory={ROOT}", "-C", str(ROOT), *arguments]
    return subprocess.run(command, capture_output=True, text=True, check=True).stdout


def tarball(target: Path, tracked_only: bool = False) -> None:
    """Write the source tarball: the same bytes for the same files, whatever their times, owners and umask."""
    inside = f"ipvsd-{version()}"
    with (
        target.open("wb") as raw,
        gzip.GzipFile("", "wb", 9, raw, mtime=epoch()) as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.USTAR_FORMAT) as tar,
    ):
        for path in files(tracked_only):
            tar.addfile(*_member(path, f"{inside}/{path}"))


def _member(path: Path, name: str) -> tuple[tarfile.TarInfo, io.BytesIO | None]:
    member = tarfile.TarInfo(name)
    member.mtime = epoch()
    if (ROOT / path).is_symlink():
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, os.readlink(ROOT / path), 0o777
        return member, None
    data = (ROOT / path).read_bytes()
    member.size = len(data)
    member.mode = 0o755 if os.access(ROOT / path, os.X_OK) else 0o644
    return member, io.BytesIO(data)


def copy(target: Path, tracked_only: bool = False) -> None:
    """Unpack the tarball as `target`, so that nothing that is built leaves anything in the tree."""
    packed = target.parent / f"{target.name}.tar.gz"
    tarball(packed, tracked_only)
    with tarfile.open(packed) as tar:
        tar.extractall(target.parent)  # noqa: S202  # just made here
    (target.parent / f"ipvsd-{version()}").rename(target)
    packed.unlink()
