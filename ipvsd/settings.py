"""What each setting takes: one value of a YAML document to one of ours, or why not."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Callable, Optional

from ipvsd import document, formats, profiles, sysctls
from ipvsd.document import Node, Scalar
from ipvsd.model import Policy

MOST_UNITS = 15  # the kernel looks through all of them at each write that is guarded
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_TRUTH = {"true": True, "false": False}
SWITCHES = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}  # as people type them for a sysctl
_OLD_TRUTH = {"yes": True, "on": True, "no": False, "off": False}  # to YAML 1.1, and texts to 1.2 and to people

# The versions of Kubernetes that can be meant: from the first with a general IPVS mode up to some years ahead.
OLDEST, NEWEST = (1, 11), (1, 59)


class SettingError(Exception):
    """The value cannot be taken: `what` is wrong with it, and a hint."""

    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def kind(node: Node) -> str:
    """Return what a person calls this value."""
    names = {"bool": "a truth value", "null": "nothing", "int": "a number", "float": "a number", "str": "a text"}
    if isinstance(node, Scalar):
        return names.get(node.kind, f"a {node.kind}")
    return "a list" if isinstance(node, document.Sequence) else "a map"


def shown(text: str, quote: bool = True) -> str:
    """Return a text from a file as it can be shown: escaped, and not too long."""
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    return shown if quote else shown[1:-1]


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def truth(node: Node, alternative: str = "") -> Optional[bool]:
    """Return the truth value that this is, or None if it is none.

    Raises SettingError for the words that are truth values to YAML 1.1 alone; `alternative` says what else they
    may have been meant to be.
    """
    if not isinstance(node, Scalar) or node.kind != "bool":
        return None
    text = node.text.lower()
    if text in _OLD_TRUTH:
        hint = f"write {str(_OLD_TRUTH[text]).lower()}"
        raise SettingError(f"must be true or false, not {node.text!r}", f"{hint}{alternative.format(node.text)}")
    return _TRUTH[text]


def is_false(node: Node) -> bool:
    """Tell whether this is the truth value false, in so many letters."""
    return isinstance(node, Scalar) and node.kind == "bool" and node.text.lower() == "false"


def _boolean(node: Node) -> bool:
    told = truth(node)
    if told is None:
        raise SettingError(f"must be true or false, not {kind(node)}")
    return told


def _empty(node: Node) -> str:
    return "an empty one" if isinstance(node, document.Sequence) else kind(node)


def _names(node: Node) -> tuple[str, ...]:
    if not isinstance(node, document.Sequence) or not node.items:
        raise SettingError(f"must be a list of modules, not {_empty(node)}", "such as [nf_tables, ip_tables]")
    # null, 1 and no are texts to PyYAML's composer, too, and no names.
    texts = [item.text if isinstance(item, Scalar) and item.kind == "str" else "" for item in node.items]
    names = [formats.module_name(text) for text in texts]
    if None in names:
        raise SettingError(f"{shown(_text(node.items[names.index(None)]))} is no module name")
    return tuple(filter(None, names))


def _values(node: Node) -> tuple[str, ...]:
    if not isinstance(node, document.Sequence) or not node.items:
        raise SettingError(f"must be a list of values, not {_empty(node)}", "such as [0, 2]")
    return tuple(value(item) for item in node.items)


def _patterns(node: Node) -> tuple[str, ...]:
    if not isinstance(node, document.Sequence):
        raise SettingError(f"must be a list, not {kind(node)}", 'such as [all, "veth*"]')
    return tuple(value(item) for item in node.items)


def _units(node: Node) -> tuple[str, ...]:
    if not isinstance(node, document.Sequence):
        raise SettingError(f"must be a list of units, not {kind(node)}", "such as [kubelet.service]")
    for item in node.items:
        if not re.match(r"[A-Za-z0-9:_.@\\-]{1,240}\.(service|scope|slice)\Z", _text(item)):
            raise SettingError(f"{shown(_text(item))} is no unit", "NAME.service, NAME.scope or NAME.slice")
    if len(node.items) > MOST_UNITS:
        raise SettingError(f"must not have more than {MOST_UNITS} units", "a slice holds many")
    return tuple(_text(item) for item in node.items)


def _whole(node: Node) -> int:
    number = sysctls.integer(_text(node))
    if number is None:
        raise SettingError(f"must be a whole number, not {kind(node)}")
    return number


def _count(node: Node) -> int:
    number = _whole(node)
    if not 1 <= number <= 1_000_000:
        raise SettingError("must be between 1 and 1000000")
    return number


def _choice(*known: str) -> Callable[[Node], str]:
    def read(node: Node) -> str:
        if _text(node) not in known:
            raise SettingError(f"must be one of {', '.join(known)}", f"not {shown(_text(node))}")
        return _text(node)

    return read


def _policy(node: Node) -> Policy:
    return Policy(_choice(*(policy.value for policy in Policy))(node))


def _duration(least: float, most: float) -> Callable[[Node], float]:
    def read(node: Node) -> float:
        match = re.match(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|)\Z", _text(node))
        if not match:
            raise SettingError(f"must be a time, not {kind(node)}", "such as 500ms, 60s, 5m")
        seconds = float(match[1]) * _UNITS[match[2]]
        if not least <= seconds <= most:
            raise SettingError(f"must be between {least:g}s and {most:g}s")
        return seconds

    return read


def value(node: Node) -> str:
    """A sysctl's value as the source wrote it: the kernel, not YAML, knows what 010 or 0x1f means."""
    if not isinstance(node, Scalar) or node.kind not in ("str", "int", "float"):
        text = _text(node)
        hint = f'quote it: "{text}"' if text else 'quote it: "4096 131072 6291456"'
        if isinstance(node, Scalar) and node.kind == "null":
            hint = "write its value, or false to leave the sysctl alone"
        told = SWITCHES.get(text.lower()) if kind(node) == "a truth value" else None
        if told is not None:
            hint = f"the kernel wants a number: {told}{'' if told else '; false leaves the sysctl alone'}"
        what = repr(text) if text.lower() in _OLD_TRUTH else kind(node)
        raise SettingError(f"must be a string or an integer, not {what}", hint)
    if any(character in node.text for character in "\n\r\0"):
        raise SettingError("must be one line without control characters")
    text = sysctls.canonical(node.text)
    if not text.isprintable() or len(text) > 4000:
        raise SettingError("must be one line without control characters, of at most 4000")
    return text


