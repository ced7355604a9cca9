"""modprobe.d(5), modules.softdep and the kernel's command line, as libkmod reads them.

Facts of libkmod/libkmod-config.c and shared/util.c (versions 30 to 34): a backslash is taken away and the
character behind it kept, a line break too; `#` begins a comment only as the first character of a line, and such a
line may go on; words are separated by blanks and tabs, so that a carriage return belongs to a word; `-` and `_`
are one in names, but for what stands within `[]`; a line that is not understood is left out. On the kernel's command
line libkmod, like systemd, does not know that a word `--` ends the kernel's parameters (seen with kmod 30).
"""

from __future__ import annotations

import enum
import functools
import re
from collections.abc import Iterable, Iterator, Mapping
from typing import NamedTuple, Optional

from ipvsd.model.types import NOTHING
from ipvsd.sysctl.globs import Globs

CMDLINE = "/proc/cmdline"
_CMDLINE_BYTES = 4095  # libkmod reads no more of it
_COMMANDS = ("alias", "blacklist", "install", "options", "remove", "softdep")
_NEEDS_MORE = ("alias", "install", "options", "remove", "softdep")
_LINE = re.compile(r"[\t ]*([^\t ]+)(?:[\t ]+([^\t ]+)(?:[\t ](.*))?)?", re.DOTALL)
# A name in which every `[` is closed, and no `]` stands alone.
_BRACKETED = re.compile(r"(?:[^\[\]]|\[[^\]]*\])*\Z")
_DASHES = re.compile(r"\[[^\]]*\]|-")
# MODULE.PARAMETER or MODULE.PARAMETER=VALUE; quotes stand around all of it, or in the value.
_PARAMETER = re.compile(r"([^.=\" \t-\r]*)\.([^.=\" \t-\r]*)(=.*)?\Z", re.DOTALL)
_WORD = re.compile(r"(?:[^\" \t-\r]|\"[^\"]*(?:\"|\Z))+")
_BLANKS = " \t\n\v\f\r"  # isspace(3) in the C locale


class Directive(NamedTuple):
    """One line: its command, the name or pattern of a module, and the rest as it stands there."""

    command: str
    pattern: str
    rest: str
    origin: str  # FILE:LINE, or /proc/cmdline

    def __str__(self) -> str:
        if self.origin == CMDLINE and self.command == "blacklist":
            return f"modprobe.blacklist={self.pattern}"
        return " ".join((self.command, self.pattern, *self.rest.split()))


class Settings(NamedTuple):
    """Everything that libkmod was told, each in the order in which it was read."""

    aliases: tuple[Directive, ...] = ()
    blacklists: tuple[Directive, ...] = ()
    installs: tuple[Directive, ...] = ()
    options: tuple[Directive, ...] = ()
    removes: tuple[Directive, ...] = ()
    softdeps: tuple[Directive, ...] = ()
    kernel_blacklist: Mapping[str, str] = (
        NOTHING  # by the kernel itself (module_blacklist=): the parameter that says so
    )

    def blacklisted(self, module: str) -> Optional[Directive]:
        """Return the first line that blacklists a module by its name; patterns are not taken."""
        return next((item for item in self.blacklists if item.pattern == module), None)

    def install(self, module: str) -> Optional[Directive]:
        """Return the line whose command runs in place of loading a module: the first one that fits."""
        return next(iter(_fitting(self.installs, module)), None)

    def softdep(self, module: str) -> Optional[Directive]:
        """Return the line with the soft dependencies of a module: the first one that fits."""
        return next(iter(_fitting(self.softdeps, module)), None)

    def aliased(self, name: str) -> tuple[Directive, ...]:
        """Return the lines that make a name an alias; all modules that they name are loaded."""
        return _fitting(self.aliases, name)

    def options_of(self, module: str, alias: str = "") -> tuple[Directive, ...]:
        """Return the lines with parameters of a module, or of the alias under which it was asked for."""
        return tuple(item for item in self.options if item.pattern in (module, alias or module))


def _fitting(items: tuple[Directive, ...], name: str) -> tuple[Directive, ...]:
    return tuple(items[number] for number in _patterns(items).matching(name))


