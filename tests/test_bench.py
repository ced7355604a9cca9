"""The report of `make bench`: the bounds that were missed, and those with TLS."""

from __future__ import annotations

from tests.vm import bounds
from tests.vm.alternatives import Alternative, Event
from tests.vm.figures import Idle, Memory, Module, Rest, Start, Storm, Sysctl, spread
from tests.vm.native import Native
from tests.vm.report import Results, markdown

TIMES = spread([1.0, 2.0, 3.0])
START = Start(TIMES, TIMES, TIMES, None)
MEMORY = Memory(30_000_000, ((1000, 31_000_000), (10000, 31_500_000)))
IDLE = Idle(6, 12, 0, 0)
STORM = Storm(30000, 30.0, 3.0, 40.0, 18, 0)


def results(storm: Storm = STORM) -> Results:
    """Return the results of a run with this storm with TLS."""
    secured = (START, MEMORY, IDLE, storm)
    event = Event(1, 90, None)
    return Results(
        {"emulation": "KVM"}, (*bounds.of_storm(STORM), *bounds.of_secured(*secured)), Sysctl(TIMES, TIMES),
        (Module("ip_vs_sh", 0, TIMES, TIMES, TIMES),), (START, MEMORY, IDLE, STORM), secured, TIMES, Rest(60, 1.0, 1),
        (Alternative("TuneD", event, event, 0.1, 0, None),), Native("inotify", TIMES, TIMES, TIMES, TIMES, 1),
    )  # fmt: skip


def test_the_bounds_with_tls_are_those_without_it() -> None:
    plain = (bounds.of_start(START), *bounds.of_memory(MEMORY), *bounds.of_idle(IDLE), *bounds.of_storm(STORM))
    found = bounds.of_secured(START, MEMORY, IDLE, STORM)
    assert [one.what for one in found] == [f"{one.what}, with TLS" for one in plain]
    assert [(one.measured, one.bound) for one in found] == [(one.measured, one.bound) for one in plain]


def test_the_report_shows_a_bound_that_holds_only_without_tls() -> None:
    assert "**no**" not in markdown(results())
    text = markdown(results(Storm(30000, 30.0, 9.0, 40.0, 18, 0)))
    assert "| write storm: CPU time of one processor | 10 % | 20 % | yes | 30000 writes in 30 s |" in text
    assert "| write storm: CPU time of one processor, with TLS | 30 % | 20 % | **no** | 30000 writes in 30 s |" in text
    assert "**Missed in this run:** write storm: CPU time of one processor, with TLS." in text
