"""The daemon as a process during attacks over HTTP: it serves other clients, and its memory does not grow."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.attack import ATTACKS, BOUND, CALM, SECONDS, Attacker, ask, daemon, forget_most, measure, memory

pytestmark = pytest.mark.system

FEW = 100  # clients: more than there are slots


@pytest.fixture(scope="module")
def target(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[int, int]]:
    """The process of a daemon, and its port."""
    with daemon(tmp_path_factory.mktemp("tree")) as (service, port):
        yield service.process.pid, port


@pytest.mark.parametrize("name", ATTACKS)
def test_an_attacked_daemon_serves_other_clients_and_does_not_grow(target: tuple[int, int], name: str) -> None:
    pid, port = target
    before = memory(pid).now
    forget_most(pid)
    attack = ATTACKS[name]._replace(clients=min(FEW, ATTACKS[name].clients))
    with Attacker(attack, port) as attacker:
        for _ in range(5):
            attacker.step()
        assert ask(port) is not None
        attacker.step()
        assert ask(port, "/metrics") is not None
    assert memory(pid).most - before <= BOUND


@pytest.mark.full
@pytest.mark.parametrize("name", ATTACKS)
def test_an_attack_of_500_clients_leaves_no_trace(tmp_path: Path, name: str) -> None:
    with daemon(tmp_path) as (service, port):
        found = measure(name, service.process.pid, port, SECONDS)
        assert found.growth <= BOUND
        assert found.left <= CALM
        assert len(found.times) == found.asked  # all received a response
        _, log = service.stop()
    assert len(log) == 2  # the state, and the mechanism that reports writes
