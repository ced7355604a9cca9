"""Parse YAML documents into one Config, check every key, and report all errors of all files at once."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

from ipvsd.config import profiles, yaml_tree
from ipvsd.config.schema import (
    GROUPS,
    MODULE,
    SETTINGS,
    SWITCHES,
    SYSCTL,
    WANTS,
    Config,
    ModuleSetting,
    Reader,
    SettingError,
    SysctlSetting,
    check_suggestions,
    hint_for_unmanaged,
    is_false,
    kind,
    merge_want,
    parameter,
    parse_boolean,
    shown,
    value,
)
from ipvsd.config.yaml_tree import Node, Scalar
from ipvsd.model.types import Exactly, Want, Within
from ipvsd.modprobe import kernel_names
from ipvsd.sysctl import sysctl_names, values


class ConfigError(Exception):
    """The configuration is invalid. `errors` contains `file:line: key: problem (hint)` for each reason.

    If it is `unreadable`, a file exists or may exist, and its content is unknown.
    """

    def __init__(self, errors: Iterable[str], unreadable: bool = False) -> None:
        self.errors, self.unreadable = tuple(errors), unreadable
        super().__init__("\n".join(self.errors))


def parse(files: Iterable[tuple[str, bytes]]) -> Config:
    """Return the Config of files (name, content), the later ones last. Raises ConfigError with all errors."""
    reader = _Reader()
    for name, data in files:
        reader.file(name, data)
    config = Config(**reader.values, modules=reader.modules, sysctls=reader.sysctls, origins=reader.origins)
    reader.errors.extend(error for check in _CHECKS for error in check(config))
    if reader.errors:
        raise ConfigError(reader.errors)
    return config


def _unknown(config: Config) -> Iterator[str]:
    """Yield the error of an unknown scheduler. A scheduler outside the kernel has to be listed as a module."""
    name = config.scheduler
    if name in profiles.SCHEDULERS or f"ip_vs_{name}" in config.modules:
        return
    from ipvsd.config import spelling

    suggestion = spelling.scheduler(name)
    other = "to use a different scheduler, add the scheduler module to 'modules'"
    known = f"known: {', '.join(profiles.SCHEDULERS)}; {other}"
    hint = f"did you mean {suggestion!r}?" if suggestion else known
    yield f"{config.origins.get('scheduler', 'default')}: scheduler: unknown scheduler {name!r} ({hint})"


def _misspelt(config: Config) -> Iterator[str]:
    """Yield errors for names of modules and sysctls that are certainly misspelt. `required: false` permits them."""
    known = {entry.key for profile in profiles.PROFILES.values() for entry in profile.sysctls}
    unknown = [key for key, setting in config.sysctls.items() if key not in known and setting.required is not False]
    named = [
        (setting, key, name)
        for key, setting in config.modules.items()
        for name in setting.any_of or (key,)
        if setting.required is not False
    ]
    if not unknown and not named:
        return
    from ipvsd.config import spelling

    admit = "If some kernels have the {}, set 'required: false'"
    for setting, key, name in named:
        suggestion = spelling.module(name)
        if suggestion:
            hint = f"did you mean {suggestion!r}? {admit.format('module')}"
            yield f"{setting.origin}: modules.{key}: unknown module {name!r} ({hint})"
    for key in unknown:
        suggestion = spelling.sysctl(key)
        if suggestion:
            origin = config.sysctls[key].origin
            yield f"{origin}: sysctls.{key}: unknown sysctl (did you mean {suggestion}? {admit.format('sysctl')})"


def _incomplete(config: Config) -> Iterator[str]:
    known = {entry.key for name in config.profiles for entry in profiles.PROFILES[name].sysctls}
    for key, setting in config.sysctls.items():
        if setting.want is None and not setting.dropped and key not in known:
            yield f"{setting.origin}: sysctls.{key}: missing value (add 'value: ...'; no profile sets a value)"


def _conflicting(config: Config) -> Iterator[str]:
    """Yield errors for an upper bound below a profile's minimum. With a lower bound, it replaces the range."""
    for name in config.profiles:
        for entry in profiles.PROFILES[name].sysctls:
            setting = config.sysctls.get(entry.key)
            want = setting.want if setting else None
            if not setting or not isinstance(want, Within) or not isinstance(entry.want, profiles.PerCpu):
                continue
            if want.floor is None and want.ceiling is not None and want.ceiling < entry.want.minimum:
                problem = f"'atMost' is below {entry.want.minimum}, the minimum of profile {name}"
                yield f"{setting.origin}: sysctls.{entry.key}: {problem} (add 'atLeast')"


def _refused(config: Config) -> Iterator[str]:
    for key, setting in config.sysctls.items():
        text = values.find_invalid_number(key, setting.want)
        if text is not None:
            number = str(SWITCHES.get(text.lower(), ""))
            hint = f" (write {number})" if number and values.find_invalid_number(key, Exactly(number)) is None else ""
            yield f"{setting.origin}: sysctls.{key}: must be a number, not {text!r}{hint}"


_CHECKS = (_unknown, _misspelt, _incomplete, _conflicting, _refused)


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


class _Reader(MappingReader):
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
                found[key.text] = parameter(item)
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
                return {"want": Exactly(str(check_suggestions(name, value)(node)))}
            except SettingError as bad:
                self._add_error(where, node, bad.problem, "; ".join(filter(None, (bad.hint, hint_for_unmanaged(node)))))
                return None
        known = len(self.errors)
        readers = {
            key: check_suggestions(name, read) if key in ("value", "oneOf") else read for key, read in SYSCTL.items()
        }
        fields = self._fields(where, node, readers)
        if len(self.errors) > known:
            return None
        try:
            want = merge_want({name: fields.pop(name) for name in WANTS if name in fields}, before)
        except SettingError as bad:
            self._add_error(where, node, bad.problem, bad.hint)
            return None
        return fields if want is None else {**fields, "want": want}


def _field(key: str) -> str:
    return re.sub(r"[A-Z]", lambda letter: f"_{letter[0].lower()}", key)
