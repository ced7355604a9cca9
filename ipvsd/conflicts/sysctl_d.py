"""sysctl.d(5) and /etc/sysctl.conf, as systemd-sysctl and procps read them. `tuned` contains TuneD's own rules.

- Both sort the files by name. The first directory masks files of the same name in later ones.
- systemd-sysctl reads /etc/sysctl.conf only through a link in /etc/sysctl.d. procps reads it once more at the end.
- systemd-sysctl keeps the last line for each name, even if it is the exclusion `-key` or the kernel refuses its value.
- procps writes line after line, so an exclusion only prevents writes by patterns.
- Both programs never write a key by a pattern if any line contains the key literally.
- Each parses lines in its own way (seen with systemd 252 and procps 4.0.2; src/sysctl/sysctl.c and src/sysctl.c).
"""

from __future__ import annotations

import os
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ipvsd.conflicts import ini_files
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import PLACES, FileTree
from ipvsd.modprobe import modprobe_d
from ipvsd.sysctl import globs, semantics, sysctl_names
from ipvsd.sysctl.patterns import Patterns
from ipvsd.sysctl.semantics import ProcSys, StoredValue, matching
from ipvsd.sysctl.values import equivalent

DIRECTORIES = tuple(f"{place}/sysctl.d" for place in PLACES)
CONF = "etc/sysctl.conf"


@dataclass(frozen=True)
class Assignment:
    """An assignment to a `path` or pattern under /proc/sys, or without value an exclusion. `key` is its spelling."""

    path: str
    value: Optional[str]
    text: str
    origin: str
    key: str = ""

    @property
    def pattern(self) -> bool:
        return has_wildcard(self.path)


@dataclass(frozen=True)
class ApplyResult:
    """The result of applying lines: the line that determines each value, by path, and the kernel's values."""

    winners: Mapping[str, Assignment]
    values: Mapping[str, str]
    failing: Mapping[str, str]  # by the origin of the line


REFUSED = "the kernel refuses the value"
_FIRST_LINES = 16  # lines that _last_matches tries first; in most configurations, few patterns match a sysctl


def settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    """Yield every line that sets one of the sysctls, in the order of systemd-sysctl."""
    systemd, procps = systemd_lines(tree), procps_lines(tree)
    boot = list(from_command_line(tree.read("proc/cmdline") or ""))
    path_by_name = {name: path_of(name) for name in names.sysctls}
    by_systemd = simulate_systemd_sysctl(systemd, path_by_name.values())
    by_procps = simulate_procps(procps, path_by_name.values())
    known = {other for path in path_by_name.values() for other in semantics.alias_paths(path)}
    concerning = _concerning(systemd, known)
    places = {id(line): number for number, line in enumerate(systemd)}
    for name, path in path_by_name.items():
        aliases = semantics.alias_paths(path)
        yield from (_setting(tree, name, line, Program.KERNEL) for line in boot if line.path in aliases)
        chosen = by_systemd.winners.get(path)
        numbers = {number for alias in aliases for number in concerning.get(alias, ())}
        numbers.update([places[id(chosen)]] if chosen else [])
        for line in (systemd[number] for number in sorted(numbers)):
            fails = by_systemd.failing.get(line.origin, "")
            yield _setting(tree, name, line, Program.SYSTEMD_SYSCTL, line is chosen, fails)
        other = by_procps.winners.get(path)
        if other and not (chosen and equivalent(name, by_procps.values[path], by_systemd.values[path])):
            yield _setting(tree, name, other, Program.PROCPS)


def systemd_lines(tree: FileTree) -> list[Assignment]:
    files = tree.merged(DIRECTORIES)
    return [line for path in files for line in assignments(tree.shown(path), tree.read(path) or "")]


def procps_lines(tree: FileTree) -> list[Assignment]:
    files = [*tree.merged(DIRECTORIES, hidden=True), CONF]
    return [line for path in files for line in procps_assignments(tree.shown(path), tree.read(path) or "")]


def find_named(tree: FileTree, patterns: Collection[str]) -> Mapping[str, Collection[str]]:
    """Return the matching sysctls of each pattern that some line names literally."""
    found = dict.fromkeys(line.path for line in systemd_lines(tree) if not line.pattern and line.value is not None)
    return find_matching_names(patterns, found)


def find_matching_names(patterns: Collection[str], paths: Iterable[str]) -> Mapping[str, Collection[str]]:
    """Return the names of the paths, or patterns of paths, that match each of ipvsd's patterns."""
    found = matching(list(map(path_of, patterns)), paths)

    def name_of(path: str) -> str:
        return (sysctl_names.join_parts if has_wildcard(path) else sysctl_names.name)(tuple(path.split("/")))

    return {pattern: [name_of(path) for path in found[path_of(pattern)]] for pattern in patterns}