@functools.lru_cache(maxsize=8)  # the lists of two settings
def _patterns(items: tuple[Directive, ...]) -> Globs:
    return Globs(item.pattern for item in items)


def settings(files: Iterable[tuple[str, str]], command_line: str = "") -> Settings:
    """Return what files (name, text), in their order, and the kernel's command line say."""
    return group_by_command((*directives(files), *from_command_line(command_line)), command_line)


def group_by_command(found: Iterable[Directive], command_line: str = "") -> Settings:
    """Return directives by their commands."""
    lists: dict[str, list[Directive]] = {command: [] for command in _COMMANDS}
    for item in found:
        lists[item.command].append(item)
    return Settings(
        aliases=tuple(lists["alias"]),
        blacklists=tuple(lists["blacklist"]),
        installs=tuple(lists["install"]),
        options=tuple(lists["options"]),
        removes=tuple(lists["remove"]),
        softdeps=tuple(lists["softdep"]),
        kernel_blacklist=kernel_blacklist(command_line),
    )


def directives(files: Iterable[tuple[str, str]]) -> tuple[Directive, ...]:
    """Return the directives of the files (name, text) in their order; what is none is passed over."""
    return tuple(found for name, text in files for found in _of_file(name, text))


def from_command_line(text: str) -> tuple[Directive, ...]:
    """Return what libkmod takes from /proc/cmdline: `modprobe.blacklist=` and `MODULE.PARAMETER=VALUE`.

    In the names of a blacklist `-` is no `_`: libkmod compares them as they stand.
    """
    return tuple(_of_command_line(text[:_CMDLINE_BYTES]))


def kernel_blacklist(text: str) -> Mapping[str, str]:
    """Return the modules that the kernel itself refuses to load, each with the parameter that says so.

    Of several `module_blacklist=` the last one counts, and names are compared as they stand
    (kernel/module/main.c: core_param(), blacklisted()).
    """
    found = [(key, value) for key, value in parameters(text) if key.replace("-", "_") == "module_blacklist" and value]
    key, names = found[-1] if found else ("", "")
    return {name: f"{key}={names}" for name in (names or "").split(",") if name}


