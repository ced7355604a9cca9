"""A model of /proc/sys: the values that the kernel stores if texts are written in sequence.

A sysctl of one integer reads a text up to the first white space, so `1 # note` is 1, and refuses a text that does
not begin with a number (proc_get_long() and __do_proc_dointvec() in kernel/sysctl.c). A change of
net.ipv4.conf.all.forwarding, which is net.ipv4.ip_forward, is copied to all interfaces and to conf.default
(inet_forward_change() in net/ipv4/devinet.c). A write to conf.default is copied to the interfaces on which nothing
was set before (devinet_copy_dflt_conf()).
"""

from __future__ import annotations

import functools
import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import NamedTuple, Optional

from ipvsd.sysctl import sysctl_names, values
from ipvsd.sysctl.patterns import Patterns

# sysctl_names.ALIASES by path, because this model also has paths that are no names of sysctls.
_ALIASES = {
    "/".join(sysctl_names.parts(alias) or ()): "/".join(sysctl_names.parts(name) or ())
    for alias, name in sysctl_names.ALIASES.items()
}
_FORWARD = "net/ipv4/ip_forward"
_LINK = re.compile(r"(net/ipv4/conf/)([^/]+)/([^/]+)\Z")

# The sysctls of one integer, by the path under /proc/sys. The model knows nothing about the values of others.
_INTEGER = re.compile(
    r"net/ipv4/ip_forward\Z|net/ipv[46]/conf/[^/]+/(?!stable_secret)[^/]+\Z|net/ipv4/vs/(?!sync_threshold|sync_ports|est_cpulist)[^/]+\Z|"
    r"net/bridge/[^/]+\Z|net/nf_conntrack_max\Z|net/netfilter/nf_conntrack_max\Z|kernel/modules_disabled\Z|"
    r"net/core/somaxconn\Z"
)
_INT_MAX = (1 << 31) - 1
_SPACE = " \t\n\v\f\r"  # isspace(), which the kernel skips before a number

# The bounds of proc_dointvec_minmax(), which refuses values outside.
_BOUNDS = {"kernel/modules_disabled": (1, 1), "net/core/somaxconn": (0, _INT_MAX)}

INITIAL = -1  # the number of a value that existed before any write


class StoredValue(NamedTuple):
    """A value as the kernel prints it, and the number of the write that stored it."""

    value: str
    write_number: int = INITIAL


def accepted_value(path: str, text: str) -> Optional[str]:
    """Return the value that a sysctl stores for a text, or None if the kernel refuses the text.

    If the sysctl is not known to be one integer, return the text itself, without a comment after a number.
    """
    # All sysctls of one kind accept the same texts, and a pattern writes one text to thousands of them.
    low, high = _BOUNDS.get(path, (-_INT_MAX - 1, _INT_MAX))
    return _accepted(bool(_INTEGER.match(path)), low, high, text)


@functools.lru_cache(maxsize=1024)
def _accepted(is_integer: bool, low: int, high: int, text: str) -> Optional[str]:
    words = re.split(r"[ \t\n]+", text.lstrip(_SPACE))  # only these characters end a number
    if not is_integer:
        numbers = len(words) if "#" not in text else next(i for i, word in enumerate([*words, "#"]) if word[:1] == "#")
        remark = 0 < numbers < len(words) and all(map(_integer_text, words[:numbers]))
        return sysctl_names.canonical(" ".join(words[:numbers]) if remark else text)
    number = _integer_text(words[0])
    return number if number is not None and low <= int(number) <= high else None


def _integer_text(word: str) -> Optional[str]:
    number = values.integer(word)
    return str(number) if number is not None and -_INT_MAX - 1 <= number <= _INT_MAX else None


def canonical_path(path: str) -> str:
    """Return the path by which a kernel variable is known that can have two files."""
    return _ALIASES.get(path, path)


def alias_paths(path: str) -> tuple[str, ...]:
    one = canonical_path(path)
    return (one, *(other for other, of in _ALIASES.items() if of == one))


def related(path: str) -> tuple[str, ...]:
    link = _LINK.match(path)
    found = [*alias_paths(path)]
    if link:
        found += [f"{link[1]}default/{link[3]}"]
        if link[3] == "forwarding":
            found += alias_paths(_FORWARD)
    return tuple(dict.fromkeys(found))


def is_independent(path: str, values: Mapping[str, str]) -> bool:
    """Return whether only writes to a sysctl and to its default change it, and all such sysctls accept the same texts.

    These are the sysctls of an interface, except for forwarding, without a known initial value.
    """
    link = _LINK.match(path)
    return bool(link) and path not in values and default_of(path) not in ("", path)


def default_of(path: str) -> str:
    """Return the path from which new interfaces take the value of an interface's sysctl, or an empty text."""
    link = _LINK.match(path)
    return f"{link[1]}default/{link[3]}" if link and link[2] != "all" and link[3] != "forwarding" else ""


class ProcSys:
    """The sysctls at some paths, and those that can change them: first with `values`, then as written."""

    def __init__(self, paths: Iterable[str], values: Mapping[str, str]) -> None:
        self._known = dict.fromkeys(other for path in paths for other in related(path))
        self._links: dict[str, list[tuple[str, str]]] = {}  # by parameter: the interfaces and the paths
        for link in filter(None, map(_LINK.match, self._known)):
            self._links.setdefault(link[3], []).append((link[2], link[0]))
        self._values = {canonical_path(path): StoredValue(values[path]) for path in self._known if path in values}
        self._written: set[str] = set()

    def __getitem__(self, path: str) -> Optional[StoredValue]:
        """Return the value of a sysctl, or None if nothing wrote it and the initial value is unknown."""
        return self._values.get(canonical_path(path))

    def matching(self, patterns: Collection[str]) -> Mapping[str, Sequence[str]]:
        return matching(patterns, self._known)

    def write(self, path: str, text: str, number: int, anew: bool = True) -> bool:
        """Write a text, and return whether the kernel accepts it. `number` identifies the write.

        Unless `anew`, the writer reads the sysctl first, and writes nothing if the kernel already prints this text.
        """
        value = accepted_value(path, text)
        if path not in self._known:
            return value is not None
        one, link = canonical_path(path), _LINK.match(path)
        before = self._values.get(one)
        if value is not None:
            self._values[one] = StoredValue(value, number)
            if before and before.value == text and not anew:
                return True
        # Even a refused text marks the sysctl of an interface as set (devinet_conf_proc() in net/ipv4/devinet.c).
        self._written.add(path)
        stored = self._values.get(one)
        if value is not None and one == _FORWARD and value != (before.value if before else "0"):
            self._propagate("forwarding", ("all",), StoredValue(value, number))
        elif stored and link and link[2] == "default" and link[3] != "forwarding":
            self._propagate(link[3], ("all", "default"), stored)
        return value is not None

    def _propagate(self, parameter: str, skip: Collection[str], stored: StoredValue) -> None:
        """Copy a value to the interfaces. Except for forwarding, interfaces with an own setting keep their value."""
        for link, path in self._links.get(parameter, ()):
            if link not in skip and (parameter == "forwarding" or path not in self._written):
                self._values[path] = stored


def matching(patterns: Collection[str], paths: Iterable[str]) -> Mapping[str, Sequence[str]]:
    """Return the paths that each pattern matches, in the way of glob(3): part by part, and sorted."""
    found: dict[str, list[str]] = {pattern: [] for pattern in patterns}
    known, index = list(found), Patterns((pattern.split("/") for pattern in found), period=True)
    for path in sorted(paths):
        for number in index.matching(tuple(path.split("/"))):
            found[known[number]].append(path)
    return found