def parameter(node: Node) -> str:
    """Return the value of a module's parameter: one word, for it stands in a line of modprobe.d(5)."""
    on = truth(node, ', or quote it: "{}"')
    text = value(node) if on is None else "YN"[not on]
    if not re.match(r"[!-~]{1,200}\Z", text) or any(character in text for character in "\"'#\\"):
        raise SettingError("must be one word", "letters, digits and punctuation, no blanks or quotes")
    return text


def _scheduler(node: Node) -> str:
    """Return what is in the form of a scheduler's name; whether there is such a one is asked of all files at once."""
    text = _text(node)
    if re.match(r"[a-z0-9_]{1,15}\Z", text):  # IP_VS_SCHEDNAME_MAXLEN is 16 with its NUL
        return text
    hint = "such as rr or sh"
    if isinstance(node, Scalar) and not text:
        hint = "kube-proxy takes an empty text for rr: write rr"
    elif text:
        from ipvsd import spelling

        meant = spelling.scheduler(text)
        hint = f"did you mean {meant!r}?" if meant else hint
    raise SettingError(f"must be the name of a scheduler, not {shown(text) if text else kind(node)}", hint)


def _version(node: Node) -> Optional[tuple[int, int]]:
    if isinstance(node, Scalar) and node.kind == "null":
        return None
    number = "(0|[1-9][0-9]{0,2})"
    match = re.match(rf"v?{number}\.{number}(?:\.{number}(?:[-+][0-9A-Za-z.+-]{{1,40}})?)?\Z", _text(node))
    if not match:
        whole = re.match(r"v?(?:1\.)?([0-9]{2})\Z", _text(node))
        hint = f'did you mean "1.{whole[1]}"?' if whole else 'such as "1.30"'
        raise SettingError(f"must be a version of Kubernetes, not {kind(node)}", hint)
    version = int(match[1]), int(match[2])
    if OLDEST <= version <= NEWEST:
        return version
    low, high = ("{}.{}".format(*bound) for bound in (OLDEST, NEWEST))
    said, minor = f"{match[1]}.{match[2]}", match[2]
    # A number that passed through a template has lost its last 0, and a finger is quickly put down twice.
    near = [f"1.{digits}" for digits in (f"{minor}0", minor[:2], f"1{minor}", f"2{minor}", f"3{minor}")]
    known = [text for text in dict.fromkeys(near) if OLDEST <= (1, int(text[2:])) <= NEWEST]
    hint = f'such as "{high if version > NEWEST else "1.30"}"'
    if known and match[1] == "1":
        hint = f"did you mean {' or '.join(known)}?"
    why = "; kube-proxy's IPVS mode is general since 1.11" if version < OLDEST else ""
    raise SettingError(f"must be between {low} and {high}, not {said}{why}", hint)


