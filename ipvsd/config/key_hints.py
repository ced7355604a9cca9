"""Hints for unknown keys and invalid names of sysctls."""

from __future__ import annotations

import re
from collections.abc import Collection

from ipvsd.sysctl import sysctl_names


def hint_for_key(key: str, known: Collection[str]) -> str:
    """Return a hint that names the most similar known key, or another way to write the setting."""
    from ipvsd.config import other_programs, spelling

    if not key.isascii():
        from ipvsd.config.confusables import describe_character

        sign = next(character for character in key if not character.isascii())
        return f"{describe_character(sign)} is invalid in a key; known: {', '.join(known)}"
    if any(key.endswith(f" {name}:") or key.startswith(f"{name}:") for name in known):
        return "write a space after the colon"
    translation = other_programs.translate_key(key) if "profiles" in known else None
    closest = spelling.nearest(key, known)
    return translation or (f"did you mean {closest!r}?" if closest else f"known: {', '.join(known)}")


_SYSCTLS = "such as net.ipv4.ip_forward or net/ipv4/conf/eth0.100/rp_filter"


def hint_for_sysctl(key: str) -> str:
    from ipvsd.config import spelling

    rest = key[len("/proc/sys/") :] if key.startswith("/proc/sys/") else ""
    name = sysctl_names.normalised(rest)
    if name and sysctl_names.writable(name):
        suggestion = spelling.sysctl(name)
        return f"did you mean {suggestion}?" if suggestion else f"remove the prefix: {rest}"
    if not key.isascii():
        data = key.encode("utf-8", "surrogatepass")
        escaped = "".join(chr(byte) if byte < 0x80 else f"\\x{byte:02x}" for byte in data)
        name = sysctl_names.normalised(escaped)
        link = re.match(r"net\.ipv[46]\.(?:conf|neigh)\.[^.]+\.[^.\\]+\Z", name or "")
        return f"write the bytes of non-ASCII letters as {escaped}" if link else _SYSCTLS
    names = [name.replace("IFACE", "all") for name in spelling.find_by_short_name(key) if "." in name]
    if names:
        return f"did you mean {' or '.join(names[:2])}?"
    return _SYSCTLS


def explain_unusable(name: str, key: str) -> tuple[str, str]:
    if sysctl_names.secret(name):
        hint = "set the sysctl in a file with mode 0600 in sysctl.d(5)"
        return "the sysctl is a secret, and all users can read the status", hint
    return "sysctl.d(5) cannot express this name", _unwritable(key)


def _unwritable(key: str) -> str:
    """Return the way to write a sysctl in the syntax of sysctl.d(5), or an empty text."""
    from ipvsd.config import spelling

    rest = key.partition("=")[0].lstrip("-#;")
    name = sysctl_names.normalised(rest)
    return f"write {rest}: VALUE" if name and sysctl_names.writable(name) and spelling.sysctl(name) is None else ""
