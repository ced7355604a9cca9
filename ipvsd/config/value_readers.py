"""Readers for the values of the configuration: each checks a node of YAML, and returns the value of a key."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any, Callable, Optional

from ipvsd.config import profiles, yaml_tree
from ipvsd.config.yaml_tree import Node, Scalar
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


def read_boolean(node: Node) -> bool:
    """Read _true_ or _false_."""
    value = parse_boolean(node)
    if value is None:
        raise SettingError(f"must be true or false, not {kind(node)}")
    return value


def _empty(node: Node) -> str:
    return "an empty list" if isinstance(node, yaml_tree.Sequence) else kind(node)


def read_names(node: Node) -> tuple[str, ...]:
    """Read a list of module names."""
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


def read_values(node: Node) -> tuple[str, ...]:
    """Read a list of values."""
    if not isinstance(node, yaml_tree.Sequence) or not node.items:
        raise SettingError(f"must be a list of values, not {_empty(node)}", "such as [0, 2]", "0")
    return tuple(read_value(item) for item in node.items)


def read_patterns(node: Node) -> tuple[str, ...]:
    """Read a list of patterns."""
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


def read_units(node: Node) -> tuple[str, ...]:
    """Read a list of units, NAME.service, NAME.scope or NAME.slice, at most {MAX_UNITS}."""
    if not isinstance(node, yaml_tree.Sequence):
        raise SettingError(f"must be a list of units, not {kind(node)}", "such as [kubelet.service]")
    for item in node.items:
        if not re.match(r"[A-Za-z0-9:_.@\\-]{1,240}\.(service|scope|slice)\Z", _text(item)):
            raise SettingError(f"invalid unit {shown(_text(item))}", "use NAME.service, NAME.scope or NAME.slice")
    if len(node.items) > MAX_UNITS:
        raise SettingError(f"must not contain more than {MAX_UNITS} units", "use a slice for several units")
    return tuple(_text(item) for item in node.items)


def read_integer(node: Node) -> int:
    """Read an integer.

    As the kernel reads it, 010 is 8.
    """
    number = values.integer(_text(node))
    if number is None:
        shown_value = shown(_text(node)) if kind(node) == "a number" else kind(node)
        raise SettingError(f"must be an integer, not {shown_value}")
    return number


def read_count(node: Node) -> int:
    """Read a number from _1_ to _1000000_."""
    number = read_integer(node)
    if not 1 <= number <= 1_000_000:
        raise SettingError("must be between 1 and 1000000")
    return number


# The first paragraph of a reader's docstring, in scdoc(5), is a part of ipvsd.yaml(5) ('make tables'). Names in braces
# are those of this module and of the reader.
Reader = Callable[[Node], object]


class Choice:
    """Read {known:or}."""

    def __init__(self, known: Mapping[str, Any]) -> None:
        self.known = known

    def __call__(self, node: Node) -> Any:
        text = _text(node)
        if text not in self.known:
            from ipvsd.config import spelling

            closest = spelling.nearest(text, self.known, spelling.MIN_SIMILARITY)
            hint = f"did you mean {closest!r}?" if closest else f"not {shown(text)}"
            raise SettingError(f"must be one of {', '.join(self.known)}", hint, closest)
        return self.known[text]


class Duration:
    """Read a duration from {minimum} to {maximum}."""

    def __init__(self, minimum: float, maximum: float) -> None:
        self.minimum, self.maximum = minimum, maximum

    def __call__(self, node: Node) -> float:
        # Without a leading 0, because some YAML parsers read 010 as 8.
        match = re.match(r"((?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,6})?)(ms|s|m|h|)\Z", _text(node))
        if not match:
            examples = [text for text, seconds in _EXAMPLES.items() if self.minimum <= seconds <= self.maximum]
            what = shown(_text(node)) if kind(node) == "a number" else kind(node)
            raise SettingError(f"must be a duration, not {what}", f"such as {', '.join(examples)}")
        # `dump` writes microseconds exactly, but the factor of a unit is not always exact.
        seconds = round(float(match[1]) * _UNITS[match[2]], 6)
        if not self.minimum <= seconds <= self.maximum:
            raise SettingError(f"must be between {self.minimum:g}s and {self.maximum:g}s")
        return seconds


def read_value(node: Node) -> str:
    """Read a string or a number, on one line, at most 4000 characters.

    Return it as written in the source. The kernel, not YAML, decides the meaning of 010 or 0x1f.
    """
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


def read_parameter(node: Node) -> str:
    """Return the value of a module's parameter: one word, because it becomes a part of a line of modprobe.d(5)."""
    on = parse_boolean(node, ', or quote the value: "{}"')
    try:
        text = read_value(node) if on is None else "YN"[not on]
    except SettingError as bad:
        raise bad if bad.suggestion is None or _is_word(bad.suggestion) else SettingError(bad.problem) from None
    if not _is_word(text):
        raise SettingError("must be one word", "use letters, digits and punctuation, without spaces or quotes")
    return text


