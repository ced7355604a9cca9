"""Decode a KubeProxyConfiguration as kube-proxy does, and report what the decoder rejects or ignores.

kube-proxy decodes strictly first. An unknown or duplicate key fails that, and kube-proxy then decodes the whole file
leniently: it ignores unknown keys, and uses the last of duplicate keys. A value of a wrong type ends kube-proxy
(Options.loadConfig in cmd/kube-proxy/app/options.go; apimachinery/pkg/runtime/serializer/json).
"""

from __future__ import annotations

import re
from typing import Any

from ipvsd.config import spelling
from ipvsd.config.confusables import describe_character
from ipvsd.config.profiles import Version
from ipvsd.config.value_readers import shown
from ipvsd.config.yaml_tree import Mapping, Node, Scalar, Sequence
from ipvsd.kube_proxy import yaml_edits, yaml_repair, yaml_types
from ipvsd.kube_proxy.config_fields import (
    API_VERSION,
    FIELDS,
    KIND,
    OPTIONS,
    REPLACEMENTS,
    Field,
    Type,
    fields_of,
)
from ipvsd.kube_proxy.config_formats import ConfigDocument
from ipvsd.kube_proxy.findings import Effect, Severity
from ipvsd.kube_proxy.settings import EXITS_DECODING, Setting, Settings
from ipvsd.kube_proxy.source_text import Edit
from ipvsd.kube_proxy.values import Invalid

_LENIENT = "kube-proxy decodes the whole file leniently and ignores"
_MAX_KEYS = 40  # unknown keys that are reported one by one


def decode(document: ConfigDocument, version: Version) -> Settings:
    """Return the settings of a document, with the findings of decoding."""
    settings = Settings(document.source, version, document.root.span.start, document.root)
    _Decoder(settings).section("", document.root)
    _check_type_meta(settings)
    return settings


def _check_type_meta(settings: Settings) -> None:
    """Check apiVersion and kind, which select the decoder."""
    for name, expected in (("apiVersion", API_VERSION), ("kind", KIND)):
        setting = settings.known.get(name)
        given = setting.value if setting else None
        if given == expected or (setting is None and _is_reported(settings, name)):
            continue
        consequence = "kube-proxy exits: it knows no kind of that name and version"
        if setting is None:
            root = settings.root
            edits: tuple[Edit, ...] = ()
            if root and not root.span.style and root.items:
                first = root.items[0][0].span.start
                indent = " " * (first - settings.source.line_start(first))
                edits = (settings.source.edit(first, first, f"{name}: {expected}\n{indent}"),)
            elif root:
                edits = yaml_edits.add(settings.source, root, name, expected)
            settings.report(
                name, Severity.ERROR, f"missing {name}", Effect.EXITS, consequence, f"{name}: {expected}", edits
            )
            continue
        problem = f"invalid {name} {shown(str(given or ''))}"
        if name == "apiVersion" and str(given).startswith("componentconfig"):
            problem = f"unknown apiVersion {given!r}, renamed in 1.9"
        settings.reject(setting, problem, consequence, expected, is_string=False)


def _is_reported(settings: Settings, name: str) -> bool:
    return any(name in finding.key.split(", ") or f"'{name}'" in finding.correction for finding in settings.findings)


