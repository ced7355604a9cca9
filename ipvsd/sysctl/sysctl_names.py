r"""Sysctls as text: their names by the rule of sysctl.d(5), their values in one form.

A sysctl is its path below /proc/sys, each part of it as the kernel has it, a character for a byte. Its name is that
path in printable ASCII: dots between the parts, `/` for a dot within, and `\xHH` for a byte that would mean something
else there (a wildcard, `=`, a backslash) or is not to be shown. So no name of a sysctl is a pattern, and each sysctl
has one name. In a pattern `\xHH` is the byte itself, not a wildcard.
"""

from __future__ import annotations

import re
from typing import Optional

# Two names of one value; each way round it is shown under the second.
ALIASES = {
    "net.nf_conntrack_max": "net.netfilter.nf_conntrack_max",  # net/netfilter/nf_conntrack_standalone.c
    "net.ipv4.conf.all.forwarding": "net.ipv4.ip_forward",  # net/ipv4/devinet.c, ctl_forward_entry
}

_WILDCARD = re.compile(r"[*?[]")
_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})")
_NOT_SHOWN = re.compile(r"[^!-~]|[*?[\\=]")
# What ends a key or a line there, or is not to be shown to whoever reads the file.
_NOT_WRITTEN = re.compile(r"[\x00-\x20\x7f=]")
# Of mode 0600 in net/ipv4/sysctl_net_ipv4.c and net/ipv6/addrconf.c; others of this mode hold no secret.
_SECRET = re.compile(r"net\.ipv4\.tcp_fastopen_key\Z|net\.ipv6\.conf\.[^.]+\.stable_secret\Z")
_SWAPPED = {ord("."): "/", ord("/"): "."}

Path = tuple[str, ...]


def parts(key: str) -> Optional[Path]:
    """Return the path of a sysctl below /proc/sys, by the rule of sysctl.d(5), or None if it has none there.

    The first of `.` and `/` that occurs is the separator; the other one then stands for itself
    turned round: `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are one.
    """
    found = _split(key)
    if found is None or any(map(is_pattern, found)):
        return None
    return tuple(map(unescape_part, found))


def globs(key: str) -> Optional[Path]:
    """Return what fits the parts of the sysctls that a pattern or a name stands for, or None if it is neither."""
    found = _split(key)
    return None if found is None else tuple(map(glob, found))


def glob(part: str) -> str:
    """Return a part of a pattern as fnmatch(3) takes it."""
    return _ESCAPE.sub(lambda escape: f"\\{_byte(escape[1])}", part)


def normalised(key: str) -> Optional[str]:
    """Return the one name of a sysctl or a pattern, however it is spelt, or None if it is neither."""
    found = _split(key)
    return None if found is None else join_parts(tuple(map(_normalised, found)))


def name(path: Path) -> str:
    """Return the one name of a sysctl by its path."""
    return join_parts(tuple(map(escape_part, path)))


def pattern_of_part(text: str) -> Optional[str]:
    """Return the one form of a pattern of one part of a path, with its dots, or None if it is none."""
    found = _split(f"x/{text}") if "/" not in text else None
    return None if found is None else _normalised(found[1])


def writable(name: str) -> bool:
    """Tell whether sysctl.d(5) has a way to write a sysctl, a pattern or a part of one as a key."""
    return not _NOT_WRITTEN.search(unescape_part(name)) and name[:1] not in ("-", "#", ";")


def secret(name: str) -> bool:
    """Tell whether the kernel shows a sysctl, or those of a pattern, to root alone because they hold a secret."""
    return _SECRET.match(name) is not None


def join_parts(names: Path) -> str:
    """Return the one name that the names of some parts, or patterns of such, make."""
    whole = ".".join(part.translate({ord("."): "/"}) for part in names)
    return ALIASES.get(whole, whole)


def escape_part(part: str) -> str:
    """Return the name of one part of a path, such as an interface, with its dots."""
    return _NOT_SHOWN.sub(lambda byte: f"\\x{ord(byte[0]):02x}", part)


def unescape_part(shown: str) -> str:
    """Return one part of a path by its name."""
    return _ESCAPE.sub(lambda escape: _byte(escape[1]), shown)


def part(name: str, index: int) -> Optional[str]:
    """Return one part of the path of a sysctl by its name, or None if it has no such."""
    path = parts(name) or ()
    return path[index] if index < len(path) else None


def paths(name: str) -> tuple[Path, ...]:
    """Return the paths of a sysctl by its name: its own, and those of the other names of its value."""
    found = parts(name)
    others = [parts(alias) or () for alias, of in ALIASES.items() if of == name]
    return (*(() if found is None else (found,)), *others)


def is_pattern(key: str) -> bool:
    """Tell whether a name stands for all sysctls that it fits (fnmatch(3), within each part)."""
    return _WILDCARD.search(key) is not None


def _split(key: str) -> Optional[Path]:
    """Return the parts of a key as they are spelt, but for the dots in them."""
    if not key.isprintable() or not key.isascii() or " " in key or "\\" in _ESCAPE.sub("", key):
        return None
    dot, slash = key.find("."), key.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        key = key.translate(_SWAPPED)
    found = tuple(key.split("/"))
    # Nothing in /proc/sys begins with a dot, or has one in its name; nor would the rule above have a way to name it.
    impossible = "." in unescape_part(found[0]) or any(
        part in ("", ".", "..") or "/" in part or "\0" in part for part in map(unescape_part, found)
    )
    return None if len(found) < 2 or impossible else found


def _normalised(part: str) -> str:
    return _ESCAPE.sub(lambda escape: escape_part(_byte(escape[1])), part).replace("=", r"\x3d")


def _byte(digits: str) -> str:
    return chr(int(digits, 16))


def canonical(text: str) -> str:
    """Return the value with every run of white space as one space: the kernel prints tabs, people type spaces."""
    return " ".join(text.split())


def integer(text: str) -> Optional[int]:
    """Return the value of a decimal integer as the kernel prints it, or None."""
    return int(text) if re.match(r"-?[0-9]{1,20}\Z", text) else None
