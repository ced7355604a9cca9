"""The daemon as a process during attacks over HTTP: it serves other clients, and its memory does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import (
    ALL,
    BOUND,
    SECONDS,
    TLS_ATTACKS,
    Attacker,
    Target,
    daemon,
    forget_most,
    measure,
    memory,
)

pytestmark = pytest.mark.system

FEW = 100  # clients: more than there are slots
SLOW = ("idle", "slow headers", "idle, TLS", "slow handshake", "slow headers, TLS")


def answered(name: str) -> float:
    """Return the part of the requests of another client that must receive a response during an attack.

    With TLS, the client needs several messages. It has 50 ms for its hello, and 100 ms to 1 s for the next one.
    If other programs use the processor, it may not run for that time. With the tests at idle priority and a load
    of 10, so with an eighth of a processor for the daemon, all of 299 requests received a response.
    """
    if name not in TLS_ATTACKS:
        return 1.0
    return 0.99 if name in SLOW else 0.95


@pytest.fixture(scope="module")
def target(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    with daemon(tmp_path_factory.mktemp("tree"), request.param) as target:
        yield target


@pytest.mark.parametrize(
    ("target", "name"), [(name in TLS_ATTACKS, name) for name in ALL], indirect=["target"], ids=list(ALL)
)
def test_an_attacked_daemon_serves_other_clients_and_does_not_grow(target: Target, name: str) -> None:
    before = memory(target.pid).now
    forget_most(target.pid)
    attack = ALL[name]._replace(clients=min(FEW, ALL[name].clients))
    with Attacker(attack, target.port) as attacker:
        for _ in range(5):
            attacker.step()
        assert target.ask() is not None
        attacker.step()
        assert target.ask("/metrics") is not None
    assert memory(target.pid).most - before <= BOUND


@pytest.mark.full
@pytest.mark.parametrize("name", ALL)
def test_an_attack_of_500_clients_leaves_no_trace(tmp_path: Path, name: str) -> None:
    with daemon(tmp_path, name in TLS_ATTACKS) as target:
        found = measure(name, target, SECONDS)
        assert found.growth <= BOUND
        assert found.left <= target.calm
        assert len(found.times) >= found.asked * answered(name)
        if name in TLS_ATTACKS:  # a further attack uses the memory that the first one has left
            assert measure(name, target, SECONDS, before=found.before).left <= target.calm
        _, log = target.service.stop()
    assert len(log) == 2  # the state, and the mechanism that reports writes


@pytest.mark.full
@pytest.mark.parametrize("name", SLOW)
def test_500_slow_clients_do_not_delay_a_scrape_for_a_minute(tmp_path: Path, name: str) -> None:
    with daemon(tmp_path, name in TLS_ATTACKS) as target:
        found = measure(name, target, 60.0, "/metrics")
        assert found.slowest < 1.0
        assert found.growth <= BOUND
        assert len(found.times) >= found.asked * answered(name)
