"""Read documents in YAML into settings, and collect the errors of all files, each with its line."""

from __future__ import annotations

import math
import re
from collections.abc import Collection, Iterator, Mapping
from typing import Any, Callable, Optional

from ipvsd.config import yaml_tree
from ipvsd.config.keys import GROUPS, MODULE, SETTINGS, SYSCTL
from ipvsd.config.schema import ModuleSetting, SysctlSetting
from ipvsd.config.value_readers import (
    SWITCHES,
    Reader,
    SettingError,
    is_false,
    kind,
    parse_boolean,
    read_parameter,
    read_value,
    shown,
)
from ipvsd.config.yaml_tree import Node, Scalar
from ipvsd.model.types import Exactly, OneOf, Want, Within
from ipvsd.modprobe import kernel_names
from ipvsd.sysctl import sysctl_names, values


class MappingReader:
    """Reads one file at a time. `errors` are those of all files."""

    def __init__(self) -> None:
        self.errors: list[str] = []
        self._file = ""

    def _document(self, data: bytes) -> Optional[Node]:
        """Return the tree of the file's content, or None after an error or if the file is empty."""
        try:
            return yaml_tree.parse(data)
        except yaml_tree.DocumentError as error:
            self.errors.append(f"{self._file}:{error.line}: {error}" if error.line else f"{self._file}: {error}")
            return None

    def origin(self, node: Node) -> str:
        return f"{self._file}:{node.line}"

    def _add_error(self, where: str, node: Node, problem: str, hint: str = "") -> None:
        prefix = f"{where}: " if where else ""
        self.errors.append(f"{self.origin(node)}: {prefix}{problem}{f' ({hint})' if hint else ''}")

    def _pairs(self, where: str, node: Node) -> Iterator[tuple[Scalar, Node]]:
        if not isinstance(node, yaml_tree.Mapping):
            if not (isinstance(node, Scalar) and node.kind == "null"):
                hint = "" if where else "write KEY: VALUE, with a space after the colon"
                if isinstance(node, yaml_tree.Sequence):
                    hint = "write KEY: VALUE, without '-' or '[' before it"
                self._add_error(where, node, f"must be a mapping, not {kind(node)}", hint)
            return
        seen: dict[str, int] = {}
        for key, item in node.items:
            if key.text in seen:
                self._add_error(where, key, f"duplicate key {shown(key.text)}", f"first on line {seen[key.text]}")
            else:
                seen[key.text] = key.line
                yield key, item

    def _mapping(self, where: str, node: Node, known: Mapping[str, Callable[[str, Node], None]]) -> None:
        for key, item in self._pairs(where, node):
            read = known.get(key.text)
            if read:
                read(f"{where}.{key.text}" if where else key.text, item)
            else:
                from ipvsd.config import key_hints

                self._add_error(where, key, f"unknown key {shown(key.text)}", key_hints.hint_for_key(key.text, known))

    def _setting(
        self, name: str, read: Reader, into: dict[str, Any], origins: dict[str, str]
    ) -> Callable[[str, Node], None]:
        def take(where: str, node: Node) -> None:
            try:
                into[name] = read(node)
                origins[name] = self.origin(node)
            except SettingError as bad:
                self._add_error(where, node, bad.problem, bad.hint)

        return take


