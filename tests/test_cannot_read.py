"""A read error means "cannot read": ipvsd writes nothing, attributes nothing, and the node is not ready."""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path

import pytest

from ipvsd.config.schema import Config
from ipvsd.daemon.watch_targets import watch_targets
from ipvsd.decide.aggregate import reported
from ipvsd.decide.health import assess, unreadable
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.report import State
from ipvsd.model.types import Finding, LastVerdict, SysctlFinding
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reconcile.last_seen import FIRST_PAUSE, LastSeen
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.reconcile.reconciler import Reconciler
from ipvsd.reconcile.rounds import ReconcileResult
from ipvsd.reporting.messages import describe
from ipvsd.runtime import capabilities
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind
from tests.configured import config
from tests.fake_kernel import FORWARD, READS, FakeKernel
from tests.reconciling import Node, Reports, settle
from tests.samples import NOW
from tests.scarce import few_descriptors
from tests.test_transitions import drifted, fresh, kernel, state, unloaded, verdict
from tests.trees import TreeLoader, put, put_sysctl, store, sysctl

__all__ = ["kernel"]

ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EIO, errno.EINTR)
# In addition to the default profile: a pattern, and parameters of a module.
TEXT = "sysctls: {net.ipv4.conf.*.arp_ignore: 1}\nmodules: {nf_conntrack: {parameters: {hashsize: 32768}}}"
CONFIG = config(TEXT)
# Remedies for an item that is absent, or present and not compliant.
WRONG_REMEDIES = ("drop the key", "install", "depmod", "reboot", "run a kernel", "modprobe", "takes the value")

every_error = pytest.mark.parametrize("number", ERRORS, ids=lambda number: errno.errorcode[number])
every_read = pytest.mark.parametrize("read", READS)


def remedies(done: ReconcileResult) -> list[str]:
    return [found.remedy for found in done.after.findings if not found.compliant and found.remedy]


def loads(done: ReconcileResult) -> list[str]:
    return [str(outcome.action) for outcome in done.outcomes if "load" in str(outcome.action)]


@every_error
@every_read
@pytest.mark.parametrize("begin", [fresh, unloaded, drifted], ids=lambda begin: begin.__name__)
def test_a_read_error_causes_neither_ready_nor_a_remedy_and_the_node_is_repaired_afterwards(
    kernel: FakeKernel, begin: object, read: str, number: int
) -> None:
    assert callable(begin)
    begin(kernel)
    before = dict(kernel.states)
    kernel.failing = {read: number}
    done = settle(kernel, TEXT)
    if any(map(unreadable, done.after.findings)):
        assert state(done) is not State.READY
        assert not [text for text in remedies(done) for wrong in WRONG_REMEDIES if wrong in text]
    else:
        assert read == "module_state" or (read == "explain" and begin is drifted)
    if read in ("kernel", "modules", "explain"):
        assert (loads(done), kernel.states) == ([], before)
    kernel.failing = {}
    assert state(settle(kernel, TEXT, known=done)) is State.READY


@every_error
@pytest.mark.parametrize("read", ["kernel", "modules", "explain", "expand", "read_parameter", "read_sysctl"])
def test_an_item_is_repaired_meanwhile_unless_it_is_the_unreadable_one(
    kernel: FakeKernel, read: str, number: int
) -> None:
    drifted(kernel)
    kernel.failing = {read: number}
    done = settle(kernel, TEXT)
    found = (kernel.values[FORWARD], verdict(done, FORWARD))
    assert found == (("0", SysctlVerdict.UNREADABLE) if read == "read_sysctl" else ("1", SysctlVerdict.COMPLIANT))


def test_a_value_that_cannot_be_read_back_is_written_once(kernel: FakeKernel) -> None:
    class Dim(FakeKernel):
        writes = 0

        def write_sysctl(self, key: str, value: str) -> None:
            self.writes += 1
            super().write_sysctl(key, value)
            self.failing = {"read_sysctl": errno.ENFILE}

    dim = Dim()
    drifted(dim)
    dim.writes, dim.failing = 0, {}
    done = settle(dim, "profiles: []\nsysctls: {net.ipv4.ip_forward: 1}")
    assert (dim.writes, done.proved) == (1, ())


