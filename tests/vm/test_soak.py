"""The soak test for three minutes; in `make test-full`, for ten on each of two machines. `make soak` takes an hour."""

from __future__ import annotations

import pytest

from tests.vm import soak
from tests.vm.node import Journal, Node, repeated


def test_every_drift_is_accounted_for_whatever_else_happens(node: Node, journal: Journal) -> None:
    journal.expect(*soak.LINES)
    verify(soak.run(node, 60.0 * repeated(3, 10)))


@pytest.mark.full
def test_a_machine_with_one_processor_that_is_suspended() -> None:
    evidence = soak.boot_and_run(1, 600.0)
    assert evidence.told["counts"]["sleeps"]
    verify(evidence)


def verify(evidence: soak.Evidence) -> None:
    outcome = soak.judge(evidence)
    assert outcome.account.repaired
    assert outcome.account.contended
    assert outcome.account.superseded
    assert outcome.modules.repaired
    assert not outcome.faults, "\n".join(soak.report(evidence, outcome))
