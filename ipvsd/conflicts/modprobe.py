"""modprobe.d(5) and the kernel's command line: they can block modules and set parameters."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.decide import remedies
from ipvsd.kernel.load_blockers import query_modprobe, read_settings
from ipvsd.kernel.module_tree import MODPROBE_D, ModuleTree, releases, version
from ipvsd.model.types import Cause
from ipvsd.modprobe import modprobe_d
from ipvsd.modprobe.modprobe_d import Directive
from ipvsd.sysctl import sysctl_names

_CMDLINE = "/proc/cmdline"
_BOOT_LOADER = "the boot loader configuration"


def settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    files = tree.merged(MODPROBE_D, ".conf", ".alias")
    found = modprobe_d.directives((tree.shown(file), tree.read(file) or "") for file in files)
    cmdline = tree.read("proc/cmdline") or ""
    yield from _blocked(tree, names, cmdline)
    for name in names.parameters:
        yield from _options(name, found, cmdline)


def _blocked(tree: FileTree, names: Names, cmdline: str) -> Iterator[ExternalSetting]:
    """Yield the lines that prevent loading the modules or their dependencies into an empty kernel, or run a command."""
    # That of the running kernel, or the newest one that is installed in an image.
    installed = sorted(releases(tree.root), key=version)
    release = (tree.read("proc/sys/kernel/osrelease") or "").strip() or "".join(installed[-1:])
    modules = ModuleTree(tree.root, release)
    modprobe_settings = read_settings(tree.root, modules, cmdline)
    found = query_modprobe(tuple(dict.fromkeys((*names.modules, *names.others))), modules, modprobe_settings, ())
    for name, blocker in found.blockers.items():
        if blocker.origin and name in names.modules:
            remedy = remedies.for_removal(blocker.text, blocker.origin, blocker.module)
            if blocker.cause is Cause.OPTIONS:
                remedy = remedies.for_options_line(blocker)
            program = Program.KERNEL if blocker.cause is Cause.COMMAND_LINE else Program.MODPROBE
            yield ExternalSetting(name, Effect.BLOCKS, program, blocker.origin, blocker.text, remedy=remedy)
    for name in names.modules:
        line = modprobe_settings.blacklisted(name)
        if name in modprobe_settings.kernel_blacklist and name not in found.blockers:
            text = modprobe_settings.kernel_blacklist[name]
            remedy = remedies.for_removal(text, modprobe_d.CMDLINE, name)
            yield ExternalSetting(name, Effect.BLOCKS, Program.KERNEL, modprobe_d.CMDLINE, text, remedy=remedy)
        elif line is not None and name in found.pulled_in_by:
            yield ExternalSetting(name, Effect.INTERFERES, Program.MODPROBE, line.origin, str(line))
        elif line is not None and name not in found.blockers:  # the module does not exist
            remedy = remedies.for_removal(str(line), line.origin, name)
            yield ExternalSetting(name, Effect.BLOCKS, Program.MODPROBE, line.origin, str(line), remedy=remedy)
    for name, command in found.install_commands.items():
        if name in names.modules and name not in found.blockers:
            yield ExternalSetting(name, Effect.RUNS, Program.MODPROBE, command.origin, command.text)


def _options(name: str, found: tuple[Directive, ...], cmdline: str) -> Iterator[ExternalSetting]:
    """Yield the lines that set a parameter. The last one counts, and the kernel's command line comes last."""
    module, _, parameter = name.partition(".")
    assignments: list[tuple[Program, str, Optional[str]]] = []
    for item in (*found, *modprobe_d.from_command_line(cmdline)):
        if item.command == "options" and item.pattern == module:
            program = Program.KERNEL if item.origin == _CMDLINE else Program.MODPROBE
            pairs = modprobe_d.parameters(item.rest)
            assignments += [(program, item.origin, value) for key, value in pairs if key.replace("-", "_") == parameter]
    for number, (program, origin, value) in enumerate(assignments, 1):
        place = _BOOT_LOADER if program is Program.KERNEL else origin.rpartition(":")[0]
        text, wins = parameter if value is None else f"{parameter}={value}", number == len(assignments)
        remedy = f"correct {text} in {place}, or remove it"
        if value is None:
            remedy = f"write {parameter}=VALUE (without spaces) in {place}"
        yield ExternalSetting(
            name, Effect.SETS, program, origin, text, sysctl_names.canonical(value or ""), wins, remedy=remedy
        )
