"""The settings of one configuration of kube-proxy: from a document or from options, with their places."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Optional

from ipvsd.config.profiles import Version
from ipvsd.config.yaml_tree import Mapping, Node, Scalar
from ipvsd.kube_proxy import yaml_edits
from ipvsd.kube_proxy.command_line import GivenOption
from ipvsd.kube_proxy.config_fields import OPTIONS
from ipvsd.kube_proxy.findings import Effect, Finding, Severity
from ipvsd.kube_proxy.source_text import Edit, SourceText

EXITS_PARSING = "kube-proxy exits: it cannot parse its options"
EXITS_DECODING = "kube-proxy exits with a decoding error"
EXITS_VALIDATION = "kube-proxy exits with a validation error"

_OPTION_NAMES = {option.path: option.name for option in OPTIONS.values() if option.path}


@dataclass(frozen=True)
class Setting:
    """A value with its name in the file: the path of a field, or an option without dashes."""

    path: str
    name: str
    source: SourceText
    start: int
    value: Any = None
    node: Optional[Node] = None
    parent: Optional[Mapping] = None
    number: int = 0
    option: Optional[GivenOption] = None

    def replace(self, text: str, is_string: bool = True) -> tuple[Edit, ...]:
        """Return the edits that change the value."""
        if self.option:
            if self.option.value is None:
                return ()
            end = self.option.value_start + len(self.option.value)
            if self.source.content[self.option.value_start : end] != self.option.value:  # quotes or escapes within it
                return ()
            return (self.source.edit(self.option.value_start, end, text),)
        assert self.node is not None
        always = self.parent is not None and yaml_edits.is_json(self.parent)
        return yaml_edits.replace_value(self.source, self.node, yaml_edits.quoted(text, always) if is_string else text)

    def remove(self) -> tuple[Edit, ...]:
        """Return the edits that disable the setting."""
        if self.option:
            return remove_option(self.option)
        return yaml_edits.comment_out(self.source, self.parent, self.number) if self.parent else ()

    def written(self, text: str) -> str:
        """Return the setting with another value, as in the file."""
        return f"{self.option.dashes}{self.name}={text}" if self.option else f"{self.path.rpartition('.')[2]}: {text}"


def remove_option(option: GivenOption) -> tuple[Edit, ...]:
    """Return the edits that remove an option, with its line if nothing else is on it."""
    source, content = option.source, option.source.content
    first, last = source.line_start(option.start), source.line_end(option.end)
    around = f"{content[first : option.start]}{content[option.end : last]}"
    if around.strip() == "-" and content[first : option.start].strip() == "-":
        return (source.delete_lines(option.start, option.end),)
    if not around.strip(" \t\\") and first:
        return (source.delete_lines(option.start, option.end),)
    end = option.end
    start = option.start
    while start > first and content[start - 1] in " \t" and content[end : end + 1] in ("", " ", "\t", "\r", "\n"):
        start -= 1
    return (source.edit(start, end, ""),)


@dataclass
class Settings:
    """The settings of one start of kube-proxy, and the findings about them."""

    source: SourceText
    version: Version
    start: int  # the place of the whole configuration
    root: Optional[Mapping] = None  # of a document
    embedded: bool = False  # k3s or RKE2 adds its own options
    replaced: frozenset[str] = frozenset()  # options in lists without effect
    config_file: str = ""  # the file of --config, which sets the mode and most fields
    schedulers: frozenset[str] = frozenset()  # those outside of the kernel that ipvsd manages
    known: dict[str, Setting] = field(default_factory=dict)
    findings: list[Finding] = field(default_factory=list)

    @property
    def is_document(self) -> bool:
        return self.root is not None

    def get(self, path: str, default: Any = None) -> Any:
        """Return a valid value, or the default if it is absent or null."""
        setting = self.known.get(path)
        return default if setting is None or setting.value is None else setting.value

    def given(self, path: str) -> Optional[Setting]:
        """Return a setting with a valid value that is not null, or None."""
        setting = self.known.get(path)
        return None if setting is None or setting.value is None else setting

    def section(self, prefix: str) -> Iterator[Setting]:
        """Yield the valid settings of a section."""
        return (setting for path, setting in self.known.items() if path.startswith(f"{prefix}."))

    def name(self, path: str) -> str:
        """Return the name of a field in the file, even if it is absent."""
        setting = self.known.get(path)
        return setting.name if setting else path if self.is_document else _OPTION_NAMES.get(path, path)

    def written(self, path: str, text: str) -> str:
        """Return a setting with this value, as it would stand in the file."""
        if self.is_document:
            return f"{path}: {text}"
        return f"{'' if self.embedded else '--'}{self.name(path)}={text}"

    def report(
        self,
        paths: str,
        severity: Severity,
        problem: str,
        effect: Effect,
        consequence: str,
        correction: str,
        edits: tuple[Edit, ...] = (),
    ) -> None:
        """Add a finding about fields, separated by blanks. Its place is that of the first one that is present."""
        names = paths.split()
        place = next((self.known[path] for path in names if path in self.known), None)
        key = ", ".join(self.name(path) for path in names)
        if place is None:  # the section of an absent field
            place = next(
                (self.known[path.partition(".")[0]] for path in names if path.partition(".")[0] in self.known), None
            )
        source, start = (place.source, place.start) if place else (self.source, self.start)
        self.add(source, start, severity, key, problem, effect, consequence, correction, edits)

    def add(
        self,
        source: SourceText,
        start: int,
        severity: Severity,
        key: str,
        problem: str,
        effect: Effect,
        consequence: str,
        correction: str,
        edits: tuple[Edit, ...] = (),
    ) -> None:
        """Add a finding at a place."""
        line, column = source.position(start)
        self.findings.append(Finding(severity, line, column, key, problem, effect, consequence, correction, edits))

    def reject(self, setting: Setting, problem: str, consequence: str, correction: str, is_string: bool = True) -> None:
        """Report an invalid value that ends kube-proxy.

        Without a likely correction, the setting becomes a comment. An option cannot become one, and stays.
        """
        edits = setting.replace(correction, is_string) if correction else ()
        shown = yaml_edits.quoted(correction) if is_string and not setting.option else correction
        text = setting.written(shown) if correction else f"correct or remove {setting.name}"
        self.add(
            setting.source, setting.start, Severity.ERROR, setting.name, problem, Effect.EXITS, consequence, text,
            edits or (() if setting.option else setting.remove()),
        )  # fmt: skip


def scalar_text(node: Optional[Node]) -> str:
    """Return the text of a scalar, or an empty text."""
    return node.text if isinstance(node, Scalar) else ""
