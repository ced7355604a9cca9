"""modprobe.d(5) and the kernel's command line: who keeps a module out, or tunes it."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from ipvsd.conflicts.external_setting import Effect, Names, Program, Setting
from ipvsd.conflicts.file_tree import Tree
from ipvsd.decide import remedies
from ipvsd.kernel.load_blockers import query_modprobe, read_settings
from ipvsd.kernel.module_tree import MODPROBE_D, ModuleTree, releases, version
from ipvsd.model.types import Cause
from ipvsd.modprobe import modprobe_d
from ipvsd.modprobe.modprobe_d import Directive
from ipvsd.sysctl import sysctl_names

_CMDLINE = "/proc/cmdline"
_BOOT_LOADER = "the boot loader's configuration"


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
    modules = ModuleTree(tree.root, _release(tree))
    said = read_settings(tree.root, modules, cmdline)
    found = query_modprobe(tuple(dict.fromkeys((*names.modules, *names.others))), modules, said, ())
    for name, obstacle in found.blockers.items():
        if obstacle.origin and name in names.modules:
            remedy = remedies.remove(obstacle.text, obstacle.origin, obstacle.module)
            if obstacle.cause is Cause.OPTIONS:
                remedy = remedies.correct(obstacle)
            program = Program.KERNEL if obstacle.cause is Cause.COMMAND_LINE else Program.MODPROBE
            yield Setting(name, Effect.FORBIDS, program, obstacle.origin, obstacle.text, remedy=remedy)
    for name in names.modules:
        line = said.blacklisted(name)
        if name in said.kernel_blacklist and name not in found.blockers:
            text = said.kernel_blacklist[name]
            remedy = remedies.remove(text, modprobe_d.CMDLINE, name)
            yield Setting(name, Effect.FORBIDS, Program.KERNEL, modprobe_d.CMDLINE, text, remedy=remedy)
        elif line is not None and name in found.pulled_in_by:
            yield Setting(name, Effect.DISTURBS, Program.MODPROBE, line.origin, str(line))
        elif line is not None and name not in found.blockers:  # of a module that there is not
            remedy = remedies.remove(str(line), line.origin, name)
            yield Setting(name, Effect.FORBIDS, Program.MODPROBE, line.origin, str(line), remedy=remedy)
    for name, command in found.install_commands.items():
        if name in names.modules and name not in found.blockers:
            yield Setting(name, Effect.RUNS, Program.MODPROBE, command.origin, command.text)


def _release(tree: Tree) -> str:
    """Return the kernel that runs, or of an image the newest that is installed."""
    installed = sorted(releases(tree.root), key=version)
    return (tree.read("proc/sys/kernel/osrelease") or "").strip() or (installed[-1] if installed else "")


def _options(name: str, found: tuple[Directive, ...], cmdline: str) -> Iterator[Setting]:
    """Yield what gives a parameter its value; the module takes the last one, the kernel's command line after all.

    A word without `=` gives it none, and the kernel refuses that for all but those of type bool.
    """
    module, _, parameter = name.partition(".")
    said: list[tuple[Program, str, Optional[str]]] = []
    for item in (*found, *modprobe_d.from_command_line(cmdline)):
        if item.command == "options" and item.pattern == module:
            program = Program.KERNEL if item.origin == _CMDLINE else Program.MODPROBE
            pairs = modprobe_d.parameters(item.rest)
            said += [(program, item.origin, value) for key, value in pairs if key.replace("-", "_") == parameter]
    for number, (program, origin, value) in enumerate(said, 1):
        place = _BOOT_LOADER if program is Program.KERNEL else origin.rpartition(":")[0]
        text, wins = parameter if value is None else f"{parameter}={value}", number == len(said)
        remedy = f"correct {text} in {place}, or remove it"
        if value is None:
            remedy = f"write {parameter}=VALUE without blanks in {place}"
        yield Setting(
            name, Effect.SETS, program, origin, text, sysctl_names.canonical(value or ""), wins, remedy=remedy
        )
