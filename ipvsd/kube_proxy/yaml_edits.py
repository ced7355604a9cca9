"""Edits of a YAML document that keep everything else, including comments."""

from __future__ import annotations

import re
from collections.abc import Collection
from typing import Optional

from ipvsd.config.yaml_tree import Mapping, Node, Scalar, Sequence
from ipvsd.kube_proxy.source_text import Edit, SourceText

_PLAIN = re.compile(r"(?:[A-Za-z/][A-Za-z0-9./_-]*|(?:[0-9]+(?:h|m|s|ms))+|[0-9]+(?:\.[0-9]+){3}(?:/[0-9]+)?)\Z")
_RESERVED = frozenset("true false yes no on off y n null".split())
_REST = re.compile(r"[ \t]*,?[ \t]*(?:#[^\n\r]*)?(?=[\r\n]|\Z)")


def is_json(parent: Mapping) -> bool:
    """Return whether a map is written as JSON, in which all strings need quotes."""
    return parent.span.style == "{" and bool(parent.items) and parent.items[0][0].span.style == '"'


def quoted(text: str, always: bool = False) -> str:
    """Return a string in YAML, with quotes if a parser could read it as another type."""
    if not always and _PLAIN.match(text) and text.lower() not in _RESERVED:
        return text
    return '"{}"'.format(text.replace("\\", "\\\\").replace('"', '\\"'))


def last_place(node: Node) -> int:
    """Return the place after the last character of a value. PyYAML ends a block at the next token."""
    if isinstance(node, Scalar) or node.span.style or not node.items:
        return node.span.end
    if isinstance(node, Sequence):
        return max(last_place(item) for item in node.items)
    return max(max(key.span.end, last_place(item)) for key, item in node.items)


def replace_value(source: SourceText, node: Node, text: str) -> tuple[Edit, ...]:
    """Return the edit that replaces a value on its line, or nothing if it has several lines."""
    start, end = node.span.start, last_place(node)
    if start == end:  # an absent value
        return (source.edit(start, start, f" {text}"),)
    if "\n" in source.content[start:end].strip("\n") or "\r" in source.content[start:end]:
        return ()
    return (source.edit(start, end, text),)


def rename(source: SourceText, key: Scalar, name: str) -> tuple[Edit, ...]:
    """Return the edit that changes a key."""
    return (source.edit(key.span.start, key.span.end, quoted(name, key.span.style == '"')),)


def _lines(source: SourceText, parent: Mapping, number: int) -> Optional[tuple[int, int]]:
    """Return the span of the lines that contain exactly one pair of a block map, or None."""
    key, value = parent.items[number]
    start = source.line_start(key.span.start)
    end = max(key.span.end, last_place(value))
    colon = re.compile(r"[ \t]*:").match(source.content, end)
    end = colon.end() if colon and end == key.span.end else end
    alone = not source.content[start : key.span.start].strip(" ") and _REST.match(source.content, end)
    return (start, source.line_end(end)) if alone and not parent.span.style else None


def remove(source: SourceText, parent: Mapping, number: int) -> tuple[Edit, ...]:
    """Return the edit that removes a pair of a map, or nothing if that is not possible."""
    if parent.span.style:
        return _remove_from_flow(source, parent, number)
    lines = _lines(source, parent, number)
    return (source.delete_lines(*lines),) if lines else ()


def _remove_from_flow(source: SourceText, parent: Mapping, number: int) -> tuple[Edit, ...]:
    key, value = parent.items[number]
    if number + 1 < len(parent.items):
        following = parent.items[number + 1][0].span.start
        return (source.edit(key.span.start, following, ""),) if following > key.span.start else ()
    if not number:
        return (source.edit(parent.span.start, parent.span.end, "{}"),)
    before = parent.items[number - 1]
    start = max(before[0].span.end, last_place(before[1]))
    end = max(key.span.end, last_place(value))
    return (source.edit(start, end, ""),) if start < end else ()


def comment_out(source: SourceText, parent: Mapping, number: int) -> tuple[Edit, ...]:
    """Return the edits that turn the lines of a pair into a comment, or remove it from a flow map."""
    lines = None if parent.span.style else _lines(source, parent, number)
    if lines is None:
        return remove(source, parent, number)
    edits, place = [], lines[0]
    while place < lines[1]:
        begin = min(parent.items[number][0].span.start - lines[0] + place, source.line_end(place))
        if source.content[place : source.line_end(place)].strip():
            edits.append(source.edit(begin, begin, "# "))
        place = _next_line(source, place)
    return tuple(edits)


def _next_line(source: SourceText, place: int) -> int:
    end = source.line_end(place)
    return end + (2 if source.content[end : end + 2] == "\r\n" else 1)


def add(source: SourceText, parent: Mapping, key: str, value: str) -> tuple[Edit, ...]:
    """Return the edit that adds a pair with a value on one line to a map."""
    if parent.span.style:
        key = quoted(key, is_json(parent))
        comma = ", " if parent.items else ""
        end = parent.span.end - 1
        if parent.items:
            last = parent.items[-1]
            end = max(last[0].span.end, last_place(last[1]))
        return (source.edit(end, end, f"{comma}{key}: {value}"),)
    if not parent.items:
        return ()
    first, last = parent.items[0][0], parent.items[-1]
    indent = " " * (first.span.start - source.line_start(first.span.start))
    place = max(last[0].span.end, last_place(last[1]))
    place = len(source.content[:place].rstrip())
    return (source.insert_line(place, f"{indent}{key}: {value}"),)


