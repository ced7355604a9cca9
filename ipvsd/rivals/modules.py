"""modprobe.d(5) and the kernel's command line: who keeps a module out, or tunes it."""

from __future__ import annotations

import re
from collections.abc import Iterator

from ipvsd import formats, modprobe_d, sysctls
from ipvsd.modprobe_d import Directive
from ipvsd.moduletree import MODPROBE_D
from ipvsd.rivals import Effect, Names, Program, Setting
from ipvsd.rivals.tree import Tree

_CMDLINE = "/proc/cmdline"


def settings(tree: Tree, names: Names) -> Iterator[Setting]:
    """Yield what the files say of the modules and of their parameters."""
    files = tree.merged(MODPROBE_D, ".conf", ".alias")
    found = modprobe_d.directives((tree.shown(file), tree.read(file) or "") for file in files)
    cmdline = tree.read("proc/cmdline") or ""
    rules = modprobe_d.rules((*found, *modprobe_d.from_command_line(cmdline)), names.modules)
    for name, rule in rules.items():
        effect = Effect.FORBIDS if rule.forbids else Effect.DISTURBS
        place = rule.origin.rpartition(":")[0]
        remedy = f"remove {rule.text!r} from {place or rule.origin}"
        yield Setting(name, effect, Program.MODPROBE, rule.origin, rule.text, remedy=remedy)
    for name in names.parameters:
        yield from _options(name, found, cmdline)


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
