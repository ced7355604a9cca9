"""The account of a soak test balances exactly if every drift is explained."""

from __future__ import annotations

from collections.abc import Sequence

import pytest

from tests.vm.account import FORWARD, LIMIT, Change, Event, Injected, Period, balance, balance_modules

KEY = "net.ipv4.vs.conntrack"
LINK = "net.ipv4.conf.eth0.forwarding"
LATE = LIMIT + 1


def by_others(at: float, value: str, key: str = KEY) -> Event:
    return Event(at, at, key, value, ours=False)


def ours(at: float, key: str = KEY) -> Event:
    return Event(at, at, key, "1", ours=True)


def injected(*values: str, key: str = KEY) -> list[Injected]:
    return [Injected(key, value, 0.0) for value in values]


def repaired(*values: str, key: str = KEY) -> list[tuple[str, str]]:
    return [(key, value) for value in values]


FIGHT = [Period(KEY, 100.0, 200.0)]

EXPLAINED: dict[str, tuple[Sequence[Injected], Sequence[Event], Sequence[tuple[str, str]], str]] = {
    "repaired": (injected("2"), [by_others(1, "2"), ours(1.1)], repaired("2"), "repaired"),
    "written again by another": (
        injected("2", "3"), [by_others(1, "2"), by_others(1.1, "3"), ours(1.2)], repaired("3"), "repaired superseded",
    ),
    "put right by another": (injected("2"), [by_others(1, "2"), by_others(1.1, "1")], [], "superseded"),
    "written again before the proof": (
        injected("2", "3"),
        [by_others(1, "2"), ours(1.1), by_others(1.2, "3"), ours(1.3)],
        repaired("3"),
        "repaired superseded",
    ),
    "written between reading and writing": (
        injected("2", "3"), [by_others(1, "2"), by_others(1.1, "3"), ours(1.2)], repaired("2"), "repaired superseded",
    ),
    "written while ipvsd wrote again and again": (
        injected("2", "3"),
        [by_others(1, "2"), ours(1.1), by_others(1.2, "3"), ours(1.3)],
        repaired("2"),
        "repaired superseded",
    ),
    "left alone": (injected("2"), [by_others(150, "2")], [], "contended"),
    "contended, and repaired at a periodic look": (
        injected("2"), [by_others(150, "2"), ours(150 + LATE)], repaired("2"), "repaired",
    ),
    "gone with its interface": (
        injected("2", key=LINK),
        [by_others(1, "2", LINK), Event(2, 2, LINK, "", ours=False, gone=True)],
        [],
        "superseded",
    ),
    "put right with ip_forward": (
        [*injected("2", key=LINK), *injected("3", key=FORWARD)],
        [by_others(1, "2", LINK), by_others(1.1, "3", FORWARD), ours(1.2, FORWARD)],
        repaired("3", key=FORWARD),
        "repaired superseded",
    ),
    "stored at the same time as another": (
        injected("2", "3"),
        [Event(1.0, 0.5, KEY, "2", ours=False), Event(1.1, 0.4, KEY, "3", ours=False), ours(1.2)],
        repaired("2"),
        "repaired superseded",
    ),
    "stored twice, repaired twice": (
        injected("2", key=FORWARD),
        [by_others(1, "2", FORWARD), ours(1.1, FORWARD)],
        repaired("2", "2", key=FORWARD),
        "repaired again",
    ),
    "repaired, and what the kernel had passed on as well": (
        injected("3", key=FORWARD),
        [by_others(1, "3", FORWARD), ours(1.1, FORWARD), ours(1.2, LINK)],
        [*repaired("3", key=FORWARD), *repaired("3", key=LINK)],
        "repaired passed_on",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", EXPLAINED)
def test_each_drift_has_one_result(name: str) -> None:
    drifts, events, repairs, ways = EXPLAINED[name]
    account = balance(drifts, events, repairs, FIGHT, [FORWARD])
    assert account.balances, account.unexplained
    counted = {way for way in ("repaired", "contended", "superseded", "passed_on", "again") if getattr(account, way)}
    assert counted == set(ways.split())
    assert account.injected == account.repaired + account.contended + account.superseded


UNEXPLAINED: dict[str, tuple[Sequence[Event], Sequence[tuple[str, str]], str]] = {
    "nothing happened": ([by_others(1, "2")], [], "nothing was written"),
    "the kernel saw nothing": ([], [], "not seen"),
    "repaired late": ([by_others(1, "2"), ours(1 + LATE)], repaired("2"), "repaired after 21.0 s"),
    "overwritten late": ([by_others(1, "2"), by_others(1 + LATE, "1")], [], "superseded after 21.0 s"),
    "repaired and not counted": ([by_others(1, "2"), ours(1.1)], [], "counted no repair"),
    "counted and not repaired": ([by_others(1, "2")], repaired("2"), "no write of ipvsd's"),
    "counted twice": ([by_others(1, "2"), ours(1.1)], repaired("2", "2"), "too many"),
    "counted, and nobody wrote it": ([by_others(1, "2"), ours(1.1)], repaired("2", "7"), "too many"),
    "right since another one's repair": (
        [by_others(0.5, "7"), ours(0.6), by_others(1, "2"), ours(2)],
        repaired("7"),
        "counted no repair",
    ),
}


@pytest.mark.parametrize("name", UNEXPLAINED)
def test_an_unexplained_drift_is_reported(name: str) -> None:
    events, repairs, told = UNEXPLAINED[name]
    account = balance(injected("2"), events, repairs)
    assert not account.balances
    assert any(told in line for line in account.unexplained), account.unexplained


def test_a_repair_that_the_history_may_lack_is_found_in_the_trace() -> None:
    events = [by_others(1, "2"), ours(1.1)]
    assert balance(injected("2"), events, [], unread=[(1.0, 2.0)]).repaired == 1
    assert not balance(injected("2"), events, [], unread=[(2.0, 3.0)]).balances


def test_a_period_of_another_sysctl_explains_nothing() -> None:
    account = balance(injected("2"), [by_others(150, "2")], [], [Period("net.ipv4.vs.drop_entry", 100, 200)])
    assert not account.balances


def test_a_module_is_loaded_by_ipvsd_or_by_another() -> None:
    changes = [
        Change(1, "ip_vs_sh", ours=False, gone=True), Change(1.1, "ip_vs_sh", ours=True, gone=False),
        Change(2, "ip_vs_sh", ours=False, gone=True), Change(2.1, "ip_vs_sh", ours=False, gone=False),
        Change(3, "ip_vs_rr", ours=False, gone=True), Change(3.2, "ip_vs_rr", ours=True, gone=False),
    ]  # fmt: skip
    account = balance_modules(changes)
    assert account[:3] == (3, 2, 1)
    assert account.unexplained == ()


@pytest.mark.parametrize("then", [[], [Change(1 + LATE, "ip_vs_sh", ours=True, gone=False)]])
def test_a_module_that_stays_unloaded_is_reported(then: list[Change]) -> None:
    account = balance_modules([Change(1, "ip_vs_sh", ours=False, gone=True), *then])
    assert len(account.unexplained) == 1
