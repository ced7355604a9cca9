"""The modules of PyYAML that parse, without the code of its package.

That code also imports libyaml and all modules that write documents or create objects. They take more than a third of
the time of `import yaml`, for which a configured daemon would wait before it loads a module.
"""

from __future__ import annotations

import contextlib
import sys
from collections.abc import Iterator
from importlib.machinery import PathFinder
from types import ModuleType

_LIBRARY = "yaml"


@contextlib.contextmanager
def _without_package_code() -> Iterator[None]:
    """Let modules of the library be imported without the code of its package. Other code can import it afterwards."""
    spec = None if _LIBRARY in sys.modules else PathFinder.find_spec(_LIBRARY)
    if spec is None:
        yield
        return
    package = ModuleType(_LIBRARY)
    package.__path__ = spec.submodule_search_locations or []
    sys.modules[_LIBRARY] = package
    try:
        yield
    finally:
        for name in list(sys.modules):  # a copy, because another thread can import a module meanwhile
            if name.partition(".")[0] == _LIBRARY:
                del sys.modules[name]


with _without_package_code():
    from yaml.composer import Composer
    from yaml.error import MarkedYAMLError, YAMLError
    from yaml.nodes import CollectionNode, Node, ScalarNode, SequenceNode
    from yaml.parser import Parser
    from yaml.reader import Reader, ReaderError
    from yaml.resolver import Resolver
    from yaml.scanner import Scanner


class NodeLoader(Reader, Scanner, Parser, Composer, Resolver):
    """Composes the nodes of the documents in a text, with the types of YAML 1.1. It cannot create objects from them."""

    def __init__(self, text: str) -> None:
        Reader.__init__(self, text)
        Scanner.__init__(self)
        Parser.__init__(self)
        Composer.__init__(self)
        Resolver.__init__(self)


__all__ = [
    "CollectionNode",
    "MarkedYAMLError",
    "Node",
    "NodeLoader",
    "ReaderError",
    "Resolver",
    "ScalarNode",
    "SequenceNode",
    "YAMLError",
]