def _is_word(text: str) -> bool:
    return re.match(r"[!-~]{1,200}\Z", text) is not None and not set(text) & set("\"'#\\")


def read_scheduler(node: Node) -> str:
    """Read {profiles.SCHEDULERS:or}.

    `parser` checks the name after reading all files, because another scheduler can be listed as a module.
    """
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


def read_version(node: Node) -> Optional[tuple[int, int]]:
    """Read a Kubernetes version from {OLDEST} to {NEWEST}, such as _"1.30"_, or _null_."""
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


def read_profiles(node: Node) -> tuple[str, ...]:
    """Read a list of {profiles.PROFILES:and}."""
    if _text(node) == "none":
        return ()
    if not isinstance(node, yaml_tree.Sequence):
        text = _text(node)
        hint = f"write [{text}]" if text in profiles.PROFILES else "write [] for none"
        raise SettingError(f"must be a list, not {kind(node)}", hint)
    read = Choice({name: name for name in (*profiles.PROFILES, "none")})
    chosen = dict.fromkeys(read(item) for item in node.items)
    if "none" in chosen and len(chosen) > 1:
        raise SettingError("'none' cannot be combined with other profiles", "remove 'none' or the other profiles")
    return tuple(name for name in chosen if name != "none")


def read_addresses(node: Node) -> tuple[tuple[str, int], ...]:
    """Read a list of ADDRESS:PORT, an IPv6 address in brackets, or :PORT, port 1 to 65535."""
    if not isinstance(node, yaml_tree.Sequence):
        raise SettingError(f"must be a list, not {kind(node)}", 'such as ["127.0.0.1:14787"], or [] for none')
    return tuple(dict.fromkeys(_address(_text(item)) for item in node.items))


def _address(text: str) -> tuple[str, int]:
    """Return the address and the port. An empty address means all addresses."""
    match = re.match(r"([0-9.]+|\[[0-9A-Fa-f.:]+\]|):([0-9]{1,5})\Z", text)
    address = _ip_address(match[1]) if match else None
    if match is None or address is None:
        raise SettingError(f"invalid address {shown(text)}", 'such as 127.0.0.1:14787, [::1]:14787 or ":14787"')
    if not 1 <= int(match[2]) <= 65535:
        raise SettingError(f"invalid port in {shown(text)}", "use a port from 1 to 65535")
    return address, int(match[2])


def _ip_address(text: str) -> Optional[str]:
    """Return an address in its canonical form, an empty text unchanged, or None if it is not valid."""
    if not text:
        return text
    import ipaddress

    try:
        address = ipaddress.ip_address(text.strip("[]"))
    except ValueError:
        return None
    return str(address) if (address.version == 6) == text.startswith("[") else None


class AbsolutePath:
    """Read an absolute path{rule}, or _null_."""

    def __init__(self, ending: str = "") -> None:
        self.ending = ending
        self.rule = f" that ends in _{ending}_" if ending else ""

    def __call__(self, node: Node) -> Optional[str]:
        if isinstance(node, Scalar) and node.kind == "null":
            return None
        text = _text(node)
        example = f"such as {'/var/lib/prometheus/node-exporter/ipvsd.prom' if self.ending else '/etc/ipvsd/web.yml'}"
        if kind(node) != "a string" or not re.match(r"/[!-~]{1,1000}\Z", text) or text.endswith("/"):
            raise SettingError(f"must be an absolute path, not {shown(text) if text else kind(node)}", example)
        if not text.endswith(self.ending):
            raise SettingError(f"must end in {self.ending}", example)
        return text
