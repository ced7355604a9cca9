"""modprobe.d(5), modules.softdep and the kernel's command line, as libkmod reads them.

Facts of libkmod/libkmod-config.c and shared/util.c (versions 30 to 34):
- A backslash is removed and the character after it kept, even a line break.
- `#` begins a comment only as the first character of a line, and a backslash continues such a line.
- Spaces and tabs separate words, so a carriage return belongs to a word.
- `-` and `_` are equal in names, except inside `[]`.
- An invalid line is ignored.
- On the kernel's command line, libkmod and systemd do not treat the word `--` as the end of the kernel's parameters
  (seen with kmod 30).
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
_CMDLINE_BYTES = 4095  # libkmod reads only this many bytes of it
_COMMANDS = ("alias", "blacklist", "install", "options", "remove", "softdep")  # in the order of Settings
_LINE = re.compile(r"[\t ]*([^\t ]+)(?:[\t ]+([^\t ]+)(?:[\t ](.*))?)?", re.DOTALL)
# A name in which every `[` is closed, and every `]` closes one.
_BRACKETED = r"(?:[^\[\]]|\[[^\]]*\])*\Z"
_DASHES = r"\[[^\]]*\]|-"
# MODULE.PARAMETER or MODULE.PARAMETER=VALUE. Quotes can enclose all of it, or the value.
_PARAMETER = r"(?s)([^.=\" \t-\r]*)\.([^.=\" \t-\r]*)(=.*)?\Z"
_WORD = re.compile(r"(?:[^\" \t-\r]|\"[^\"]*(?:\"|\Z))+")
_BLANKS = " \t\n\v\f\r"  # isspace(3) in the C locale


class Directive(NamedTuple):
    """One line: its command, the name or pattern of a module, and the unparsed rest."""

    command: str
    pattern: str
    rest: str
    origin: str  # FILE:LINE, or /proc/cmdline

    def __str__(self) -> str:
        if self.origin == CMDLINE and self.command == "blacklist":
            return f"modprobe.blacklist={self.pattern}"
        return " ".join((self.command, self.pattern, *self.rest.split()))


class Settings(NamedTuple):
    """All directives that libkmod has read, by command, in the order of reading."""

    aliases: tuple[Directive, ...] = ()
    blacklists: tuple[Directive, ...] = ()
    installs: tuple[Directive, ...] = ()
    options: tuple[Directive, ...] = ()
    removes: tuple[Directive, ...] = ()
    softdeps: tuple[Directive, ...] = ()
    kernel_blacklist: Mapping[str, str] = NOTHING  # modules that the kernel refuses, with its module_blacklist=

    def blacklisted(self, module: str) -> Optional[Directive]:
        """Return the first line that blacklists a module by its name. libkmod accepts no patterns here."""
        return next((item for item in self.blacklists if item.pattern == module), None)

    def install(self, module: str) -> Optional[Directive]:
        return next(iter(_fitting(self.installs, module)), None)

    def softdep(self, module: str) -> Optional[Directive]:
        return next(iter(_fitting(self.softdeps, module)), None)

    def aliased(self, name: str) -> tuple[Directive, ...]:
        """Return the lines that define a name as an alias. libkmod loads all modules that they name."""
        return _fitting(self.aliases, name)

    def options_of(self, module: str, alias: str = "") -> tuple[Directive, ...]:
        return tuple(item for item in self.options if item.pattern in (module, alias or module))


def _fitting(items: tuple[Directive, ...], name: str) -> tuple[Directive, ...]:
    return tuple(items[number] for number in _patterns(items).matching(name))


@functools.lru_cache(maxsize=8)  # the lists of two settings
def _patterns(items: tuple[Directive, ...]) -> Globs:
    return Globs(item.pattern for item in items)


def settings(files: Iterable[tuple[str, str]], command_line: str = "") -> Settings:
    """Parse files (name, text), in order, and the kernel's command line."""
    return group_by_command((*directives(files), *from_command_line(command_line)), command_line)


def group_by_command(found: Iterable[Directive], command_line: str = "") -> Settings:
    lists: dict[str, list[Directive]] = {command: [] for command in _COMMANDS}
    for item in found:
        lists[item.command].append(item)
    aliases, blacklists, installs, options, removes, softdeps = map(tuple, lists.values())
    return Settings(aliases, blacklists, installs, options, removes, softdeps, kernel_blacklist(command_line))