class _Decoder:
    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._version = settings.version
        self._source = settings.source

    def section(self, path: str, node: Mapping) -> None:
        """Decode the pairs of a section, and report unknown and duplicate keys."""
        known = fields_of(path, self._version)
        last = {key.text: number for number, (key, _) in enumerate(node.items)}
        unknown: list[int] = []
        for number, (key, item) in enumerate(node.items):
            if key.text == "<<" and key.kind == "merge":
                self._merged(path, item)
            elif key.text not in known:
                unknown.append(number)
            elif last[key.text] != number:
                self._duplicate(path, node, number, last[key.text])
            else:
                self._field(known[key.text], node, number)
        self._unknown(path, node, unknown)

    def _merged(self, path: str, node: Node) -> None:
        for item in node.items if isinstance(node, Sequence) else (node,):
            if isinstance(item, Mapping):
                self.section(path, item)

    def _field(self, field: Field, parent: Mapping, number: int) -> None:
        key, node = parent.items[number]
        setting = Setting(field.path, field.path, self._source, key.span.start, None, node, parent, number)
        if field.type is Type.SECTION:
            if isinstance(node, Mapping):
                self._settings.known[field.path] = setting
                self.section(field.path, node)
            elif self._is_missing_blank(setting, node):
                pass
            elif not yaml_types.is_null(node):
                problem = f"invalid type: expected a map, found {yaml_types.kind_of(node)}"
                self._settings.reject(setting, problem, EXITS_DECODING, "{}", is_string=False)
            return
        if field.type is Type.SWITCHES:
            self._switches(setting, node)
            return
        found = yaml_types.READERS[field.type](node)
        if not isinstance(found, Invalid):
            self._settings.known[field.path] = _with_value(setting, found)
            return
        is_string = field.type in (Type.DURATION, Type.DURATION_OR_NULL, Type.DURATION_OR_NUMBER)
        self._settings.reject(setting, found.problem, EXITS_DECODING, found.correction, is_string)

    def _is_missing_blank(self, setting: Setting, node: Node) -> bool:
        """Report a section that is a text, because its keys lack the blank after the colon, or have `=`."""
        if not isinstance(node, Scalar) or node.span.style:
            return False
        text = self._source.content[node.span.start : node.span.end]
        # Any key, because a misspelt one is corrected afterwards.
        found = list(re.finditer(r"(?<!\S)[A-Za-z][A-Za-z-]*([:=])(?=[^\s/])", text))
        if not found:
            return False
        start = node.span.start
        problem = yaml_repair.separator_problem(max(match[1] for match in found))  # "=" if there is one
        self._settings.add(
            self._source, start, Severity.ERROR, setting.name, problem,
            Effect.EXITS, EXITS_DECODING, "write KEY: VALUE",
            tuple(self._source.edit(start + match.start(1), start + match.end(), ": ") for match in found),
        )  # fmt: skip
        return True

    def _switches(self, setting: Setting, node: Node) -> None:
        if yaml_types.is_null(node):
            return
        if not isinstance(node, Mapping):
            problem = f"invalid type: expected a map, found {yaml_types.kind_of(node)}"
            correction = "{}"
            if isinstance(node, Scalar) and node.text.strip():  # as on the command line: A=true,B=false
                pairs = re.findall(r"([A-Za-z0-9]+)\s*[=:]\s*(true|false)\b", node.text, re.IGNORECASE)
                correction = "{" + ", ".join(f"{name}: {value.lower()}" for name, value in pairs) + "}"
            self._settings.reject(setting, problem, EXITS_DECODING, correction, is_string=False)
            return
        self._settings.known[setting.path] = _with_value(setting, {})
        switches: dict[str, bool] = {}
        for number, (key, item) in enumerate(node.items):
            path = f"{setting.path}.{key.text}"
            inner = Setting(path, _path_for_people(path), self._source, key.span.start, None, item, node, number)
            found = yaml_types.boolean(item)
            if isinstance(found, Invalid):
                self._settings.reject(inner, found.problem, EXITS_DECODING, found.correction, is_string=False)
            else:
                switches[key.text] = found
                self._settings.known[path] = _with_value(inner, found)
        self._settings.known[setting.path] = _with_value(setting, switches)

    def _duplicate(self, path: str, parent: Mapping, number: int, last: int) -> None:
        key, item = parent.items[number]
        other, kept = parent.items[last]
        line, _ = self._source.position(other.span.start)
        name = f"{path}.{key.text}" if path else key.text
        edits: tuple[Any, ...] = ()
        if isinstance(item, Mapping) and isinstance(kept, Mapping) and not path:
            given = {inner.text for inner, _ in kept.items}
            numbers = [place for place, (inner, _) in enumerate(item.items) if inner.text not in given]
            root = self._settings.root
            if numbers and root and not item.span.style:
                edits = _moved_into(self._source, item, numbers, kept)
        if not self._differs(item, kept, moved=bool(edits)):
            edits += yaml_edits.remove(self._source, parent, number)
        elif not parent.span.style:  # no value gets lost
            edits += yaml_edits.comment_out(self._source, parent, number)
        self._settings.add(
            self._source, key.span.start, Severity.ERROR, name,
            f"duplicate key {shown(key.text)}, again in line {line}",
            Effect.IGNORES, f"{_LENIENT} this value: it uses the last one", f"keep one key {key.text!r}", edits,
        )  # fmt: skip

    def _differs(self, item: Node, kept: Node, moved: bool) -> bool:
        """Return whether a value contains something else than the one that kube-proxy uses."""
        if not isinstance(item, Mapping) or not isinstance(kept, Mapping):
            return self._text(item) != self._text(kept)
        given = {key.text: self._text(value) for key, value in kept.items}
        return any(
            self._text(value) != given[key.text] if key.text in given else not moved for key, value in item.items
        )

    def _text(self, node: Node) -> str:
        return node.text if isinstance(node, Scalar) else self._source.content[node.span.start : node.span.end].strip()

    def _unknown(self, path: str, node: Mapping, numbers: list[int]) -> None:
        """Report unknown keys. Keys with the same reason and the same correction share one finding."""
        groups: dict[tuple[str, str], list[int]] = {}
        for number in numbers[:_MAX_KEYS]:
            groups.setdefault(self._classify(path, node, number), []).append(number)
        if numbers[_MAX_KEYS:]:
            groups[("other", "")] = numbers[_MAX_KEYS:]
        for (reason, target), group in groups.items():
            self._report_unknown(path, node, group, reason, target)

    def _classify(self, path: str, node: Mapping, number: int) -> tuple[str, str]:
        """Return the reason why a key is unknown, and the path of the field that it probably means."""
        key = node.items[number][0].text
        known = fields_of(path, self._version)
        whole = f"{path}.{key}" if path else key
        present = {other.text for other, _ in node.items}
        if whole in FIELDS:
            return (
                "removed" if FIELDS[whole].since <= self._version else "too new"
            ), whole if whole in REPLACEMENTS else ""
        plain = _plain(key)
        same = next((name for name in known if _plain(name) == plain), None)
        if same:
            return f"spelling of {key}", known[same].path
        elsewhere = self._elsewhere(path, node, number, plain)
        if elsewhere:
            section, _, name = elsewhere.rpartition(".")
            return ("place", section) if name == key else ("other place", elsewhere)
        close = spelling.nearest(key, (name for name in known if name not in present), 0.75) if plain else None
        if close and (_is_section(known[close]) == isinstance(node.items[number][1], Mapping)):
            return f"spelling of {key}", known[close].path
        return "other", ""

    def _elsewhere(self, path: str, node: Mapping, number: int, plain: str) -> str:
        """Return the path of the field with this name in another section, or an empty text."""
        option = next((option for option in OPTIONS.values() if option.path and _plain(option.name) == plain), None)
        candidates = [
            field.path
            for field in FIELDS.values()
            if field.exists(self._version) and field.path.count(".") < 2
            and _plain(field.path.rpartition(".")[2]) == plain
            and _is_section(field) == isinstance(node.items[number][1], Mapping)
        ]  # fmt: skip
        if not candidates:
            return option.path if option and FIELDS[option.path].exists(self._version) else ""
        preferred = [self._preceding_section(node, number), self._mode(), "ipvs", "iptables", "conntrack", ""]
        if path:
            preferred.insert(0, "")
        return min(candidates, key=lambda found: _index(preferred, found.rpartition(".")[0]))

    def _preceding_section(self, node: Mapping, number: int) -> str:
        """Return the empty section before a key, whose content is probably not indented."""
        for key, item in reversed(node.items[:number]):
            field = FIELDS.get(key.text)
            if field and field.type is Type.SECTION:
                return key.text if yaml_types.is_null(item) else "-"
        return "-"

    def _mode(self) -> str:
        pairs = self._settings.root.items if self._settings.root else ()
        return next((item.text for key, item in pairs if key.text == "mode" and isinstance(item, Scalar)), "-")

    def _report_unknown(self, path: str, node: Mapping, numbers: list[int], reason: str, target: str) -> None:
        keys = [node.items[number][0] for number in numbers]
        names = [_path_for_people(f"{path}.{key.text}" if path else key.text) for key in keys]
        quoted = ", ".join(shown(key.text) for key in keys[:5]) + (", ..." if len(keys) > 5 else "")
        problem = f"unknown key{'s' if len(keys) > 1 else ''} {quoted}"
        them = "it" if len(keys) == 1 else "them"
        severity, edits = Severity.ERROR, tuple(edit for number in numbers for edit in self._disabled(node, number))
        holder = any(self._has_anchor(node, number) for number in numbers)
        if holder:  # other values refer to it
            severity, edits = Severity.WARNING, ()
            correction = "write the values where they belong, without the anchor"
        elif reason == "removed":
            severity = Severity.WARNING
            before = ", ".join(dict.fromkeys("{}.{}".format(*FIELDS[self._whole(path, key)].before) for key in keys))
            problem += f", removed in {before}"
            correction = REPLACEMENTS.get(target, f"remove {them}")
            edits = tuple(edit for number in numbers for edit in yaml_edits.remove(self._source, node, number)) or edits
        elif reason == "too new":
            since = ", ".join(dict.fromkeys("{}.{}".format(*FIELDS[self._whole(path, key)].since) for key in keys))
            problem += f": exists since {since}, not in {{}}.{{}}".format(*self._version)
            correction = f"remove {them}, or update kube-proxy"
        elif reason == "place":
            correction = f"indent {them} under {target!r}" if target and not path else ""
            correction = correction or (f"move {them} to {target!r}" if target else f"move {them} to the top level")
            edits = self._moved(node, numbers, target) or edits
        elif reason == "other place":
            section, _, name = target.rpartition(".")
            correction = f"write {name!r} under {section!r}" if section else f"write {name!r} at the top level"
            if section == path:
                edits = yaml_edits.rename(self._source, keys[0], name)
            else:
                edits = self._moved(node, numbers, section, name) or edits
        elif target:
            correction = f"write {target.rpartition('.')[2]!r}"
            present = {key.text for key, _ in node.items}
            if target.rpartition(".")[2] not in present:
                edits = yaml_edits.rename(self._source, keys[0], target.rpartition(".")[2])
        else:
            known = ", ".join(fields_of(path, self._version))
            correction = f"remove {them}; known: {known}" if path else f"remove {them}"
            sign = next((letter for letter in keys[0].text if not letter.isascii()), "")
            correction = f"{describe_character(sign)} is invalid in a key" if sign else correction
        self._settings.add(
            self._source, keys[0].span.start, severity, ", ".join(names), problem, Effect.IGNORES, f"{_LENIENT} {them}",
            correction, edits,
        )  # fmt: skip

    def _has_anchor(self, node: Mapping, number: int) -> bool:
        key, item = node.items[number]
        text = self._source.content[key.span.end : max(key.span.end, yaml_edits.last_place(item))]
        return re.search(r"(?<![^\s:,\[{])&[^\s,\[\]{}]+", text) is not None

    def _whole(self, path: str, key: Scalar) -> str:
        return f"{path}.{key.text}" if path else key.text

    def _disabled(self, node: Mapping, number: int) -> tuple[Any, ...]:
        return yaml_edits.comment_out(self._source, node, number)

    def _moved(self, node: Mapping, numbers: list[int], section: str, name: str = "") -> tuple[Any, ...]:
        root = self._settings.root
        if root is None:
            return ()
        given = next((item for key, item in reversed(root.items) if key.text == section), None) if section else root
        names = {key.text for key, _ in given.items} if isinstance(given, Mapping) else set()
        if any((name or node.items[number][0].text) in names for number in numbers):
            return ()  # the field is set in the right place as well
        return yaml_edits.move(self._source, root, node, numbers, section, name)


