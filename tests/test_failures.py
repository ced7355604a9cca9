"""A failed action is undone, not repeated at once, or replaced by an alternative."""

from __future__ import annotations

import errno

from ipvsd.decide.backoff import BackoffState
from ipvsd.model.report import State
from ipvsd.model.types import SysctlVerdict
from tests.fake_kernel import FakeKernel
from tests.reconciling import settle
from tests.test_transitions import kernel, state, verdict

__all__ = ["kernel"]


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
