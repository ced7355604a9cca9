"""The log: every change by ipvsd and every problem once, and nothing in a steady state."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipvsd.decide.contention import Contention, Limit
from ipvsd.model.report import Attribution, Repair, Writer
from ipvsd.model.types import DesiredModule, DesiredSysctl, Exactly, LoadModule, Need, Outcome, Policy, WriteSysctl
from ipvsd.reconcile import changes
from ipvsd.reporting import messages
from ipvsd.reporting.messages import Line, describe
from ipvsd.runtime.event_loop import ReasonKind
from tests.fake_kernel import FORWARD
from tests.reconciling import Node

CONNTRACK = "net.ipv4.vs.conntrack"


class Teller(Node):
    """A node whose log lines of each round are examined."""

    def look(self, kind: ReasonKind = ReasonKind.SYSCTL) -> list[tuple[str, str]]:
        self.loop.now += 100.0
        self.round(kind, ago=0.0123)
        return [(line.level, line.text) for line in self.lines()]

    def lines(self) -> list[Line]:
        return list(describe(self.changes, self.reconciler.registry.contended()))


@pytest.fixture
def teller() -> Teller:
    """A node after its first round."""
    teller = Teller()
    teller.look()
    return teller


def test_the_first_reconciliation_logs_every_change_with_both_values() -> None:
    lines = Teller().look()
    assert ("info", f"wrote {FORWARD}: '1' (was '0')") in lines
    assert ("info", "loaded module ip_vs (was unloaded)") in Teller("profiles: []\nmodules: {ip_vs: {}}").look()
    assert {level for level, _ in lines} == {"info"}


def test_the_modules_of_a_cold_boot_are_one_line_with_all_names_in_a_field() -> None:
    teller = Teller("modules: {nf_conntrack: {parameters: {hashsize: 16384}}}")
    done = teller.round()
    lines = [line for line in teller.lines() if line.text.startswith("loaded ")]
    loads = [action for action in done.proved if isinstance(action, LoadModule)]
    first, second = lines
    told = "ip_vs, ip_vs_rr, ip_vs_wrr, ip_vs_sh, dummy, nf_conntrack_netlink"
    assert first.text == f"loaded {len(loads) - 1} modules: {told} and {len(loads) - 7} more"
    assert set(first.fields["MODULES"].split()) == {action.name for action in loads} - {"nf_conntrack"}
    assert second.text == "loaded module nf_conntrack with hashsize=16384 (was unloaded)"


def test_a_module_that_is_loaded_later_has_its_own_line(teller: Teller) -> None:
    teller.configure("modules: {ip_vs_ftp: {}}")
    assert [(line.level, line.text) for line in teller.lines()] == [("info", "loaded module ip_vs_ftp (was unloaded)")]


def test_each_unloaded_module_has_a_line_with_its_unloader(teller: Teller) -> None:
    for name in ("ip_vs_rr", "ip_vs_sh", "ip_vs_wrr", "ip_vs_lc"):
        teller.kernel.unload(name)
    lines = [text for _, text in teller.look()]
    assert len(lines) == 4
    assert all("; unloaded by an unknown process, repaired in " in text for text in lines)


def test_a_steady_state_logs_nothing(teller: Teller) -> None:
    assert teller.look() == []


def test_the_line_of_a_repair_contains_its_duration(teller: Teller) -> None:
    teller.kernel.values[FORWARD] = "0"
    assert teller.look() == [
        ("info", f"wrote {FORWARD}: '1' (was '0'); changed by an unknown process, repaired in 12.3 ms")
    ]


@pytest.mark.parametrize("name", ["ip_vs_sh", "br_netfilter (optional)"])
def test_a_problem_is_logged_once_as_a_warning_with_a_remedy(name: str) -> None:
    teller = Teller()
    del teller.kernel.depends[name.removesuffix(" (optional)")]
    ((level, text),) = [line for line in teller.look() if line[0] != "info"]
    assert (level, "apt install" in text) == ("warning", True)
    assert text.startswith(f"module {name}: absent: /lib/modules/")
    assert teller.look() == []


def test_a_harmless_finding_is_not_a_warning() -> None:
    teller = Teller("profiles: [lvs-full]")
    del teller.kernel.depends["ip_vs_twos"]
    assert {level for level, _ in teller.look()} == {"info"}


def test_a_changed_problem_is_logged_again(teller: Teller) -> None:
    teller.kernel.contested[CONNTRACK] = "0"
    teller.kernel.values[CONNTRACK] = "0"
    assert teller.look()[0][1].startswith(f"sysctl {CONNTRACK}: not kept: wrote '1', reads back '0'")
    teller.kernel.contested.clear()
    teller.kernel.refused[CONNTRACK] = 1
    assert "write failed" in teller.look()[0][1]


def test_a_problem_that_another_program_solved_is_logged(teller: Teller) -> None:
    teller.kernel.refused[FORWARD] = 1
    teller.kernel.values[FORWARD] = "0"
    teller.look()
    teller.kernel.values[FORWARD] = "1"
    assert teller.look() == [("info", f"{FORWARD} is compliant again: actual value '1'")]


# --- repairs ------------------------------------------------------------------------------

WRITE = WriteSysctl(FORWARD, "0", "1")
ITEM = DesiredSysctl(FORWARD, Exactly("1"), Policy.ENFORCE, required=True, origin="f:1")
MODULE = DesiredModule("ip_vs_sh", Need.REQUIRED, "f:1")
POD = Writer(42, "agent", "cri-containerd-x.scope", "ab" * 32, "0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9")
REPAIR = Repair(
    FORWARD, "0", "1", 1000.0, 0.0021, before="1", writer_text=str(POD), writer=POD, attribution=Attribution.CERTAIN
)
NOBODY = Repair(FORWARD, "0", "1", 1000.0, 0.0021, writer_text="the kernel", attribution=Attribution.LIKELY)
RMMOD = Writer(7, "rmmod")
UNLOADED = REPAIR._replace(
    name="ip_vs_sh", seconds=0.04, writer_text=str(RMMOD), writer=RMMOD, attribution=Attribution.LIKELY
)


@pytest.mark.parametrize("at_once", [True, False])
def test_the_line_of_a_repair_contains_the_writer_and_the_fields_that_other_tools_use(at_once: bool) -> None:
    (line,) = describe([changes.Repaired(ITEM, WRITE, REPAIR, at_once)])
    told = f"wrote {FORWARD}: '1' (was '0'); changed by agent[42] of pod {POD.pod}, repaired in 2.1 ms"
    assert line == Line("info", told, {
        "MESSAGE_ID": messages.REPAIRED, "SYSCTL": FORWARD, "OLDVALUE": "1", "NEWVALUE": "0", "OURVALUE": "1",
        "ATTRIBUTION": "certain", "WRITER_PID": "42", "OBJECT_COMM": "agent", "CONTAINER_ID_FULL": "ab" * 32,
        "OBJECT_SYSTEMD_UNIT": "cri-containerd-x.scope", "POD_UID": POD.pod,
    })  # fmt: skip


def test_an_unknown_property_of_the_writer_has_no_field() -> None:
    (line,) = describe([changes.Repaired(ITEM, WRITE, NOBODY)])
    assert line.text.endswith("; changed probably by the kernel, repaired in 2.1 ms")
    assert not [name for name in line.fields if name.startswith(("WRITER_", "OBJECT_", "CONTAINER_", "POD_"))]
    unnamed = REPAIR._replace(writer=Writer(0, "", unit="cron.service"))
    (line,) = describe([changes.Repaired(ITEM, WRITE, unnamed)])
    assert {name for name in line.fields if name.startswith("OBJECT_")} == {"OBJECT_SYSTEMD_UNIT"}


def test_the_reload_of_a_module_is_logged_with_its_unloader() -> None:
    (line,) = describe([changes.Repaired(MODULE, LoadModule("ip_vs_sh"), UNLOADED)])
    assert line.text == ("loaded module ip_vs_sh (was unloaded); unloaded probably by rmmod[7], repaired in 40.0 ms")
    assert (line.fields["MESSAGE_ID"], line.fields["MODULE"], line.fields["WRITER_PID"]) == (
        messages.RELOADED,
        "ip_vs_sh",
        "7",
    )


def test_many_drifts_of_one_item_are_one_line() -> None:
    *each, last = describe(
        [changes.Repaired(ITEM, WRITE, repair, at_once=True) for repair in [NOBODY] * 499 + [REPAIR]]
    )
    assert len(each) == 3
    assert last.text == f"{FORWARD} drifted and was repaired 500 times; last changed by {REPAIR.writer_text}"


@pytest.mark.parametrize(("at_once", "lines"), [(True, 5), (False, 4)], ids=["each by its event", "in one round"])
def test_drifts_of_several_items_have_a_line_each_except_for_those_of_a_pattern(at_once: bool, lines: int) -> None:
    names = [f"net.ipv4.conf.eth{number}.rp_filter" for number in range(5)]
    items = [ITEM._replace(key=name, pattern="net.ipv4.conf.*.rp_filter") for name in names]
    repaired = [changes.Repaired(item, WriteSysctl(item.key, "0", "1"), NOBODY, at_once) for item in items]
    found = list(describe(repaired))
    assert [line.fields.get("SYSCTL") for line in found][:3] == names[:3]
    assert len(found) == lines
    assert at_once or found[-1].text == "wrote 5 sysctls that match net.ipv4.conf.*.rp_filter; 5 of them had drifted"


@pytest.mark.parametrize("at_once", [True, False])
def test_repairs_of_a_contended_sysctl_are_not_logged(at_once: bool) -> None:
    assert list(describe([changes.Repaired(ITEM, WRITE, REPAIR, at_once)] * 9, {FORWARD})) == []


def test_a_change_that_is_only_counted_has_no_line() -> None:
    assert (
        list(
            describe(
                [changes.Drifted(ITEM), changes.RepairFailed(ITEM, Outcome(WRITE, "x")), changes.Overwritten(ITEM, 3)]
            )
        )
        == []
    )


# --- contention ---------------------------------------------------------------------------

LIMIT = Limit(10, 60.0, 300.0)


def test_contention_that_started_is_a_warning_with_the_rival_and_a_remedy() -> None:
    contention = Contention(conflicting_program="agent[42]", since=1.0, attribution=Attribution.LIKELY)
    (line,) = describe([changes.ContentionStarted(FORWARD, contention, LIMIT)])
    assert line.level == "warning"
    assert line.text.startswith(
        f"{FORWARD} is contended: repaired more than 10 times in 60 s, last changed probably by agent[42]; "
        "ipvsd writes the sysctl only once per resync ("
    )
    found = {"CONFLICTING_PROGRAM": "agent[42]", "ATTRIBUTION": "likely"}
    assert line.fields == {"MESSAGE_ID": messages.CONTENTION_STARTED, "SYSCTL": FORWARD, **found}
    (line,) = describe([changes.ContentionStarted(FORWARD, contention._replace(yielded=True), LIMIT)])
    assert line.text.endswith("by agent[42]; ipvsd leaves the sysctl to that program")  # without a remedy


def test_the_end_of_contention_and_the_loss_of_virtual_services_are_logged() -> None:
    ended, lost = describe([changes.ContentionEnded(FORWARD), changes.VirtualServicesLost("the IPVS table was lost")])
    fields = {"MESSAGE_ID": messages.CONTENTION_ENDED, "SYSCTL": FORWARD}
    assert ended == Line("info", f"{FORWARD} is no longer contended", fields)
    assert lost == Line("warning", "the IPVS table was lost", {"MESSAGE_ID": messages.VIRTUAL_SERVICES_LOST})


def test_every_kind_of_event_is_explained_in_the_catalog() -> None:
    catalog = (Path(__file__).parent.parent / "packaging/ipvsd.catalog").read_text()
    told = {line.removeprefix("-- ") for line in catalog.splitlines() if line.startswith("-- ")}
    ids = ("REPAIRED", "RELOADED", "CONTENTION_STARTED", "CONTENTION_ENDED", "VIRTUAL_SERVICES_LOST", "REFUSED")
    assert told == {getattr(messages, name) for name in ids}


# --- guarded sysctls ----------------------------------------------------------------------


@pytest.mark.parametrize(("times", "often"), [(1, "a write"), (7, "7 writes")])
def test_a_refused_write_is_a_warning_with_its_writer(times: int, often: str) -> None:
    (line,) = describe([changes.WriteRefused(FORWARD, "0", POD, times)])
    told = f"{FORWARD} is guarded: the kernel refused {often} of '0' by agent[42] of pod {POD.pod}"
    assert (line.level, line.text) == ("warning", told)
    assert (line.fields["SYSCTL"], line.fields["NEWVALUE"], line.fields["WRITER_PID"]) == (FORWARD, "0", "42")
