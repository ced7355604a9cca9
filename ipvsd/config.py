"""YAML documents to one Config: every key checked, every error of every file said at once."""

from __future__ import annotations

import dataclasses
import difflib
import ipaddress
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Callable, Optional, TypeVar, Union

from ipvsd import document, formats, profiles, sysctls
from ipvsd.document import Node, Scalar
from ipvsd.model import AtLeast, Exactly, Policy, Want

T = TypeVar("T")


class ConfigError(Exception):
    """The configuration cannot be used: `errors` holds a `file:line: where: what (hint)` for each reason."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))


@dataclass(frozen=True)
class ModuleSetting:
    """What a user said of a module; None where nothing was said."""

    origin: str
    required: Optional[bool] = None
    dropped: bool = False


@dataclass(frozen=True)
class SysctlSetting:
    """What a user said of a sysctl; None where nothing was said."""

    origin: str
    want: Optional[Want] = None
    policy: Optional[Policy] = None
    required: Optional[bool] = None
    dropped: bool = False


@dataclass(frozen=True)
class Config:
    """Everything that can be configured, with its default. Times are in seconds."""

    profiles: tuple[str, ...] = ("kube-proxy-ipvs",)
    scheduler: str = "rr"
    strict_arp: bool = False
    bridge_netfilter: bool = True
    interval: float = 60.0
    startup_strict: bool = False
    startup_limit: float = 300.0
    listen: tuple[tuple[str, int], ...] = (("127.0.0.1", 14787), ("::1", 14787))
    modules: Mapping[str, ModuleSetting] = field(default_factory=dict)
    sysctls: Mapping[str, SysctlSetting] = field(default_factory=dict)
    origins: Mapping[str, str] = field(default_factory=dict)  # of the plain settings: FILE:LINE


def parse(files: Iterable[tuple[str, bytes]]) -> Config:
    """Return the Config of the files (name, content), the later ones winning.

    Raises ConfigError with every error of every file.
    """
    reader = _Reader()
    for name, data in files:
        reader.file(name, data)
    config = Config(**reader.values, modules=reader.modules, sysctls=reader.sysctls, origins=reader.origins)
    reader.errors.extend(_incomplete(config))
    if reader.errors:
        raise ConfigError(reader.errors)
    return config


def _incomplete(config: Config) -> Iterator[str]:
    known = {entry.key for name in config.profiles for entry in profiles.PROFILES[name].sysctls}
    for key, setting in config.sysctls.items():
        if setting.want is None and not setting.dropped and key not in known:
            yield f"{setting.origin}: sysctls.{key}: has no value, and no profile gives it one (say 'value: ...')"


_UNITS = {"ms": 0.001, "s": 1.0, "": 1.0, "m": 60.0, "h": 3600.0}
_TRUTH = {"true": True, "yes": True, "on": True, "false": False, "no": False, "off": False}


class _Reader:
    """Collects what the files say, and what is wrong with them."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.modules: dict[str, ModuleSetting] = {}
        self.sysctls: dict[str, SysctlSetting] = {}
        self._file = ""
        self._named: dict[str, int] = {}  # modules and sysctls of this file, by their one name

    def file(self, name: str, data: bytes) -> None:
        self._file, self._named = name, {}
        try:
            root = document.parse(data)
        except document.DocumentError as error:
            self.errors.append(f"{name}:{error.line}: {error}" if error.line else f"{name}: {error}")
            return
        if root is None or (isinstance(root, Scalar) and root.kind == "null"):
            return
        self._mapping("", root, {key: self._setting(*setting) for key, setting in _SETTINGS.items()} | {
            "startup": lambda where, node: self._mapping(where, node, {
                key: self._setting(*setting) for key, setting in _STARTUP.items()}),
            "web": lambda where, node: self._mapping(where, node, {
                "listen": self._setting("listen", _listen)}),
            "modules": self._each(self._module),
            "sysctls": self._each(self._sysctl),
        })  # fmt: skip

    def origin(self, node: Node) -> str:
        return f"{self._file}:{node.line}"

    def _complain(self, where: str, node: Node, what: str, hint: str = "") -> None:
        prefix = f"{where}: " if where else ""
        self.errors.append(f"{self.origin(node)}: {prefix}{what}{f' ({hint})' if hint else ''}")

    def _pairs(self, where: str, node: Node) -> Iterator[tuple[Scalar, Node]]:
        if not isinstance(node, document.Mapping):
            if not (isinstance(node, Scalar) and node.kind == "null"):
                self._complain(where, node, f"must be a map, not {_kind(node)}")
            return
        seen: dict[str, int] = {}
        for key, value in node.items:
            if key.text in seen:
                self._complain(where, key, f"{key.text!r} stands here twice", f"first in line {seen[key.text]}")
            else:
                seen[key.text] = key.line
                yield key, value

    def _mapping(self, where: str, node: Node, known: Mapping[str, Callable[[str, Node], None]]) -> None:
        for key, value in self._pairs(where, node):
            read = known.get(key.text)
            if read:
                read(f"{where}.{key.text}" if where else key.text, value)
            else:
                near = difflib.get_close_matches(key.text, known, 1, 0.5)
                hint = f"did you mean {near[0]!r}?" if near else f"known: {', '.join(known)}"
                self._complain(where, key, f"unknown key {_shown(key.text)}", hint)

    def _setting(self, name: str, read: Callable[[Node], object]) -> Callable[[str, Node], None]:
        def take(where: str, node: Node) -> None:
            try:
                self.values[name] = read(node)
                self.origins[name] = self.origin(node)
            except _Error as bad:
                self._complain(where, node, bad.what, bad.hint)

        return take

    def _each(self, read: Callable[[str, Scalar, Node], None]) -> Callable[[str, Node], None]:
        def take(where: str, node: Node) -> None:
            for key, value in self._pairs(where, node):
                read(f"{where}.{_shown(key.text, quote=False)}", key, value)

        return take

    def _fields(self, where: str, node: Node, readers: Mapping[str, Callable[[Node], T]]) -> dict[str, T]:
        found: dict[str, T] = {}

        def reader(name: str, read: Callable[[Node], T]) -> Callable[[str, Node], None]:
            def take(where: str, node: Node) -> None:
                try:
                    found[name] = read(node)
                except _Error as bad:
                    self._complain(where, node, bad.what, bad.hint)

            return take

        self._mapping(where, node, {name: reader(name, read) for name, read in readers.items()})
        return found

    def _again(self, where: str, key: Scalar, name: str) -> bool:
        """Complain if this file has named the same thing before, perhaps in another spelling."""
        line = self._named.setdefault(name, key.line)
        if line != key.line:
            self._complain(where, key, f"is {name!r} again", f"first in line {line}")
        return line != key.line

    def _module(self, where: str, key: Scalar, node: Node) -> None:
        name = formats.module_name(key.text)
        if name is None:
            self._complain(where, key, "is no module name", "letters, digits, '_' and '-', at most 55")
        elif self._again(where, key, name):
            return
        elif _is_bool(node) and not _boolean(node):
            self.modules[name] = ModuleSetting(self.origin(key), dropped=True)
        else:
            said = {} if _is_bool(node) else self._fields(where, node, {"required": _boolean})
            old = self.modules.get(name)
            kept = old.required if old and not old.dropped else None
            self.modules[name] = ModuleSetting(self.origin(key), said.get("required", kept))

    def _sysctl(self, where: str, key: Scalar, node: Node) -> None:
        parts = sysctls.parts(key.text)
        if parts is None:
            self._complain(where, key, "is no sysctl below /proc/sys", _sysctl_hint(key.text))
            return
        name, origin = sysctls.name(parts), self.origin(key)
        if self._again(where, key, name):
            return
        if _is_bool(node) and not _boolean(node):
            self.sysctls[name] = SysctlSetting(origin, dropped=True)
            return
        said = self._sysctl_fields(where, node)
        if said is not None:
            old = self.sysctls.get(name)
            base = old if old and not old.dropped else SysctlSetting(origin)
            self.sysctls[name] = dataclasses.replace(base, origin=origin, **said)

    def _sysctl_fields(self, where: str, node: Node) -> Optional[dict[str, Any]]:
        if not isinstance(node, document.Mapping):
            try:
                return {"want": Exactly(_value(node))}
            except _Error as bad:
                self._complain(where, node, bad.what, bad.hint)
                return None
        readers: dict[str, Callable[[Node], object]] = {
            "value": lambda node: Exactly(_value(node)),
            "atLeast": lambda node: AtLeast(_whole(node)),
            "policy": _policy,
            "required": _boolean,
        }
        known = len(self.errors)
        said = self._fields(where, node, readers)
        if len(self.errors) > known:
            return None
        if "value" in said and "atLeast" in said:
            self._complain(where, node, "has both 'value' and 'atLeast'", "keep one")
        wants = [said.pop(name) for name in ("value", "atLeast") if name in said]
        return {**said, "want": wants[0]} if wants else said


