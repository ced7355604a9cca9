"""Lines of sysctl.d(5) with the meaning of a configuration, for existing sysctls and those that appear later.

systemd-sysctl never writes a key by a pattern if any line contains the key literally, with or without a value. The key
of `-KEY` has no wildcards (src/sysctl/sysctl.c; seen with systemd 252). So exclusions that are patterns are
subtracted from the pattern itself. A sysctl gets its own line if the patterns of the file would set it to another
value than the daemon.
"""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import product
from typing import NamedTuple, Optional

from ipvsd.config.desired_state import PatternRule, PatternRules
from ipvsd.config.profiles import provider
from ipvsd.config.schema import Config
from ipvsd.decide.planner import IP_FORWARD
from ipvsd.model.types import DesiredSysctl, Policy, SysctlFinding, Within
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.sysctl import glob_difference, globs, sysctl_names
from ipvsd.sysctl.patterns import Patterns
from ipvsd.sysctl.sysctl_names import Path
from ipvsd.sysctl.values import satisfies, value_to_write

RANGE = "# within a range: "
_NO_KEY = "sysctl.d cannot express this name"
NOT_FOR_ALL = "sysctl.d cannot express the exclusions; for the existing sysctls only"

# Such a key makes systemd-sysctl.service fail.
_NOT_WRITABLE = (SysctlVerdict.WRITE_FAILED, SysctlVerdict.UNREADABLE, SysctlVerdict.UNSUPPORTED)
_MAX_INTERFACE_NAME = 15  # bytes of an interface name (IFNAMSIZ is 16, including the NUL)
_MAX_LINES = 1000  # lines for one pattern
# The kernel copies a change of these to interfaces, so they come first and never as a pattern
# (inet_forward_change(), devinet_copy_dflt_conf(), addrconf_fixup_forwarding() and similar functions).
_PROPAGATED = {"net.ipv4.conf.": "default", "net.ipv6.conf.": "all"}
_WRITTEN_FIRST = (IP_FORWARD, *(f"{place}{link}." for place, link in _PROPAGATED.items()))


class _Decision(NamedTuple):
    """The daemon's decision about a sysctl: a desired value, or none. `found` is None if none is known to exist."""

    wanted: Optional[DesiredSysctl] = None
    found: Optional[str] = None


class _PatternLines:
    """The lines that are patterns, each a sequence of globs for the parts of a path. The last matching one counts."""

    def __init__(self, rules: Iterable[PatternRule]) -> None:
        self.values: dict[Path, str] = {}
        self.unwritable: list[str] = []  # patterns of the configuration that cannot be written
        for wanted, exclude in rules:
            if wanted.policy is not Policy.OBSERVE:
                patterns = _subtract(sysctl_names.globs(wanted.key) or (), exclude)
                if patterns is None:
                    self.unwritable.append(wanted.key)
                for pattern in patterns or ():
                    self.values.pop(pattern, None)  # the last position counts
                    self.values[pattern] = value_to_write(wanted.want, "")
        self._index, self._values = Patterns(self.values, period=True), tuple(self.values.values())

    def value(self, path: Path) -> Optional[str]:
        last = self._index.last(path)
        return None if last is None else self._values[last]


def lines(
    config: Config, rules: Sequence[PatternRule], findings: Iterable[SysctlFinding], modules: Collection[str]
) -> Iterator[str]:
    """Yield the lines. `modules` are loaded before systemd-sysctl reads them."""
    pattern_lines = _PatternLines(rules)
    decided = _decide(config, rules, findings, modules)
    assigned: list[str] = []
    excluded: list[str] = []
    after_patterns: list[str] = []  # sysctls that may be absent or look like a pattern, and are written as patterns
    for name in sorted(decided, key=lambda name: (name != IP_FORWARD, not name.startswith(_WRITTEN_FIRST))):
        decision, paths = decided[name], sysctl_names.paths(name)
        wanted, path = decision.wanted, paths[0]
        written = [other for other in paths if pattern_lines.value(other) is not None]
        if wanted is None:
            excluded += map(_exclusion, written)
        elif not wanted.pattern or not _patterns_suffice(name, wanted, pattern_lines, written):
            excluded += map(_exclusion, (other for other in written if other != path))
            known = decision.found is not None or not wanted.pattern or name.startswith(_WRITTEN_FIRST)
            if known and not sysctl_names.is_pattern(_key_of(path)):
                assigned += _assignment(path, name, decision)
            else:
                after_patterns += _assignment(_as_glob(path), name, decision)
    yield from (*assigned, *excluded)
    yield from (f"# {pattern}: {NOT_FOR_ALL}" for pattern in pattern_lines.unwritable)
    yield from (f"{_key_of(pattern)} = {value}" for pattern, value in pattern_lines.values.items())
    yield from after_patterns


