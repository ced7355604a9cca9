"""The log: every change that we made, every problem once, and nothing in a steady state."""

from __future__ import annotations

import pytest

from ipvsd.config import Config, parse
from ipvsd.model import Finding
from ipvsd.narrate import narrate
from ipvsd.reconcile import reconcile
from ipvsd.restraint import History
from ipvsd.tally import Ledger
from tests.fake_kernel import FORWARD, FakeKernel


class Teller:
    def __init__(self, text: str = "") -> None:
        self.kernel = FakeKernel()
        self.config: Config = parse([("f", text.encode())])
        self.told: tuple[Finding, ...] = ()
        self.history: History = {}
        self.ledger = Ledger()
        self.now = 0.0

    def look(self) -> list[tuple[str, str]]:
        self.now += 100.0
        done = reconcile(self.kernel, self.config, self.history, lambda: self.now)
        self.history = done.history
        self.ledger, repairs = self.ledger.book(done, self.now - 0.0123, self.now, 1.0)
        lines = [(line.level, line.text) for line in narrate(self.told, done, repairs)]
        self.told = done.after.findings
        return lines


@pytest.fixture
def teller() -> Teller:
    """One that has told of the first look."""
    teller = Teller()
    teller.look()
    return teller


def test_the_first_look_tells_every_change_with_found_and_wanted() -> None:
    lines = Teller().look()
    assert ("info", f"wrote {FORWARD}: found '0', wanted '1'") in lines
    assert ("info", "loaded module ip_vs: found not loaded, wanted live") in lines
    assert {level for level, _ in lines} == {"info"}


def test_a_steady_state_says_nothing(teller: Teller) -> None:
    assert teller.look() == []


def test_a_repair_tells_how_long_it_took(teller: Teller) -> None:
    teller.kernel.values[FORWARD] = "0"
    assert teller.look() == [
        ("info", f"wrote {FORWARD}: found '0', wanted '1'; changed by unknown, repaired in 12.3 ms")
    ]


def test_a_problem_is_a_warning_with_a_remedy_and_is_told_once() -> None:
    teller = Teller()
    del teller.kernel.depends["ip_vs_sh"]
    ((level, text),) = [line for line in teller.look() if line[0] != "info"]
    assert level == "warning"
    assert text.startswith("module ip_vs_sh absent: /lib/modules/")
    assert "apt install" in text
    assert teller.look() == []


def test_what_is_not_required_says_so() -> None:
    teller = Teller()
    del teller.kernel.depends["br_netfilter"]
    (line,) = [line for line in teller.look() if line[0] != "info"]
    assert line[1].startswith("module br_netfilter (not required) absent: ")


def test_what_harms_nothing_is_no_warning() -> None:
    teller = Teller("profiles: [lvs-full]")
    del teller.kernel.depends["ip_vs_twos"]
    assert {level for level, _ in teller.look()} == {"info"}


def test_a_problem_that_changes_is_told_again(teller: Teller) -> None:
    teller.kernel.contested[FORWARD] = "0"
    teller.kernel.values[FORWARD] = "0"
    assert teller.look()[0][1].startswith(f"sysctl {FORWARD} not kept: wrote '1', reads back '0'")
    teller.kernel.contested.clear()
    teller.kernel.refused[FORWARD] = 1
    assert "refused" in teller.look()[0][1]


def test_what_was_put_right_by_another_is_told(teller: Teller) -> None:
    teller.kernel.refused[FORWARD] = 1
    teller.kernel.values[FORWARD] = "0"
    teller.look()
    teller.kernel.values[FORWARD] = "1"
    assert teller.look() == [("info", f"{FORWARD} is right again: is '1'")]