def directives(files: Iterable[tuple[str, str]]) -> tuple[Directive, ...]:
    """Return the directives of files (name, text), in order. Invalid lines are ignored."""
    return tuple(found for name, text in files for found in _of_file(name, text))


def from_command_line(text: str) -> tuple[Directive, ...]:
    """Return the settings that libkmod reads from /proc/cmdline: `modprobe.blacklist=` and `MODULE.PARAMETER=VALUE`.

    In the names of a blacklist, `-` is not `_`, because libkmod compares them literally.
    """
    return tuple(_of_command_line(text[:_CMDLINE_BYTES]))


def kernel_blacklist(text: str) -> Mapping[str, str]:
    """Return the modules that the kernel itself refuses to load, each with the parameter that forbids it.

    The last `module_blacklist=` counts, and names are compared literally (kernel/module/main.c: core_param()).
    """
    found = [(key, value) for key, value in parameters(text) if key.replace("-", "_") == "module_blacklist" and value]
    key, names = found[-1] if found else ("", "")
    return {name: f"{key}={names}" for name in (names or "").split(",") if name}


def soft_dependencies(item: Directive) -> tuple[tuple[str, ...], tuple[str, ...]]:
    """Return the modules that a `softdep` line loads before and after its module."""
    text = item.rest
    blanks = len(text) - len(text.lstrip(_BLANKS))
    words = re.findall(r"[^ \t-\r]+", text)
    if blanks == 1 and words:  # libkmod makes a single blank a part of the first word
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
    """Yield name and value, or None without `=`, as the kernel splits the parameters of a module and its own.

    Blanks separate parameters, except inside `"`. On the kernel's command line, `--` ends them since Linux 3.15
    (lib/cmdline.c: next_arg(), kernel/params.c: parse_args()).
    """
    for match in _WORD.finditer(text):
        word = _unquoted(match[0])
        at = word.find("=", 1)  # a leading `=` is a part of the name
        if word == "--":
            return
        yield (word, None) if at < 0 else (word[:at], _unquoted(word[at + 1 :]))


def _unquoted(text: str) -> str:
    return text[1:].removesuffix('"') if text.startswith('"') else text


def underscored(name: str) -> Optional[str]:
    """Return a name with `_` for `-`, except inside `[]`, or None if a bracket is not closed."""
    if "[" not in name and "]" not in name:
        return name.replace("-", "_")
    if not re.match(_BRACKETED, name):
        return None
    return re.sub(_DASHES, lambda match: "_" if match[0] == "-" else match[0], name)


def _of_command_line(text: str) -> Iterator[Directive]:
    for match in _WORD.finditer(text):
        word = match[0]
        if word.count('"') % 2:  # an unclosed quote
            continue
        quoted = word.startswith('"')
        found = re.match(_PARAMETER, word[quoted:]) if "." in word.partition("=")[0] else None
        if found is None or (quoted and found[3] is None) or (found[3] is None and '"' in word):
            continue
        module, parameter, value = found[1], found[2], found[3] or ""
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
        if not pattern or (command != "blacklist" and not rest):
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
    """Yield each logical line with the number of its first line in the file."""
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


# A command ends at one of these, outside of quotes. Braces and words of a condition are not commands.
_ENDS = r"[;&|\n()`]+"
_ASSIGNMENT = r"[A-Za-z_][A-Za-z0-9_]*="
_PASSED_OVER = ("{", "}", "!", "if", "then", "else", "elif", "fi", "do", "done", "while", "exec", "command", "sudo")
_LOADERS = ("modprobe", "insmod", "kmod")
# These programs print, wait or end, and load nothing.
_IDLE = ("true", "false", ":", "echo", "printf", "logger", "exit", "sleep", "test", "[", "")


class InstallEffect(enum.Enum):
    NOTHING = "nothing"  # it does not load the module
    LOADS = "loads"  # it passes the module to a program that loads it
    UNKNOWN = "unknown"  # another program, which may load it


def install_effect(command: str, module: str) -> InstallEffect:
    """Return the effect of a command, judged by the programs that it names. The command is not run."""
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
    """Return whether an argument is the module, its file, or the variable that contains its name."""
    names = (word.rpartition("/")[2].partition(".")[0].replace("-", "_") for word in words)
    return any(name in (module, "$MODPROBE_MODULE", "${MODPROBE_MODULE}") for name in names)