class ConfigReader(MappingReader):
    def __init__(self) -> None:
        super().__init__()
        self.values: dict[str, Any] = {}
        self.origins: dict[str, str] = {}
        self.modules: dict[str, ModuleSetting] = {}
        self.sysctls: dict[str, SysctlSetting] = {}
        self._named: dict[str, int] = {}  # modules and sysctls of this file, by canonical name
        self._shown: dict[str, str] = {}  # alternatives: the name for people, by canonical name

    def file(self, name: str, data: bytes) -> None:
        self._file, self._named = name, {}
        known_errors = len(self.errors)
        root = self._document(data)
        if len(self.errors) > known_errors:
            self._consider_foreign(data)
            return
        if root is None or (isinstance(root, Scalar) and root.kind == "null"):
            return
        known = {
            **self._plain(SETTINGS),
            **{key: self._group(settings) for key, settings in GROUPS.items()},
            "modules": self._each(self._module),
            "sysctls": self._each(self._sysctl),
        }
        if not self._is_foreign(root, known):
            self._mapping("", root, known)

    def _is_foreign(self, root: Node, known: Collection[str]) -> bool:
        if not isinstance(root, yaml_tree.Mapping) or all(key.text in known for key, _ in root.items):
            return False
        from ipvsd.config import other_programs

        message = other_programs.identify_document(root)
        if message:
            problem, _, hint = message.partition(" (")
            self._add_error("", root, problem, hint[:-1])
        return message is not None

    def _consider_foreign(self, data: bytes) -> None:
        if b"kind" in data:
            from ipvsd.config import other_programs

            message = other_programs.identify_text(data)
            if message:
                self.errors.append(f"{self._file}: {message}")

    def _group(self, settings: Mapping[str, tuple[str, Reader]]) -> Callable[[str, Node], None]:
        return lambda where, node: self._mapping(where, node, self._plain(settings))

    def _plain(self, settings: Mapping[str, tuple[str, Reader]]) -> dict[str, Callable[[str, Node], None]]:
        return {key: self._setting(name, read, self.values, self.origins) for key, (name, read) in settings.items()}

    def _each(self, read: Callable[[str, Scalar, Node], None]) -> Callable[[str, Node], None]:
        def take(where: str, node: Node) -> None:
            for key, item in self._pairs(where, node):
                read(f"{where}.{shown(key.text, quote=False)}", key, item)

        return take

    def _fields(self, where: str, node: Node, readers: Mapping[str, Reader]) -> dict[str, Any]:
        found: dict[str, Any] = {}
        settings = {name: self._setting(_field(name), read, found, {}) for name, read in readers.items()}
        self._mapping(where, node, settings)
        return found

    def _is_duplicate(self, where: str, key: Scalar, name: str) -> bool:
        """Add an error if this file has named the same item before, possibly in another spelling."""
        line = self._named.get(name)
        if line is not None:
            self._add_error(where, key, f"duplicate of '{name}'", f"first on line {line}")
        self._named.setdefault(name, key.line)
        return line is not None

    def _module(self, where: str, key: Scalar, node: Node) -> None:
        name = kernel_names.module_name(key.text)
        if name is None:
            self._add_error(where, key, "invalid module name", "use at most 55 letters, digits, '_' and '-'")
            return
        if key.kind in ("null", "bool"):
            hint = f'quote the name: "{key.text}"' if key.kind == "bool" else ""
            self._add_error(where, key, f"must be a module name, not {kind(key)}", hint)
            return
        if self._is_duplicate(where, key, name):
            return
        try:
            enabled = parse_boolean(node)
        except SettingError as bad:
            self._add_error(where, node, bad.problem, bad.hint)
            return
        shown_as = self._shown.get(name, name)
        if enabled is False:
            self.modules.pop(shown_as, None)
            self.modules[name] = ModuleSetting(self.origin(key), dropped=True)
            return
        read_parameters: Reader = lambda node: self._parameters(f"{where}.parameters", node)  # noqa: E731 -- one of several
        fields = self._fields(where, node, {**MODULE, "parameters": read_parameters}) if enabled is None else {}
        old = self.modules.get(shown_as)
        base = old if old and not old.dropped else ModuleSetting("")
        if "any_of" in fields or base.any_of:
            if "parameters" in fields or base.parameters:
                hint = "set the parameters of one module"
                self._add_error(where, key, "'anyOf' and 'parameters' cannot be combined", hint)
            self.modules.pop(shown_as, None)
            # It is not a module name, so people see its first spelling.
            shown_as = self._shown.setdefault(name, key.text)
        parameters = {**base.parameters, **fields.pop("parameters", {})}
        self.modules[shown_as] = base._replace(origin=self.origin(key), parameters=parameters, **fields)

    def _parameters(self, where: str, node: Node) -> dict[str, str]:
        found: dict[str, str] = {}
        for key, item in self._pairs(where, node):
            place = f"{where}.{shown(key.text, quote=False)}"
            if not re.match(r"[A-Za-z0-9_]{1,64}\Z", key.text):
                self._add_error(place, key, "invalid parameter name", "use letters, digits and '_'")
                continue
            try:
                found[key.text] = read_parameter(item)
            except SettingError as bad:
                self._add_error(place, key, bad.problem, bad.hint)
        return found

    def _sysctl(self, where: str, key: Scalar, node: Node) -> None:
        name, origin = sysctl_names.normalised(key.text), self.origin(key)
        if name is None:
            from ipvsd.config import key_hints

            self._add_error(where, key, "invalid sysctl name", key_hints.hint_for_sysctl(key.text))
            return
        if not sysctl_names.writable(name) or sysctl_names.secret(name):
            from ipvsd.config import key_hints

            self._add_error(where, key, *key_hints.explain_unusable(name, key.text))
            return
        if self._is_duplicate(where, key, name):
            return
        if is_false(node):
            self.sysctls[name] = SysctlSetting(origin, dropped=True)
            return
        old = self.sysctls.get(name)
        base = old if old and not old.dropped else SysctlSetting(origin)
        fields = self._sysctl_fields(where, name, node, base.want)
        if fields is None:
            return
        if "exclude" in fields and not sysctl_names.is_pattern(name):
            self._add_error(where, key, "'exclude' requires a pattern", "such as net.ipv4.conf.*.rp_filter")
        self.sysctls[name] = base._replace(origin=origin, **fields)

    def _sysctl_fields(self, where: str, name: str, node: Node, before: Optional[Want]) -> Optional[dict[str, Any]]:
        if not isinstance(node, yaml_tree.Mapping):
            try:
                return {"want": Exactly(str(_check_suggestions(name, read_value)(node)))}
            except SettingError as bad:
                self._add_error(
                    where, node, bad.problem, "; ".join(filter(None, (bad.hint, _hint_for_unmanaged(node))))
                )
                return None
        known = len(self.errors)
        readers = {
            key: _check_suggestions(name, read) if key in ("value", "oneOf") else read for key, read in SYSCTL.items()
        }
        fields = self._fields(where, node, readers)
        if len(self.errors) > known:
            return None
        try:
            want = _merge_want({name: fields.pop(name) for name in _WANTS if name in fields}, before)
        except SettingError as bad:
            self._add_error(where, node, bad.problem, bad.hint)
            return None
        return fields if want is None else {**fields, "want": want}


def _field(key: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", key)


_WANTS = ("value", "at_least", "at_most", "one_of")  # alternatives, except for both bounds


def _merge_want(fields: Mapping[str, Any], before: Optional[Want]) -> Optional[Want]:
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


def _hint_for_unmanaged(node: Node) -> str:
    """Return the hint for a user who may want ipvsd to leave a sysctl alone, or an empty text."""
    off = isinstance(node, Scalar) and node.kind == "bool" and SWITCHES.get(node.text.lower()) == 0
    return "use false if ipvsd must not manage the sysctl" if off or kind(node) == "nothing" else ""


def _check_suggestions(name: str, read: Reader) -> Reader:
    """Return a reader for a sysctl's value without suggestions that the kernel refuses."""

    def fit(node: Node) -> object:
        try:
            return read(node)
        except SettingError as bad:
            if bad.suggestion is None or values.find_invalid_number(name, Exactly(bad.suggestion)) is None:
                raise
            raise SettingError(bad.problem) from None

    return fit