class _Error(Exception):
    def __init__(self, what: str, hint: str = "") -> None:
        super().__init__(what)
        self.what, self.hint = what, hint


def _kind(node: Node) -> str:
    names = {"bool": "a truth value", "null": "nothing", "int": "a number", "float": "a number", "str": "a text"}
    if isinstance(node, Scalar):
        return names.get(node.kind, f"a {node.kind}")
    return "a list" if isinstance(node, document.Sequence) else "a map"


def _shown(text: str, quote: bool = True) -> str:
    shown = repr(text if len(text) <= 60 else text[:57] + "...")
    return shown if quote else shown[1:-1]


def _text(node: Node) -> str:
    return node.text if isinstance(node, Scalar) else ""


def _is_bool(node: Node) -> bool:
    # A tag can call any text a bool.
    return isinstance(node, Scalar) and node.kind == "bool" and node.text.lower() in _TRUTH


def _boolean(node: Node) -> bool:
    if not _is_bool(node):
        raise _Error(f"must be true or false, not {_kind(node)}")
    return _TRUTH[_text(node).lower()]


def _whole(node: Node) -> int:
    number = sysctls.integer(_text(node))
    if number is None:
        raise _Error(f"must be a whole number, not {_kind(node)}")
    return number


def _choice(*known: str) -> Callable[[Node], str]:
    def read(node: Node) -> str:
        if _text(node) not in known:
            raise _Error(f"must be one of {', '.join(known)}", f"not {_shown(_text(node))}")
        return _text(node)

    return read


