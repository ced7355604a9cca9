"""depmod's binary indexes, such as modules.dep.bin. libkmod searches them instead of the text files.

An index is a radix tree over the bytes of its keys. A node has these parts, each only if a bit of the offset that
points to it is set (libkmod/libkmod-index.c):
- a prefix that ends with NUL
- the first and the last byte of its children, and for each byte of this range a big-endian offset, 0 for none
- a count of values, each after its priority, and terminated with NUL
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Sequence
from typing import Optional

from ipvsd.sysctl import globs

_MAGIC, _MAJOR = 0xB007F457, 2
_PREFIX, _VALUES, _CHILDREN, _OFFSET = 1 << 31, 1 << 30, 1 << 29, (1 << 28) - 1
_MAX_DEPTH = 400  # levels of nodes; keys have a few hundred bytes, and most nodes cover more than one
_WILD = b"*?["
_UINT32 = struct.Struct(">I").unpack_from


class DamagedError(ValueError):
    """The data is not a valid index."""


class _Node:
    __slots__ = ("_children", "_data", "_first", "_last", "offset", "prefix", "values")

    def __init__(self, data: bytes, offset: int) -> None:
        self.offset = at = offset & _OFFSET
        self.prefix = b""
        if offset & _PREFIX:
            end = data.index(b"\0", at)
            self.prefix, at = data[at:end], end + 1
        self._data, self._first, self._last, self._children = data, 1, 0, 0
        if offset & _CHILDREN:
            self._first, self._last, self._children = data[at], data[at + 1], at + 2
            at += 2 + 4 * max(0, self._last - self._first + 1)
        self.values: list[tuple[int, bytes]] = []
        if offset & _VALUES:
            (count,) = _UINT32(data, at)
            at += 4
            for _ in range(count):
                (priority,) = _UINT32(data, at)
                end = data.index(b"\0", at + 4)
                self.values.append((priority, data[at + 4 : end]))
                at = end + 1

    def child(self, byte: int) -> Optional[_Node]:
        if not self._first <= byte <= self._last:
            return None
        (offset,) = _UINT32(self._data, self._children + 4 * (byte - self._first))
        return _Node(self._data, offset) if offset & _OFFSET else None

    def children(self) -> Iterator[tuple[int, _Node]]:
        for byte in range(self._first, self._last + 1):
            child = self.child(byte)
            if child is not None:
                yield byte, child


class ModuleIndex:
    """The content of one index. A key that is absent is not an error. A damaged index raises DamagedError."""

    def __init__(self, data: bytes) -> None:
        if len(data) < 12:
            raise DamagedError("the index is too short")
        magic, version, self._root = struct.unpack_from(">III", data)
        if magic != _MAGIC or version >> 16 != _MAJOR:
            raise DamagedError("the file is not a depmod index")
        self._data = data

    def value(self, key: str) -> Optional[str]:
        """Return the first value of a key, or None. Raises DamagedError."""
        try:
            return self._value(key.encode("utf-8", "replace"))
        except (struct.error, IndexError, ValueError) as error:
            raise DamagedError(str(error)) from None

    def matching(self, name: str) -> Sequence[str]:
        """Return the values of all keys that, as patterns, match a name, by priority. Raises DamagedError."""
        found: list[tuple[int, bytes]] = []
        try:
            for priority, value in self._matching(name.encode("utf-8", "replace")):
                # Among values of the same priority, the last one found comes first.
                place = next((index for index, item in enumerate(found) if item[0] >= priority), len(found))
                found.insert(place, (priority, value))
        except (struct.error, IndexError, ValueError) as error:
            raise DamagedError(str(error)) from None
        return [value.decode("utf-8", "replace") for _, value in found]

    def _value(self, key: bytes) -> Optional[str]:
        # Without objects for the nodes: the daemon looks up 200 keys before it loads the first module.
        data, offset, at = self._data, self._root, 0
        while offset & _OFFSET:
            place = offset & _OFFSET
            if offset & _PREFIX:
                end = data.index(0, place)
                if not key.startswith(data[place:end], at):
                    return None
                at, place = at + end - place, end + 1
            if at == len(key):
                node = _Node(data, offset)
                return node.values[0][1].decode("utf-8", "replace") if node.values else None
            if not offset & _CHILDREN or not data[place] <= key[at] <= data[place + 1]:
                return None
            (offset,) = _UINT32(data, place + 2 + 4 * (key[at] - data[place]))
            at += 1
        return None

    def _matching(self, key: bytes) -> Iterator[tuple[int, bytes]]:
        node, at = self._top(), 0
        seen: set[int] = set()
        while node is not None:
            for index, byte in enumerate(node.prefix):
                if byte in _WILD:
                    yield from _below(node, index, b"", key[at + index :], seen)
                    return
                if key[at + index : at + index + 1] != node.prefix[index : index + 1]:
                    return
            at += len(node.prefix)
            for byte in _WILD:
                child = node.child(byte)
                if child is not None:
                    yield from _below(child, 0, bytes((byte,)), key[at:], seen)
            if at == len(key):
                yield from node.values
                return
            node, at = node.child(key[at]), at + 1

    def _top(self) -> Optional[_Node]:
        return _Node(self._data, self._root) if self._root & _OFFSET else None


def _below(
    node: _Node, skipped: int, pattern: bytes, rest: bytes, seen: set[int], depth: int = 0
) -> Iterator[tuple[int, bytes]]:
    """Yield the values of the patterns below a node that match the rest of a name. `seen` are the visited nodes."""
    if node.offset in seen or depth > _MAX_DEPTH:
        raise DamagedError("the index contains a cycle")
    seen.add(node.offset)
    pattern += node.prefix[skipped:]
    for byte, child in node.children():
        yield from _below(child, 0, pattern + bytes((byte,)), rest, seen, depth + 1)
    if node.values and globs.matches(pattern.decode("latin-1"), rest.decode("latin-1")):
        yield from node.values
