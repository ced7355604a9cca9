"""Find the configurations of kube-proxy in a file, in all forms in which people keep them.

A form is a KubeProxyConfiguration, the ConfigMap or List around it, or a file of kubeadm with several documents. Other
forms are the manifest of a pod, a systemd unit, a list of options, and a configuration of k3s or RKE2.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Optional, Union

from ipvsd.config import confusables, yaml_tree
from ipvsd.config.yaml_tree import DocumentError, Mapping, Node, Scalar, Sequence
from ipvsd.kube_proxy import command_line, k3s_config
from ipvsd.kube_proxy.command_line import CommandLine, Word
from ipvsd.kube_proxy.config_fields import FIELDS, KIND
from ipvsd.kube_proxy.source_text import Edit, SourceText

_CONFIG_KEY = "config.conf"  # in the ConfigMap of kubeadm
_CHARTS = ("HelmChartConfig", "HelmChart")
_CONFIG_MAP = "ConfigMap"
_KUBECONFIG = "Config"
_KUBEADM = ("ClusterConfiguration", "MasterConfiguration")
_MAX_DEPTH = 3  # of a List in a List, and of a text in a text
_MAX_TABS = 100  # lines with tabs between values


@dataclass(frozen=True, eq=False)
class ConfigDocument:
    """A document that kube-proxy reads, or should read, as its configuration."""

    source: SourceText
    root: Mapping


@dataclass(frozen=True)
class Misplaced:
    """A place that contains no usable configuration: `kind` says which. `edits` correct it, or are empty."""

    kind: str
    source: SourceText
    key: str
    place: int
    detail: str = ""
    edits: tuple[Edit, ...] = ()


@dataclass(frozen=True)
class Unparsable:
    """A text that is not valid YAML."""

    source: SourceText
    error: DocumentError
    in_config: bool  # kube-proxy itself reads the text


_Pairs = list[tuple[Scalar, Node]]
Part = Union[ConfigDocument, CommandLine, Misplaced, Unparsable]


@dataclass
class Contents:
    """The parts of a file, and the version of kube-proxy that the file names, or an empty text.

    `confusables` are the places of characters that were read as ASCII characters, each with the ASCII text.
    """

    parts: list[Part] = field(default_factory=list)
    version: str = ""
    version_place: int = 0
    others: list[str] = field(default_factory=list)  # kinds of documents for other programs
    other_texts: list[str] = field(default_factory=list)  # of these documents, without comments
    confusables: list[tuple[SourceText, int, str]] = field(default_factory=list)


def read(source: SourceText) -> Contents:
    """Return the configurations in a file. Characters that resemble ASCII characters are read as these."""
    found = _read(source, Contents())
    if source.content.isascii() or not any(part.source is source for part in found.parts if _is_read(part)):
        return found
    again = Contents()
    ascii_source = repaired(source, again)
    return _read(ascii_source, again) if again.confusables else found


def _is_read(part: Part) -> bool:
    """Return whether the text of a part is a configuration of kube-proxy, and does not only contain one."""
    return not isinstance(part, Misplaced) or part.kind in ("not a map", "no options", "empty")


def repaired(source: SourceText, found: Contents) -> SourceText:
    """Return the text with ASCII characters instead of those that resemble them, and record their places."""
    places = {} if source.content.isascii() else dict(confusables.occurrences(source.content))
    if not places:
        return source
    for place, text in places.items():
        # A word processor inserts one dash for the two hyphens of an option.
        if text == "-" and re.match(r"(?<![^\s\"'=])[^\s-](?=[A-Za-z])", source.content[place - 1 : place + 2][-2:]):
            places[place] = "--"
    found.confusables += [(source, place, text) for place, text in places.items()]
    letters = [(letter, at) for at, sign in enumerate(source.content) for letter in places.get(at, sign)]
    return source.selected("".join(letter for letter, _ in letters), [at for _, at in letters])


def _read(source: SourceText, found: Contents) -> Contents:
    comment = re.search(r"^[ \t]*#[ \t]*kubeProxyVersion:[ \t]*[\"']?([^\s\"'#]+)", source.content, re.MULTILINE)
    if comment:
        found.version, found.version_place = comment[1], comment.start(1)
    if command_line.looks_like_options(source.content):
        line = command_line.read(source)
        unit = command_line.unit_of_k3s(source.content)
        if line is None and unit is not None:
            found.parts.append(Misplaced("no arguments", source, k3s_config.ARGUMENTS, unit, "command line"))
        else:
            found.parts.append(line or Misplaced("no options", source, "", 0))
        return found
    _read_yaml(source, found, _is_kubernetes(source.content), 0)
    return found


def _is_kubernetes(text: str) -> bool:
    """Return whether another program than kube-proxy reads the file, judging by its first kind."""
    kind = re.search(r"^[ \t{]*[\"']?kind[\"']?[ \t]*:[ \t]*[\"']?([A-Za-z]+)", text, re.MULTILINE)
    return kind is not None and kind[1] != KIND


def _read_yaml(source: SourceText, found: Contents, foreign: bool, depth: int) -> None:
    before = len(found.parts)
    roots, error = parse(source.content)
    for root in roots:
        if isinstance(root, Mapping):
            _document(source, root, found, depth)
        elif root is not None and not (isinstance(root, Scalar) and root.kind == "null"):
            found.parts.append(Misplaced("not a map", source, "", root.span.start))
    if error:
        found.parts.append(Unparsable(source, error, not foreign))
    if len(found.parts) == before and not depth:
        kind = "nothing" if found.others else "empty"
        if not {"ClusterConfiguration", "InitConfiguration"}.isdisjoint(found.others):
            kind = "default of kubeadm"
        found.parts.append(Misplaced(kind, source, "kind" if found.others else "", 0, ", ".join(found.others[:5])))


def parse(text: str) -> tuple[list[Optional[Node]], Optional[DocumentError]]:
    """Return the documents before the first error, and the error or None.

    The parser of Kubernetes accepts tabs between values, which PyYAML rejects. They are read as blanks.
    """
    if text.lstrip()[:1] == "{" and "\t" in text and _is_json(text):
        text = text.replace("\t", " ")
    for _ in range(_MAX_TABS):
        roots: list[Optional[Node]] = []
        try:
            roots.extend(yaml_tree.documents(text))
        except DocumentError as error:
            repaired = _without_inner_tabs(text, error)
            if repaired is None:
                return roots, error
            text = repaired
        else:
            return roots, None
    return [], DocumentError(1, "invalid YAML: too many tabs")


def _without_inner_tabs(text: str, error: DocumentError) -> Optional[str]:
    """Return the text with blanks instead of the tabs after the first word of the line, or None if it has none."""
    if "tab" not in str(error) or not error.line:
        return None
    lines = text.split("\n")
    line = lines[error.line - 1] if error.line <= len(lines) else ""
    indent = line[: len(line) - len(line.lstrip())]
    if "\t" in indent or "\t" not in line:
        return None
    lines[error.line - 1] = line.replace("\t", " ")
    return "\n".join(lines)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except (ValueError, RecursionError):
        return False
    return True


def _document(source: SourceText, root: Mapping, found: Contents, depth: int) -> None:
    items = _strings(root)
    kind, version = items.get("kind", ""), items.get("apiVersion", "")
    misspelt = [pair for pair in root.items if not kind and k3s_config.is_misspelt(pair[0].text)]
    arguments = [item for item in root.items if k3s_config.name_of(item[0].text) == k3s_config.ARGUMENTS]
    if kind == KIND or "kubeproxy.config" in version:
        found.parts.append(ConfigDocument(source, root))
    elif arguments or misspelt or k3s_config.is_config(items):
        _misspelt(source, (key for key, _ in misspelt), found, beside=bool(arguments))
        _embedded(source, root, arguments, misspelt, found)
    elif kind == "List" or (kind.endswith("List") and lookup(root, "items")):
        _each_item(source, lookup(root, "items"), found, depth)
    elif kind == _CONFIG_MAP:
        _config_map(source, root, found, depth)
    elif kind in _CHARTS:
        chart = lookup_pair(lookup(root, "spec"), "valuesContent")
        place = chart[0] if chart else root
        found.parts.append(Misplaced("chart", source, "spec.valuesContent", place.span.start, kind))
    elif kind in _KUBEADM:
        _kubeadm(source, root, found)
    elif kind == _KUBECONFIG or ("clusters" in items and "contexts" in items):
        found.parts.append(Misplaced("kubeconfig", source, "kind", _place(root, "kind")))
    elif _looks_like_config(root, kind):
        found.parts.append(ConfigDocument(source, root))
    else:
        _pod(source, root, found, kind)


def _strings(root: Mapping) -> dict[str, str]:
    return {key.text: item.text if isinstance(item, Scalar) else "" for key, item in root.items}


def _looks_like_config(root: Mapping, kind: str) -> bool:
    """Return whether a map without a known kind has the keys of kube-proxy's configuration."""
    known = {path.partition(".")[0].lower() for path in FIELDS} - {"kind", "apiversion"}
    given = [key.text.strip().lower().rstrip(":") for key, _ in root.items]
    named = any(re.sub("[^a-z]", "", text.lower()).startswith("kubeproxyconf") for text in (kind, *given))
    return named or (not kind and any(name in known for name in given))


