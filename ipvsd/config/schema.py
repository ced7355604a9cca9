"""The keys of the configuration: the field of each, its default, and its reader for YAML."""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

import math
import re
from collections.abc import Mapping
from typing import Any, Callable, NamedTuple, Optional

from ipvsd.config import profiles, yaml_tree
from ipvsd.config.yaml_tree import Node, Scalar
from ipvsd.model.types import NOTHING, Exactly, OneOf, Policy, Want, Within
from ipvsd.modprobe import kernel_names
from ipvsd.sysctl import sysctl_names, values

MAX_UNITS = 15  # the kernel compares all of them at each write to a guarded sysctl
_EXAMPLES = {"500ms": 0.5, "60s": 60.0, "5m": 300.0}
_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_BOOLEANS = {"true": True, "false": False}
SWITCHES = {"true": 1, "yes": 1, "on": 1, "false": 0, "no": 0, "off": 0}  # as people write them for a sysctl
_YAML_1_1_BOOLEANS = {"yes": True, "on": True, "no": False, "off": False}  # booleans in YAML 1.1, and texts in YAML 1.2

# Plausible versions of Kubernetes: from the first with a stable IPVS mode to some years ahead.
OLDEST, NEWEST = (1, 11), (1, 59)


class SettingError(Exception):
    """The value is invalid.

    `problem` is the reason, `hint` the remedy, and `suggestion` the value that the hint names.
    """

    def __init__(self, problem: str, hint: str = "", suggestion: Optional[str] = None) -> None:
        super().__init__(problem)
        self.problem, self.hint, self.suggestion = problem, hint, suggestion


def kind(node: Node) -> str:
    """Return the name of a value's type for people."""
    names = {"bool": "a boolean", "null": "nothing", "int": "a number", "float": "a number", "str": "a string"}
    if isinstance(node, Scalar):
        return names.get(node.kind, f"a {node.kind}")
    return "a list" if isinstance(node, yaml_tree.Sequence) else "a mapping"


def shown(text: str, quote: bool = True) -> str:
    """Return a text of a file for people: escaped, and limited in length."""
    text = text if len(text) <= 60 else text[:57] + "..."
    if quote:
        return repr(text)
    return text if text.isascii() and text.isprintable() else repr(text)[1:-1]


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def parse_boolean(node: Node, alternative: str = "") -> Optional[bool]:
    """Return the boolean value of a node, or None if it is not a boolean.

    Raises SettingError for words that only YAML 1.1 treats as booleans. `alternative` is another possible meaning.
    """
    if not isinstance(node, Scalar) or node.kind != "bool":
        return None
    text = node.text.lower()
    if text in _YAML_1_1_BOOLEANS:
        hint = f"write {str(_YAML_1_1_BOOLEANS[text]).lower()}"
        raise SettingError(f"must be true or false, not {node.text!r}", f"{hint}{alternative.format(node.text)}")
    return _BOOLEANS[text]


def is_false(node: Node) -> bool:
    """Return whether a node is the literal word false."""
    return isinstance(node, Scalar) and node.kind == "bool" and node.text.lower() == "false"


def _boolean(node: Node) -> bool:
    value = parse_boolean(node)
    if value is None:
        raise SettingError(f"must be true or false, not {kind(node)}")
    return value


def _empty(node: Node) -> str:
    return "an empty list" if isinstance(node, yaml_tree.Sequence) else kind(node)


def _names(node: Node) -> tuple[str, ...]:
    if not isinstance(node, yaml_tree.Sequence) or not node.items:
        raise SettingError(f"must be a list of modules, not {_empty(node)}", "such as [nf_tables, ip_tables]")
    names = tuple(map(_module_name, node.items))
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise SettingError(f"duplicate module {twice!r}", "'-' and '_' are equivalent")
    return names


def _module_name(node: Node) -> str:
    # PyYAML's composer returns null, 1 and no as texts as well, but they are not names.
    if not isinstance(node, Scalar) or node.kind != "str":
        raise SettingError(f"every item must be a module name, not {kind(node)}", "such as [nf_tables, ip_tables]")
    name = kernel_names.module_name(node.text)
    if name is None:
        raise SettingError(f"invalid module name {shown(node.text)}")
    return name


def _values(node: Node) -> tuple[str, ...]:
    if not isinstance(node, yaml_tree.Sequence) or not node.items:
        raise SettingError(f"must be a list of values, not {_empty(node)}", "such as [0, 2]", "0")
    return tuple(value(item) for item in node.items)


