r"""Sysctls as text: names by the rule of sysctl.d(5), and values in a canonical form.

The path of a sysctl consists of parts as the kernel has them, one character for a byte. Its name is that path in
printable ASCII. Dots separate the parts, and `/` stands for a dot in a part. `\xHH` stands for a byte that would
have a meaning in a name (a wildcard, `=`, a backslash) or is not printable. So no name of a sysctl is a pattern, and
each sysctl has one name. In a pattern, `\xHH` is the literal byte, not a wildcard.
"""

from __future__ import annotations

import re
from typing import Optional

# Two names of one value. ipvsd shows it under the second.
ALIASES = {
    "net.nf_conntrack_max": "net.netfilter.nf_conntrack_max",  # net/netfilter/nf_conntrack_standalone.c
    "net.ipv4.conf.all.forwarding": "net.ipv4.ip_forward",  # net/ipv4/devinet.c, ctl_forward_entry
}

_WILDCARD = re.compile(r"[*?[]")
_ESCAPE = re.compile(r"\\x([0-9A-Fa-f]{2})")
_NOT_SHOWN = re.compile(r"[^!-~]|[*?[\\=]")
# A character that ends a key or a line in the file, or that is not printable.
_NOT_WRITTEN = re.compile(r"[\x00-\x20\x7f=]")
# Sysctls of mode 0600 in net/ipv4/sysctl_net_ipv4.c and net/ipv6/addrconf.c. Others of this mode contain no secret.
_SECRET = re.compile(r"net\.ipv4\.tcp_fastopen_key\Z|net\.ipv6\.conf\.[^.]+\.stable_secret\Z")
_SWAPPED = {ord("."): "/", ord("/"): "."}

Path = tuple[str, ...]


def parts(key: str) -> Optional[Path]:
    """Return the path of a sysctl under /proc/sys, by the rule of sysctl.d(5), or None if the key is not a sysctl.

    The first `.` or `/` is the separator, and the other one is swapped with it in the parts:
    `net.ipv4.conf.eth0/100.rp_filter` and `net/ipv4/conf/eth0.100/rp_filter` are the same.
    """
    found = _split(key)
    if found is None or any(map(is_pattern, found)):
        return None
    return tuple(map(unescape_part, found))


def globs(key: str) -> Optional[Path]:
    """Return a glob for each part of a pattern or name, or None if the key is neither."""
    found = _split(key)
    return None if found is None else tuple(map(glob, found))


def glob(part: str) -> str:
    """Return a part of a pattern in the syntax of fnmatch(3)."""
    return _ESCAPE.sub(lambda escape: f"\\{_byte(escape[1])}", part)


def normalised(key: str) -> Optional[str]:
    """Return the canonical name of a sysctl or pattern in any spelling, or None if the key is neither."""
    found = _split(key)
    return None if found is None else join_parts(tuple(map(_normalised, found)))


def name(path: Path) -> str:
    """Return the canonical name of the sysctl at a path."""
    return join_parts(tuple(map(escape_part, path)))


def pattern_of_part(text: str) -> Optional[str]:
    """Return the canonical form of a pattern for one part of a path, with its dots, or None if it is invalid."""
    found = _split(f"x/{text}") if "/" not in text else None
    return None if found is None else _normalised(found[1])


def writable(name: str) -> bool:
    """Return whether sysctl.d(5) can express a sysctl, a pattern or a part of one as a key."""
    return not _NOT_WRITTEN.search(unescape_part(name)) and name[:1] not in ("-", "#", ";")


def secret(name: str) -> bool:
    """Return whether the kernel shows a sysctl, or those of a pattern, only to root because they contain a secret."""
    return _SECRET.match(name) is not None


def join_parts(names: Path) -> str:
    """Return the canonical name for the names, or the patterns, of its parts."""
    whole = ".".join(part.translate({ord("."): "/"}) for part in names)
    return ALIASES.get(whole, whole)


def escape_part(part: str) -> str:
    """Return the name of one part of a path, such as an interface, with its dots."""
    return _NOT_SHOWN.sub(lambda byte: f"\\x{ord(byte[0]):02x}", part)


def unescape_part(shown: str) -> str:
    """Return the part of a path that a name of a part stands for."""
    return _ESCAPE.sub(lambda escape: _byte(escape[1]), shown)


def part(name: str, index: int) -> Optional[str]:
    """Return one part of the path of a named sysctl, or None if it has no such part."""
    path = parts(name) or ()
    return path[index] if index < len(path) else None


def paths(name: str) -> tuple[Path, ...]:
    """Return the paths of a named sysctl: its own, and those of the other names of its value."""
    found = parts(name)
    others = [parts(alias) or () for alias, of in ALIASES.items() if of == name]
    return (*(() if found is None else (found,)), *others)


def is_pattern(key: str) -> bool:
    """Return whether a name is a pattern for all sysctls that it matches (fnmatch(3), within each part)."""
    return _WILDCARD.search(key) is not None


def _split(key: str) -> Optional[Path]:
    """Return the parts of a key in their spelling, with `/` swapped to dots."""
    if not key.isprintable() or not key.isascii() or " " in key or "\\" in _ESCAPE.sub("", key):
        return None
    dot, slash = key.find("."), key.find("/")
    if dot >= 0 and (slash < 0 or dot < slash):
        key = key.translate(_SWAPPED)
    found = tuple(key.split("/"))
    # No name in /proc/sys begins with a dot or is one, and the rule above could not express it.
    impossible = "." in unescape_part(found[0]) or any(
        part in ("", ".", "..") or "/" in part or "\0" in part for part in map(unescape_part, found)
    )
    return None if len(found) < 2 or impossible else found


def _normalised(part: str) -> str:
    return _ESCAPE.sub(lambda escape: escape_part(_byte(escape[1])), part).replace("=", r"\x3d")


def _byte(digits: str) -> str:
    return chr(int(digits, 16))


def canonical(text: str) -> str:
    """Return the value with every run of white space as one space. The kernel prints tabs, and people type spaces."""
    return " ".join(text.split())