def assignments(name: str, text: str) -> Iterator[Assignment]:
    """Yield the assignments and exclusions of a file like systemd-sysctl. Invalid lines are ignored."""
    for line, origin in ini_files.systemd_lines(name, text):
        key, equals, value = line.partition("=")
        if equals or key.startswith("-"):
            path = _path(key[key.startswith("-") :].strip(" \t\n\r"), climbs=False)
            if path:
                yield Assignment(path, value.strip(" \t\n\r") if equals else None, line, origin, path)


_SPACE = " \t\n\v\f\r"  # isspace() in the C locale


def procps_assignments(name: str, text: str) -> Iterator[Assignment]:
    """Yield the assignments and exclusions of a file like procps. Invalid lines are ignored."""
    for number, line in enumerate(text.split("\n"), 1):
        stripped = line.partition("\0")[0].lstrip(_SPACE)
        if len(stripped) < 1 or stripped[0] in "#;":
            continue
        key, equals, value = stripped.partition("=")
        if not equals and not key.startswith("-"):
            continue
        # procps ignores a second `-` when it builds the path.
        spelled = re.sub(r"\A--?", "", key).rstrip(_SPACE)
        path = _path(spelled, climbs=True)
        if path:
            assigned = value.strip(_SPACE) if equals else None
            yield Assignment(path, assigned, stripped.strip(_SPACE), f"{name}:{number}", _with_slashes(spelled))


def from_command_line(text: str) -> Iterator[Assignment]:
    """Yield the settings of the kernel parameter `sysctl.KEY=VALUE` (since Linux 5.8: kernel-parameters.txt)."""
    for word, value in modprobe_d.parameters(text):
        key = word[len("sysctl.") :] if word.startswith(("sysctl.", "sysctl/")) else ""
        path = _path(key, climbs=False)
        if path and value:
            yield Assignment(path, value, f"sysctl.{key}={value}", "/proc/cmdline", path)


def simulate_systemd_sysctl(
    found: Sequence[Assignment], paths: Iterable[str], values: Mapping[str, str] = {}
) -> ApplyResult:
    """Return the result of systemd-sysctl at some paths. `values` are the kernel's values before."""
    kept: dict[str, Assignment] = {}
    for line in found:
        # A line that repeats a setting keeps the position of the first, which matters for patterns.
        if line.path in kept and kept[line.path].value != line.value:
            del kept[line.path]
        kept.setdefault(line.path, line)
    return _simulate(list(kept.values()), kept, paths, values, anew=False)


def simulate_procps(found: Sequence[Assignment], paths: Iterable[str], values: Mapping[str, str] = {}) -> ApplyResult:
    return _simulate(found, {line.key for line in found}, paths, values, anew=True)


def _simulate(
    lines: Sequence[Assignment], named: Collection[str], paths: Iterable[str], values: Mapping[str, str], anew: bool
) -> ApplyResult:
    asked_paths = tuple(paths)
    settled = _settled(lines, asked_paths, values)
    failing = {line.origin: REFUSED for line in _refused(lines, settled)}
    # The defaults of the settled ones still show which lines the kernel refuses.
    others = [path for path in asked_paths if path not in settled]
    kernel = ProcSys([*others, *{semantics.default_of(path) for path in settled}], values)
    matching = kernel.matching({line.path for line in lines if line.pattern})
    for number, line in enumerate(lines):
        if line.value is None:
            continue
        targets = [line.path]
        if line.pattern:
            # A queried pattern represents the matching sysctls that do not exist yet.
            spelled = line.key == line.path
            targets = [
                path
                for path in matching[line.path]
                if path == line.path or (path if spelled else _glob_spelling(line.key, path)) not in named
            ]
        for path in targets:
            if not kernel.write(path, line.value, number, anew):
                failing[line.origin] = REFUSED
    stored = {path: value for path in asked_paths for value in [settled.get(path) or kernel[path]] if value}
    numbers = {path: value.write_number for path, value in stored.items()}
    winners = {path: lines[number] for path, number in numbers.items() if number != semantics.INITIAL}
    return ApplyResult(winners, {path: value.value for path, value in stored.items()}, failing)


def _settled(
    lines: Sequence[Assignment], paths: Collection[str], values: Mapping[str, str]
) -> Mapping[str, StoredValue]:
    """Return the values of those paths that one line certainly determines, whatever the earlier lines do.

    That is the last line with a valid value whose pattern matches a sysctl of an interface, if no line sets the
    default of all interfaces later. So the time does not depend on the number of patterns that match.
    """
    literal = {line.path for line in lines if not line.pattern}
    independent = [path for path in paths if path not in literal and semantics.is_independent(path, values)]
    if not independent:
        return {}
    numbers = [number for number, line in enumerate(lines) if line.value is not None]
    # Of the last lines that write a default, the value can be invalid, but then the kernel applies the old one again.
    defaults = _last_matches(lines, numbers, {semantics.default_of(path) for path in independent})
    valid = [number for number in numbers if semantics.accepted_value(independent[0], lines[number].value or "")]
    last = _last_matches(lines, valid, independent)
    return {
        path: StoredValue(semantics.accepted_value(path, lines[number].value or "") or "", number)
        for path, number in last.items()
        if number >= defaults.get(semantics.default_of(path), 0)
    }


