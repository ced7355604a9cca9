"""TuneD: the [sysctl] sections of its active profile, and the files of sysctl.d(5) that it applies after them.

TuneD applies these files if its profile sets any sysctl, unless `reapply_sysctl` is off. TuneD 2.27 and later skip
the names in `reapply_sysctl_exclude`. It reads only /run and /etc, and /etc/sysctl.conf last, and supports neither
patterns nor exclusions (tuned/plugins/plugin_sysctl.py).
"""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from ipvsd.conflicts import ini_files
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.conflicts.ini_files import Entry
from ipvsd.conflicts.sysctl_d import CONF, path_of
from ipvsd.sysctl import globs, sysctl_names
from ipvsd.sysctl.globs import Globs
from ipvsd.sysctl.semantics import canonical_path

MAIN = "etc/tuned/tuned-main.conf"
_ACTIVE = ("etc/tuned/active_profile", "etc/tuned/post_loaded_profile")
# The first directory with the profile counts. Since 2.24, profiles are in profiles/ (tuned-main.conf(5)).
_PROFILES = ("etc/tuned/profiles", "etc/tuned", "usr/lib/tuned/profiles", "usr/lib/tuned")
_REAPPLIED = ("run/sysctl.d", "etc/sysctl.d")
_MAX_PROFILES = 64

# Options of the section itself instead of a sysctl (tuned/profiles/unit.py).
_OWN = ("type", "enabled", "replace", "drop", "devices", "devices_udev_regex", "cpuinfo_regex", "uname_regex",
        "script_pre", "script_post", "priority")  # fmt: skip
_CONDITIONS = ("cpuinfo_regex", "uname_regex")

Section = dict[str, Entry]


def settings(tree: FileTree, names: Names) -> Iterator[ExternalSetting]:
    """Yield the settings that TuneD applies to the sysctls, if systemd starts it."""
    if not tree.enabled("tuned.service"):
        return
    sections = [section for section in profile(tree).values() if section]
    reapplies = sections and ini_files.parse_boolean(_main(tree, "reapply_sysctl", "1"))
    entries_by_path: dict[str, list[tuple[Entry, Section]]] = {}
    for section in sections:
        for entry in section.values():
            entries_by_path.setdefault(canonical_path(path(entry.key)), []).append((entry, section))
    reapplied = {canonical_path(path(entry.key)): entry for entry in (_reapplied(tree) if reapplies else ())}
    for name in names.sysctls:
        one = canonical_path(path_of(name))
        matching = entries_by_path.get(one, [])
        for number, (entry, section) in enumerate(matching, 1):
            yield _of_profile(name, entry, section, number == len(matching))
        if one in reapplied:
            yield _reapplied_setting(name, reapplied[one])


def profile(tree: FileTree) -> Mapping[str, Section]:
    """Return the sections of the active profile that set sysctls, merged like TuneD does, by name."""
    merged: dict[str, Section] = {}
    active = " ".join(tree.read(file) or "" for file in _ACTIVE).split()
    configured = re.split(r"\s*[,;]\s*", _main(tree, "profile_dirs", ""))
    directories = [*(directory.lstrip("/") for directory in reversed(configured) if directory), *_PROFILES]
    try:
        files = list(_files(tree, active, directories, set()))
    except _MissingError:  # TuneD then applies nothing at all
        return {}
    for found in files:
        sections: dict[str, Section] = {}
        for entry in found:
            sections.setdefault(entry.section, {})[entry.key] = entry
        for name, section in sections.items():
            _merge(merged, name, section)
    return {name: section for name, section in merged.items() if _sets_sysctls(name, section)}


def path(option: str) -> str:
    """Return the path under /proc/sys that TuneD writes for an option."""
    return option.replace(".", "/")


def _merge(merged: dict[str, Section], name: str, section: Section) -> None:
    """Merge a section into the earlier ones of its name (tuned/profiles/merger.py)."""
    replaced, dropped = section.get("replace"), section.get("drop")
    remaining = {} if replaced and ini_files.parse_boolean(replaced.value) else merged.get(name, {})
    gone = {"type", "enabled", *(re.split(r"\s*[,;]\s*", _unquoted(dropped)) if dropped else ())}
    merged[name] = {**{option: entry for option, entry in remaining.items() if option not in gone}, **section}


