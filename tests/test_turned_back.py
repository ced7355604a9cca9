"""The sources and the reflex together: an event turns a drift back, and wakes nobody for what was right."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipvsd.config.parser import parse
from ipvsd.kernel.fd_cache import FdCache
from ipvsd.kernel.processes import Writers
from ipvsd.model.report import Attribution
from ipvsd.model.types import LoadModule, Reading, WriteSysctl
from ipvsd.reconcile.fast_path import Reflex
from ipvsd.reconcile.reconciler import reconcile
from ipvsd.runtime.event_loop import Mailbox, ReasonKind
from ipvsd.watch.event_source import Targets
from ipvsd.watch.sysctl_inotify import Sysctls
from ipvsd.watch.uevents import Uevents
from tests.fake_kernel import FORWARD, FakeKernel
from tests.trees import put, store

CONNTRACK = "net.ipv4.vs.conntrack"

Until = Callable[[Callable[[], object], str], None]


class Forwarding(FakeKernel):
    """A kernel whose ip_forward is a file."""

    def __init__(self, file: Path) -> None:
        super().__init__()
        self.file = file

    def read_sysctl(self, key: str) -> Reading:
        self.values[FORWARD] = self.file.read_text()
        return super().read_sysctl(key)

    def write_sysctl(self, key: str, value: str) -> None:
        super().write_sysctl(key, value)
        if key == FORWARD:
            store(self.file, value)


class Node:
    """A reflex after the first look, and inotify on a file in the place of ip_forward."""

    def __init__(self, mailbox: Mailbox, file: Path) -> None:
        self.mailbox, self.file, self.fds = mailbox, file, FdCache()
        self.kernel = Forwarding(file)
        self.reflex = Reflex(self.kernel, mailbox)
        self.source = Sysctls(mailbox, self.reflex, self.fds)
        config = parse([("f", b"sysctls: {net.ipv4.ip_forward: 1}")])
        self.done = reconcile(self.kernel, config, {}, time.monotonic)
        self.reflex.arm(self.done, ())
        self.arm(FORWARD)
        mailbox.take(0)

    def arm(self, *names: str) -> None:
        self.source.arm(Targets(frozenset(), dict.fromkeys(names, str(self.file)), ()))

    def write(self, value: str) -> None:
        store(self.file, value)

    def reasons(self) -> set[tuple[ReasonKind, str]]:
        return {(reason.kind, reason.detail) for reason in self.mailbox.take(0)}


@pytest.fixture
def node(tmp_path: Path) -> Iterator[Node]:
    file = tmp_path / "ip_forward"
    file.write_text("1\n")
    with Mailbox() as mailbox:
        node = Node(mailbox, file)
        yield node
        node.source.close()
        node.fds.close()


def test_a_write_is_turned_back(node: Node) -> None:
    node.write("0")
    assert node.reasons() == set()
    assert node.file.read_text() == "1\n"
    assert [item.action for item in node.reflex.take()] == [WriteSysctl(FORWARD, "0", "1")]


def test_our_own_write_comes_to_nothing(node: Node) -> None:
    node.write("0")
    for _ in range(3):
        assert node.reasons() == set()
    assert len(node.reflex.take()) == 1


def test_the_same_value_comes_to_nothing(node: Node) -> None:
    node.write("1")
    assert (node.reasons(), node.reflex.take()) == (set(), ())


def test_a_whole_look_follows(node: Node) -> None:
    node.write("0")
    (reason,) = node.mailbox.take(10)
    assert (reason.kind, reason.detail) == (ReasonKind.SYSCTL, "turned back")


def test_what_is_left_alone_is_left_to_a_look(node: Node) -> None:
    node.reflex.arm(node.done, [FORWARD])
    node.write("0")
    assert node.reasons() == {(ReasonKind.SYSCTL, FORWARD)}
    assert node.file.read_text() == "0\n"


# --- modules ----------------------------------------------------------------------------


def gone(source: Uevents, name: str) -> None:
    source._take(f"remove@/module/{name}\0ACTION=remove\0SUBSYSTEM=module\0".encode())
    source._turn_back()


@pytest.fixture
def uevents(node: Node, tmp_path: Path) -> Iterator[Uevents]:
    put(tmp_path, "proc/loadavg", "0.00 0.01 0.05 1/123 42\n")
    put(tmp_path, "proc/42/comm", "rmmod\n")
    put(tmp_path, "proc/42/cmdline", "rmmod\0ip_vs_sh\0")
    source = Uevents(node.mailbox, node.reflex, Writers(str(tmp_path)))
    source.arm(Targets(frozenset(node.kernel.states), {}, ()))
    yield source
    source.close()


def test_a_module_that_goes_is_loaded_again_and_who_unloaded_it_is_known(node: Node, uevents: Uevents) -> None:
    node.kernel.unload("ip_vs_sh")
    gone(uevents, "ip_vs_sh")
    (turned,) = node.reflex.take()
    assert turned.action == LoadModule("ip_vs_sh")
    assert turned.seen is not None
    assert (str(turned.seen.writer), turned.seen.attribution) == ("rmmod[42]", Attribution.LIKELY)
    assert (ReasonKind.MODULE, "remove ip_vs_sh") in node.reasons()


def test_a_module_that_is_not_wanted_is_nobodys_business(node: Node, uevents: Uevents) -> None:
    gone(uevents, "ip_vs_ftp")
    assert node.reflex.evidence.of("ip_vs_ftp", "unloaded") is None
    assert node.reasons() == set()


def test_what_others_need_comes_back_first(node: Node, uevents: Uevents) -> None:
    gone = node.kernel.unload_users("ip_vs")
    for name in gone:
        uevents._take(f"remove@/module/{name}\0ACTION=remove\0SUBSYSTEM=module\0".encode())
    uevents._turn_back()
    loaded = [item.action.name for item in node.reflex.take() if isinstance(item.action, LoadModule)]
    assert loaded[0] == "ip_vs"
    assert sorted(loaded) == sorted(gone)


def test_what_comes_with_a_module_is_written_with_it_and_is_no_fight(node: Node) -> None:
    node.kernel.unload_users("ip_vs")
    assert node.reflex.told("ip_vs")
    assert node.kernel.values[CONNTRACK] == "1"
    turned = [item.action for item in node.reflex.take()]
    assert turned[0] == LoadModule("ip_vs")
    assert WriteSysctl(CONNTRACK, "0", "1") in turned
    node.mailbox.take(0)
    assert node.reflex.fights.by_name == {}
