"""An error while reading means "cannot read": it writes nothing, blames nothing, and nothing is ready for it."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest

from ipvsd.config import parse
from ipvsd.health import assess, unreadable
from ipvsd.host import LinuxHost
from ipvsd.lastseen import FIRST_PAUSE, LastSeen
from ipvsd.model import ModuleVerdict, SysctlVerdict
from ipvsd.narrate import narrate, told_of
from ipvsd.reconcile import Reconciled, reconcile
from ipvsd.report import State
from ipvsd.tally import Ledger
from tests.fake_kernel import FORWARD, READS, FakeKernel
from tests.scarce import few_descriptors
from tests.test_transitions import drifted, fresh, kernel, state, unloaded, verdict
from tests.trees import TreeLoader, make_tree

__all__ = ["kernel"]

ERRORS = (errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EACCES, errno.EIO, errno.EINTR)
# Beside the default profile: a pattern, and parameters of a module.
CONFIG = parse(
    [("f", b"sysctls: {net.ipv4.conf.*.arp_ignore: 1}\nmodules: {nf_conntrack: {parameters: {hashsize: 32768}}}")]
)
# What would be done about an item that is not there, or is there and wrong.
WRONG_REMEDIES = ("drop the key", "install", "depmod", "reboot", "run a kernel", "modprobe", "takes the value")

every_error = pytest.mark.parametrize("number", ERRORS, ids=lambda number: errno.errorcode[number])
every_read = pytest.mark.parametrize("read", READS)


def settle(host: FakeKernel | LinuxHost, known: Reconciled | None = None) -> Reconciled:
    return reconcile(host, CONFIG, {}, lambda: 0.0, known=known.kernel if known else None)


def remedies(done: Reconciled) -> list[str]:
    return [found.remedy for found in done.after.findings if not found.right and found.remedy]


def loads(done: Reconciled) -> list[str]:
    return [str(outcome.action) for outcome in done.outcomes if "load" in str(outcome.action)]


@every_error
@every_read
@pytest.mark.parametrize("begin", [fresh, unloaded, drifted], ids=lambda begin: begin.__name__)
def test_it_is_no_ready_and_no_remedy_and_is_healed_when_it_is_over(
    kernel: FakeKernel, begin: object, read: str, number: int
) -> None:
    assert callable(begin)
    begin(kernel)
    before = dict(kernel.states)
    kernel.failing = {read: number}
    done = settle(kernel)
    if any(map(unreadable, done.after.findings)):
        assert state(done) is not State.READY
        assert not [text for text in remedies(done) for wrong in WRONG_REMEDIES if wrong in text]
    else:
        assert read == "module_state" or (read == "explain" and begin is drifted)
    if read in ("kernel", "modules", "explain"):
        assert (loads(done), kernel.states) == ([], before)
    kernel.failing = {}
    assert state(settle(kernel, done)) is State.READY


@every_error
@pytest.mark.parametrize("read", ["kernel", "modules", "explain", "expand", "read_parameter"])
def test_what_can_be_read_is_put_right_meanwhile(kernel: FakeKernel, read: str, number: int) -> None:
    drifted(kernel)
    kernel.failing = {read: number}
    done = settle(kernel)
    assert kernel.values[FORWARD] == "1"
    assert verdict(done, FORWARD) is SysctlVerdict.RIGHT


@every_error
def test_what_cannot_be_read_is_not_written(kernel: FakeKernel, number: int) -> None:
    drifted(kernel)
    kernel.failing = {"read_sysctl": number}
    done = settle(kernel)
    assert kernel.values[FORWARD] == "0"
    assert verdict(done, FORWARD) is SysctlVerdict.UNREADABLE


def test_what_cannot_be_read_back_is_written_once(kernel: FakeKernel) -> None:
    class Dim(FakeKernel):
        writes = 0

        def write_sysctl(self, key: str, value: str) -> None:
            self.writes += 1
            super().write_sysctl(key, value)
            self.failing = {"read_sysctl": errno.ENFILE}

    dim = Dim()
    drifted(dim)
    dim.writes, dim.failing = 0, {}
    done = reconcile(dim, parse([("f", b"profiles: []\nsysctls: {net.ipv4.ip_forward: 1}")]), {}, lambda: 0.0)
    assert (dim.writes, done.proved) == (1, ())


@every_error
def test_a_write_for_which_something_was_lacking_is_no_refusal(kernel: FakeKernel, number: int) -> None:
    drifted(kernel)
    kernel.failing = {"write": number}
    done = settle(kernel)
    (finding,) = (found for found in done.after.sysctls if found.name == FORWARD)
    passing = number not in (errno.EACCES, errno.EIO)
    assert finding.verdict is (SysctlVerdict.WRONG if passing else SysctlVerdict.REFUSED)
    assert os.strerror(number) in finding.evidence
    assert ("descriptors or the memory" in finding.remedy) is passing


@every_error
@every_read
def test_it_is_no_drift(kernel: FakeKernel, read: str, number: int) -> None:
    first = settle(kernel)
    ledger, _ = Ledger().book(first, 0.0, 0.0, 0.0)
    kernel.failing = {read: number}
    done = settle(kernel, first)
    ledger, repairs = ledger.book(done, 0.0, 0.0, 0.0)
    kernel.failing = {}
    ledger, more = ledger.book(settle(kernel, done), 0.0, 0.0, 0.0)
    assert (repairs, more, ledger.tally.drifts, ledger.tally.unloads) == ((), (), {}, {})
    kernel.values[FORWARD] = "0"
    ledger, repairs = ledger.book(settle(kernel), 0.0, 0.0, 0.0)
    assert FORWARD in [repair.name for repair in repairs]


def test_a_node_of_which_nothing_can_be_read_is_few_lines_of_the_log(kernel: FakeKernel) -> None:
    first = settle(kernel)
    kernel.failing = dict.fromkeys(READS, errno.EMFILE)
    blind = settle(kernel, first)
    before = told_of((), first)
    lines = list(narrate(before, told_of(before, blind), blind, ()))
    assert len(lines) == 4  # modules, sysctls, and the two patterns
    assert all(line.level == "warning" and "Too many open files" in line.text for line in lines)
    assert assess(blind.after.findings, None, 0.0).exit_code == 2
    kernel.failing = {}
    again = settle(kernel, blind)
    then = told_of(before, blind)
    assert len(list(narrate(then, told_of(then, again), again, ()))) == 1


def test_the_last_verdict_is_told_with_its_time(kernel: FakeKernel) -> None:
    from tests.samples import report

    now = [10.0]
    last = LastSeen(lambda: now[0])
    first = settle(kernel)
    before = report(*first.after.findings)
    assert last.told(first.after, before, 60.0) is first.after
    assert last.due is None
    kernel.failing = {"read_sysctl": errno.EMFILE, "modules": errno.EMFILE}
    for pause in (FIRST_PAUSE, 2 * FIRST_PAUSE, 4 * FIRST_PAUSE):
        plan = last.told(settle(kernel, first).after, before, 60.0)
        evidence = {found.name: found.evidence for found in plan.findings}
        assert evidence[FORWARD] == "Too many open files; was right at 2027-01-15T08:00:00Z"
        assert evidence["ip_vs"] == "cannot read /fake/modules: Too many open files; was live at 2027-01-15T08:00:00Z"
        before = report(*plan.findings)._replace(time=before.time + 100)
        assert last.due == now[0] + pause
        now[0] += pause
    kernel.failing = {}
    last.told(settle(kernel).after, before, 60.0)
    assert last.due is None


# --- the files themselves -----------------------------------------------------------------


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path)


def test_without_descriptors_the_verdicts_are_unreadable(tree: Path) -> None:
    host = LinuxHost(str(tree), TreeLoader(tree))
    first = settle(host)
    assert state(first) is State.READY
    with few_descriptors():
        done = settle(host, first)
    assert {found.verdict for found in done.after.modules} == {ModuleVerdict.UNREADABLE}
    assert {found.verdict for found in done.after.sysctls} == {SysctlVerdict.UNREADABLE}
    assert done.outcomes == ()
    assert settle(host, done).after == first.after


def test_an_index_that_cannot_be_read_is_no_index_that_is_missing(tree: Path) -> None:
    (tree / "proc/modules").write_text("")
    index = next((tree / "lib/modules").glob("*/modules.dep.bin"))
    away = index.rename(index.with_suffix(".away"))
    assert verdict(settle(LinuxHost(str(tree), TreeLoader(tree))), "ip_vs_rr") is ModuleVerdict.NO_INDEX
    away.rename(index)
    host = LinuxHost(str(tree), TreeLoader(tree))
    with few_descriptors():
        done = settle(host)
    assert verdict(done, "ip_vs_rr") is ModuleVerdict.UNREADABLE
    assert loads(done) == []