def lookup_pair(node: Optional[Node], key: str) -> Optional[tuple[Scalar, Node]]:
    """Return the last pair with this key of a map, or None."""
    pairs = node.items if isinstance(node, Mapping) else ()
    return next((pair for pair in reversed(pairs) if pair[0].text == key), None)


def lookup(node: Optional[Node], key: str) -> Optional[Node]:
    """Return the value of a key of a map, or None."""
    pair = lookup_pair(node, key)
    return pair[1] if pair else None


def _place(root: Mapping, key: str) -> int:
    pair = lookup_pair(root, key)
    return pair[0].span.start if pair else root.span.start


def _each_item(source: SourceText, items: Optional[Node], found: Contents, depth: int) -> None:
    for item in items.items if isinstance(items, Sequence) else ():
        if isinstance(item, Mapping) and depth < _MAX_DEPTH:
            _document(source, item, found, depth + 1)


def _config_map(source: SourceText, root: Mapping, found: Contents, depth: int) -> None:
    data = lookup(root, "data")
    texts = [
        (key, item)
        for key, item in (data.items if isinstance(data, Mapping) else ())
        if isinstance(item, Scalar) and item.kind == "str"
    ]
    chosen = [item for item in texts if item[0].text == _CONFIG_KEY]
    chosen = chosen or [item for item in texts if re.search(rf"\b{KIND}\b|kubeproxy\.config", item[1].text)]
    if not chosen:
        name = lookup(lookup(root, "metadata"), "name")
        # A ConfigMap of another program can be beside that of kube-proxy.
        if isinstance(name, Scalar) and name.text and "kube-proxy" not in name.text:
            _of_other_program(source, root, found, f"ConfigMap {name.text}"[:60])
            return
        pair = lookup_pair(data, _CONFIG_KEY) or lookup_pair(root, "data")
        place = pair[0].span.start if pair else root.span.start
        found.parts.append(Misplaced("no config.conf", source, f"data.{_CONFIG_KEY}", place))
        return
    previous: Optional[Node] = None
    for key, value in data.items if isinstance(data, Mapping) else ():
        if key.text in FIELDS:
            style = "block" if previous is chosen[-1][1] and chosen[-1][1].span.style in ("|", ">") else ""
            found.parts.append(Misplaced("outside", source, f"data.{key.text}", key.span.start, style))
        previous = value
    for key, item in chosen:
        inner = repaired(source.embedded(item), found)
        before = len(found.parts)
        if item.span.style == ">" and not _is_config(inner):
            found.parts.append(Misplaced("folded", source, f"data.{key.text}", item.span.start))
            continue
        _read_yaml(inner, found, False, depth + 1)
        if len(found.parts) == before:
            found.parts.append(Misplaced("empty", source, f"data.{key.text}", key.span.start))


