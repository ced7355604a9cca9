"""Parse YAML into a tree with PyYAML."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any, Optional

from ipvsd.config import yaml_library as yaml
from ipvsd.config.yaml_tree import NOWHERE, DocumentError, Mapping, Node, Scalar, Sequence, Span

_MAX_NODES = 20_000
# Open brackets. PyYAML checks all of them at each token for a key that ends within 1024 characters.
_MAX_BRACKETS = 100
_TOO_DEEP = "the file is nested too deeply"
_MAX_PROBLEM = 200  # characters of PyYAML's message, which can contain an alias of any length


def parse(data: bytes) -> Optional[Node]:
    """Return the tree of the one document in `data`, or None if it is empty. Raises DocumentError."""
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        hint = " (the file seems to be UTF-16: save the file as UTF-8)" if wide else ""
        raise DocumentError(data[: error.start].count(b"\n") + 1, f"invalid UTF-8{hint}") from None
    if not text.isascii():
        _reject_confusables(text)
    with _document_errors(text) as loaders:
        loaders.append(_Loader(text))
        root = loaders[0].get_single_node()
        return None if root is None else _Walk().node(root)


def documents(text: str) -> Iterator[Optional[Node]]:
    """Yield the tree of each document in `text`, with spans. An empty document yields None. Raises DocumentError."""
    with _document_errors(text) as loaders:
        loader: Any = _Loader(text)
        loaders.append(loader)
        walk = _Walk(text)
        while loader.check_node():
            root = loader.get_node()
            yield None if root is None else walk.node(root)


@contextlib.contextmanager
def _document_errors(text: str) -> Iterator[list[Any]]:
    """Raise DocumentError instead of PyYAML's errors. The caller puts the loader, which knows its line, in the list."""
    loaders: list[Any] = []
    try:
        yield loaders
    except yaml.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, error.position - before.rfind("\n")
        raise DocumentError(line, f"invalid character U+{ord(text[error.position]):04X} in YAML", column) from None
    except yaml.MarkedYAMLError as error:
        # An unclosed quote or bracket ends the stream, but its start is the mistake.
        unclosed = "end of stream" in (error.problem or "") or "<stream end>" in (error.problem or "")
        mark = (error.context_mark if unclosed else None) or error.problem_mark or error.context_mark
        place = (mark.line + 1, mark.column + 1) if mark else (0, 0)
        raise DocumentError(place[0], _problem(error), place[1]) from None
    except yaml.YAMLError as error:
        raise DocumentError(0, f"invalid YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, OverflowError):  # an escape or a version that is not a valid number for PyYAML
        place = (loaders[0].line + 1, loaders[0].column + 1) if loaders else (0, 0)
        raise DocumentError(place[0], "invalid YAML: a number is out of range", place[1]) from None
    except RecursionError:
        raise DocumentError(0, _TOO_DEEP) from None


def _problem(error: yaml.MarkedYAMLError) -> str:
    problem = (error.problem or error.context or "invalid YAML").replace("\n", " ")
    problem = problem if len(problem) <= _MAX_PROBLEM else f"{problem[:_MAX_PROBLEM]}..."
    if r"'\t'" in problem:
        return "invalid YAML: a tab (use spaces)"
    if problem == "but found another document":
        return "the file contains more than one document (keep one document)"
    return f"invalid YAML: {problem}"


def _reject_confusables(text: str) -> None:
    from ipvsd.config import confusables

    found = confusables.find(text)
    if found:
        raise DocumentError(*found)


class _Loader(yaml.NodeLoader):
    """Rejects a text that would keep PyYAML busy for seconds."""

    _composed = 0

    def compose_node(self, parent: Optional[yaml.Node], index: int) -> Optional[yaml.Node]:
        self._composed += 1
        if self._composed > _MAX_NODES:
            raise DocumentError(self.line + 1, f"the file contains more than {_MAX_NODES} values")
        return super().compose_node(parent, index)

    def fetch_flow_collection_start(self, token: Any) -> None:
        if self.flow_level >= _MAX_BRACKETS:
            raise DocumentError(self.line + 1, _TOO_DEEP)
        start: Any = super().fetch_flow_collection_start  # without type annotations
        start(token)


_CORE = "tag:yaml.org,2002:"
_MAX_TAG = 60
_RESOLVER: Any = yaml.Resolver()  # without type annotations


class _Walk:
    """Converts nodes. With the text of the document, the result has spans."""

    def __init__(self, text: Optional[str] = None) -> None:
        self._seen = 0
        self._text = text

    def node(self, node: yaml.Node) -> Node:
        line = node.start_mark.line + 1
        self._seen += 1
        if self._seen > _MAX_NODES:
            problem = f"the file expands to more than {_MAX_NODES} values"
            raise DocumentError(line, f"{problem} (replace the aliases with the values)")
        if node.tag not in _types(node):
            raise DocumentError(line, f"invalid tag {_shown(node.tag)} (remove the tag)")
        span = NOWHERE if self._text is None else self._span(node)
        if isinstance(node, yaml.ScalarNode):
            return Scalar(node.tag.rpartition(":")[2], node.value, line, span)
        if isinstance(node, yaml.SequenceNode):
            return Sequence(tuple(self.node(item) for item in node.value), line, span)
        return Mapping(tuple((self._key(key), self.node(value)) for key, value in node.value), line, span)

    def _span(self, node: yaml.Node) -> Span:
        style = node.style if isinstance(node, yaml.ScalarNode) else ""
        if isinstance(node, yaml.CollectionNode) and node.flow_style:
            style = "[" if isinstance(node, yaml.SequenceNode) else "{"
        start, end = node.start_mark.index, node.end_mark.index
        if style in ("|", ">") and self._text is not None:  # PyYAML ends a block scalar at the next token
            end = start + len(self._text[start:end].rstrip())
        return Span(start, end, style or "")

    def _key(self, node: yaml.Node) -> Scalar:
        key = self.node(node)
        if not isinstance(key, Scalar):
            raise DocumentError(key.line, "a key must be plain text")
        return key


def _types(node: yaml.Node) -> tuple[str, ...]:
    """Return the types that a tag may assign to a value: its own type, and for a scalar also a text."""
    if isinstance(node, yaml.ScalarNode):
        return f"{_CORE}str", _RESOLVER.resolve(yaml.ScalarNode, node.value, (True, False))
    return (f"{_CORE}{'seq' if isinstance(node, yaml.SequenceNode) else 'map'}",)


def _shown(tag: str) -> str:
    short = tag.replace(_CORE, "!!", 1)
    return ascii(short if len(short) <= _MAX_TAG else f"{short[:_MAX_TAG]}...")