def _patterns(node: Node) -> tuple[str, ...]:
    if not isinstance(node, yaml_tree.Sequence):
        raise SettingError(f"must be a list, not {kind(node)}", 'such as [all, "veth*"]')
    return tuple(map(_pattern, node.items))


def _pattern(node: Node) -> str:
    """Return a part that a wildcard must not match: a name or a pattern that sysctl.d(5) can express."""
    if not isinstance(node, Scalar) or node.kind not in ("str", "int", "float"):
        raise SettingError(f"every item must be a name or a pattern, not {kind(node)}", 'such as [all, "veth*"]')
    found = sysctl_names.pattern_of_part(node.text)
    if found is None or not sysctl_names.writable(f"x{found}"):
        hint = "write a dot in a name as '.', not as '/'" if "/" in node.text else 'such as [all, "veth*"]'
        raise SettingError(f"invalid name or pattern {shown(node.text)}", hint)
    return found


def _units(node: Node) -> tuple[str, ...]:
    if not isinstance(node, yaml_tree.Sequence):
        raise SettingError(f"must be a list of units, not {kind(node)}", "such as [kubelet.service]")
    for item in node.items:
        if not re.match(r"[A-Za-z0-9:_.@\\-]{1,240}\.(service|scope|slice)\Z", _text(item)):
            raise SettingError(f"invalid unit {shown(_text(item))}", "use NAME.service, NAME.scope or NAME.slice")
    if len(node.items) > MAX_UNITS:
        raise SettingError(f"must not contain more than {MAX_UNITS} units", "use a slice for several units")
    return tuple(_text(item) for item in node.items)


def _integer(node: Node) -> int:
    """Return a number as the kernel reads it: 010 is 8."""
    number = values.integer(_text(node))
    if number is None:
        shown_value = shown(_text(node)) if kind(node) == "a number" else kind(node)
        raise SettingError(f"must be an integer, not {shown_value}")
    return number


def _count(node: Node) -> int:
    number = _integer(node)
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


def _duration(minimum: float, maximum: float) -> Callable[[Node], float]:
    def read(node: Node) -> float:
        # Without a leading 0, because some YAML parsers read 010 as 8.
        match = re.match(r"((?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?)(ms|s|m|h|)\Z", _text(node))
        if not match:
            examples = [text for text, seconds in _EXAMPLES.items() if minimum <= seconds <= maximum]
            what = shown(_text(node)) if kind(node) == "a number" else kind(node)
            raise SettingError(f"must be a duration, not {what}", f"such as {', '.join(examples)}")
        # `dump` writes microseconds exactly, but the factor of a unit is not always exact.
        seconds = round(float(match[1]) * _UNITS[match[2]], 6)
        if not minimum <= seconds <= maximum:
            raise SettingError(f"must be between {minimum:g}s and {maximum:g}s")
        return seconds

    return read


def value(node: Node) -> str:
    """Return a sysctl's value as written in the source. The kernel, not YAML, decides the meaning of 010 or 0x1f."""
    if not isinstance(node, Scalar) or node.kind not in ("str", "int", "float"):
        raise _no_value(node)
    if any(character in node.text for character in "\n\r\0"):
        raise SettingError("must be one line without control characters")
    text = sysctl_names.canonical(node.text)
    if not text.isprintable() or len(text) > 4000:
        raise SettingError("must be one line without control characters, of at most 4000 characters")
    return text


def _no_value(node: Node) -> SettingError:
    text, items = _text(node), node.items if isinstance(node, yaml_tree.Sequence) else ()
    shown_value = repr(text) if kind(node) == "a boolean" and text.lower() in _YAML_1_1_BOOLEANS else kind(node)
    hint, suggestion = "write the value", None
    if kind(node) == "a boolean":
        number = SWITCHES.get(text.lower())
        hint, suggestion = ("", None) if number is None else (f"the kernel expects a number: {number}", str(number))
    elif items or (isinstance(node, Scalar) and node.kind != "null"):
        suggestion = sysctl_names.canonical(" ".join(map(_text, items)) or text)
        plain = suggestion.isprintable() and not set(suggestion) & set('"\\')
        hint = f'quote the value: "{suggestion}"' if suggestion and len(suggestion) < 60 and plain else hint
    return SettingError(f"must be a string or an integer, not {shown_value}", hint, suggestion)