def _moved_into(source: Any, item: Mapping, numbers: list[int], kept: Mapping) -> tuple[Any, ...]:
    """Return the edits that copy pairs of a section into another one with the same name."""
    if not kept.items or kept.span.style:
        return ()
    texts = []
    for number in numbers:
        key, value = item.items[number]
        start = source.line_start(key.span.start)
        end = source.line_end(max(key.span.end, yaml_edits.last_place(value)))
        indent = key.span.start - start
        texts.append("\n".join(line[indent:] for line in source.content[start:end].replace("\r\n", "\n").split("\n")))
    first = kept.items[0][0].span.start
    indent = " " * (first - source.line_start(first))
    text = "\n".join(f"{indent}{line}" for text in texts for line in text.split("\n"))
    return (source.insert_line(yaml_edits.last_place(kept), text),)


def _plain(word: str) -> str:
    return re.sub("[^a-z0-9]", "", word.lower())


def _index(preferred: list[str], section: str) -> int:
    return preferred.index(section) if section in preferred else len(preferred)


def _is_section(field: Field) -> bool:
    return field.type in (Type.SECTION, Type.SWITCHES)


def _path_for_people(path: str) -> str:
    return shown(path, quote=False)


def _with_value(setting: Setting, value: Any) -> Setting:
    return Setting(
        setting.path, setting.name, setting.source, setting.start, value, setting.node, setting.parent, setting.number
    )
