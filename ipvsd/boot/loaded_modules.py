"""What systemd-modules-load leaves in an empty kernel: the modules that its lines have loaded, and the lines that fail.

It asks libkmod as modprobe does, so that modprobe.d holds for it, too, and obeys `blacklist` for what a line names.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Callable, NamedTuple

from ipvsd.conflicts.modules_load import Line
from ipvsd.kernel.load_blockers import read_settings
from ipvsd.kernel.module_tree import ModuleTree
from ipvsd.model.types import Cause, LoadBlocker
from ipvsd.modprobe import former_names, kernel_names, load_steps


class Failing(NamedTuple):
    """A line that comes to nothing, why, and what to do about it."""

    line: Line
    reason: str
    remedy: str


class Loaded(NamedTuple):
    """`modules` has for each that is live afterwards the place of the line that had it loaded."""

    modules: Mapping[str, str]
    failing: tuple[Failing, ...]


def loaded(root: str, release: str, lines: Sequence[Line], cmdline: str) -> Loaded:
    """Return what the lines come to under a kernel that has loaded nothing yet."""
    tree = ModuleTree(root, release)
    said = read_settings(root, tree, cmdline)
    found: dict[str, str] = {}
    failing: list[Failing] = []
    for line in lines:
        probes = load_steps.probe(line.text, said, tree)
        if not probes:
            failing.append(_unknown(line, release, lambda name: bool(load_steps.probe(name, said, tree))))
        for item in probes:
            outcome = load_steps.simulate(item, tree, said, frozenset(found))
            found.update((module, line.origin) for module in sorted(outcome.loaded - set(found)))
            if outcome.blocker is not None:
                failing.append(Failing(line, _told(outcome.blocker), "remove the line, or what keeps it out"))
    return Loaded(found, tuple(failing))


def _unknown(line: Line, release: str, known: Callable[[str], bool]) -> Failing:
    name = kernel_names.module_name(line.text)
    former = former_names.former(name, release) if name else None
    if former:
        return Failing(line, f"it is a part of {former.successor} now", f"write {former.successor}, or remove the line")
    words = line.text.partition("#")[0].replace(",", " ").split()
    if words and words != [line.text]:
        names = [word for word in words if known(word)] or words[:1]
        more = "each on a line of its own" if len(names) > 1 else "alone"
        given = [word for word in words[1:] if "=" in word]
        options = f", and 'options {words[0]} {' '.join(given)}' into a file of /etc/modprobe.d" if given else ""
        return Failing(line, "a line is a name and nothing else", f"write {' '.join(names)} {more}{options}")
    plain = re.sub(r"\.ko(\.(gz|xz|zst))?\Z", "", line.text.rpartition("/")[2])
    suggestion = next((other for other in (plain, plain.lower()) if other != line.text and known(other)), "")
    remedy = f"write {suggestion}, or remove the line" if suggestion else "remove the line"
    return Failing(line, f"kernel {release} has no such module", remedy)


def _told(obstacle: LoadBlocker) -> str:
    if obstacle.origin:
        return f"{obstacle.origin}: {obstacle.text}"
    if obstacle.cause is Cause.FILE_GONE:
        return f"the file {obstacle.text} is gone"
    return f"{obstacle.module}: {obstacle.cause.value}"