def parameter(node: Node) -> str:
    """Return the value of a module's parameter: one word, because it becomes a part of a line of modprobe.d(5)."""
    on = parse_boolean(node, ', or quote the value: "{}"')
    try:
        text = value(node) if on is None else "YN"[not on]
    except SettingError as bad:
        raise bad if bad.suggestion is None or _is_word(bad.suggestion) else SettingError(bad.problem) from None
    if not _is_word(text):
        raise SettingError("must be one word", "use letters, digits and punctuation, without spaces or quotes")
    return text


def _is_word(text: str) -> bool:
    return re.match(r"[!-~]{1,200}\Z", text) is not None and not set(text) & set("\"'#\\")


def _scheduler(node: Node) -> str:
    """Return a text in the form of a scheduler's name. `parser` checks the name after reading all files."""
    text = _text(node)
    if kind(node) == "a string" and re.match(r"[a-z0-9_]{1,15}\Z", text):  # IP_VS_SCHEDNAME_MAXLEN is 16, with its NUL
        return text
    hint = "such as rr or sh"
    if isinstance(node, Scalar) and not text:
        hint = "kube-proxy uses rr for an empty string: write rr"
    elif text:
        from ipvsd.config import spelling

        suggestion = spelling.scheduler(text)
        hint = f"did you mean {suggestion!r}?" if suggestion else hint
    shown_value = shown(text) if text and kind(node) == "a string" else kind(node)
    raise SettingError(f"must be a scheduler name, not {shown_value}", hint)


def _version(node: Node) -> Optional[tuple[int, int]]:
    if isinstance(node, Scalar) and node.kind == "null":
        return None
    number = "(0|[1-9][0-9]{0,2})"
    match = re.match(rf"v?{number}\.{number}(?:\.{number}(?:[-+][0-9A-Za-z.+-]{{1,40}})?)?\Z", _text(node))
    if not match:
        whole = re.match(r"v?(?:1\.)?([1-9][0-9])\Z", _text(node))
        likely = whole is not None and OLDEST <= (1, int(whole[1])) <= NEWEST
        hint = f'did you mean "1.{whole[1]}"?' if whole and likely else 'such as "1.30"'
        raise SettingError(f"must be a Kubernetes version, not {kind(node)}", hint)
    version = int(match[1]), int(match[2])
    if OLDEST <= version <= NEWEST:
        return version
    low, high = ("{}.{}".format(*bound) for bound in (OLDEST, NEWEST))
    shown_version, minor = f"{match[1]}.{match[2]}", match[2]
    # A template engine drops the last 0 of a number, and people repeat or omit a digit.
    closest = [f"1.{digits}" for digits in (f"{minor}0", minor[:2], f"1{minor}", f"2{minor}", f"3{minor}")]
    known = [text for text in dict.fromkeys(closest) if OLDEST <= (1, int(text[2:])) <= NEWEST]
    hint = f'such as "{high if version > NEWEST else "1.30"}"'
    if known and match[1] == "1":
        hint = f"did you mean {' or '.join(known)}?"
    why = "; kube-proxy's IPVS mode has been stable since 1.11" if version < OLDEST else ""
    raise SettingError(f"must be between {low} and {high}, not {shown_version}{why}", hint)


def _profiles(node: Node) -> tuple[str, ...]:
    if _text(node) == "none":
        return ()
    if not isinstance(node, yaml_tree.Sequence):
        text = _text(node)
        hint = f"write [{text}]" if text in profiles.PROFILES else "write [] for none"
        raise SettingError(f"must be a list, not {kind(node)}", hint)
    read = _choice(*profiles.PROFILES, "none")
    chosen = dict.fromkeys(read(item) for item in node.items)
    if "none" in chosen and len(chosen) > 1:
        raise SettingError("'none' cannot be combined with other profiles", "remove 'none' or the other profiles")
    return tuple(name for name in chosen if name != "none")


def _listen(node: Node) -> tuple[tuple[str, int], ...]:
    if not isinstance(node, yaml_tree.Sequence):
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
        raise SettingError(f"invalid address {shown(text)}", "such as 127.0.0.1:14787 or [::1]:14787")
    if not 1 <= int(match[2]) <= 65535:
        raise SettingError(f"invalid port in {shown(text)}", "use a port from 1 to 65535")
    return str(address), int(match[2])


