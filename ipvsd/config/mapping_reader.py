"""Read the keys of a YAML document, and collect all errors as `file:line: key: problem (hint)`."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any, Callable, Optional

from ipvsd.config import yaml_tree
from ipvsd.config.schema import Reader, SettingError, kind, shown
from ipvsd.config.yaml_tree import Node, Scalar


class ConfigError(Exception):
    """The configuration is invalid. `errors` contains `file:line: key: problem (hint)` for each reason."""

    def __init__(self, errors: Iterable[str]) -> None:
        self.errors = tuple(errors)
        super().__init__("\n".join(self.errors))


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
