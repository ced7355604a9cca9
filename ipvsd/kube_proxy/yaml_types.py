"""The types of Go's decoder for values in YAML: each reader returns the value, or the reason why it is invalid."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any, Union

from ipvsd.config.value_readers import shown
from ipvsd.config.yaml_tree import Node, Scalar, Sequence
from ipvsd.kube_proxy import values
from ipvsd.kube_proxy.config_fields import Type
from ipvsd.kube_proxy.values import Invalid

# Booleans of YAML 1.1, which the parser of Kubernetes accepts.
_BOOLEANS = {**dict.fromkeys("true yes on y".split(), True), **dict.fromkeys("false no off n".split(), False)}
_GO_FLOAT = re.compile(r"[-+]?(?:\.[0-9]+|[0-9]+(?:\.[0-9]*)?)(?:[eE][-+]?[0-9]+)?\Z")
_INT32 = 1 << 31


def _scalar_kind(node: Scalar) -> str:
    """Return the type of a scalar for the YAML parser of Kubernetes, which differs from PyYAML in a few forms."""
    if node.span.style:
        return "str"
    if node.kind in ("int", "float") and ":" in node.text:  # a number to the base 60
        return "str"
    if node.kind == "str" and _GO_FLOAT.match(node.text):  # 1e3
        return "float"
    if node.kind == "str" and node.text in ("y", "Y", "n", "N"):
        return "bool"
    return node.kind if node.kind in ("int", "float", "bool", "null") else "str"


def kind_of(node: Node) -> str:
    if isinstance(node, Scalar):
        names = {"bool": "a boolean", "null": "null", "int": "a number", "float": "a number", "str": "a string"}
        return names[_scalar_kind(node)]
    return "a list" if isinstance(node, Sequence) else "a map"


def is_null(node: Node) -> bool:
    return isinstance(node, Scalar) and _scalar_kind(node) == "null"


def _wrong_type(expected: Type, node: Node, correction: str = "") -> Invalid:
    return Invalid(f"invalid type: expected {expected.value}, found {kind_of(node)}", correction)


def boolean(node: Node) -> Union[bool, Invalid]:
    if is_null(node):
        return False
    text = node.text if isinstance(node, Scalar) else ""
    if isinstance(node, Scalar) and _scalar_kind(node) == "bool":
        return _BOOLEANS[text.lower()]
    likely = {**_BOOLEANS, "1": True, "0": False, "enabled": True, "disabled": False}.get(text.strip().lower())
    return _wrong_type(Type.BOOLEAN, node, "" if likely is None else str(likely).lower())


def _integer(node: Node) -> Union[int, Invalid, None]:
    if is_null(node):
        return None
    if isinstance(node, Scalar) and _scalar_kind(node) in ("int", "float"):
        number = values.integer(node.text)
        if number is None and re.match(r"[-+]?[0-9]{1,10}\.0*\Z", node.text):
            number = int(node.text.partition(".")[0])
        if number is None:
            return Invalid(f"invalid type: expected an integer, found {shown(node.text)}")
        if not -_INT32 <= number < _INT32:
            return Invalid(
                f"invalid number {number}: must fit in 32 bits" if abs(number) < 1 << 70 else "number too large"
            )
        return number
    text = node.text.strip().replace(",", "") if isinstance(node, Scalar) else ""
    return _wrong_type(Type.INTEGER, node, text if re.match(r"-?(?:0|[1-9][0-9]{0,8})\Z", text) else "")


def _unsigned(node: Node) -> Union[int, Invalid, None]:
    found = _integer(node)
    return Invalid(f"invalid number {found}: must not be negative") if isinstance(found, int) and found < 0 else found


def _float(node: Node) -> Union[float, Invalid, None]:
    if is_null(node):
        return None
    if isinstance(node, Scalar) and _scalar_kind(node) in ("int", "float"):
        if re.match(r"[-+]?[0-9._]+(?:[eE][-+]?[0-9]+)?\Z", node.text):
            return 1.0
        return Invalid(f"invalid number {shown(node.text)}")
    text = node.text.strip() if isinstance(node, Scalar) else ""
    return _wrong_type(Type.FLOAT, node, text if re.match(r"[0-9]{1,9}(?:\.[0-9]{1,9})?\Z", text) else "")


def _string(node: Node) -> Union[str, Invalid]:
    if is_null(node):
        return ""
    if isinstance(node, Scalar):
        text = '"{}"'.format(node.text.replace("\\", "\\\\").replace('"', '\\"'))
        return node.text if _scalar_kind(node) == "str" else _wrong_type(Type.STRING, node, text)
    items = node.items if isinstance(node, Sequence) else ()
    if items and all(isinstance(item, Scalar) for item in items):
        return _wrong_type(Type.STRING, node, ",".join(item.text for item in items if isinstance(item, Scalar)))
    return _wrong_type(Type.STRING, node)


def _duration(node: Node) -> Union[float, Invalid]:
    if not isinstance(node, Scalar):
        return _wrong_type(Type.DURATION, node)
    kind = _scalar_kind(node)
    if kind == "null":
        return Invalid("invalid duration: null", "0s")
    if kind == "str":
        found = values.duration(node.text)
        return found._replace(correction=found.correction) if isinstance(found, Invalid) else found
    text = node.text.replace("_", "")
    return Invalid(f"invalid duration {shown(node.text, quote=False)}: add a unit, for example 15m", _seconds(text))


def _seconds(text: str) -> str:
    return f"{text}s" if re.match(r"(?:0|[1-9][0-9]{0,8})(?:\.[0-9]{1,9})?\Z", text) else ""


def _duration_or_null(node: Node) -> Union[float, Invalid, None]:
    return None if is_null(node) else _duration(node)


def _duration_or_number(node: Node) -> Union[float, Invalid, None]:
    if isinstance(node, Scalar) and _scalar_kind(node) in ("int", "float", "null"):
        return None
    return _duration(node)


def _strings(node: Node) -> Union[tuple[str, ...], Invalid]:
    if is_null(node):
        return ()
    if not isinstance(node, Sequence):
        text = node.text.strip() if isinstance(node, Scalar) else ""
        items = ", ".join(f'"{item.strip()}"' for item in text.split(",") if item.strip())
        return _wrong_type(Type.STRINGS, node, f"[{items}]" if '"' not in text and "\\" not in text else "[]")
    for item in node.items:
        if not isinstance(item, Scalar) or _scalar_kind(item) not in ("str", "null"):
            return Invalid(f"invalid type: expected a list of strings, found {kind_of(item)} in it")
    return tuple(item.text if not is_null(item) else "" for item in node.items if isinstance(item, Scalar))


READERS: Mapping[Type, Callable[[Node], Any]] = {
    Type.BOOLEAN: boolean,
    Type.INTEGER: _integer,
    Type.UNSIGNED: _unsigned,
    Type.FLOAT: _float,
    Type.STRING: _string,
    Type.DURATION: _duration,
    Type.DURATION_OR_NULL: _duration_or_null,
    Type.DURATION_OR_NUMBER: _duration_or_number,
    Type.STRINGS: _strings,
    Type.ANY: lambda node: None,  # noqa: ARG005 -- not checked
}
