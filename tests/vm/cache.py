"""The cache of the bench: directories, each under the hash of its inputs."""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Iterable
from pathlib import Path
from typing import Callable, Union


def directory() -> Path:
    """Return the cache: $IPVSD_VM_CACHE, or a directory below the user's own cache."""
    chosen = os.environ.get("IPVSD_VM_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ipvsd-vm"


def kept(name: str, recipe: Iterable[Union[str, Path]], fill: Callable[[Path, Path], None]) -> Path:
    """Return the directory that `fill` filled, now or in an earlier run.

    `recipe` contains all inputs: texts, and files by their content. `fill` receives the directory and a temporary
    one. A partly filled directory is never visible.
    """
    place = directory() / f"{name}-{_hash(recipe)}"
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(prefix="building-", dir=place.parent) as work:
            # mmdebstrap's helpers run as other users if it was not started as root.
            os.chmod(work, 0o755)
            filled = Path(work) / "kept"
            filled.mkdir()
            fill(filled, Path(work))
            try:
                filled.rename(place)
            except OSError:
                if not place.is_dir():  # otherwise, another build was faster, and its result is the same
                    raise
    return place


def _hash(recipe: Iterable[Union[str, Path]]) -> str:
    digest = hashlib.sha256()
    for item in recipe:
        data = item.encode() if isinstance(item, str) else item.read_bytes()
        digest.update(b"%d:" % len(data) + data)
    return digest.hexdigest()[:16]