@every_error
def test_a_write_that_fails_for_lack_of_a_resource_is_not_refused(kernel: FakeKernel, number: int) -> None:
    drifted(kernel)
    kernel.failing = {"write": number}
    done = settle(kernel, TEXT)
    (finding,) = (found for found in done.after.sysctls if found.name == FORWARD)
    passing = number not in (errno.EACCES, errno.EIO)
    assert finding.verdict is (SysctlVerdict.NONCOMPLIANT if passing else SysctlVerdict.WRITE_FAILED)
    assert os.strerror(number) in finding.evidence
    assert ("descriptors or memory" in finding.remedy) is passing


@every_error
@every_read
def test_a_read_error_is_not_a_drift(kernel: FakeKernel, read: str, number: int) -> None:
    node = Node(TEXT, kernel)
    node.round()
    kernel.failing = {read: number}
    node.round()
    kernel.failing = {}
    node.round()
    assert (node.repaired, node.counters.values.drifts, node.counters.values.unloads) == ([], {}, {})
    kernel.values[FORWARD] = "0"
    node.round()
    assert FORWARD in [change.action.name for change in node.repaired]


def test_an_unreadable_node_causes_few_log_lines(kernel: FakeKernel) -> None:
    node = Node(TEXT, kernel)
    node.round()
    kernel.failing = dict.fromkeys(READS, errno.EMFILE)
    blind = node.round()
    lines = list(describe(node.changes))
    assert len(lines) == 4  # for modules, sysctls, and the two patterns
    assert all(line.level == "warning" and "Too many open files" in line.text for line in lines)
    found = [finding._replace(last_verdict=None) for finding in blind.after.findings]
    assert assess(found, None, 0.0).exit_code == 2
    kernel.failing = {}
    node.round()
    assert len(list(describe(node.changes))) == 1


class Seen:
    """A node that is checked every ten seconds, with a resync every minute."""

    def __init__(self, kernel: FakeKernel) -> None:
        self.kernel, self.now, self.last = kernel, 10.0, LastSeen(lambda: self.now)
        self.done: ReconcileResult | None = None

    def look(self, made: Config = CONFIG, seconds: float = 10.0) -> dict[str, Finding]:
        self.now += seconds
        done = settle(self.kernel, made, self.now, known=self.done)
        self.done = done._replace(after=self.last.complete(done.after, NOW + self.now, self.now, 60.0))
        return {found.name: found for found in reported(self.done.after)}

    def state(self) -> State:
        assert self.done
        return assess(reported(self.done.after), None, NOW).state


@pytest.fixture
def seen(kernel: FakeKernel) -> Seen:
    seen = Seen(kernel)
    seen.look()
    assert seen.state() is State.READY
    assert seen.last.due is None
    return seen


def test_the_last_verdict_is_reported_with_its_time(seen: Seen) -> None:
    seen.kernel.failing = {"read_sysctl": errno.EMFILE, "modules": errno.EMFILE}
    for _ in range(3):
        found = seen.look()
        assert found[FORWARD].evidence == "Too many open files; last verdict compliant, at 2027-01-15T08:00:20Z"
        assert found["ip_vs"].evidence == (
            "cannot read /fake/modules: Too many open files; last verdict live, at 2027-01-15T08:00:20Z"
        )
        assert found[FORWARD].last_verdict == LastVerdict(SysctlVerdict.COMPLIANT, NOW + 20, valid=True)


