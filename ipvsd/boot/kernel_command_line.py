"""The kernel's command line at the next boot: the current one, or that of an image's boot loader."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipvsd.conflicts.file_tree import FileTree
from ipvsd.model.types import RootKind

_GRUB = "etc/default/grub"
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
    configured = tree.read("etc/kernel/cmdline")
    return _grub(tree) if configured is None else configured


def _entries(tree: FileTree, release: str) -> Iterator[str]:
    for name in sorted(tree.names(_ENTRIES)):
        text = tree.read(f"{_ENTRIES}/{name}") or ""
        if name.endswith(".conf") and re.search(rf"^version\s+{re.escape(release)}\s*$", text, re.MULTILINE):
            yield " ".join(re.findall(r"^options\s+(.*)$", text, re.MULTILINE))


def _grub(tree: FileTree) -> str:
    """Return the result of update-grub: the last assignment of each variable, which can refer to an earlier one."""
    drop_ins = sorted(name for name in tree.names(f"{_GRUB}.d") if name.endswith(".cfg"))
    files = [_GRUB, *(f"{_GRUB}.d/{name}" for name in drop_ins)]
    variables: dict[str, str] = {}
    for line in "\n".join(tree.read(file) or "" for file in files).splitlines():
        match = re.match(r"\s*(?:export\s+)?(GRUB_CMDLINE_LINUX(?:_DEFAULT)?)=[\"']?(.*?)[\"']?\s*\Z", line)
        if match:
            variables[match[1]] = re.sub(r"\$\{?(\w+)\}?", lambda name: variables.get(name[1], ""), match[2])
    return " ".join(variables.values())
