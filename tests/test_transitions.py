"""From any state of a kernel to the desired one, with any event in between."""

from __future__ import annotations

import copy
import dataclasses
import errno
import itertools
from collections.abc import Collection, Iterator, Sequence
from typing import Callable

import pytest

from ipvsd.config.schema import Config
from ipvsd.decide.backoff import BackoffState
from ipvsd.decide.health import assess
from ipvsd.model.report import State
from ipvsd.model.types import Kernel, LoadModule, WriteSysctl
from ipvsd.model.verdicts import ModuleVerdict as M
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.model.verdicts import SysctlVerdict as S
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.reconcile.rounds import ROUNDS, FirstRound, ReconcileResult, reconcile
from tests.configured import config
from tests.fake_kernel import CONF, FORWARD, FakeKernel
from tests.reconciling import settle

CONNTRACK = "net.ipv4.vs.conntrack"
MAX = "net.netfilter.nf_conntrack_max"
CONFIG = Config()
STRICT = Config(strict_arp=True)


def state(done: ReconcileResult) -> State:
    return assess(done.after.findings, None, 0.0).state


def verdict(done: ReconcileResult, name: str) -> M | S:
    (finding,) = (finding for finding in done.after.findings if finding.name == name)
    return finding.verdict


# --- states to begin with ---------------------------------------------------------------


def fresh(kernel: FakeKernel) -> None:
    """Nothing is loaded."""


def loaded(kernel: FakeKernel) -> None:
    for name in ("ip_vs_sh", "ip_vs_rr", "ip_vs_wrr", "br_netfilter"):
        kernel.load_module(name)


def half(kernel: FakeKernel) -> None:
    kernel.load_module("ip_vs_rr")
    kernel.values[FORWARD] = "1"


