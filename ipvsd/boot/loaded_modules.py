"""Simulate systemd-modules-load in an empty kernel: the modules that its lines load, and the lines that fail.

It uses libkmod like modprobe, so modprobe.d applies, and it obeys `blacklist` for the modules that a line names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

from ipvsd.conflicts.modules_load import Line
from ipvsd.kernel.load_blockers import read_settings
from ipvsd.kernel.module_tree import ModuleTree
from ipvsd.model.types import Cause, LoadBlocker
from ipvsd.model.value_texts import text_of
from ipvsd.modprobe import former_names, kernel_names, load_steps


class FailingLine(NamedTuple):
    line: Line
    reason: str
    remedy: str


class LoadResult(NamedTuple):
    """`modules` maps each loaded module to the origin of the line that loaded it."""

    modules: Mapping[str, str]
    failing: tuple[FailingLine, ...]


def load_at_boot(root: str, release: str, lines: Sequence[Line], cmdline: str) -> LoadResult:
    """Return the result of the lines under a kernel that has loaded nothing yet."""
    tree = ModuleTree(root, release)
    settings = read_settings(root, tree, cmdline)
    found: dict[str, str] = {}
    failing: list[FailingLine] = []
    for line in lines:
        probes = load_steps.probe(line.text, settings, tree)
        if not probes:
            failing.append(_unknown(line, release, lambda name: bool(load_steps.probe(name, settings, tree))))
        for item in probes:
            outcome = load_steps.simulate(item, tree, settings, frozenset(found))
            found.update((module, line.origin) for module in sorted(outcome.loaded - set(found)))
            if outcome.blocker is not None:
                remedy = "remove the line, or the setting that blocks the module"
                failing.append(FailingLine(line, _describe(outcome.blocker), remedy))
    return LoadResult(found, tuple(failing))


def _unknown(line: Line, release: str, known: Callable[[str], bool]) -> FailingLine:
    name = kernel_names.module_name(line.text)
    former = former_names.former(name, release) if name else None
    if former:
        new = former.successor
        return FailingLine(line, f"the module is now part of {new}", f"write {new}, or remove the line")
    words = line.text.partition("#")[0].replace(",", " ").split()
    if words and words != [line.text]:
        names = [word for word in words if known(word)] or words[:1]
        more = "each on its own line" if len(names) > 1 else "alone"
        given = [word for word in words[1:] if "=" in word]
        options = f", and put 'options {words[0]} {' '.join(given)}' in a file in /etc/modprobe.d" if given else ""
        return FailingLine(line, "a line must be one module name", f"write {' '.join(names)} {more}{options}")
    plain = re.sub(r"\.ko(\.(gz|xz|zst))?\Z", "", line.text.rpartition("/")[2])
    suggestion = next((other for other in (plain, plain.lower()) if other != line.text and known(other)), "")
    remedy = f"write {suggestion}, or remove the line" if suggestion else "remove the line"
    return FailingLine(line, f"kernel {release} does not have this module", remedy)


def _describe(blocker: LoadBlocker) -> str:
    if blocker.origin:
        return f"{blocker.origin}: {blocker.text}"
    if blocker.cause is Cause.FILE_MISSING:
        return f"the file {blocker.text} is missing"
    return f"{blocker.module}: {text_of(blocker.cause)}"
