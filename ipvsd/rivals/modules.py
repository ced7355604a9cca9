"""modprobe.d(5) and the kernel's command line: who keeps a module out, or tunes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipvsd import formats, modprobe_d, remedies, sysctls
from ipvsd.model import Cause
from ipvsd.modprobe_d import Directive
from ipvsd.moduletree import MODPROBE_D, ModuleTree
from ipvsd.obstacles import answers, settings_of
from ipvsd.rivals import Effect, Names, Program, Setting
from ipvsd.rivals.tree import Tree

_CMDLINE = "/proc/cmdline"


def settings(tree: Tree, names: Names) -> Iterator[Setting]:
    """Yield what the files say of the modules and of their parameters."""
    files = tree.merged(MODPROBE_D, ".conf", ".alias")
    found = modprobe_d.directives((tree.shown(file), tree.read(file) or "") for file in files)
    cmdline = tree.read("proc/cmdline") or ""
    yield from _kept_out(tree, names, cmdline)
    for name in names.parameters:
        yield from _options(name, found, cmdline)


def _kept_out(tree: Tree, names: Names, cmdline: str) -> Iterator[Setting]:
    """Yield what keeps the modules, or what they need, from being loaded into an empty kernel, or is run for them."""
    release = (tree.read("proc/sys/kernel/osrelease") or "").strip()
    modules = ModuleTree(tree.root, release)
    said = settings_of(tree.root, modules, cmdline)
    found = answers(names.modules, modules, said, ())
    for name, obstacle in found.obstacles.items():
        if obstacle.origin:
            remedy = remedies.remove(obstacle.text, obstacle.origin, obstacle.module)
            if obstacle.cause is Cause.OPTIONS:
                remedy = f"write {obstacle.detail}=VALUE without blanks"
            yield Setting(name, Effect.FORBIDS, Program.MODPROBE, obstacle.origin, obstacle.text, remedy=remedy)
    for name in names.modules:
        line = said.blacklisted(name)
        if name in said.refused and name not in found.obstacles:
            text = said.refused[name]
            remedy = remedies.remove(text, modprobe_d.CMDLINE, name)
            yield Setting(name, Effect.FORBIDS, Program.KERNEL, modprobe_d.CMDLINE, text, remedy=remedy)
        elif line is not None and name not in found.obstacles:  # of a module that there is not
            remedy = remedies.remove(str(line), line.origin, name)
            yield Setting(name, Effect.FORBIDS, Program.MODPROBE, line.origin, str(line), remedy=remedy)
    for name, command in found.commands.items():
        if name not in found.obstacles:
            yield Setting(name, Effect.RUNS, Program.MODPROBE, command.origin, command.text)


def _options(name: str, found: tuple[Directive, ...], cmdline: str) -> Iterator[Setting]:
    """Yield what gives a parameter its value; the module takes the last one, the kernel's command line after all."""
    module, _, parameter = name.partition(".")
    said: list[tuple[Program, str, str]] = []
    for item in found:
        if item.command == "options" and item.pattern == module:
            pairs = (word.partition("=") for word in item.rest.split())
            said += [(Program.MODPROBE, item.origin, value) for key, _, value in pairs if key == parameter]
    given = re.findall(rf"(?:^|\s)\"?([\w-]+)\.{re.escape(parameter)}=(\S*)", cmdline)
    said += [(Program.KERNEL, _CMDLINE, value) for prefix, value in given if formats.module_name(prefix) == module]
    for number, (program, origin, value) in enumerate(said, 1):
        place = origin if program is Program.KERNEL else origin.rpartition(":")[0]
        text, wins = f"{parameter}={value}", number == len(said)
        remedy = f"correct {text} in {place}, or remove it"
        yield Setting(
            name, Effect.SETS, program, origin, text, sysctls.canonical(value.strip('"')), wins, remedy=remedy
        )