def test_a_compliant_item_does_not_fail_until_its_verdict_is_two_intervals_old(seen: Seen) -> None:
    seen.kernel.failing = {"read_sysctl": errno.EIO, "modules": errno.EIO, "expand": errno.EIO}
    seen.look()
    assert seen.state() is State.DEGRADED
    seen.look(seconds=110.0)
    assert seen.state() is State.DEGRADED
    found = seen.look()
    assert seen.state() is State.FAILED
    assert "last verdict compliant, at" in found[FORWARD].evidence
    seen.kernel.failing = {}
    seen.look()
    assert seen.state() is State.READY


def test_a_non_compliant_or_unknown_item_is_a_failure(kernel: FakeKernel) -> None:
    kernel.refused[FORWARD] = errno.EPERM
    kernel.values[FORWARD] = "0"
    seen = Seen(kernel)
    seen.look()
    kernel.failing = {"read_sysctl": errno.EIO}
    assert "last verdict write failed, at" in seen.look()[FORWARD].evidence
    assert seen.state() is State.FAILED
    new = Seen(kernel)
    assert new.look()[FORWARD].last_verdict is None
    assert new.state() is State.FAILED


def test_the_last_verdict_on_a_former_desired_value_is_not_valid(seen: Seen) -> None:
    seen.kernel.failing = {"read_sysctl": errno.EIO}
    other = config(f"sysctls: {{{FORWARD}: {{value: 0, required: true}}}}")
    assert seen.look(other)[FORWARD].last_verdict is None
    assert seen.state() is State.FAILED


def test_a_valid_last_verdict_does_not_hide_others_of_its_pattern(seen: Seen) -> None:
    pattern = "net.ipv4.conf.*.arp_ignore"
    required = config(f"sysctls: {{{pattern}: {{value: 1, required: true}}}}")
    seen.look(required)
    seen.kernel.unreadable["net.ipv4.conf.all.arp_ignore"] = errno.EIO
    assert seen.look(required)[pattern].verdict is SysctlVerdict.UNREADABLE
    assert seen.state() is State.DEGRADED
    seen.kernel.values["net.ipv4.conf.lo.arp_ignore"] = "0"
    seen.kernel.refused["net.ipv4.conf.lo.arp_ignore"] = errno.EPERM
    seen.look(required)
    assert seen.state() is State.FAILED


def test_known_matches_are_checked_while_the_directory_is_unreadable(kernel: FakeKernel) -> None:
    lo, pattern = "net.ipv4.conf.lo.arp_ignore", "net.ipv4.conf.*.arp_ignore"
    node = Node(TEXT, kernel)
    node.round()
    kernel.failing = {"expand": errno.ENFILE}
    for _ in range(2):
        (found,) = (found for found in reported(node.round().after) if found.name == pattern)
        assert isinstance(found, SysctlFinding)
        assert (found.verdict, found.members) == (SysctlVerdict.UNREADABLE, (3, 3))
        assert found.evidence.startswith(
            "3 of 3 compliant; others: cannot read /fake/expand: Too many open files in system"
        )
    kernel.values[lo] = "0"
    node.round()
    assert kernel.values[lo] == "1"
    assert [change.action.name for change in node.repaired] == [lo]


def test_a_kernel_whose_files_cannot_be_read_is_the_one_that_was_known(seen: Seen) -> None:
    seen.kernel.failing = {"kernel": errno.EIO}
    seen.look()
    assert seen.state() is State.READY  # every item could be read
    seen.kernel.unload("ip_vs_sh")
    before = dict(seen.kernel.states)
    assert seen.look()["ip_vs_sh"].verdict is ModuleVerdict.UNREADABLE
    assert seen.kernel.states == before


def test_reads_come_soon_and_then_less_often_and_soon_again_for_new_errors(seen: Seen) -> None:
    seen.kernel.unreadable[FORWARD] = errno.EIO
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        seen.look()
        assert seen.last.due == seen.now + pause
    seen.look(seconds=1.0)
    assert seen.last.due == seen.now + 8 * FIRST_PAUSE
    seen.look(seconds=0.1)
    assert seen.last.due == seen.now - 0.1 + 8 * FIRST_PAUSE
    seen.kernel.unreadable["net.ipv4.vs.conntrack"] = errno.EMFILE
    seen.look(seconds=0.1)
    assert seen.last.due == seen.now + FIRST_PAUSE
    seen.kernel.unreadable.clear()
    seen.look()
    assert seen.last.due is None