def _profiles(node: Node) -> tuple[str, ...]:
    if _text(node) == "none":
        return ()
    if not isinstance(node, document.Sequence):
        text = _text(node)
        hint = f"write [{text}]" if text in profiles.PROFILES else "[] for none"
        raise SettingError(f"must be a list, not {kind(node)}", hint)
    read = _choice(*profiles.PROFILES, "none")
    chosen = dict.fromkeys(read(item) for item in node.items)
    if "none" in chosen and len(chosen) > 1:
        raise SettingError("has none and another one", "keep one of them")
    return tuple(name for name in chosen if name != "none")


def _listen(node: Node) -> tuple[tuple[str, int], ...]:
    if not isinstance(node, document.Sequence):
        raise SettingError(f"must be a list, not {kind(node)}", 'such as ["127.0.0.1:14787"], or [] for none')
    return tuple(_address(_text(item)) for item in node.items)


def _address(text: str) -> tuple[str, int]:
    import ipaddress

    match = re.match(r"([0-9.]+|\[[0-9A-Fa-f.:]+\]):([0-9]{1,5})\Z", text)
    try:
        address = ipaddress.ip_address(match[1].strip("[]")) if match else None
    except ValueError:
        address = None
    if match is None or address is None or (address.version == 6) != text.startswith("["):
        raise SettingError(f"{shown(text)} is no address", "such as 127.0.0.1:14787 or [::1]:14787")
    if not 1 <= int(match[2]) <= 65535:
        raise SettingError(f"{shown(text)} has no port between 1 and 65535")
    return str(address), int(match[2])


def sysctl_hint(key: str) -> str:
    """Return what a person may have meant by what is no sysctl."""
    if key.startswith("/proc/sys/"):
        return f"drop the prefix: {shown(key[10:], quote=False)}"
    from ipvsd import spelling

    names = [name.replace("IFACE", "all") for name in spelling.called(key) if "." in name] if key.isascii() else []
    if names:
        return f"did you mean {' or '.join(names[:2])}?"
    return "such as net.ipv4.ip_forward or net/ipv4/conf/eth0.100/rp_filter"


Reader = Callable[[Node], object]

# By the key of the configuration: the field of Config, and what reads it.
SETTINGS: Mapping[str, tuple[str, Reader]] = {
    "profiles": ("profiles", _profiles),
    "kubeProxyVersion": ("kube_proxy", _version),
    "scheduler": ("scheduler", _scheduler),
    "strictARP": ("strict_arp", _boolean),
    "bridgeNetfilter": ("bridge_netfilter", _boolean),
    "interval": ("interval", _duration(1.0, 86400.0)),
}
STARTUP: Mapping[str, tuple[str, Reader]] = {
    "mode": ("startup_strict", lambda node: _choice("lenient", "strict")(node) == "strict"),
    "limit": ("startup_limit", _duration(0.0, 86400.0)),
}
CONTENTION: Mapping[str, tuple[str, Reader]] = {
    "repairs": ("fight_repairs", _count),
    "window": ("fight_window", _duration(1.0, 86400.0)),
    "quiet": ("fight_quiet", _duration(1.0, 86400.0)),
}
GUARD: Mapping[str, tuple[str, Reader]] = {"allow": ("guard_allow", _units)}
WEB: Mapping[str, tuple[str, Reader]] = {"listen": ("listen", _listen)}
MODULE: Mapping[str, Reader] = {"required": _boolean, "anyOf": _names}
SYSCTL: Mapping[str, Reader] = {
    "value": value,
    "atLeast": _whole,
    "atMost": _whole,
    "oneOf": _values,
    "policy": _policy,
    "required": _boolean,
    "exclude": _patterns,
    "guard": _boolean,
}
