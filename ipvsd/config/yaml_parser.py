"""Parse YAML into a tree with PyYAML. This is the only user of that library."""

from __future__ import annotations

from typing import Any, Optional

import yaml

from ipvsd.config.yaml_tree import DocumentError, Mapping, Node, Scalar, Sequence

_MAX_NODES = 20_000
_MAX_PROBLEM = 200  # characters of PyYAML's message, which can contain an alias of any length


def parse(data: bytes) -> Optional[Node]:
    """Return the tree of the one document in `data`, or None if it is empty. Raises DocumentError."""
    try:
        text = data.decode("utf-8-sig")
        if not text.isascii():
            _reject_confusables(text)
        root = yaml.compose(text, Loader=_Loader)
        return None if root is None else _Walk().node(root)
    except UnicodeDecodeError as error:
        wide = data[:2] in (b"\xff\xfe", b"\xfe\xff")
        hint = " (the file seems to be UTF-16: save the file as UTF-8)" if wide else ""
        raise DocumentError(data[: error.start].count(b"\n") + 1, f"invalid UTF-8{hint}") from None
    except yaml.reader.ReaderError as error:
        line = text.count("\n", 0, error.position) + 1
        raise DocumentError(line, f"invalid character U+{ord(text[error.position]):04X} in YAML") from None
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        problem = (error.problem or error.context or "invalid YAML").replace("\n", " ")
        problem = problem if len(problem) <= _MAX_PROBLEM else f"{problem[:_MAX_PROBLEM]}..."
        if r"'\t'" in problem:
            raise DocumentError(mark.line + 1 if mark else 0, "invalid YAML: a tab (use spaces)") from None
        if problem == "but found another document":
            problem = "the file contains more than one document (keep one document)"
            raise DocumentError(mark.line + 1 if mark else 0, problem) from None
        raise DocumentError(mark.line + 1 if mark else 0, f"invalid YAML: {problem}") from None
    except yaml.YAMLError as error:
        raise DocumentError(0, f"invalid YAML: {str(error).splitlines()[0]}") from None
    except (ValueError, OverflowError) as error:  # an escape or a version that is not a valid number for PyYAML
        raise DocumentError(0, f"invalid YAML: {error}") from None
    except RecursionError:
        raise DocumentError(0, "the file is nested too deeply") from None


def _reject_confusables(text: str) -> None:
    from ipvsd.config import confusables

    found = confusables.find(text)
    if found:
        raise DocumentError(*found)


class _Loader(yaml.SafeLoader):
    """Rejects a text that would keep PyYAML busy for seconds."""

    _composed = 0

    def compose_node(self, parent: Optional[yaml.Node], index: int) -> Optional[yaml.Node]:
        self._composed += 1
        if self._composed > _MAX_NODES:
            raise DocumentError(self.line + 1, f"the file contains more than {_MAX_NODES} values")
        return super().compose_node(parent, index)


_CORE = "tag:yaml.org,2002:"
_MAX_TAG = 60
_RESOLVER: Any = yaml.resolver.Resolver()  # without type annotations


class _Walk:
    def __init__(self) -> None:
        self._seen = 0

    def node(self, node: yaml.Node) -> Node:
        line = node.start_mark.line + 1
        self._seen += 1
        if self._seen > _MAX_NODES:
            problem = f"the file expands to more than {_MAX_NODES} values"
            raise DocumentError(line, f"{problem} (replace the aliases with the values)")
        if node.tag not in _types(node):
            raise DocumentError(line, f"invalid tag {_shown(node.tag)} (remove the tag)")
        if isinstance(node, yaml.ScalarNode):
            return Scalar(node.tag.rpartition(":")[2], node.value, line)
        if isinstance(node, yaml.SequenceNode):
            return Sequence(tuple(self.node(item) for item in node.value), line)
        return Mapping(tuple((self._key(key), self.node(value)) for key, value in node.value), line)

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