def _sets_sysctls(name: str, section: Section) -> bool:
    kind, enabled = section.get("type"), section.get("enabled")
    on = enabled is None or ini_files.parse_boolean(enabled.value) is not False
    return on and (kind.value if kind else name) == "sysctl"


class _MissingError(Exception):
    """A named profile does not exist."""


def _files(tree: FileTree, names: Iterable[str], places: Sequence[str], seen: set[str]) -> Iterator[Sequence[Entry]]:
    """Yield the entries of each profile's file, after those of the profiles that it includes.

    A profile that includes its own name extends the one in the next directory. `-NAME` may be missing.
    """
    for name in names:
        known = [f"{place}/{name.removeprefix('-')}/tuned.conf" for place in places if re.match(r"[\w.-]+\Z", name)]
        file = tree.first([path for path in known if path not in seen])
        if file is None or len(seen) >= _MAX_PROFILES:
            if file is None and known and not name.startswith("-") and not seen.intersection(known):
                raise _MissingError
            continue
        seen.add(file)
        found = ini_files.read(tree, [file])
        included = ini_files.last(found, "main", "include")
        if included:
            yield from _files(tree, re.split(r"\s*[,;]\s*", _unquoted(included)), places, seen)
        yield found


def _main(tree: FileTree, key: str, default: str) -> str:
    entry = ini_files.last(ini_files.entries(MAIN, tree.read(MAIN) or ""), "", key)
    return _unquoted(entry) if entry else default


def _unquoted(entry: Entry) -> str:
    return re.split(r"\s#", entry.value)[0].strip()


def _of_profile(name: str, entry: Entry, section: Section, wins: bool) -> ExternalSetting:
    value = re.sub(r'^"(.*)"$', r"\1", _unquoted(entry))
    # `=>N` raises a lower value, and `=<N` lowers a higher one.
    bound = value[:1] in ("<", ">")
    certain = not (bound or "${" in value or any(option in section for option in _CONDITIONS))
    value = sysctl_names.canonical(value[1:] if bound else value)
    remedy = f"choose a different profile, or create a profile that includes the active profile and sets {name}"
    return ExternalSetting(name, Effect.SETS, Program.TUNED, entry.origin, str(entry), value, wins, certain, remedy)


def _reapplied(tree: FileTree) -> Collection[Entry]:
    patterns = [part for part in re.split(r"\s*[,;]\s*", _main(tree, "reapply_sysctl_exclude", "")) if part]
    excluded, files = Globs(map(_of_python, patterns)), [*tree.merged(_REAPPLIED), CONF]
    return [entry for entry in ini_files.read(tree, files) if not excluded.matching(entry.key)]


def _of_python(pattern: str) -> str:
    """Convert a pattern of Python's fnmatch, which lacks backslashes and `[^...]`, to the syntax of `globs`."""

    def quoted(found: re.Match[str]) -> str:
        if found[1] in (None, "", "!"):  # a backslash, or an unclosed bracket
            return globs.quoted(found[0])
        sign, content = ("!", found[1][1:]) if found[1][0] == "!" else ("", found[1])
        content = globs.quoted(content, "[\\")
        return f"[{sign}{'' if sign or content[0] != '^' else chr(92)}{content}]"

    return re.sub(r"\[(!?\]?[^\]]*)\]|[\[\\]", quoted, pattern)


def _reapplied_setting(name: str, entry: Entry) -> ExternalSetting:
    file = entry.origin.rpartition(":")[0]
    options = f"'reapply_sysctl_exclude = {name}' (TuneD 2.27 and later) or 'reapply_sysctl = 0' in /{MAIN}"
    remedy, value = f"correct the line in {file}, or set {options}", sysctl_names.canonical(entry.value)
    return ExternalSetting(name, Effect.SETS, Program.REAPPLY, entry.origin, str(entry), value, remedy=remedy)
