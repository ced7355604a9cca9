"""The directory that ipvsd uses in place of /: whether it is / itself, and the kernel that applies to it."""

from __future__ import annotations

import os
from typing import Optional

from ipvsd.model.types import RootKind
from ipvsd.runtime import rootfs


def normalise_root(root: str) -> str:
    """Return "/" for every spelling of the root directory, such as `//` or `/usr/..`. Raises rootfs.UnreadableError."""
    return "/" if os.path.realpath(root) == "/" and _mount_identity(root) == _mount_identity("/") else root


def _mount_identity(path: str) -> Optional[str]:
    """Return a text that identifies the mount of a path: /proc/PID/root of another namespace resolves to / as well."""
    try:
        opened = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    except OSError as error:
        raise rootfs.UnreadableError(error.errno, error.strerror, path) from error
    try:
        return rootfs.text("/", f"proc/self/fdinfo/{opened}")
    finally:
        os.close(opened)


def classify_root(root: str) -> RootKind:
    """Return the kernel that applies to a root. Raises rootfs.UnreadableError.

    The /proc of an image under construction belongs to the build machine. The release of that kernel then has no
    modules in the image, and another release has.
    """
    if root == "/":
        return RootKind.RUNNING_KERNEL
    release = rootfs.text(root, "proc/sys/kernel/osrelease")
    if release is None:
        return RootKind.FIRST_BOOT
    top, proc = rootfs.status(root, "."), rootfs.status(root, "proc")
    mounted = top is not None and proc is not None and top.st_dev != proc.st_dev
    if mounted and not _has_modules(root, release.strip()) and _has_modules(root):
        return RootKind.FIRST_BOOT
    return RootKind.OTHER_TREE


def _has_modules(root: str, release: str = "") -> bool:
    return any(rootfs.names(root, f"{place}/{release}") for place in ("lib/modules", "usr/lib/modules"))