def soft_dependencies(item: Directive) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the names before and after which a `softdep` line loads a module.

    libkmod takes a blank that begins the list into its first word, unless there are two of them.
    """
    text = item.rest
    blanks = len(text) - len(text.lstrip(_BLANKS))
    words = re.findall(r"[^ \t-\r]+", text)
    if blanks == 1 and words:
        words[0] = f" {words[0]}"
    before: list[str] = []
    after: list[str] = []
    into: Optional[list[str]] = None
    for word in words:
        if word == "pre:":
            into = before
        elif word == "post:":
            into = after
        elif into is not None:
            into.append(word)
    return tuple(before), tuple(after)


def parameters(text: str) -> Iterator[tuple[str, Optional[str]]]:
    """Yield name and value as the kernel splits a module's parameters, and its own; None is that of a word without `=`.

    Blanks separate, but within `"`; `--` ends them, on its command line since Linux 3.15: the rest is for init
    (lib/cmdline.c: next_arg(), kernel/params.c: parse_args()).
    """
    for match in _WORD.finditer(text):
        word = match[0]
        if word.startswith('"'):
            word = word[1:]
            word = word.removesuffix('"')
        at = word.find("=", 1)  # one that begins the word is a part of the name
        if at < 0:
            if word == "--":
                return
            yield word, None
            continue
        value = word[at + 1 :]
        if value.startswith('"'):
            value = value[1:]
            value = value.removesuffix('"')
        yield word[:at], value


def underscored(name: str) -> Optional[str]:
    """Return a name with `_` for `-`, but for what stands within `[]`; None if its brackets are not closed."""
    if not _BRACKETED.match(name):
        return None
    return _DASHES.sub(lambda match: "_" if match[0] == "-" else match[0], name)


def _of_command_line(text: str) -> Iterator[Directive]:
    for match in _WORD.finditer(text):
        word = match[0]
        if word.count('"') % 2:  # it is never closed
            continue
        quoted = word.startswith('"')
        found = _PARAMETER.match(word[quoted:])
        if found is None or (quoted and found[3] is None) or (found[3] is None and '"' in word):
            continue
        module, parameter = found[1], found[2]
        value = found[3] or ""
        if quoted and value:
            value = f'="{value[1:]}'
        if module == "modprobe" and parameter == "blacklist" and value:
            for name in value[1:].split(","):
                yield Directive("blacklist", name, "", CMDLINE)
            continue
        name_of_module = underscored(module)
        if name_of_module is not None:
            yield Directive("options", name_of_module, f"{parameter}{value}".replace("\t", " "), CMDLINE)


def _of_file(name: str, text: str) -> Iterator[Directive]:
    for number, line in _logical_lines(text):
        match = None if line.startswith("#") else _LINE.match(line)
        if match is None or match[1] not in _COMMANDS:
            continue
        command, pattern, rest = match[1], underscored(match[2] or ""), match[3] or ""
        if not pattern or (command in _NEEDS_MORE and not rest):
            continue
        if command == "alias":
            target = underscored((rest.strip("\t ").split(" ")[0]).split("\t")[0])
            if not target:
                continue
            rest = target
        elif command == "blacklist":
            rest = ""
        elif command == "options":
            rest = rest.replace("\t", " ")
        yield Directive(command, pattern, rest, f"{name}:{number}")


def _logical_lines(text: str) -> Iterator[tuple[int, str]]:
    """Yield each line with the number of the first line in the file that is a part of it."""
    if "\\" not in text:
        yield from ((number, line.partition("\0")[0]) for number, line in enumerate(text.split("\n"), 1))
        return
    line, begun, number, at = "", 1, 1, 0
    for match in re.finditer(r"\\(\n|\Z)|\\(.)|\n", text, re.DOTALL):
        line += text[at : match.start()]
        at = match.end()
        if match[2]:
            line += match[2]
        elif match[0] == "\n":
            yield begun, line.partition("\0")[0]
            line, number = "", number + 1
            begun = number
        else:
            number += 1
    yield begun, (line + text[at:]).partition("\0")[0]


# A command ends at one of these, outside of quotes; braces and the words of a condition are no commands.
_ENDS = r"[;&|\n()`]+"
_ASSIGNMENT = r"[A-Za-z_][A-Za-z0-9_]*="
_PASSED_OVER = ("{", "}", "!", "if", "then", "else", "elif", "fi", "do", "done", "while", "exec", "command", "sudo")
_LOADERS = ("modprobe", "insmod", "kmod")
# They print, wait or end, and load nothing.
_IDLE = ("true", "false", ":", "echo", "printf", "logger", "exit", "sleep", "test", "[", "")


class InstallEffect(enum.Enum):
    """What a command does about the module in whose place it runs."""

    NOTHING = "nothing"  # it is not loaded
    LOADS = "loads"  # it names the module to a program that loads it
    UNKNOWN = "unknown"  # some other program, which may


def install_effect(command: str, module: str) -> InstallEffect:
    """Return what a command does, by the programs that it names. It is not run."""
    found = InstallEffect.NOTHING
    for part in re.split(_ENDS, re.sub(r"(?:^|\s)#.*", "", command)):
        words = [word.strip("\"'") for word in part.split()]
        while words and (words[0] in _PASSED_OVER or re.match(_ASSIGNMENT, words[0])):
            words = words[1:]
        program = words[0].rpartition("/")[2] if words else ""
        if program in _LOADERS:
            if _names(words[1:], module):
                return InstallEffect.LOADS
        elif program not in _IDLE:
            found = InstallEffect.UNKNOWN
    return found


def _names(words: list[str], module: str) -> bool:
    """Tell whether one of the arguments is the module, its file, or the variable that stands for it."""
    names = (word.rpartition("/")[2].partition(".")[0].replace("-", "_") for word in words)
    return any(name in (module, "$MODPROBE_MODULE", "${MODPROBE_MODULE}") for name in names)