def _is_config(source: SourceText) -> bool:
    roots, error = parse(source.content)
    kinds = [lookup(root, "kind") for root in roots]
    return error is None and any(isinstance(kind, Scalar) and kind.text == KIND for kind in kinds)


def _kubeadm(source: SourceText, root: Mapping, found: Contents) -> None:
    version = lookup_pair(root, "kubernetesVersion")
    if version and isinstance(version[1], Scalar) and not found.version and re.match("v?1[.]", version[1].text):
        found.version, found.version_place = version[1].text, source.offset(version[1].span.start)
    pair = lookup_pair(root, "kubeProxy")
    found.others.append("ClusterConfiguration")
    if pair:
        found.parts.append(Misplaced("kubeadm", source, "kubeProxy", pair[0].span.start))


def _embedded(source: SourceText, root: Mapping, pairs: _Pairs, misspelt: _Pairs, found: Contents) -> None:
    """Read the options in a configuration of k3s or RKE2."""
    disabled = lookup_pair(root, k3s_config.DISABLE)
    if disabled and isinstance(disabled[1], Scalar) and k3s_config.is_true(disabled[1].text):
        found.parts.append(Misplaced("disabled", source, k3s_config.DISABLE, disabled[0].span.start))
    words: list[Word] = []
    nodes = [item for _, node in misspelt for item in (node.items if isinstance(node, Sequence) else (node,))]
    replaced = [Word(item.text, item.span.start, item.span.end) for item in nodes if isinstance(item, Scalar)]
    first = k3s_config.first_applied([key.text for key, _ in pairs])
    replacing = _replacing([key for key, _ in pairs])
    for number, (key, node) in enumerate(pairs):
        items = node.items if isinstance(node, Sequence) else (node,)
        if number < first:
            found.parts += _replaced(source, key, items, replacing[number])
        for item in items:
            if isinstance(item, Scalar) and item.kind != "null":
                (replaced if number < first else words).append(Word(item.text, item.span.start, item.span.end))
            elif not isinstance(item, Scalar):
                found.parts.append(Misplaced("not an argument", source, key.text, item.span.start))
    if not pairs:
        if not any(isinstance(part, Misplaced) and part.source is source for part in found.parts):
            found.parts.append(Misplaced("no arguments", source, k3s_config.ARGUMENTS, root.span.start, "config.yaml"))
        return
    line = command_line.from_words(source, words, embedded=True)
    ignored = command_line.from_words(source, replaced, embedded=True)
    found.parts.append(dataclasses.replace(line, replaced=frozenset(option.name for option in ignored.options)))