def move(
    source: SourceText, root: Mapping, parent: Mapping, numbers: Collection[int], section: str, name: str = ""
) -> tuple[Edit, ...]:
    """Return the edits that move pairs into a top-level section, or to the top level if `section` is empty.

    With `name`, the key changes. The result is empty if the form of the document does not permit the edits.
    """
    texts: list[tuple[str, bool]] = []
    edits: list[Edit] = []
    for number in numbers:
        text, lines = _text(source, parent, number)
        removed = remove(source, parent, number)
        if not text or not removed:
            return ()
        if name:
            key = parent.items[number][0]
            text = f"{quoted(name, key.span.style == chr(34))}{text[key.span.end - key.span.start :]}"
        texts.append((text, lines))
        edits += removed
    target = _target(source, root, parent, texts, section)
    return (*edits, *target) if target else ()


def _text(source: SourceText, parent: Mapping, number: int) -> tuple[str, bool]:
    """Return a pair as a text, and whether it can have several lines."""
    key, value = parent.items[number]
    lines = _lines(source, parent, number)
    if lines:
        indent = key.span.start - lines[0]
        text = source.content[lines[0] : lines[1]].replace("\r\n", "\n")
        return "\n".join(line[indent:] for line in text.split("\n")), True
    end = max(key.span.end, last_place(value))
    return source.content[key.span.start : end], False


def _target(
    source: SourceText, root: Mapping, parent: Mapping, texts: list[tuple[str, bool]], section: str
) -> tuple[Edit, ...]:
    if not section:
        indent = root.items[0][0].span.start - source.line_start(root.items[0][0].span.start) if root.items else 0
        place = max((last_place(item) for _, item in root.items if item is parent), default=0)
        return () if root.span.style or not place else (_insert(source, place, texts, indent),)
    pair = next(((key, item) for key, item in reversed(root.items) if key.text == section), None)
    if pair is None:
        if not root.items or (root.span.style and any("\n" in text for text, _ in texts)):
            return ()
        if root.span.style:
            plain = ", ".join(text.partition(" #")[0].strip() for text, _ in texts)
            return add(source, root, section, f"{{{plain}}}")
        column = root.items[0][0].span.start - source.line_start(root.items[0][0].span.start)
        lines = [(f"{' ' * column}{section}:", True)]
        last = root.items[-1]
        place = len(source.content[: max(last[0].span.end, last_place(last[1]))].rstrip())
        body = "\n".join(f"{' ' * (column + 2)}{line}" for text, _ in texts for line in text.split("\n"))
        return (source.insert_line(place, f"{lines[0][0]}\n{body}"),)
    key, item = pair
    column = key.span.start - source.line_start(key.span.start)
    if isinstance(item, Scalar):
        return (_insert(source, key.span.end, texts, column + 2),) if item.kind == "null" else ()
    if isinstance(item, Sequence):
        return ()
    if item.span.style:
        values = [text.partition(" #")[0].strip() for text, _ in texts]
        if any("\n" in text for text in values):
            return ()
        end = max((last_place(value) for _, value in item.items), default=item.span.end - 1)
        return (source.edit(end, end, (", " if item.items else "") + ", ".join(values)),)
    first = item.items[0][0].span.start
    return (_insert(source, last_place(item), texts, first - source.line_start(first)),)


def _insert(source: SourceText, place: int, texts: list[tuple[str, bool]], indent: int) -> Edit:
    lines = [line for text, _ in texts for line in text.split("\n")]
    return source.insert_line(place, "\n".join(f"{' ' * indent}{line}" for line in lines))


def set_field(source: SourceText, root: Mapping, section: str, name: str, value: str) -> tuple[Edit, ...]:
    """Return the edits that give a field of a section a value, whether it is present or not."""
    pair = next(((key, item) for key, item in reversed(root.items) if key.text == section), None)
    if pair is None:
        return add(source, root, section, f"{{{name}: {value}}}")
    _, item = pair
    if isinstance(item, Scalar):
        return replace_value(source, item, f"{{{name}: {value}}}") if item.kind == "null" else ()
    if not isinstance(item, Mapping):
        return ()
    given = next((node for other, node in item.items if other.text == name), None)
    return add(source, item, name, value) if given is None else replace_value(source, given, value)


def remove_item(source: SourceText, items: Sequence, number: int) -> tuple[Edit, ...]:
    """Return the edit that turns an item of a list into a comment, or removes it from a list on one line."""
    node = items.items[number]
    if not items.span.style:
        start = source.content.rfind("-", source.line_start(node.span.start), node.span.start)
        alone = start >= 0 and not source.content[source.line_start(start) : start].strip(" ")
        return (source.edit(start, start, "# "),) if alone and "\n" not in source.content[start : node.span.end] else ()
    if number + 1 < len(items.items):
        return (source.edit(node.span.start, items.items[number + 1].span.start, ""),)
    start = last_place(items.items[number - 1]) if number else node.span.start
    return (source.edit(start, last_place(node), ""),)