def drifted(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.values.update({FORWARD: "0", CONNTRACK: "0", MAX: "1", "net.bridge.bridge-nf-call-iptables": "0"})


def unloaded(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.unload_all()


def reloaded(kernel: FakeKernel) -> None:
    unloaded(kernel)
    loaded(kernel)


def built_in(kernel: FakeKernel) -> None:
    kernel.load_module("ip_vs")
    kernel.built_in = {"ip_vs", "nf_conntrack"}
    kernel.states.clear()


STATES = [fresh, loaded, half, drifted, unloaded, reloaded, built_in]
anywhere = pytest.mark.parametrize("begin", STATES, ids=lambda begin: begin.__name__)
Begin = Callable[[FakeKernel], None]


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


@anywhere
@pytest.mark.parametrize("config", [CONFIG, STRICT, Config(profiles=("lvs-full",)), Config(scheduler="wlc")])
def test_one_reconciliation_leads_to_the_desired_state(kernel: FakeKernel, begin: Begin, config: Config) -> None:
    begin(kernel)
    done = settle(kernel, config)
    assert (state(done), done.after.actions, done.history) == (State.READY, (), {})
    assert all(not outcome.error for outcome in done.outcomes)


@anywhere
def test_a_compliant_item_is_left_alone(kernel: FakeKernel, begin: Begin) -> None:
    begin(kernel)
    settle(kernel)
    assert settle(kernel).outcomes == ()


class PowerCutError(Exception):
    """The daemon was killed."""


@dataclasses.dataclass
class Interrupted(FakeKernel):
    """The same kernel, on which everything ends after `left` actions, before the next one or just after the last."""

    left: int = 0
    after: bool = False

    def write_sysctl(self, key: str, value: str) -> None:
        self._act(lambda: super(Interrupted, self).write_sysctl(key, value))

    def write_parameter(self, name: str, value: str) -> None:
        self._act(lambda: super(Interrupted, self).write_parameter(name, value))

    def load_module(self, name: str, options: Sequence[str] = ()) -> None:
        self._act(lambda: super(Interrupted, self).load_module(name, options))

    def _act(self, act: Callable[[], None]) -> None:
        self.left -= 1
        if self.left < 0 and not self.after:
            raise PowerCutError
        act()
        if self.left < 0:
            raise PowerCutError


@anywhere
@pytest.mark.parametrize("after", [False, True], ids=["before an action", "after an action"])
def test_an_interruption_anywhere_is_made_good_by_the_next_start(begin: Begin, after: bool) -> None:
    begun = FakeKernel()
    begin(begun)
    for actions in itertools.count():
        kernel = copy.deepcopy(begun)
        try:
            settle(Interrupted(**vars(kernel), left=actions, after=after), STRICT)
        except PowerCutError:
            assert state(settle(kernel, STRICT)) is State.READY
        else:
            break
    assert actions > 0


# --- order ------------------------------------------------------------------------------


def test_sysctls_are_written_in_the_round_after_their_module(kernel: FakeKernel) -> None:
    done = settle(kernel)
    names = [outcome.action.name for outcome in done.outcomes]
    assert names[0] == FORWARD
    assert names.index("ip_vs") < names.index(CONNTRACK)


def test_a_value_that_forwarding_resets_is_written_again(kernel: FakeKernel) -> None:
    kernel.values.update(dict.fromkeys(CONF, "1"))
    done = settle(kernel, STRICT)
    assert state(done) is State.READY
    assert kernel.values["net.ipv4.conf.all.arp_ignore"] == "1"


def test_a_module_reload_resets_its_sysctls_and_ipvsd_repairs_them(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.unload_all()
    kernel.load_module("ip_vs_sh")
    _, plan = observe_and_plan(kernel, CONFIG)
    assert WriteSysctl(CONNTRACK, "0", "1") in plan.actions
    settle(kernel)
    assert kernel.values[CONNTRACK] == "1"


def test_a_raised_floor_is_left_alone(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.values[MAX] = "500000"
    assert settle(kernel).outcomes == ()


def test_there_are_no_more_rounds_than_promised(kernel: FakeKernel) -> None:
    """Every observation finds another drift, forever."""
    values = itertools.cycle(["net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.arp_announce"])
    settle(kernel, STRICT)
    kernel.values["net.ipv4.conf.all.arp_ignore"] = "0"

    def pass_on(value: str) -> str:
        key = next(values)
        kernel.values[key] = "0"
        return "2" if key.endswith("ignore") else "1"

    kernel.clamps = dict.fromkeys(("net.ipv4.conf.all.arp_ignore", "net.ipv4.conf.all.arp_announce"), pass_on)
    done = settle(kernel, STRICT)
    assert 1 <= len(done.outcomes) <= 2 * ROUNDS
    assert state(done) is State.FAILED


# --- a kernel that misbehaves -----------------------------------------------------------


def test_one_failure_does_not_stop_the_others(kernel: FakeKernel) -> None:
    kernel.broken["ip_vs_rr"] = errno.ENOEXEC
    kernel.refused[FORWARD] = errno.EPERM
    done = settle(kernel)
    wrong = {finding.name: finding.verdict for finding in done.after.findings if not finding.compliant}
    assert wrong == {"ip_vs_rr": M.LOAD_FAILED, FORWARD: S.WRITE_FAILED}


@pytest.mark.parametrize(
    ("misbehave", "name", "expected", "evidence"),
    [
        (lambda k: k.broken.update(ip_vs_sh=errno.EINVAL), "ip_vs_sh", M.LOAD_FAILED, "Invalid argument"),
        (lambda k: k.blacklisted.add("ip_vs_sh"), "ip_vs_sh", M.BLACKLISTED, "/etc/modprobe.d/mine.conf:1: "),
        (lambda k: k.vanishing.add("ip_vs_sh"), "ip_vs_sh", M.LOAD_FAILED, "the loader reported success, but"),
        (lambda k: k.depends.pop("ip_vs_sh"), "ip_vs_sh", M.ABSENT, "/lib/modules/"),
        (lambda k: setattr(k, "indexed", False), "ip_vs_sh", M.MODULE_TREE_MISSING, "no modules in /lib/modules/"),
        (lambda k: setattr(k, "modular", False), "ip_vs_sh", M.NO_MODULE_SUPPORT, "/proc/modules is missing"),
        (lambda k: k.refused.update({FORWARD: errno.EPERM}), FORWARD, S.WRITE_FAILED,
         "actual value '0', desired value 1; writing failed"),
        (lambda k: k.clamps.update({FORWARD: lambda _: "0"}), FORWARD, S.NOT_KEPT, "wrote '1', reads back '0'"),
        (lambda k: k.contested.update({FORWARD: "0"}), FORWARD, S.NOT_KEPT, "wrote '1', reads back '0'"),
        (lambda k: k.unreadable.update({FORWARD: errno.EIO}), FORWARD, S.UNREADABLE, "Input/output error"),
        (lambda k: k.values.pop(FORWARD), FORWARD, S.UNSUPPORTED, "kernel 6.1"),
    ],
    ids="rejected blacklist vanishing absent tree-gone no-modules refused clamped contested unreadable no-file".split(),
)  # fmt: skip
def test_a_misbehaviour_has_its_verdict(
    kernel: FakeKernel, misbehave: Callable[[FakeKernel], object], name: str, expected: object, evidence: str
) -> None:
    misbehave(kernel)
    done = settle(kernel)
    assert verdict(done, name) is expected
    (finding,) = (finding for finding in done.after.findings if finding.name == name)
    assert finding.evidence.startswith(evidence)
    assert state(done) is State.FAILED


def test_a_failed_dependency_fails_what_needs_it(kernel: FakeKernel) -> None:
    kernel.broken["nf_conntrack"] = errno.ENOEXEC
    done = settle(kernel)
    assert {verdict(done, name) for name in ("nf_conntrack", "ip_vs", "ip_vs_sh")} == {M.LOAD_FAILED}
    assert verdict(done, CONNTRACK) is S.PENDING


def tries(kernel: FakeKernel, times: Iterator[float]) -> list[float]:
    """Return the times of attempts."""
    history: BackoffState = {}
    found = []
    for now in times:
        done = settle(kernel, now=now, history=history)
        history = done.history
        if done.outcomes:
            found.append(now)
    return found


def test_a_failing_load_backs_off(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.unload("ip_vs_sh")
    kernel.broken["ip_vs_sh"] = errno.ENOEXEC
    assert tries(kernel, map(float, range(200))) == [0, 1, 3, 7, 15, 31, 63, 123, 183]


def test_a_value_that_the_kernel_does_not_keep_is_retried_at_a_resync(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.contested[FORWARD] = kernel.values[FORWARD] = "0"
    assert tries(kernel, map(float, range(130))) == [0, 60, 120]


def test_a_value_that_is_overwritten_nine_times_is_kept_the_tenth_time(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.contested[FORWARD] = kernel.values[FORWARD] = "0"
    kernel.rival_writes = 9
    done = settle(kernel)
    assert (kernel.values[FORWARD], done.history) == ("1", {})


def test_a_corrected_fault_ends(kernel: FakeKernel) -> None:
    kernel.broken["ip_vs_sh"] = errno.ENOEXEC
    failed = settle(kernel)
    kernel.broken.clear()
    done = settle(kernel, now=2.0, history=failed.history)
    assert (state(done), done.history) == (State.READY, {})


def test_a_module_file_that_is_installed_is_found(kernel: FakeKernel) -> None:
    depends = kernel.depends.pop("ip_vs_sh")
    failed = settle(kernel)
    assert (state(failed), failed.history) == (State.FAILED, {})
    kernel.depends["ip_vs_sh"] = depends
    assert state(settle(kernel, history=failed.history)) is State.READY


# --- modules on their way ---------------------------------------------------------------


def test_a_module_on_its_way_out_is_loaded_when_it_is_gone(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.unload("ip_vs_sh", looks=20)
    history: BackoffState = {}
    for _ in range(20):
        done = settle(kernel, history=history)
        history = done.history
        if state(done) is State.READY:
            break
        assert done.unsettled
    assert verdict(done, "ip_vs_sh") is M.LIVE
    assert history == {}


def test_a_module_that_goes_quickly_is_back_in_one_reconciliation(kernel: FakeKernel) -> None:
    settle(kernel)
    kernel.unload("ip_vs_sh", looks=1)
    done = settle(kernel)
    assert (state(done), done.proved) == (State.READY, (LoadModule("ip_vs_sh"),))


def test_a_module_on_its_way_in_is_waited_for(kernel: FakeKernel) -> None:
    kernel.looks_until_live["ip_vs_sh"] = 3
    settle(kernel)
    done = settle(kernel)
    while done.unsettled:
        assert LoadModule("ip_vs_sh") not in done.after.actions
        done = settle(kernel)
    assert state(done) is State.READY


def test_a_steady_state_and_a_failure_until_its_next_try_are_settled(kernel: FakeKernel) -> None:
    assert not settle(kernel).unsettled
    kernel.unload("ip_vs_sh")
    kernel.broken["ip_vs_sh"] = errno.ENOEXEC
    assert not settle(kernel).unsettled


def test_an_observed_sysctl_is_never_written(kernel: FakeKernel) -> None:
    done = settle(kernel, "profiles: []\nsysctls: {net.ipv4.ip_forward: {value: 1, policy: observe}}")
    assert (done.outcomes, state(done), kernel.values[FORWARD]) == ((), State.DEGRADED, "0")


# --- actions that fail -----------------------------------------------------------------


def test_a_failed_write_that_changed_the_value_is_undone(kernel: FakeKernel) -> None:
    rmem = "net.ipv4.tcp_rmem"
    before = kernel.values[rmem]
    kernel.clobbers.add(rmem)
    done = settle(kernel, "profiles: []\nsysctls: {net.ipv4.tcp_rmem: 1 2 3}")
    assert verdict(done, rmem) is SysctlVerdict.WRITE_FAILED
    assert kernel.values[rmem].split() == before.split()


def test_a_range_does_not_overwrite_a_text(kernel: FakeKernel) -> None:
    done = settle(kernel, "profiles: []\nsysctls: {net.ipv4.tcp_rmem: {atLeast: 6291456}}")
    assert (done.outcomes, verdict(done, "net.ipv4.tcp_rmem")) == ((), SysctlVerdict.NONCOMPLIANT)


def test_the_next_alternative_is_tried(kernel: FakeKernel) -> None:
    kernel.broken["ip_vs_lc"] = errno.EKEYREJECTED
    history: BackoffState = {}
    for now in range(3):
        done = settle(kernel, "profiles: []\nmodules: {some: {anyOf: [ip_vs_lc, ip_vs_wlc]}}", float(now), history)
        history = done.history
    assert (state(done), history) == (State.READY, {})
    assert "ip_vs_wlc" in kernel.states


# --- the first round --------------------------------------------------------------------


@pytest.mark.parametrize("begin", [fresh, drifted, loaded], ids=lambda begin: begin.__name__)
def test_drift_after_the_first_observation_is_observed_and_repaired(begin: Callable[[FakeKernel], None]) -> None:
    kernel = FakeKernel()
    begin(kernel)
    made = config("sysctls: {net.ipv4.tcp_rmem: 4096 131072 6291456}")
    first = FirstRound(kernel, made, lambda: 0.0)
    kernel.values["net.ipv4.tcp_rmem"] = "1 2 3"
    done = reconcile(kernel, made, {}, lambda: 0.0, first=first)
    assert state(done) == State.READY
    assert [outcome.action.name for outcome in done.outcomes].count("net.ipv4.tcp_rmem") == 1


def test_the_kernel_is_read_once_in_a_reconciliation() -> None:
    class Counting(FakeKernel):
        reads = 0

        def kernel(self, names: Collection[str]) -> Kernel:
            self.reads += 1
            return super().kernel(names)

    kernel = Counting()
    done = settle(kernel)
    assert (len(done.outcomes) > 1, kernel.reads) == (True, 1)
