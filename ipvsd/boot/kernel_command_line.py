"""The kernel's command line at the next boot: the current one, or that of an image's boot loader."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipvsd.conflicts.file_tree import FileTree
from ipvsd.kernel import shell_assignments
from ipvsd.model.types import RootKind

_GRUB = "etc/default/grub"
# In the order in which grub-mkconfig joins them.
_VARIABLES = ("GRUB_CMDLINE_LINUX", "GRUB_CMDLINE_LINUX_DEFAULT")
_KERNEL_INSTALL = ("etc/kernel/cmdline", "usr/lib/kernel/cmdline")
_ENTRIES = "boot/loader/entries"


def command_line(tree: FileTree, root_kind: RootKind, release: str) -> str:
    """Return the command line, as far as files determine it.

    That of an image is the first of: its kernel's entry (Boot Loader Specification), that of kernel-install, or that of
    GRUB's configuration in the style of Debian and Ubuntu.
    """
    if root_kind is not RootKind.FIRST_BOOT:
        return tree.read("proc/cmdline") or ""
    entry = next(_entries(tree, release), None)
    if entry is not None:
        return entry
    # A link to /dev/null is no regular file, so kernel-install skips it. An empty file counts.
    configured = (tree.read(file) for file in _KERNEL_INSTALL)
    found = next((text for text in configured if text is not None), None)
    return _grub(tree) if found is None else found


def _entries(tree: FileTree, release: str) -> Iterator[str]:
    for name in sorted(tree.names(_ENTRIES)):
        text = tree.read(f"{_ENTRIES}/{name}") or ""
        if name.endswith(".conf") and re.search(rf"^version\s+{re.escape(release)}\s*$", text, re.MULTILINE):
            yield " ".join(re.findall(r"^options\s+(.*)$", text, re.MULTILINE))


def _grub(tree: FileTree) -> str:
    """Return the command line that update-grub writes. The parts that a command prints are missing."""
    drop_ins = sorted(name for name in tree.names(f"{_GRUB}.d") if re.match(r"[^.].*\.cfg\Z", name, re.DOTALL))
    files = [_GRUB, *(f"{_GRUB}.d/{name}" for name in drop_ins)]
    variables = shell_assignments.parse("\n".join(tree.read(file) or "" for file in files))
    return " ".join(variables[name].text for name in _VARIABLES if name in variables)
