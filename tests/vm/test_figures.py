"""The bounds that the documentation promises, as ratios within one boot."""

from __future__ import annotations

from tests.vm import figures
from tests.vm.node import Node


def test_a_repair_takes_no_longer_than_the_tools_that_people_use(node: Node) -> None:
    measured = {name: times["p50"] for name, times in figures.repairs(node).items()}

    assert measured["sysctl: write to restored"] <= measured["sysctl -w, as a process"]
    assert measured["module: unloaded to live"] <= 1.5 * measured["modprobe, as a process"]


def test_an_idle_time_wakes_nobody_and_logs_nothing(node: Node) -> None:
    quiet = figures.idle(node)

    assert figures.LOOKS - 2 <= quiet.looks <= figures.LOOKS + 3
    # A look may wait once for a lock or a page; one stray wake-up a second would be 60 more.
    assert quiet.wakeups <= 2 * quiet.looks + 4
    assert quiet.others == 0
    assert quiet.lines == 0


def test_it_stays_small(node: Node) -> None:
    node.get("/metrics")
    assert figures.memory(node) <= 45 * 1024
