"""The log: every change that we made, every problem once, and nothing in a steady state."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipvsd.config.parser import parse
from ipvsd.config.schema import Config
from ipvsd.decide.backoff import History
from ipvsd.decide.contention import Fight, Limit
from ipvsd.model.report import Attribution, Repair, Writer
from ipvsd.model.types import Action, Finding, LoadModule, WriteSysctl
from ipvsd.reconcile.reconciler import reconcile
from ipvsd.reporting.counters import Ledger
from ipvsd.reporting.messages import (
    FIGHT,
    PEACE,
    REFUSED,
    RELOADED,
    REPAIRED,
    TABLE_LOST,
    Line,
    fought,
    narrate,
    refused,
    told_of,
    turned,
)
from tests.fake_kernel import FORWARD, FakeKernel

CONNTRACK = "net.ipv4.vs.conntrack"


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
        lines = [(line.level, line.text) for line in narrate(self.told, told_of(self.told, done), done, repairs)]
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
    assert ("info", "loaded module ip_vs: found not loaded, wanted live") in Teller(
        "profiles: []\nmodules: {ip_vs: {}}"
    ).look()
    assert {level for level, _ in lines} == {"info"}


def test_the_modules_of_a_cold_boot_are_told_in_one_line_with_all_of_them_as_a_field() -> None:
    teller = Teller("modules: {nf_conntrack: {parameters: {hashsize: 16384}}}")
    done = reconcile(teller.kernel, teller.config, {}, lambda: 0.0)
    lines = [line for line in narrate((), told_of((), done), done, ()) if line.text.startswith("loaded ")]
    loads = [action for action in done.proved if isinstance(action, LoadModule)]
    first, second = lines
    assert first.text == (
        f"loaded {len(loads) - 1} modules: ip_vs, ip_vs_rr, ip_vs_wrr, ip_vs_sh, dummy, nf_conntrack_netlink and "
        f"{len(loads) - 7} more"
    )
    assert set(first.fields["MODULES"].split()) == {action.name for action in loads} - {"nf_conntrack"}
    assert second.text == "loaded module nf_conntrack: found not loaded, wanted live with hashsize=16384"


def test_a_module_that_is_loaded_later_has_its_own_line(teller: Teller) -> None:
    teller.config = parse([("f", b"modules: {ip_vs_ftp: {}}")])
    assert teller.look() == [("info", "loaded module ip_vs_ftp: found not loaded, wanted live")]


def test_modules_that_were_unloaded_have_a_line_each_with_who_did_it(teller: Teller) -> None:
    for name in ("ip_vs_rr", "ip_vs_sh", "ip_vs_wrr", "ip_vs_lc"):
        teller.kernel.unload(name)
    lines = [text for _, text in teller.look()]
    assert len(lines) == 4
    assert all("; unloaded by unknown, repaired in " in text for text in lines)


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
    teller.kernel.contested[CONNTRACK] = "0"
    teller.kernel.values[CONNTRACK] = "0"
    assert teller.look()[0][1].startswith(f"sysctl {CONNTRACK} not kept: wrote '1', reads back '0'")
    teller.kernel.contested.clear()
    teller.kernel.refused[CONNTRACK] = 1
    assert "refused" in teller.look()[0][1]


def test_what_was_put_right_by_another_is_told(teller: Teller) -> None:
    teller.kernel.refused[FORWARD] = 1
    teller.kernel.values[FORWARD] = "0"
    teller.look()
    teller.kernel.values[FORWARD] = "1"
    assert teller.look() == [("info", f"{FORWARD} is right again: is '1'")]


# --- what was turned back between two looks -----------------------------------------------

WRITE = WriteSysctl(FORWARD, "0", "1")
POD = Writer(42, "agent", "cri-containerd-x.scope", "ab" * 32, "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
REPAIR = Repair(
    FORWARD, "0", "1", 1000.0, 0.0021, before="1", who=str(POD), writer=POD, attribution=Attribution.CERTAIN
)
NOBODY = Repair(FORWARD, "0", "1", 1000.0, 0.0021, who="the kernel", attribution=Attribution.LIKELY)
UNLOADED = Repair(
    "ip_vs_sh",
    "unloaded",
    "live",
    1000.0,
    0.04,
    who="rmmod[7]",
    writer=Writer(7, "rmmod"),
    attribution=Attribution.LIKELY,
)


def test_a_repair_tells_who_made_the_drift() -> None:
    (line,) = turned([WRITE], [REPAIR])
    assert (line.level, line.text) == (
        "info",
        f"wrote {FORWARD}: found '0', wanted '1'; changed by agent[42] of pod {POD.pod}, repaired in 2.1 ms",
    )


def test_the_fields_of_a_repair_are_those_that_other_tools_use() -> None:
    (line,) = turned([WRITE], [REPAIR])
    assert line.fields == {
        "MESSAGE_ID": REPAIRED,
        "SYSCTL": FORWARD,
        "OLDVALUE": "1",
        "NEWVALUE": "0",
        "OURVALUE": "1",
        "ATTRIBUTION": "certain",
        "WRITER_PID": "42",
        "OBJECT_COMM": "agent",
        "OBJECT_SYSTEMD_UNIT": "cri-containerd-x.scope",
        "CONTAINER_ID_FULL": "ab" * 32,
        "POD_UID": POD.pod,
    }


def test_what_is_not_known_of_the_writer_has_no_field() -> None:
    (line,) = turned([WRITE], [NOBODY])
    assert line.text.endswith("; changed probably by the kernel, repaired in 2.1 ms")
    assert not [name for name in line.fields if name.startswith(("WRITER_", "OBJECT_", "CONTAINER_", "POD_"))]
    unnamed = REPAIR._replace(writer=Writer(0, "", unit="cron.service"))
    (line,) = turned([WRITE], [unnamed])
    assert {name for name in line.fields if name.startswith("OBJECT_")} == {"OBJECT_SYSTEMD_UNIT"}


def test_a_module_that_was_unloaded_is_told_with_who_did_it() -> None:
    (line,) = turned([LoadModule("ip_vs_sh")], [UNLOADED])
    assert line.text == (
        "loaded module ip_vs_sh: found not loaded, wanted live; unloaded probably by rmmod[7], repaired in 40.0 ms"
    )
    assert (line.fields["MESSAGE_ID"], line.fields["MODULE"], line.fields["WRITER_PID"]) == (RELOADED, "ip_vs_sh", "7")


def test_a_repair_of_a_look_has_the_same_fields(teller: Teller) -> None:
    teller.kernel.values[FORWARD] = "0"
    done = reconcile(teller.kernel, teller.config, teller.history, lambda: 0.0)
    (line,) = narrate(teller.told, told_of(teller.told, done), done, [REPAIR])
    assert [line] == list(turned([WRITE], [REPAIR]))


def test_many_drifts_of_one_thing_are_told_as_one() -> None:
    actions: list[Action] = [WRITE] * 500
    *each, last = turned(actions, [NOBODY] * 499 + [REPAIR])
    assert len(each) == 3
    assert last.text == f"{FORWARD} drifted 500 times in all, last changed by {REPAIR.who}, and was repaired"


def test_drifts_of_several_things_are_told_each() -> None:
    others = [f"net.ipv4.conf.eth{number}.rp_filter" for number in range(5)]
    actions = [WriteSysctl(name, "0", "1") for name in others]
    lines = list(turned(actions, [NOBODY._replace(name=name) for name in others]))
    assert [line.fields["SYSCTL"] for line in lines] == others


def test_of_what_is_fought_over_no_repair_is_told() -> None:
    assert list(turned([WRITE] * 9, [REPAIR] * 9, {FORWARD})) == []


# --- fights -----------------------------------------------------------------------------

LIMIT = Limit(10, 60.0, 300.0)


def test_a_fight_that_began_is_a_warning_with_the_rival_and_a_remedy() -> None:
    (line,) = fought({}, {FORWARD: Fight(rival="agent[42]", since=1.0, attribution=Attribution.LIKELY)}, LIMIT)
    assert line.level == "warning"
    assert line.text.startswith(
        f"{FORWARD} is contended: changed more than 10 times in 60 s, last probably by agent[42]; "
        "from now on written at periodic looks only ("
    )
    assert line.fields == {"MESSAGE_ID": FIGHT, "SYSCTL": FORWARD, "RIVAL": "agent[42]", "ATTRIBUTION": "likely"}


def test_what_is_yielded_says_so_and_needs_no_remedy() -> None:
    (line,) = fought({}, {FORWARD: Fight(rival="agent[42]", since=1.0, yielded=True)}, LIMIT)
    assert line.text.endswith("last by agent[42]; left to it for good")


def test_a_fight_that_goes_on_is_not_told_again() -> None:
    fight = Fight(rival="agent[42]", since=1.0)
    assert list(fought({FORWARD: fight}, {FORWARD: fight._replace(level=99.0)}, LIMIT)) == []


def test_a_fight_that_is_over_is_told() -> None:
    (line,) = fought({FORWARD: Fight(since=1.0)}, {}, LIMIT)
    assert line == Line("info", f"{FORWARD} is contended no more", {"MESSAGE_ID": PEACE, "SYSCTL": FORWARD})


def test_every_kind_of_event_is_explained_in_the_catalog() -> None:
    catalog = (Path(__file__).parent.parent / "packaging/ipvsd.catalog").read_text()
    told = {line.removeprefix("-- ") for line in catalog.splitlines() if line.startswith("-- ")}
    assert told == {REPAIRED, RELOADED, FIGHT, PEACE, TABLE_LOST, REFUSED}


# --- what is guarded ----------------------------------------------------------------------


@pytest.mark.parametrize(("times", "often"), [(1, ""), (7, ", 7 times")])
def test_a_write_that_was_refused_is_a_warning_with_who_tried(times: int, often: str) -> None:
    line = refused(FORWARD, "0", POD, times)
    assert (line.level, line.text) == (
        "warning",
        f"{FORWARD} is guarded: writing '0' was refused to agent[42] of pod {POD.pod}{often}",
    )
    assert (line.fields["SYSCTL"], line.fields["NEWVALUE"], line.fields["WRITER_PID"]) == (FORWARD, "0", "42")
