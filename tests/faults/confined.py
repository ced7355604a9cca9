"""Become a daemon whose node is a tree. The arguments are the tree and the command line of the daemon.

In a mount namespace, the directories of the tree cover those of the system. /proc/sys is that of the kernel.
"""

from __future__ import annotations

import ctypes
import os
import subprocess
import sys
from pathlib import Path

from tests.faults.intercept import install

_NEW_MOUNTS = 0x20000


def _mount(*arguments: str) -> None:
    subprocess.run(["mount", *arguments], check=True)


def main(tree: Path, command: list[str]) -> None:
    """Never returns."""
    if ctypes.CDLL(None, use_errno=True).unshare(_NEW_MOUNTS) < 0:
        raise OSError(ctypes.get_errno(), "cannot have a mount namespace")
    _mount("--make-rprivate", "/")
    _mount("--rbind", "/proc", f"{tree}/run/kernel")
    _mount("--bind", "/proc/sys", f"{tree}/proc/sys")
    library = os.path.realpath("/lib")  # a machine without modules has no directory to cover
    _mount("-t", "overlay", "-o", f"ro,lowerdir={tree}/lib:{library}", "overlay", library)
    for place in ("/etc", "/var/lib", "/run", "/sys/module", "/proc"):
        _mount("--rbind", f"{tree}{place}", place)
    install()
    os.execv(command[0], command)


main(Path(sys.argv[1]), sys.argv[2:])
