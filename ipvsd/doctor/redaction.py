"""Remove from texts of other programs what is, or looks like, a secret."""

from __future__ import annotations

import re
from typing import Any

REMOVED = "[removed]"

_PEM = re.compile(r"-----BEGIN [^-\n]{1,60}-----.*?(?:-----END [^-\n]{1,60}-----|\Z)", re.DOTALL)
# Parts of names whose values are secrets. A match begins at such a part: with an unlimited prefix, the search would
# take quadratic time.
_PART = (
    r"(?:passw(?:or)?d|passphrase|secret|token|bearer|credential|api-?_?key|private-?_?key|key-?_?data"
    r"|certificate-?_?(?:authority-?_?)?data|auth(?:orization)?|cookie|session-?_?id)"
)
# NAME=VALUE, NAME: VALUE, "NAME": "VALUE" and --NAME VALUE. A scheme such as Bearer belongs to the value.
_NAMED = re.compile(
    rf"(?P<name>{_PART}[\w.-]{{0,80}}[\"'\\]*\s*[=:]\s*|(?<![\w.-])--[\w.-]{{0,80}}?{_PART}[\w.-]{{0,80}}\s+"
    r"|\b(?:bearer|basic)\s+)"
    r"(?P<value>(?:(?:bearer|basic|token)\s+)?(?:\\?\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;&]+))",
    re.IGNORECASE,
)
_USER = re.compile(r"(?P<scheme>\b[a-z][a-z0-9+.-]{0,20}://)[^\s/@\"']{1,400}@", re.IGNORECASE)
_JWT = re.compile(r"\beyJ[\w-]{5,}(?:\.[\w-]*){0,2}")
_BOOTSTRAP = re.compile(r"\b[a-z0-9]{6}\.[a-z0-9]{16}\b")
# A long word of mixed letters and digits: base64 or a key. Names of files stay.
_LONG = re.compile(
    r"(?<![\w/+.=-])(?=[A-Za-z0-9+/_=-]{0,300}[0-9])(?=[A-Za-z0-9+/_=-]{0,300}[A-Z])[A-Za-z0-9+/_=-]{32,}"
)
_HEXADECIMAL = re.compile(r"\b[0-9a-f]{32,}\b")
# A line of modprobe.d(5) can run any command.
_INSTALL = re.compile(r"(?P<line>\b(?:install|remove) [\w-]{1,64} )(?!(?:/usr)?/bin/(?:true|false)\b)[^\n]+")
_ENVIRONMENT = re.compile(
    r"(?<![\w./-])(?!CONFIG_|ADMIN_STATE)(?P<name>[A-Z][A-Z0-9_]{3,60})=(?:\\?\"[^\"\n]*\"|'[^'\n]*'|[^\s\"',;&]+)"
)


def redact(text: str) -> str:
    """Return a text without PEM blocks, values of names such as `token`, user names in URLs, and long keys.

    Assignments to names in capitals look like environment variables, so their values are removed as well.
    """
    text = _PEM.sub(REMOVED, text)
    text = _NAMED.sub(lambda found: f"{found['name']}{REMOVED}", text)
    text = _USER.sub(lambda found: f"{found['scheme']}{REMOVED}@", text)
    for pattern in (_JWT, _BOOTSTRAP, _LONG, _HEXADECIMAL):
        text = pattern.sub(REMOVED, text)
    text = _INSTALL.sub(lambda found: f"{found['line']}{REMOVED}", text)
    return _ENVIRONMENT.sub(lambda found: f"{found['name']}={REMOVED}", text)


_SECRET_NAME = re.compile(_PART, re.IGNORECASE)


def redact_document(value: Any, name: str = "") -> Any:
    """Return a JSON document in which each text is redacted, and the values of names such as `token` are removed."""
    if isinstance(value, dict):
        return {redact(str(key)): redact_document(item, str(key)) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [redact_document(item, name) for item in value]
    if isinstance(value, str):
        return REMOVED if value and _SECRET_NAME.search(name) else redact(value)
    return value


# Parameters of the kernel's command line that affect modules, sysctls and security modules.
_PARAMETER = re.compile(
    r"(?:sysctl\.[\w./-]+|modprobe\.blacklist|module_blacklist|modules-load|rd\.modules-load|ip_vs\.\w+"
    r"|nf_conntrack\.\w+|ipv6\.\w+|selinux|enforcing|apparmor|security|lsm|lockdown|module\.sig_enforce|quiet|ro|rw"
    r"|systemd\.unified_cgroup_hierarchy|cgroup_enable|fips)(?:=|\Z)"
)


def kernel_command_line(text: str) -> str:
    """Return the known parameters of a kernel command line, and the number of the others."""
    words = text.split()
    known = [word for word in words if _PARAMETER.match(word)]
    return " ".join((*known, f"(and {len(words) - len(known)} others)"))