def _last_matches(lines: Sequence[Assignment], numbers: Sequence[int], paths: Iterable[str]) -> Mapping[str, int]:
    """Return the highest of the numbers of lines that match each path, if any does."""
    found: dict[str, int] = {}
    missing, end, size = list(paths), len(numbers), _FIRST_LINES
    while missing and end:
        chosen = numbers[max(0, end - size) : end]
        index = Patterns((_parts(lines[number]) for number in chosen), period=True)
        matches = {path: index.last(tuple(path.split("/"))) for path in missing}
        found.update({path: chosen[last] for path, last in matches.items() if last is not None})
        missing = [path for path, last in matches.items() if last is None]
        end, size = end - len(chosen), size * 4
    return found


def _parts(line: Assignment) -> Sequence[str]:
    parts = line.path.split("/")
    return parts if line.pattern else [globs.quoted(part) for part in parts]


def _refused(lines: Sequence[Assignment], paths: Collection[str]) -> Iterator[Assignment]:
    """Yield the lines with a pattern that matches one of the independent paths, and a value that the kernel refuses."""
    for line in lines if paths else ():
        if line.pattern and line.value is not None:
            some = next(iter(paths))
            pattern = Patterns([line.path.split("/")], period=True)
            if semantics.accepted_value(some, line.value) is None and any(
                pattern.matching(tuple(path.split("/"))) for path in paths
            ):
                yield line


def path_of(name: str) -> str:
    """Return the path under /proc/sys of a sysctl, or of a pattern, by its canonical name."""
    return "/".join(sysctl_names.parts(name) or sysctl_names.globs(name) or (name,))


def _concerning(lines: Sequence[Assignment], paths: Collection[str]) -> Mapping[str, Collection[int]]:
    """Return the numbers of the lines that assign a value to each path."""
    found: dict[str, list[int]] = {path: [] for path in paths}
    fits = matching({line.path for line in lines if line.pattern}, paths)
    for number, line in enumerate(lines):
        if line.value is not None:
            for path in {line.path, *fits.get(line.path, ())} & found.keys():
                found[path].append(number)
    return found


def has_wildcard(path: str) -> bool:
    """Return whether systemd-sysctl and procps treat a path as a pattern."""
    return any(character in path for character in "*?[")


def _glob_spelling(pattern: str, path: str) -> str:
    """Return a path in the spelling of glob(3), with the redundant slashes and dots of the pattern."""
    left = path.split("/")[::-1]
    return "/".join(part if part in ("", ".") or not left else left.pop() for part in pattern.rstrip("/").split("/"))


def _with_slashes(key: str) -> str:
    """Return a key with slashes as separators. The first `.` or `/` in it is the separator."""
    first = re.search(r"[./]", key)
    return key.translate({ord("."): "/", ord("/"): "."}) if first and first[0] == "." else key


def _path(key: str, climbs: bool) -> str:
    """Return the path under /proc/sys of a key, or an empty text. A program that `climbs` accepts `..`."""
    parts = [part for part in _with_slashes(key).split("/") if part not in ("", ".")]
    # A trailing slash requires directories. glob(3) does not check that if the last part is not a pattern.
    checked = not has_wildcard("/".join(parts[:-1])) or has_wildcard("".join(parts[-1:]))
    if climbs and checked and _with_slashes(key).endswith("/"):
        return ""
    if ".." in parts:
        parts = os.path.normpath("/".join(parts)).split("/") if climbs else [".."]
    # One character for a byte, like the paths of sysctls.
    return "" if ".." in parts else "/".join(parts).encode("utf-8", "surrogateescape").decode("latin-1")


def _setting(
    tree: FileTree, name: str, line: Assignment, program: Program, wins: bool = True, fails: str = ""
) -> ExternalSetting:
    file = line.origin.rpartition(":")[0]
    if program is Program.KERNEL:
        remedy = f"remove {line.text} from the kernel command line"
    elif file.startswith((tree.shown("etc/"), tree.shown("run/"))):
        remedy = f"correct the line in {file}, or remove it"
    else:  # a package's file, which the next version restores
        remedy = f"copy the file to {tree.shown(DIRECTORIES[0])}, and remove the line from the copy"
    value = semantics.accepted_value(path_of(name), line.value or "") or sysctl_names.canonical(line.value or "")
    return ExternalSetting(
        name, Effect.SETS, program, line.origin, line.text, value, wins, remedy=remedy, failure=fails
    )