def _patterns_suffice(name: str, wanted: DesiredSysctl, pattern_lines: _PatternLines, written: Sequence[Path]) -> bool:
    """Return whether the patterns alone make a sysctl compliant. They would write one with two paths twice."""
    if name.startswith(_WRITTEN_FIRST) or len(sysctl_names.paths(name)) > 1:
        return False
    return bool(written) and satisfies(name, pattern_lines.value(written[0]) or "", wanted.want)


def _decide(
    config: Config, rules: Sequence[PatternRule], findings: Iterable[SysctlFinding], modules: Collection[str]
) -> Mapping[str, _Decision]:
    decided: dict[str, _Decision] = {}
    for finding in findings:
        if not sysctl_names.is_pattern(finding.name):
            absent = finding.missing and not _is_available(finding.name, modules)
            writable = finding.verdict not in _NOT_WRITABLE and not absent
            written = writable and finding.desired.policy is not Policy.OBSERVE
            decided[finding.name] = _Decision(finding.desired if written else None, finding.actual)
    named = (key for key in config.sysctls if not sysctl_names.is_pattern(key))
    decided.update((key, _Decision()) for key in named if key not in decided)
    match = PatternRules(rules).match
    for name in dict.fromkeys(_exceptions(rules)):
        if name not in decided:
            wanted = match(name)
            wanted = wanted if wanted and wanted.policy is not Policy.OBSERVE and _is_available(name, modules) else None
            decided[name] = _Decision(wanted)
    return decided


def _is_available(name: str, modules: Collection[str]) -> bool:
    needed = provider(name)
    return needed is None or needed in modules


def _exceptions(rules: Iterable[PatternRule]) -> Iterator[str]:
    """Yield the sysctls that patterns can match and that need a separate decision."""
    yield from sysctl_names.ALIASES.values()
    for rule in rules:
        parts = rule.wanted.key.split(".")
        wildcard_indexes = [index for index, part in enumerate(parts) if sysctl_names.is_pattern(part)]
        if len(wildcard_indexes) == 1:
            separate = [exclude for exclude in rule.exclude if not sysctl_names.is_pattern(exclude)]
            separate += [link for place, link in _PROPAGATED.items() if rule.wanted.key.startswith(place)]
            before, after = parts[: wildcard_indexes[0]], parts[wildcard_indexes[0] + 1 :]
            keys = (".".join((*before, one.replace(".", "/"), *after)) for one in separate)
            yield from filter(None, map(sysctl_names.normalised, keys))


def _subtract(pattern: Path, excludes: Sequence[str]) -> Optional[Sequence[Path]]:
    """Return patterns that match what a pattern does, except for exclusions by patterns. Names have their own lines."""
    wild = [not globs.Glob(part).exact for part in pattern]
    others = [sysctl_names.glob(exclude) for exclude in excludes if sum(wild) > 1 or sysctl_names.is_pattern(exclude)]
    found = [pattern]
    if others:
        choices: list[Sequence[str]] = []
        for index, part in enumerate(pattern):
            is_link = index == 3 and pattern[0] == "net" and pattern[2] in ("conf", "neigh")
            max_length = _MAX_INTERFACE_NAME if is_link else None
            choice = glob_difference.subtract(part, others, max_length) if wild[index] else (part,)
            if choice is None:
                return None
            choices.append(choice)
        if math.prod(map(len, choices)) > _MAX_LINES:
            return None
        found = [_as_glob(tuple(parts), quote=False) for parts in product(*choices)]
    return found if not any("=" in part for parts in found for part in parts) else None


def _key_of(path: Path) -> str:
    """Return a path, or a glob for each part of one, as a key: dots as separators, and `/` for a dot in a part."""
    key = ".".join(part.replace(".", "/") for part in path)
    return key.encode("latin-1").decode("utf-8", "surrogateescape")


def _as_glob(path: Path, quote: bool = True) -> Path:
    """Return globs that match only this path. One letter is in brackets, so that systemd-sysctl sees a pattern."""
    parts = [globs.quoted(part) if quote else part for part in path]
    if not any(map(sysctl_names.is_pattern, parts)):
        place = next(index for index in (-2, *range(len(parts))) if re.search("[A-Za-z0-9]", parts[index]))
        parts[place] = re.sub("[A-Za-z0-9]", r"[\g<0>]", parts[place], count=1)
    return tuple(parts)


def _assignment(path: Path, name: str, decision: _Decision) -> Iterator[str]:
    wanted, found, key = decision.wanted, decision.found or "", _key_of(path)
    assert wanted
    if not sysctl_names.writable(name):
        yield f"# {name}: {_NO_KEY}"
        return
    value = value_to_write(wanted.want, found)
    if isinstance(wanted.want, Within):
        yield f"{RANGE}{key} {wanted.want}"
        # If no kernel shows its value, which can be higher, the bound itself is used.
        value = found if satisfies(name, found, wanted.want) else value
    yield f"{key} = {value}"


def _exclusion(path: Path) -> str:
    name = sysctl_names.name(path)
    return f"-{_key_of(path)}" if sysctl_names.writable(name) else f"# {name}: {_NO_KEY}"
