"""The soak test for three minutes, and for twenty in `make test-full`. `make soak` runs it for an hour."""

from __future__ import annotations

from tests.vm import soak
from tests.vm.node import Journal, Node, repeated


def test_every_drift_is_accounted_for_whatever_else_happens(node: Node, journal: Journal) -> None:
    journal.expect(*soak.LINES)
    evidence = soak.run(node, 60.0 * repeated(3, 20))
    outcome = soak.judge(evidence)
    assert outcome.account.repaired
    assert outcome.account.contended
    assert outcome.account.superseded
    assert outcome.modules.repaired
    assert not outcome.faults, "\n".join(soak.report(evidence, outcome))
