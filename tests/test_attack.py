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
        # All received a response. If the processor is busy, a handshake can take longer than the grace.
        assert len(found.times) >= found.asked * (0.8 if name in TLS_ATTACKS else 1.0)
        _, log = target.service.stop()
    assert len(log) == 2  # the state, and the mechanism that reports writes


@pytest.mark.full
@pytest.mark.parametrize("name", ["idle", "slow headers", "idle, TLS", "slow handshake", "slow headers, TLS"])
def test_500_slow_clients_do_not_delay_a_scrape_for_a_minute(tmp_path: Path, name: str) -> None:
    with daemon(tmp_path, name in TLS_ATTACKS) as target:
        found = measure(name, target, 60.0, "/metrics")
        assert found.slowest < 1.0
        assert found.growth <= BOUND
        assert len(found.times) >= found.asked * (0.95 if name in TLS_ATTACKS else 1.0)