def _misspelt(source: SourceText, keys: Iterable[Scalar], found: Contents, beside: bool) -> None:
    for key in keys:
        name = k3s_config.ARGUMENTS + "+" * beside
        quote = key.span.style or ""
        edits = (source.edit(key.span.start, key.span.end, f"{quote}{name}{quote}"),)
        found.parts.append(Misplaced("misspelt", source, key.text, key.span.start, name, edits))
        beside = True


def _replacing(keys: list[Scalar]) -> list[Scalar]:
    """Return, for each key before the last one that does not append, the next key that replaces its value."""
    found: list[Scalar] = []
    for key in reversed(keys):
        found.append(found[-1] if key.text.endswith("+") and found else key)
    return found[::-1][1:]


def _replaced(source: SourceText, key: Scalar, items: Iterable[Node], other: Scalar) -> Iterator[Misplaced]:
    """Yield the part for a key whose value a later key replaces. The correction lets that key append."""
    if any(not isinstance(item, Scalar) or item.kind != "null" for item in items):
        line, _ = source.position(other.span.start)
        end = other.span.end - bool(other.span.style)  # before the quote
        edits = (source.edit(end, end, "+"),)
        yield Misplaced("replaced", source, key.text, key.span.start, str(line), edits)


def _pod(source: SourceText, root: Mapping, found: Contents, kind: str) -> None:
    """Read the options of the containers that run kube-proxy."""
    for container in _containers(root, 0):
        command = [lookup(container, key) for key in ("command", "args")]
        items = [item for part in command if isinstance(part, Sequence) for item in part.items]
        words = [Word(item.text, item.span.start, item.span.end) for item in items if isinstance(item, Scalar)]
        image = lookup(container, "image")
        of_image = image.text if isinstance(image, Scalar) else ""
        if not any("kube-proxy" in word.text for word in words[:3]) and "kube-proxy" not in of_image:
            continue
        if any(" " in word.text.strip() for word in words[:3]):  # a script of a shell
            continue
        tag = re.search(r":v(1\.[0-9]{1,2})[.0-9]*(?:[-+@]|\Z)", of_image)
        if tag and isinstance(image, Scalar) and not found.version:
            found.version, found.version_place = tag[1], source.offset(image.span.start)
        start = 1 if words and "kube-proxy" in words[0].text else 0
        found.parts.append(command_line.from_words(source, words[start:]))
        return
    _of_other_program(source, root, found, kind or "a document without a kind")


def _of_other_program(source: SourceText, root: Mapping, found: Contents, name: str) -> None:
    found.others.append(name)
    text = source.content[root.span.start : root.span.end]
    found.other_texts.append(re.sub(r"(?:^|(?<=\s))#[^\r\n]*", "", text))


def _containers(node: Optional[Node], depth: int) -> Iterator[Mapping]:
    """Yield the containers of a pod, or of an object with a template of a pod."""
    for key, item in node.items if isinstance(node, Mapping) and depth < 6 else ():
        if key.text in ("containers", "initContainers") and isinstance(item, Sequence):
            yield from (container for container in item.items if isinstance(container, Mapping))
        elif key.text in ("spec", "template"):
            yield from _containers(item, depth + 1)
