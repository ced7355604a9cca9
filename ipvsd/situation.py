"""Which tree a root is, and by which kernel it is judged.

That is the running one, that of another tree, or the one that an image will boot.
"""

from __future__ import annotations

import os
from typing import Optional

from ipvsd import rooted
from ipvsd.report import Judged


def normal(root: str) -> str:
    """Return "/" for each name of the root directory, as // or /usr/.., and any other root as it is.

    Raises rooted.UnreadableError.
    """
    return "/" if os.path.realpath(root) == "/" and _mount(root) == _mount("/") else root


def _mount(path: str) -> Optional[str]:
    """Return what tells a mount from others: /proc/PID/root is / by its text, in other mount namespaces, too."""
    try:
        opened = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise rooted.UnreadableError(error.errno, error.strerror, path) from error
    try:
        return rooted.text("/", f"proc/self/fdinfo/{opened}")
    finally:
        os.close(opened)


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