class ModuleSetting(NamedTuple):
    """A user's settings of a module. None means unset."""

    origin: str
    required: Optional[bool] = None
    dropped: bool = False
    any_of: tuple[str, ...] = ()  # modules of which one suffices
    parameters: Mapping[str, str] = NOTHING


class SysctlSetting(NamedTuple):
    """A user's settings of a sysctl, or of all that match a pattern. None means unset."""

    origin: str
    want: Optional[Want] = None
    policy: Optional[Policy] = None
    required: Optional[bool] = None
    dropped: bool = False
    exclude: tuple[str, ...] = ()  # parts that the wildcards of a pattern must not match
    guard: Optional[bool] = None


class Config(NamedTuple):
    """The whole configuration, with defaults. Times are in seconds."""

    profiles: tuple[str, ...] = ("kube-proxy-ipvs",)
    kube_proxy: Optional[tuple[int, int]] = None  # its version, if known
    scheduler: str = "rr"
    strict_arp: bool = False
    bridge_netfilter: bool = True
    interval: float = 60.0
    startup_strict: bool = False
    startup_limit: float = 300.0
    contention_repairs: int = 20  # more repairs of one sysctl within the window are contention
    contention_window: float = 60.0
    contention_quiet: float = 300.0  # contention ends after this time without drift
    guard_allow: tuple[str, ...] = ()  # units that may write guarded sysctls
    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 14787), ("::1", 14787))
    modules: Mapping[str, ModuleSetting] = NOTHING
    sysctls: Mapping[str, SysctlSetting] = NOTHING
    origins: Mapping[str, str] = NOTHING  # FILE:LINE of plain settings


Reader = Callable[[Node], object]

# By key: the field of Config, and the reader.
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
    "repairs": ("contention_repairs", _count),
    "window": ("contention_window", _duration(1.0, 86400.0)),
    "quiet": ("contention_quiet", _duration(1.0, 86400.0)),
}
GUARD: Mapping[str, tuple[str, Reader]] = {"allow": ("guard_allow", _units)}
HTTP: Mapping[str, tuple[str, Reader]] = {"listen": ("listen", _listen)}
# The maps of settings, by their key.
GROUPS: Mapping[str, Mapping[str, tuple[str, Reader]]] = {
    "startup": STARTUP,
    "contention": CONTENTION,
    "guard": GUARD,
    "http": HTTP,
}
MODULE: Mapping[str, Reader] = {"required": _boolean, "anyOf": _names}
SYSCTL: Mapping[str, Reader] = {
    "value": value,
    "atLeast": _integer,
    "atMost": _integer,
    "oneOf": _values,
    "policy": _policy,
    "required": _boolean,
    "exclude": _patterns,
    "guard": _boolean,
}

WANTS = ("value", "at_least", "at_most", "one_of")  # alternatives, except for both bounds


def merge_want(fields: Mapping[str, Any], before: Optional[Want]) -> Optional[Want]:
    """Merge a value with the earlier one. The bounds of a range are combined. Raises SettingError."""
    if isinstance(before, Within) and set(fields) <= {"at_least", "at_most"}:
        bounds = {"at_least": before.floor, "at_most": before.ceiling}
        fields = {**{name: bound for name, bound in bounds.items() if bound is not None}, **fields}
    if len(fields) > 1 and set(fields) != {"at_least", "at_most"}:
        raise SettingError("'value', 'oneOf' and a range cannot be combined", "keep one")
    if fields.get("at_least", -math.inf) > fields.get("at_most", math.inf):
        raise SettingError("'atLeast' is above 'atMost'")
    if "value" in fields:
        return Exactly(fields["value"])
    if "one_of" in fields:
        return OneOf(fields["one_of"])
    return Within(fields.get("at_least"), fields.get("at_most")) if fields else None


def hint_for_unmanaged(node: Node) -> str:
    """Return the hint for a user who may want ipvsd to leave a sysctl alone, or an empty text."""
    off = kind(node) == "a boolean" and SWITCHES.get(_text(node).lower()) == 0
    return "use false if ipvsd must not manage the sysctl" if off or kind(node) == "nothing" else ""


def check_suggestions(name: str, read: Reader) -> Reader:
    """Return a reader for a sysctl's value without suggestions that the kernel refuses."""

    def fit(node: Node) -> object:
        try:
            return read(node)
        except SettingError as bad:
            if bad.suggestion is None or values.find_invalid_number(name, Exactly(bad.suggestion)) is None:
                raise
            raise SettingError(bad.problem) from None

    return fit
