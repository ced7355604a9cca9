"""The documented bounds, as ratios within one boot. `make bench` measures them in detail.

Two machines at a time keep the computer busy here, and a moment without a processor is longer than a repair. So the
bounds of medians are doubled. That of a sysctl is tripled, because its two processes run on two processors, and the
round trip's on one. The tail is compared with that of the round trip, which waits for the same processors. Unlike
one drift in a hundred, it does not wait for a reconciliation. The bound of processor time is doubled as well,
because in an emulated machine it continues while the computer runs the other one. The bounds of counts and of the
size are unchanged.
"""

from __future__ import annotations

import pytest

from tests.vm import bounds, figures
from tests.vm.bounds import Promise
from tests.vm.node import FOLLOWS, Journal, Node, repeated
from tests.vm.secured import scraping, secured

BUSY = 2.0
BUSY_PROCESSORS = 4.0
TAIL = 8.0
STORM = (
    r"\S+ is contended: repaired more than \d+ times in 60 s, last changed (probably )?by ",
    r"\S+ is no longer contended",
    r"sysctl \S+( \(optional\))?: (contended|noncompliant): ",
)


def held(promise: Promise, margin: float = 1.0) -> bool:
    return promise.measured <= promise.bound * margin


@pytest.fixture(autouse=True)
def _follows_ip_forward(journal: Journal) -> None:
    journal.expect(FOLLOWS)


def test_a_module_is_back_before_modprobe_would_have_loaded_it(node: Node) -> None:
    promise = bounds.of_module(figures.module(node, 10))
    assert held(promise, BUSY), promise


def test_a_sysctl_is_restored_in_the_time_of_few_switches_between_processes(node: Node) -> None:
    found = figures.sysctl(node, 150)
    half, tail = bounds.of_sysctl(found)
    assert held(half, BUSY_PROCESSORS), half
    assert held(tail) or found.repair.p99 <= TAIL * found.round_trip.p99, tail


def test_a_start_is_little_slower_than_an_interpreter_and_the_work_itself(node: Node) -> None:
    promise = bounds.of_start(figures.start(node, 3))
    assert held(promise, BUSY), promise


def test_an_idle_daemon_does_not_wake_up_and_logs_nothing(node: Node) -> None:
    quiet = figures.idle(node, looks=6)
    assert 6 - 2 <= quiet.looks <= 6 + 3
    for promise in bounds.of_idle(quiet):
        assert held(promise), promise


def test_it_stays_small(node: Node) -> None:
    # Its growth is promised from here on, but takes too long for a test.
    (promise,) = bounds.of_memory(figures.memory(node, (repeated(300, 1000),)))
    assert held(promise), promise


def test_with_tls_an_idle_daemon_does_not_wake_up_and_logs_nothing(node: Node) -> None:
    with secured(node):
        with scraping(node):
            node.run("sleep 2")
        quiet = figures.idle(node, looks=3)
    for promise in bounds.of_idle(quiet):
        assert held(promise), promise


@pytest.mark.full
def test_with_tls_the_daemon_stays_small_and_a_start_and_a_storm_cost_little(node: Node, journal: Journal) -> None:
    journal.expect(*STORM)
    with secured(node):
        start = figures.start(node, 3)
        memory = figures.memory(node, (1000,), scraping(node))
        with node.configured("interval: 15s\n"):
            storm = figures.storm(node, 15, meanwhile=scraping(node))
    for promise in (bounds.of_start(start), *bounds.of_memory(memory), *bounds.of_storm(storm)):
        assert held(promise, BUSY if promise.unit in "%x" else 1.0), promise


@pytest.mark.full  # test_rivals contains a shorter one
def test_a_storm_of_writes_costs_little_and_ends_compliant(node: Node, journal: Journal) -> None:
    journal.expect(*STORM)
    with node.configured("interval: 15s\n"):  # so that contended sysctls need not wait a minute
        storm = figures.storm(node, 15)
    for promise in bounds.of_storm(storm):
        assert held(promise, BUSY if promise.unit == "%" else 1.0), promise
