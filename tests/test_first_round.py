"""The first round of the daemon, whose actions two threads perform."""

from __future__ import annotations

import errno
import subprocess
import sys
import threading
from collections.abc import Collection, Sequence

import pytest

from ipvsd.config.schema import Config
from ipvsd.kernel.module_loader import LoadError
from ipvsd.model.types import Cause, Kernel, LoadBlocker, LoadModule
from ipvsd.reconcile.rounds import FirstRound, reconcile
from tests.configured import config
from tests.fake_kernel import FakeKernel

CONFIG = Config()


def in_main_thread() -> bool:
    return threading.get_ident() == threading.main_thread().ident


def test_a_programming_error_in_the_first_actions_is_raised() -> None:
    class Wrong(FakeKernel):
        def load_module(self, name: str, options: Sequence[str] = ()) -> None:
            raise KeyError(name, options)

    kernel = Wrong()
    first = FirstRound(kernel, CONFIG, lambda: 0.0)
    with pytest.raises(KeyError):
        reconcile(kernel, CONFIG, {}, lambda: 0.0, first=first)


def test_a_programming_error_while_both_threads_load_is_raised_after_both_have_ended() -> None:
    class Wrong(FakeKernel):
        def load_module(self, name: str, options: Sequence[str] = ()) -> None:
            if in_main_thread():
                both.set()
                raise KeyError(name, options)
            if loaded:  # the first load is alone
                assert both.wait(10)
            loaded.append(name)

    both, loaded, kernel = threading.Event(), list[str](), Wrong()
    first = FirstRound(kernel, CONFIG, lambda: 0.0)
    with pytest.raises(KeyError):
        first.outcomes()
    assert len(loaded) == sum(isinstance(action, LoadModule) for action in first.actions) - 1


def test_both_threads_load_modules_in_the_first_round() -> None:
    class Slow(FakeKernel):
        """After the first load, none of the first thread ends before the other one has loaded a module."""

        def load_module(self, name: str, options: Sequence[str] = ()) -> None:
            assert in_main_thread() or "ip_vs" not in self.states or both.wait(10)
            super().load_module(name, options)
            if in_main_thread():
                both.set()

    both, kernel = threading.Event(), Slow()
    first = FirstRound(kernel, CONFIG, lambda: 0.0)
    outcomes = first.outcomes()
    assert [outcome.action for outcome in outcomes] == list(first.actions)
    assert [outcome.error for outcome in outcomes if outcome.error] == []


def test_only_one_thread_loads_modules_until_those_with_parameters_are_loaded() -> None:
    """Otherwise, the other thread could load such a module as a dependency, without its parameters."""

    class Noting(FakeKernel):
        def load_module(self, name: str, options: Sequence[str] = ()) -> None:
            if in_main_thread():
                other.set()
            if options:
                early.append(other.wait(0.05))  # the main thread has this time to load another module
            super().load_module(name, options)

    other, early, kernel = threading.Event(), list[bool](), Noting()
    first = FirstRound(kernel, config("modules: {ip_vs_sh: {parameters: {debug: 1}}}"), lambda: 0.0)
    first.outcomes()
    assert early == [False]


def test_one_thread_loads_all_modules_if_there_are_install_commands() -> None:
    """Two threads that load the same dependency would run its command twice at the same time."""

    class Commands(FakeKernel):
        def explain(self, kernel: Kernel, names: Collection[str]) -> Kernel:
            line = LoadBlocker(Cause.INSTALL, "nf_conntrack", "prepare", "/etc/modprobe.d/a.conf:1")
            return super().explain(kernel, names)._replace(install_commands={"nf_conntrack": line})

        def load_module(self, name: str, options: Sequence[str] = ()) -> None:
            threads.add(threading.get_ident())
            super().load_module(name, options)

    threads, kernel = set[int](), Commands()
    first = FirstRound(kernel, CONFIG, lambda: 0.0)
    assert len(first.outcomes()) == len(first.actions)
    assert len(threads) == 1
    assert threading.main_thread().ident not in threads


def test_a_module_whose_dependency_failed_in_the_other_thread_is_loaded_again() -> None:
    """The kernel returns EBUSY to a thread that waits for a failing load of another one."""

    class Busy(FakeKernel):
        def load_module(self, name: str, options: Sequence[str] = ()) -> None:
            asked.append(name)
            if name == "ip_vs_sh" and asked.count(name) == 1:
                raise LoadError("Device or resource busy", errno.EBUSY)
            super().load_module(name, options)

    asked, kernel = list[str](), Busy()
    outcomes = FirstRound(kernel, CONFIG, lambda: 0.0).outcomes()
    assert [outcome for outcome in outcomes if outcome.error] == []
    assert (asked.count("ip_vs_sh"), asked.count("ip_vs_rr")) == (2, 1)


@pytest.mark.system
def test_without_another_thread_the_actions_come_first() -> None:
    code = """
import resource, sys
from tests.fake_kernel import FakeKernel
from ipvsd.config.schema import Config
from ipvsd.reconcile.rounds import FirstRound, reconcile
kernel = FakeKernel()
import os
os.setuid(65534)
resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
first = FirstRound(kernel, Config(), lambda: 0.0)
acted = kernel.module_state("ip_vs") is not None
print(acted, len(reconcile(kernel, Config(), {}, lambda: 0.0, first=first).after.actions))
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "True 0\n"
