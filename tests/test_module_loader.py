"""Loading by libkmod, with a stub of the library. The real one is tested with trees and kernels."""

from __future__ import annotations

import ctypes
import errno
from types import SimpleNamespace
from typing import Callable

import pytest

from ipvsd.kernel.module_loader import Libkmod, LoadError


class Stub:
    """A libkmod that calls `during` in each load. A context or a module is a number."""

    def __init__(self) -> None:
        self.during: Callable[[str], object] = lambda _: None
        self.result = 0
        self.used: list[int] = []  # the context of each load
        self.open: list[int] = []
        self._created = 0
        self._name = ""

    def library(self) -> SimpleNamespace:
        def new(*_: object) -> int:
            self._created += 1
            self.open.append(self._created)
            return self._created

        def look_up(context: ctypes.c_void_p, name: bytes, found: object) -> int:
            self.used.append(context.value or 0)
            self._name = name.decode()
            found._obj.value = 1  # type: ignore[attr-defined] # of ctypes.byref
            return 0

        def insert(*_: object) -> int:
            self.during(self._name)
            return self.result

        names = "list_next module_unref module_unref_list set_log_priority load_resources validate_resources".split()
        return SimpleNamespace(
            kmod_new=new,
            kmod_unref=lambda context: self.open.remove(context.value),
            kmod_module_new_from_lookup=look_up,
            kmod_module_get_module=lambda _: 1,
            kmod_module_probe_insert_module=insert,
            kmod_module_info_get_key=lambda _: None,
            kmod_module_info_get_value=lambda _: None,
            **{f"kmod_{name}": lambda *_: 0 for name in names},
        )


@pytest.fixture
def stub(monkeypatch: pytest.MonkeyPatch) -> Stub:
    stub = Stub()
    monkeypatch.setattr("ipvsd.kernel.module_loader.ctypes.CDLL", lambda _: stub.library())
    return stub


def test_a_context_is_used_again(stub: Stub) -> None:
    loader = Libkmod()
    for name in ("a", "b"):
        loader.load(name)
    assert (stub.used, stub.open) == ([1, 1], [1])


def test_a_context_is_used_again_after_a_failure(stub: Stub) -> None:
    loader = Libkmod()
    stub.result = -errno.EINVAL
    with pytest.raises(LoadError, match="Invalid argument"):
        loader.load("a")
    stub.result = 0
    loader.load("b")
    assert (stub.used, stub.open) == ([1, 1], [1])


def test_two_loads_at_the_same_time_have_their_own_contexts_and_leave_one(stub: Stub) -> None:
    """libkmod allows one thread at a time for each context."""
    loader = Libkmod()
    stub.during = lambda name: loader.load("b") if name == "a" else None
    loader.load("a")
    assert stub.used == [1, 2]
    assert len(stub.open) == 1
    stub.during = lambda _: None
    loader.load("c")
    assert (stub.used[2:], len(stub.open)) == (stub.open, 1)
