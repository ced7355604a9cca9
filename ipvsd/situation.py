"""Which kernel a tree is judged by: the running one, that of another tree, or the one that an image will boot."""

from __future__ import annotations

import os

from ipvsd.report import Judged


def judged(root: str) -> Judged:
    """Return by which kernel a root is judged.

    A procfs that is mounted below the root of an image that is being built is the build machine's: its kernel has no
    modules in the image, and another one has.
    """
    if os.path.realpath(root) == "/":
        return Judged.RUNNING_KERNEL
    proc = os.path.join(root, "proc")
    try:
        with open(os.path.join(proc, "sys/kernel/osrelease"), encoding="utf-8", errors="replace") as file:
            release = file.read().strip()
    except OSError:
        return Judged.FIRST_BOOT
    if os.path.ismount(proc) and not _has_modules(root, release) and _has_modules(root):
        return Judged.FIRST_BOOT
    return Judged.OTHER_TREE


def _has_modules(root: str, release: str = "") -> bool:
    places = (os.path.join(root, place, "lib/modules", release) for place in ("", "usr"))
    return any(os.path.isdir(place) and os.listdir(place) for place in places)