def _policy(node: Node) -> Policy:
    return Policy(_choice(*(policy.value for policy in Policy))(node))


def _duration(least: float, most: float) -> Callable[[Node], float]:
    def read(node: Node) -> float:
        match = re.match(r"([0-9]{1,9}(?:\.[0-9]{1,6})?)(ms|s|m|h|)\Z", _text(node))
        if not match:
            raise _Error(f"must be a time, not {_kind(node)}", "such as 500ms, 60s, 5m")
        seconds = float(match[1]) * _UNITS[match[2]]
        if not least <= seconds <= most:
            raise _Error(f"must be between {least:g}s and {most:g}s")
        return seconds

    return read


def _value(node: Node) -> str:
    """A sysctl's value as the source wrote it: the kernel, not YAML, knows what 010 or 0x1f means."""
    if not isinstance(node, Scalar) or node.kind not in ("str", "int", "float"):
        text = _text(node)
        hint = f'quote it: "{text}"' if text else 'quote it: "4096 131072 6291456"'
        if _is_bool(node):
            hint = f"the kernel wants a number: {int(_TRUTH[text.lower()])}"
        raise _Error(f"must be a string or an integer, not {_kind(node)}", hint)
    if any(character in node.text for character in "\n\r\0"):
        raise _Error("must be one line without control characters")
    value = sysctls.canonical(node.text)
    if not value.isprintable() or len(value) > 4000:
        raise _Error("must be one line without control characters, of at most 4000")
    return value


def _scheduler(node: Node) -> str:
    text = _text(node)
    if not re.match(r"[a-z0-9_]{1,15}\Z", text):  # IP_VS_SCHEDNAME_MAXLEN is 16 with its NUL
        raise _Error(
            f"must be the name of a scheduler, not {_shown(text) if text else _kind(node)}", "such as rr or sh"
        )
    return text


def _profiles(node: Node) -> tuple[str, ...]:
    if not isinstance(node, document.Sequence):
        raise _Error(f"must be a list, not {_kind(node)}", "[] for none")
    read = _choice(*profiles.PROFILES)
    return tuple(dict.fromkeys(read(item) for item in node.items))


def _listen(node: Node) -> tuple[tuple[str, int], ...]:
    if not isinstance(node, document.Sequence):
        raise _Error(f"must be a list, not {_kind(node)}", 'such as ["127.0.0.1:14787"], or [] for none')
    return tuple(_address(_text(item)) for item in node.items)


def _address(text: str) -> tuple[str, int]:
    match = re.match(r"([0-9.]+|\[[0-9A-Fa-f.:]+\]):([0-9]{1,5})\Z", text)
    try:
        address = ipaddress.ip_address(match[1].strip("[]")) if match else None
    except ValueError:
        address = None
    if match is None or address is None or (address.version == 6) != text.startswith("["):
        raise _Error(f"{_shown(text)} is no address", "such as 127.0.0.1:14787 or [::1]:14787")
    if not 1 <= int(match[2]) <= 65535:
        raise _Error(f"{_shown(text)} has no port between 1 and 65535")
    return str(address), int(match[2])


def _sysctl_hint(key: str) -> str:
    if key.startswith("/proc/sys/"):
        return f"drop the prefix: {_shown(key[10:], quote=False)}"
    if any(character in key for character in "*?["):
        return "patterns are not known; name each key"
    return "such as net.ipv4.ip_forward or net/ipv4/conf/eth0.100/rp_filter"


_Setting = tuple[str, Callable[[Node], Union[object]]]
_SETTINGS: Mapping[str, _Setting] = {
    "profiles": ("profiles", _profiles),
    "scheduler": ("scheduler", _scheduler),
    "strictARP": ("strict_arp", _boolean),
    "bridgeNetfilter": ("bridge_netfilter", _boolean),
    "interval": ("interval", _duration(1.0, 86400.0)),
}
_STARTUP: Mapping[str, _Setting] = {
    "mode": ("startup_strict", lambda node: _choice("lenient", "strict")(node) == "strict"),
    "limit": ("startup_limit", _duration(0.0, 86400.0)),
}
