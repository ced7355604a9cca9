"""sysctl.d(5) and /etc/sysctl.conf, as systemd-sysctl and procps read them (TuneD has a way of its own).

All of them take the files in the order of their names, and of one name the one in the first directory.
systemd-sysctl reads /etc/sysctl.conf only through a link in /etc/sysctl.d; procps reads it once more, last of all.
With systemd-sysctl a later line about a key replaces an earlier one, even if it is the exclusion `-key`; procps
writes line after line, so that there an exclusion only keeps patterns away. For both, a key that stands by
itself anywhere is not written by a pattern. (Seen with systemd 252 and procps 4.0.2.)
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Optional

from ipvsd import sysctls
from ipvsd.rivals import Effect, Names, Program, Setting
from ipvsd.rivals.tree import PLACES, Tree
from ipvsd.values import same

DIRECTORIES = tuple(f"{place}/sysctl.d" for place in PLACES)
CONF = "etc/sysctl.conf"

# Two files of one variable of the kernel (net/ipv4/devinet.c, net/netfilter/nf_conntrack_standalone.c).
_TWINS = (
    ("net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding"),
    ("net/netfilter/nf_conntrack_max", "net/nf_conntrack_max"),
)


@dataclass(frozen=True)
class Assignment:
    """`path` is that below /proc/sys, or a pattern of such; without a value it is an exclusion."""

    path: str
    value: Optional[str]
    text: str
    origin: str


def settings(tree: Tree, names: Names) -> Iterator[Setting]:
    """Yield every line that sets one of the sysctls, in the order in which systemd-sysctl takes them."""
    found = [line for path in tree.merged(DIRECTORIES) for line in assignments(tree.shown(path), tree.read(path) or "")]
    conf = list(assignments(tree.shown(CONF), tree.read(CONF) or ""))
    boot = list(from_command_line(tree.read("proc/cmdline") or ""))
    for name in names.sysctls:
        paths = twins(name)
        yield from (_setting(tree, name, line, Program.KERNEL) for line in boot if line.path in paths)
        chosen = by_systemd(found, paths)
        for line in found:
            if line.value is not None and any(_concerns(line, path) for path in paths):
                yield _setting(tree, name, line, Program.SYSTEMD_SYSCTL, line is chosen)
        other = by_procps([*found, *conf], paths)
        if other and not (chosen and same(name, other.value or "", chosen.value or "")):
            yield _setting(tree, name, other, Program.PROCPS)


def assignments(name: str, text: str) -> Iterator[Assignment]:
    """Yield the assignments and exclusions of a file; what is none is passed over."""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.strip()
        if not stripped or stripped[0] in "#;":
            continue
        key, equals, value = stripped.partition("=")
        if not equals and not key.startswith("-"):
            continue
        path = _path(key.removeprefix("-").strip())
        if path:
            yield Assignment(path, sysctls.canonical(value) if equals else None, stripped, f"{name}:{number}")


def from_command_line(text: str) -> Iterator[Assignment]:
    """Yield what the kernel's `sysctl.KEY=VALUE` says (since Linux 5.8: kernel-parameters.txt)."""
    for key, value in re.findall(r"(?:^|\s)\"?sysctl[./]([^\s=]+)=(\S*)", text):
        path = _path(key)
        if path:
            yield Assignment(path, value, f"sysctl.{key}={value}", "/proc/cmdline")


def by_systemd(found: Sequence[Assignment], paths: Collection[str]) -> Optional[Assignment]:
    """Return the line whose value systemd-sysctl leaves in the kernel."""
    kept: dict[str, Assignment] = {}
    for line in found:
        # One that only says the same again keeps the place of the first, which counts among patterns.
        if line.path in kept and kept[line.path].value != line.value:
            del kept[line.path]
        kept[line.path] = line
    return _last(list(kept.values()), paths, kept)


def by_procps(found: Sequence[Assignment], paths: Collection[str]) -> Optional[Assignment]:
    """Return the line whose value `sysctl --system` leaves in the kernel."""
    return _last(found, paths, {line.path for line in found})


def twins(name: str) -> tuple[str, ...]:
    """Return the paths of a sysctl, of which a write to one is a write to the other."""
    path = _path(name)
    return next((pair for pair in _TWINS if path in pair), (path,))


def _last(found: Sequence[Assignment], paths: Collection[str], named: Collection[str]) -> Optional[Assignment]:
    def writes(line: Assignment) -> bool:
        free = (path for path in paths if path == line.path or path not in named)
        return line.value is not None and any(_concerns(line, path) for path in free)

    return next((line for line in reversed(found) if writes(line)), None)


def _concerns(line: Assignment, path: str) -> bool:
    if line.path == path or not sysctls.is_pattern(line.path):
        return line.path == path
    patterns, parts = line.path.split("/"), path.split("/")
    return len(patterns) == len(parts) and all(map(fnmatchcase, parts, patterns))


def _path(key: str) -> str:
    parts = sysctls.parts(key.lstrip("/"), patterns=True)
    return "/".join(parts) if parts else ""


def _setting(tree: Tree, name: str, line: Assignment, program: Program, wins: bool = True) -> Setting:
    file = line.origin.rpartition(":")[0]
    if program is Program.KERNEL:
        remedy = f"remove {line.text} from the kernel's command line"
    elif file.startswith((tree.shown("etc/"), tree.shown("run/"))):
        remedy = f"correct the line in {file}, or remove it"
    else:  # a package's own: it comes back with the next version
        remedy = f"put a file of the same name, without the line, into {tree.shown(DIRECTORIES[0])}"
    return Setting(name, Effect.SETS, program, line.origin, line.text, line.value or "", wins, remedy=remedy)
