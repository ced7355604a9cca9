"""The command of an `install` line of modprobe.d(5): whether running it loads the module, as far as its words tell."""

from __future__ import annotations

import enum
import re

# A command ends at one of these, outside of quotes; braces and the words of a condition are no commands.
_ENDS = r"[;&|\n()`]+"
_ASSIGNMENT = r"[A-Za-z_][A-Za-z0-9_]*="
_PASSED_OVER = ("{", "}", "!", "if", "then", "else", "elif", "fi", "do", "done", "while", "exec", "command", "sudo")
_LOADERS = ("modprobe", "insmod", "kmod")
# They print, wait or end, and load nothing.
_IDLE = ("true", "false", ":", "echo", "printf", "logger", "exit", "sleep", "test", "[", "")


class Effect(enum.Enum):
    """What a command does about the module in whose place it runs."""

    NOTHING = "nothing"  # it is not loaded
    LOADS = "loads"  # it names the module to a program that loads it
    UNKNOWN = "unknown"  # some other program, which may


def effect(command: str, module: str) -> Effect:
    """Return what a command does, by the programs that it names. It is not run."""
    found = Effect.NOTHING
    for part in re.split(_ENDS, re.sub(r"(?:^|\s)#.*", "", command)):
        words = [word.strip("\"'") for word in part.split()]
        while words and (words[0] in _PASSED_OVER or re.match(_ASSIGNMENT, words[0])):
            words = words[1:]
        program = words[0].rpartition("/")[2] if words else ""
        if program in _LOADERS:
            if _names(words[1:], module):
                return Effect.LOADS
        elif program not in _IDLE:
            found = Effect.UNKNOWN
    return found


def _names(words: list[str], module: str) -> bool:
    """Tell whether one of the arguments is the module, its file, or the variable that stands for it."""
    names = (word.rpartition("/")[2].partition(".")[0].replace("-", "_") for word in words)
    return any(name in (module, "$MODPROBE_MODULE", "${MODPROBE_MODULE}") for name in names)
