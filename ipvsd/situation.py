"""Which kernel a tree is judged by: the running one, that of another tree, or the one that an image will boot."""

from __future__ import annotations

from ipvsd import rooted
from ipvsd.report import Judged


def judged(root: str) -> Judged:
    """Return by which kernel a root is judged.

    A procfs that is mounted below the root of an image that is being built is the build machine's: its kernel has no
    modules in the image, and another one has. Raises rooted.UnreadableError.
    """
    if root == "/":
        return Judged.RUNNING_KERNEL
    release = rooted.text(root, "proc/sys/kernel/osrelease")
    if release is None:
        return Judged.FIRST_BOOT
    if _is_mounted(root) and not _has_modules(root, release.strip()) and _has_modules(root):
        return Judged.FIRST_BOOT
    return Judged.OTHER_TREE


def _is_mounted(root: str) -> bool:
    """Tell whether a file system is mounted on the root's /proc."""
    top, proc = rooted.status(root, "."), rooted.status(root, "proc")
    return top is not None and proc is not None and top.st_dev != proc.st_dev


def _has_modules(root: str, release: str = "") -> bool:
    return any(rooted.names(root, f"{place}/{release}") for place in ("lib/modules", "usr/lib/modules"))
