"""The same for systemd's own units: files in /etc that make a node right at boot without ipvsd.

One unknown name is an error of systemd-modules-load at each boot, and one refused value fails systemd-sysctl.service,
so that only what this kernel has is written. systemd-sysctl writes patterns in the order of the
file, but none over a key that is named, with or without a value (sysctl.d(5)).
"""

from __future__ import annotations

import os
from collections.abc import Iterator, Mapping, Sequence
from fnmatch import fnmatchcase
from typing import Optional

from ipvsd import __version__, sysctls
from ipvsd.config import Config
from ipvsd.desire import spreads
from ipvsd.model import Kernel, ModuleFinding, ModuleVerdict, Plan, Policy, SysctlFinding, SysctlVerdict, Within
from ipvsd.planner import IP_FORWARD
from ipvsd.values import satisfies, target

MODULES_LOAD = "etc/modules-load.d/ipvsd.conf"
MODPROBE = "etc/modprobe.d/ipvsd.conf"
SYSCTL = "etc/sysctl.d/90-ipvsd.conf"

_HEADER = f"""\
# Written by 'ipvsd apply --persist' (ipvsd {__version__}), replaced by the next one,
# removed when the package is purged. Change /etc/ipvsd instead.
"""

# systemd-sysctl.service fails with such a key.
_NOT_TAKEN = (SysctlVerdict.REFUSED, SysctlVerdict.UNREADABLE, SysctlVerdict.UNSUPPORTED)
# What modules.dep lists, and systemd-modules-load cannot load.
_FORBIDDEN = (
    ModuleVerdict.BLACKLISTED,
    ModuleVerdict.OVERRIDDEN,
    ModuleVerdict.OPTIONS,
    ModuleVerdict.FILE_GONE,
    ModuleVerdict.INDEX_STALE,
    ModuleVerdict.COMPRESSION,
)


def to_be_had(finding: ModuleFinding) -> bool:
    """Tell whether the kernel has the module, loaded or not."""
    return finding.verdict in (ModuleVerdict.LIVE, ModuleVerdict.BUILT_IN, ModuleVerdict.LOADABLE)


def files(config: Config, kernel: Kernel, plan: Plan) -> Mapping[str, str]:
    """Return what the files have to hold, by their paths below the root; one without content holds its header."""
    known = kernel.loadable | kernel.built_in
    there = [finding for finding in plan.modules if finding.module in known and finding.verdict not in _FORBIDDEN]
    bodies = {
        # By its name libkmod finds a built-in module only in the index of a tree.
        MODULES_LOAD: [finding.module for finding in there if finding.module not in kernel.set_in],
        MODPROBE: [f"options {item.module} {' '.join(item.wanted.options)}" for item in there if item.wanted.options],
        SYSCTL: list(_settings(config, kernel, plan, {finding.module for finding in there})),
    }
    return {path: "\n".join((_HEADER, *dict.fromkeys(lines), "")) for path, lines in bodies.items()}


def write(root: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Write the files, each in one step, and return the paths of those that changed. Raises OSError."""
    changed = []
    for path, text in texts.items():
        place = os.path.join(root, path)
        if _read(place) == text:
            continue
        directory = os.path.dirname(place)
        os.makedirs(directory, exist_ok=True)
        if os.path.realpath(directory) != os.path.join(os.path.realpath(root), os.path.dirname(path)):
            raise PermissionError(0, "a symbolic link leads out of the root", directory)
        beside = f"{place}.new"
        if os.path.lexists(beside):
            os.unlink(beside)
        fd = os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644)
        with os.fdopen(fd, "w", encoding="utf-8") as file:
            os.fchmod(file.fileno(), 0o644)
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        os.replace(beside, place)
        changed.append(place)
    return tuple(changed)


def stale(root: str, texts: Mapping[str, str]) -> tuple[str, ...]:
    """Return the paths of the files that exist and mean something else.

    Ranges are not compared: the value that is written for one depends on the value of the moment.
    """
    found = []
    for path, text in texts.items():
        held = _read(os.path.join(root, path))
        if held is not None:
            ranges = _ranges(held) | _ranges(text)
            if _body(held, ranges) != _body(text, ranges):
                found.append(os.path.join(root, path))
    return tuple(found)


_RANGE = "# within a range: "


def _settings(config: Config, kernel: Kernel, plan: Plan, modules: set[str]) -> Iterator[str]:
    """Yield the lines of sysctl.d(5)."""
    usable = [finding for finding in plan.sysctls if _usable(finding, modules)]
    named = [finding for finding in usable if not finding.wanted.group]
    for finding in sorted(named, key=lambda finding: finding.name != IP_FORWARD):
        if finding.wanted.policy is Policy.ENFORCE:
            yield from _named(finding)
    enforced = {finding.name for finding in named if finding.wanted.policy is Policy.ENFORCE}
    for wanted, exclude in spreads(config, kernel):  # one that fits nothing yet harms nothing
        pattern, want = wanted.key, wanted.want
        if wanted.policy is not Policy.OBSERVE:
            yield from (f"-{name}" for name in _excluded(pattern, exclude))
            yield from (f"-{key}" for key in config.sysctls if key not in enforced and _fits(key, pattern))
            # To the daemon the second name of what is named is no other one.
            aliases = [alias for alias, name in sysctls.ALIASES.items() if name in enforced | set(config.sysctls)]
            yield from (f"-{alias}" for alias in aliases if _fits(alias, pattern))
            yield f"{pattern} = {target(want, '')}"


def _usable(finding: SysctlFinding, modules: set[str]) -> bool:
    provider = finding.wanted.provider
    absent = finding.missing and provider is not None and provider not in modules
    return finding.verdict not in _NOT_TAKEN and not absent


def _named(finding: SysctlFinding) -> Iterator[str]:
    want, found = finding.wanted.want, finding.found
    if not isinstance(want, Within):
        yield f"{finding.name} = {target(want, found or '')}"
        return
    yield f"{_RANGE}{finding.name} {want}"
    # Where no kernel tells its own value, which may be higher, the bound itself is right.
    right = found is not None and satisfies(finding.name, found, want)
    yield f"{finding.name} = {found if right else target(want, found or '')}"


def _excluded(pattern: str, excludes: Sequence[str]) -> Iterator[str]:
    parts = pattern.split(".")
    for index, part in enumerate(parts):
        if sysctls.is_pattern(part):
            for exclude in excludes:
                yield ".".join((*parts[:index], exclude.replace(".", "/"), *parts[index + 1 :]))


def _fits(key: str, pattern: str) -> bool:
    pairs = list(zip(key.split("."), pattern.split(".")))
    same_length = key.count(".") == pattern.count(".")
    return same_length and not sysctls.is_pattern(key) and all(fnmatchcase(part, wild) for part, wild in pairs)


def _ranges(text: str) -> set[str]:
    return {line[len(_RANGE) :].split(" ", 1)[0] for line in text.splitlines() if line.startswith(_RANGE)}


def _body(text: str, ranges: set[str]) -> list[str]:
    lines = [line for line in text.splitlines() if line and not line.startswith("#")]
    return [line for line in lines if line.split(" ", 1)[0] not in ranges]


def _read(path: str) -> Optional[str]:
    try:
        with open(path, encoding="utf-8") as file:
            return file.read()
    except (OSError, UnicodeDecodeError):
        return None
