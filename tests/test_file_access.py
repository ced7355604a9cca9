"""One module opens files below the root. Every other access has a reason here."""

from __future__ import annotations

import ast
import os
from collections.abc import Iterable

from tests.test_imports import MODULES, nodes

# Functions that read, write or query a path. Pure functions of os.path (join, basename) do not.
_OS = {
    name
    for name in dir(os)
    if name in {"open", "listdir", "scandir", "walk", "fwalk", "stat", "lstat", "statvfs", "access", "readlink", "link"}
    or name in {"symlink", "replace", "rename", "renames", "mkdir", "makedirs", "mkfifo", "mknod", "unlink", "remove"}
    or name in {"rmdir", "removedirs", "chmod", "lchmod", "chown", "lchown", "utime", "truncate", "chdir", "chroot"}
}
_PATH = {"exists", "lexists", "isfile", "isdir", "islink", "ismount", "realpath", "samefile"}
_PATH |= {"getsize", "getmtime", "getctime", "getatime"}
_LIBRARIES = {"pathlib", "shutil", "tempfile", "glob", "io", "codecs", "gzip", "bz2", "lzma", "zipfile", "tarfile"}

# The calls of each module, and the reasons why they do not use `rootfs`.
REASONS = {
    "runtime.rootfs": "it is the one",
    "runtime.path_resolution": "it opens what `rootfs` resolves",
    "runtime.accept_errors": "/dev/null, whose descriptor is kept in reserve",
    "runtime.stdio": "/dev/null in place of a standard stream that is closed",
    "kernel.module_compression": "lzma unpacks what was read",
    "runtime.resources": "descriptors of /dev/null, kept in reserve",
    "kernel.host": "values of the kernel are written where they are, on paths without links",
    "kernel.roots": "the root itself",
    "daemon.watch_targets": "values of the kernel are written where they are, on paths without links",
    "kernel.fd_cache": "descriptors of the host's values, on the host's paths",
    "watch.config_watcher": "the identity of directories that are watched",
    "watch.unit_cgroups": "control groups of the running kernel",
    "watch.sysctl_bpf": "control groups of the running kernel",
    "kernel.processes": "control groups of the running kernel",
    "doctor.bundle": "gzip, tarfile and io pack an archive in memory",
}


def uses(source: Iterable[ast.AST]) -> set[str]:
    """Return the calls of a module, and the functions that it passes on, that access files."""
    found: set[str] = set()
    for node in source:
        if isinstance(node, ast.Import):
            found |= {name.name for name in node.names} & _LIBRARIES
        elif isinstance(node, ast.ImportFrom):
            names = {name.name for name in node.names}
            found |= {node.module or ""} & _LIBRARIES
            found |= names & _OS if node.module == "os" else names & _PATH if node.module == "os.path" else set()
        elif isinstance(node, ast.Name) and node.id == "open":
            found.add("open")
        elif isinstance(node, ast.Attribute) and (node.attr in _OS or node.attr in _PATH):
            base = ast.unparse(node.value)
            if (base == "os" and node.attr in _OS) or (base in ("os.path", "path") and node.attr in _PATH):
                found.add(f"{base}.{node.attr}")
    return found


def test_files_are_opened_by_rootfs_or_with_a_reason() -> None:
    found = {module: uses(nodes(module)) for module in MODULES}
    assert sorted(module for module, used in found.items() if used) == sorted(REASONS), found


def test_the_scan_sees_each_kind_of_access() -> None:
    text = "import os\nfrom os import listdir\nfrom pathlib import Path\nopen('x')\nos.stat('x')\nos.path.exists('x')\n"
    assert uses(ast.walk(ast.parse(text))) == {"listdir", "pathlib", "open", "os.stat", "os.path.exists"}