def test_an_item_with_a_valid_last_verdict_is_still_repaired_and_watched_and_guarded(tree: Path) -> None:
    host = LinuxHost(str(tree), TreeLoader(tree))
    made = config("sysctls: {net.ipv4.conf.*.arp_ignore: {value: 1, guard: true}}")
    with EventLoop() as loop:
        reconciler = Reconciler(host, loop, Reports(), made)
        reasons = [Reason(ReasonKind.START, "", 0.0)]
        expected = watch_targets(host, reconciler.reconcile_all(reasons).result.after, (), (), ())
        with few_descriptors():
            result, _ = reconciler.reconcile_all(reasons)
        now = watch_targets(host, result.after, (), (), ())
        assert now.sysctls == expected.sysctls
        assert expected.guarded <= now.guarded
        store(sysctl(tree, FORWARD), "0")
        assert reconciler.reconcile_one(FORWARD, 0.0)
    assert sysctl(tree, FORWARD).read_text() == "1\n"


def test_a_link_at_the_second_path_of_a_sysctl_is_not_watched(tree: Path) -> None:
    alias = "net.ipv4.conf.all.forwarding"
    store(sysctl(tree, FORWARD), "1")
    put_sysctl(tree, alias, "1")
    host = LinuxHost(str(tree), TreeLoader(tree))
    assert alias in watch_targets(host, observe_and_plan(host, CONFIG)[1], (), (), ()).sysctls
    directory = sysctl(tree, alias).parent
    directory.rename(tree / "elsewhere")
    directory.symlink_to(tree / "elsewhere")
    host = LinuxHost(str(tree), TreeLoader(tree))
    watched = watch_targets(host, observe_and_plan(host, CONFIG)[1], (), (), ()).sysctls
    assert FORWARD in watched
    assert alias not in watched


# --- the files themselves -----------------------------------------------------------------


def test_without_descriptors_the_verdicts_are_unreadable(tree: Path) -> None:
    host = LinuxHost(str(tree), TreeLoader(tree))
    first = settle(host, TEXT)
    assert state(first) is State.READY
    with few_descriptors():
        done = settle(host, TEXT, known=first)
    assert {found.verdict for found in done.after.modules} == {ModuleVerdict.UNREADABLE}
    assert {found.verdict for found in done.after.sysctls} == {SysctlVerdict.UNREADABLE}
    assert done.outcomes == ()
    assert settle(host, TEXT, known=done).after == first.after


def test_an_index_that_cannot_be_read_is_no_index_that_is_missing(tree: Path) -> None:
    (tree / "proc/modules").write_text("")
    index = next((tree / "lib/modules").glob("*/modules.dep.bin"))
    away = index.rename(index.with_suffix(".away"))
    assert verdict(settle(LinuxHost(str(tree), TreeLoader(tree)), TEXT), "ip_vs_rr") is ModuleVerdict.NO_INDEX
    away.rename(index)
    host = LinuxHost(str(tree), TreeLoader(tree))
    with few_descriptors():
        done = settle(host, TEXT)
    assert verdict(done, "ip_vs_rr") is ModuleVerdict.UNREADABLE
    assert loads(done) == []


def test_a_file_that_only_names_the_distribution_keeps_nothing_from_being_read(tree: Path) -> None:
    put(tree, "etc/os-release", "ID=debian\n").chmod(0)
    found: list[ReconcileResult] = []

    def look() -> None:
        capabilities.drop_all()  # of this thread; root could read everything
        found.append(settle(LinuxHost(str(tree), TreeLoader(tree)), TEXT))

    thread = threading.Thread(target=look)
    thread.start()
    thread.join()
    (done,) = found
    assert (state(done), done.kernel.unreadable, done.kernel.distribution) == (State.READY, "", "")
