"""modprobe.d(5) and the kernel's command line: what they say about a module's loading.

A `#` begins a comment at the start of a line only, a line that ends in a backslash goes on, and
`-` and `_` are one in names, as in libkmod.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple

from ipvsd.model import Rule

# Commands that stand for "not at all" (CIS benchmarks write `install X /bin/true`).
_NOTHING = re.compile(r"(?:/usr)?(?:/s?bin/)?(?:true|false|:)\s*(?:#.*)?\Z")


class Directive(NamedTuple):
    """One line: `blacklist`, `install`, `options` or `alias`, its pattern of a module's name, and the rest."""

    command: str
    pattern: str
    rest: str
    origin: str  # FILE:LINE

    def __str__(self) -> str:
        return " ".join(filter(None, (self.command, self.pattern, self.rest)))


def directives(files: Iterable[tuple[str, str]]) -> tuple[Directive, ...]:
    """Return the directives of the files (name, text) in their order; what is none is passed over."""
    return tuple(found for name, text in files for found in _of_file(name, text))


def from_command_line(text: str) -> tuple[Directive, ...]:
    """Return the directives of /proc/cmdline: `modprobe.blacklist=`, and the kernel's own `module_blacklist=`."""
    found = re.findall(r"(?:^|\s)\"?(?:modprobe\.blacklist|module_blacklist)=([A-Za-z0-9_,-]+)", text)
    names = [name for names in found for name in names.split(",") if name]
    return tuple(Directive("blacklist", _underscored(name), "", "/proc/cmdline") for name in names)


def rules(found: Iterable[Directive], names: Iterable[str]) -> Mapping[str, Rule]:
    """Return for each of `names` the first line that keeps it from being loaded, or that has it loaded by a command."""
    chosen: dict[str, Rule] = {}
    relevant = [item for item in found if item.command in ("blacklist", "install")]
    for name in names:
        fitting = [item for item in relevant if _fits(item, name)]
        forbidding = [item for item in fitting if item.command == "blacklist" or _NOTHING.match(item.rest)]
        for item in (forbidding or fitting)[:1]:
            chosen[name] = Rule(str(item), item.origin, item.command, bool(forbidding))
    return chosen


def _fits(item: Directive, name: str) -> bool:
    # libkmod takes patterns for install, and names alone for blacklist.
    return item.pattern == name if item.command == "blacklist" else fnmatch.fnmatchcase(name, item.pattern)


def aliases(found: Iterable[Directive], names: Iterable[str]) -> Mapping[str, str]:
    """Return the module that each of `names` is an alias of."""
    lines = [item for item in found if item.command == "alias" and item.rest]
    return {
        name: _underscored(item.rest.split()[0])
        for name in names
        for item in lines[::-1]  # the first one wins
        if fnmatch.fnmatchcase(name, item.pattern)
    }


def _of_file(name: str, text: str) -> Iterator[Directive]:
    held, begun = "", 1
    lines = text.split("\n")
    for number, line in enumerate(lines, 1):
        begun = begun if held else number
        if line.endswith("\\") and number < len(lines):
            held += line[:-1]
            continue
        words, held = (held + line).split(None, 2), ""
        if len(words) > 1 and words[0] in ("blacklist", "install", "options", "alias"):
            rest = " ".join(words[2].split()) if len(words) > 2 else ""
            yield Directive(words[0], _underscored(words[1]), rest, f"{name}:{begun}")


def _underscored(name: str) -> str:
    # Within [] a `-` is a range.
    return re.sub(r"\[[^\]]*\]|-", lambda match: "_" if match[0] == "-" else match[0], name)
