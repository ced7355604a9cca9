"""modules-load.d(5) and `modules_load=` on the kernel's command line, as systemd-modules-load reads them.

A line is a name or an alias without surrounding white space, so `ip_vs # why` and `ip_vs hashsize=1` are names of no
module. On Debian, a link in /etc/modules-load.d leads to /etc/modules. For an unknown name, systemd-modules-load logs
an error, and older versions fail (src/modules-load/modules-load.c; seen with systemd 252).
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import NamedTuple, Optional

from ipvsd.conflicts import ini_files
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import PLACES, FileTree
from ipvsd.modprobe import kernel_names

DIRECTORIES = tuple(f"{place}/modules-load.d" for place in PLACES)
CMDLINE = "/proc/cmdline"
DEBIAN_FILE = "etc/modules"


class Line(NamedTuple):
    """A line for systemd-modules-load that names a module or an alias, and its origin."""

    text: str
    origin: str


def settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    """Yield the lines that name one of the modules, also those with further words, which fail."""
    cmdline = tree.read("proc/cmdline") or ""
    in_initrd = [Line(text, CMDLINE) for text in _listed(cmdline, "rd.modules_load")]
    for name in names.modules:
        for line in lines(tree, cmdline):
            if name in _possible_modules(line.text):
                text = f"modules_load={line.text}" if line.origin == CMDLINE else line.text
                yield ExternalSetting(name, Effect.LOADS, Program.MODULES_LOAD, line.origin, text)
        for line in in_initrd:  # only if the initrd contains it
            if kernel_names.module_name(line.text) == name:
                text = f"rd.modules_load={line.text}"
                yield ExternalSetting(name, Effect.LOADS, Program.MODULES_LOAD, line.origin, text, certain=False)


def _possible_modules(text: str) -> Iterator[Optional[str]]:
    """Yield the modules that the author of a line can have meant. A line with more than a name loads nothing."""
    yield kernel_names.module_name(text)
    for word in re.split(r"[\s,]+", text.partition("#")[0].strip()):
        plain = re.sub(r"\.ko(\.(gz|xz|zst))?\Z", "", word.rpartition("/")[2])
        yield from map(kernel_names.module_name, (plain, plain.lower()))


def lines(tree: FileTree, cmdline: str) -> list[Line]:
    """Return all lines in the order of loading. Those of the kernel's command line come first."""
    # Each name of the command line is used once.
    found = [Line(text, CMDLINE) for text in dict.fromkeys(_listed(cmdline, "modules_load"))]
    for file in tree.merged(DIRECTORIES):
        found += (Line(*line) for line in ini_files.systemd_lines(tree.shown(file), tree.read(file) or ""))
    return found


def unread_lines(tree: FileTree) -> list[Line]:
    """Return the lines of /etc/modules if no link makes systemd-modules-load read this file."""
    if any(tree.links_to(file, f"/{DEBIAN_FILE}") for file in tree.merged(DIRECTORIES)):
        return []
    return [Line(*line) for line in ini_files.systemd_lines(tree.shown(DEBIAN_FILE), tree.read(DEBIAN_FILE) or "")]


def _listed(cmdline: str, key: str) -> Iterator[str]:
    for word in words(cmdline):
        option, equals, value = word.partition("=")
        if equals and option.replace("-", "_") == key:
            yield from (name for name in value.split(",") if name)


def words(cmdline: str) -> list[str]:
    """Split a kernel's command line into words like systemd: both kinds of quotes can enclose a word."""
    found = re.findall(r"(?:[^\s\"']|\"[^\"]*(?:\"|\Z)|'[^']*(?:'|\Z))+", cmdline)
    quoted = r"\"([^\"]*)(?:\"|\Z)|'([^']*)(?:'|\Z)"
    return [re.sub(quoted, lambda match: match[1] or match[2] or "", word) for word in found]
