"""What came of each look, in every book: the log, the history, the counts, the fights and what is shown."""

from __future__ import annotations

import errno
import time
from collections.abc import Callable, Collection, Mapping
from pathlib import Path

import pytest

from ipvsd.config.parser import parse
from ipvsd.config.schema import Config
from ipvsd.decide.attribution import Evidence, Seen, Turned
from ipvsd.decide.backoff import History
from ipvsd.decide.contention import Fights, Limit
from ipvsd.model.report import Attribution, Writer
from ipvsd.model.types import LoadModule, Reading, SysctlVerdict, WriteSysctl
from ipvsd.reconcile.reconciler import Reconciled, reconcile
from ipvsd.reporting.operation_failures import OwnFailures
from ipvsd.reporting.recorder import SHOWN_REPAIRS, Books
from ipvsd.state import repair_history
from tests.fake_kernel import FORWARD, FakeKernel

Log = pytest.CaptureFixture[str]
LIMIT = Limit(repairs=3, window=30.0, quiet=100.0)
AGENT = Writer(7, "agent", "agent.service")
OTHER = Writer(8, "other")
PATTERN = "net.ipv4.conf.*.arp_ignore"


class Node:
    """A daemon's books on a fake kernel, without the daemon."""

    def __init__(self, tree: Path, text: str = "profiles: []\nsysctls: {net.ipv4.ip_forward: 1}") -> None:
        (tree / "run/ipvsd").mkdir(parents=True, exist_ok=True)
        self.tree, self.kernel, self.books = tree, FakeKernel(), Books(str(tree), OwnFailures())
        self.config: Config = parse([("f", text.encode())])
        self.ago = 0.0  # seconds since what is seen was heard of
        self.evidence = Evidence(lambda: time.monotonic() - self.ago)
        self.history: History = {}
        self.fights = Fights(LIMIT)

    def look(
        self,
        *at_once: Turned,
        periodic: bool = False,
        watched: Collection[str] = (FORWARD,),
        meanwhile: Callable[[object], None] = lambda _: None,
    ) -> Reconciled:
        now = time.monotonic()
        done = reconcile(self.kernel, self.config, self.history, lambda: now, self.fights, periodic, meanwhile)
        self.history = done.history
        self.books.enter(done, at_once, now, self.evidence, watched, self.fights)
        self.fights = self.books.fights
        return done

    def seen(self, value: str = "0", ago: float = 0.0, writer: Writer = AGENT, ours: bool = True) -> None:
        self.ago = ago
        self.evidence.add(FORWARD, Seen(value, writer, "1", time.monotonic() - ago, ours))

    def drift(self) -> Reconciled:
        self.kernel.values[FORWARD] = "0"
        return self.look()


@pytest.fixture
def node(tmp_path: Path, capsys: Log) -> Node:
    """A node after its first look."""
    (tmp_path / "run/ipvsd").mkdir(parents=True)
    node = Node(tmp_path)
    node.look(periodic=True)
    capsys.readouterr()
    return node


def said(capsys: Log) -> list[str]:
    return [line.removeprefix("ipvsd: ") for line in capsys.readouterr().err.splitlines()]


def turned(number: int = 1, seen: Seen | None = None) -> list[Turned]:
    return [Turned(WriteSysctl(FORWARD, "0", "1"), 10.0, 10.001, 10.002, seen)] * number


def test_a_look_at_which_nothing_happened_enters_nothing(node: Node, capsys: Log) -> None:
    node.look()
    assert (said(capsys), node.books.repairs, repair_history.read(str(node.tree)).repairs) == ([], (), [])


def test_a_repair_of_a_look_is_attributed_in_every_book(node: Node, capsys: Log) -> None:
    node.seen()
    node.drift()
    (line,) = said(capsys)
    assert "; changed by agent[7] of agent.service, repaired in " in line
    (repair,) = node.books.repairs
    assert (repair.before, repair.who, repair.writer) == ("1", "agent[7] of agent.service", AGENT)
    assert repair.attribution is Attribution.CERTAIN
    (kept,) = repair_history.read(str(node.tree)).repairs
    assert (kept["name"], kept["who"], kept["attribution"]) == (FORWARD, repair.who, "certain")
    assert node.books.tally.repairs == {FORWARD: 1}


def test_what_was_turned_back_at_once_is_attributed_in_every_book(node: Node, capsys: Log) -> None:
    node.seen("0", writer=OTHER)  # by now another one has written
    node.look(*turned(seen=Seen("0", AGENT, "1", 10.0)))
    assert said(capsys) == [
        f"wrote {FORWARD}: found '0', wanted '1'; changed probably by agent[7] of agent.service, repaired in 2.0 ms"
    ]
    (repair,) = node.books.repairs
    assert (repair.who, repair.writer) == ("agent[7] of agent.service", AGENT)
    assert repair_history.read(str(node.tree)).repairs[0]["who"] == repair.who
    assert (node.books.tally.drifts, node.books.tally.repairs) == ({FORWARD: 1}, {FORWARD: 1})


def test_of_several_who_may_have_written_elsewhere_none_is_blamed(node: Node, capsys: Log) -> None:
    for writer in (AGENT, OTHER):
        node.seen(writer=writer, ours=False)
    node.drift()
    assert "; changed by unknown, repaired in " in said(capsys)[0]
    (repair,) = node.books.repairs
    assert (repair.who, repair.writer, repair.attribution) == ("unknown", None, Attribution.UNKNOWN)
    assert repair_history.read(str(node.tree)).repairs[0]["attribution"] == "unknown"
    assert node.books.fights.by_name[FORWARD].rival == "an unknown writer"


@pytest.mark.parametrize(("watched", "who"), [([FORWARD], "the kernel"), (["net.ipv4.vs.conntrack"], "unknown")])
def test_what_no_process_was_seen_to_do(node: Node, watched: Collection[str], who: str) -> None:
    node.look(*turned(), watched=watched)
    assert node.books.repairs[-1].who == who


def test_an_unloading_that_was_not_seen_is_nobodys(node: Node) -> None:
    node.look(Turned(LoadModule("ip_vs"), 10.0, 10.01, 10.04), watched=["ip_vs"])
    assert node.books.repairs[-1].who == "unknown"


def test_what_was_told_is_heard_while_it_is_still_wrong(node: Node) -> None:
    heard: list[str] = []
    node.kernel.values[FORWARD] = "0"
    for _ in range(2):
        reconcile(
            node.kernel,
            node.config,
            {},
            time.monotonic,
            meanwhile=lambda _: heard.append(node.kernel.values[FORWARD]),
        )
    assert heard == ["0"]


def test_who_wrote_the_same_after_it_was_found_is_not_blamed(node: Node) -> None:
    node.kernel.values[FORWARD] = "0"
    node.seen()
    node.look(meanwhile=lambda _: node.seen(writer=OTHER))
    assert node.books.repairs[-1].writer == AGENT


def test_who_wrote_another_value_is_not_blamed(node: Node) -> None:
    node.seen("2")
    node.drift()
    assert node.books.repairs[-1].who == "the kernel"


def test_who_made_one_drift_is_not_blamed_for_a_later_one(node: Node) -> None:
    node.seen(ago=10.0)
    node.drift()
    node.drift()
    assert [repair.who for repair in node.books.repairs] == ["agent[7] of agent.service", "the kernel"]


def test_who_wrote_while_it_was_not_to_be_repaired_is_not_forgotten(node: Node) -> None:
    node.kernel.refused[FORWARD] = errno.EPERM
    node.seen(ago=10.0)
    node.drift()
    node.kernel.refused.clear()
    node.history = {}
    node.look()
    assert node.books.repairs[-1].who == "agent[7] of agent.service"


def test_many_drifts_of_one_thing_are_told_as_one_and_all_counted(node: Node, capsys: Log) -> None:
    node.look(*turned(500))
    lines = said(capsys)
    assert (len(lines), lines[-1]) == (
        4, f"{FORWARD} drifted 500 times in all, last changed probably by the kernel, and was repaired",
    )  # fmt: skip
    assert node.books.tally.repairs == {FORWARD: 500}
    assert (len(node.books.repairs), len(repair_history.read(str(node.tree)).repairs)) == (
        SHOWN_REPAIRS,
        repair_history.KEPT,
    )


def test_a_history_that_cannot_be_written_stops_nothing_and_is_told_once(node: Node, capsys: Log) -> None:
    (node.tree / "run/ipvsd").rmdir()
    for _ in range(2):
        node.drift()
    lines = said(capsys)
    assert [line for line in lines if "history" in line] == [
        f"warning: cannot write the history: {node.tree}/run/ipvsd: No such file or directory "
        "(ipvsd tries again by itself)"
    ]
    assert (len(lines), len(node.books.repairs)) == (3, 2)
    (node.tree / "run/ipvsd").mkdir()
    node.look()
    assert "ipvsd can write the history again" in said(capsys)
    assert len(repair_history.read(str(node.tree)).repairs) == 2


# --- fights -----------------------------------------------------------------------------


def test_a_fight_is_told_once_with_the_rival_and_then_left_alone(node: Node, capsys: Log) -> None:
    for _ in range(LIMIT.repairs):
        node.seen()
        node.drift()
    assert len(said(capsys)) == LIMIT.repairs
    node.seen()
    node.drift()
    (line,) = said(capsys)
    assert line.startswith(f"warning: {FORWARD} is contended: changed more than 3 times in 30 s, last by agent[7]")
    assert [(item.name, item.rival, item.yielded, item.attribution) for item in node.books.contended()] == [
        (FORWARD, "agent[7] of agent.service", False, Attribution.CERTAIN)
    ]
    (finding,) = node.drift().after.sysctls
    assert (node.kernel.values[FORWARD], finding.verdict, said(capsys)) == ("0", SysctlVerdict.CONTENDED, [])


def test_a_periodic_look_writes_what_is_fought_over_in_silence(node: Node, capsys: Log) -> None:
    for _ in range(LIMIT.repairs + 1):
        node.drift()
    node.drift()
    capsys.readouterr()
    node.look(periodic=True)
    assert (node.kernel.values[FORWARD], said(capsys)) == ("1", [])
    assert len(node.books.contended()) == 1


def test_the_rival_of_what_is_no_longer_watched_stays_the_one_that_was_seen(node: Node) -> None:
    for _ in range(LIMIT.repairs + 1):
        node.seen(ago=10.0)
        node.drift()
    node.kernel.values[FORWARD] = "0"
    node.look(periodic=True, watched=())
    assert node.books.repairs[-1].who == "unknown"
    assert [item.rival for item in node.books.contended()] == ["agent[7] of agent.service"]


def test_a_fight_that_a_reload_ended_is_told(node: Node, capsys: Log) -> None:
    for _ in range(LIMIT.repairs + 1):
        node.drift()
    capsys.readouterr()
    node.fights = Fights(LIMIT)
    node.look()
    assert said(capsys) == [f"{FORWARD} is contended no more"]


def test_what_is_to_yield_is_left_to_the_other_for_good(tmp_path: Path, capsys: Log) -> None:
    node = Node(tmp_path, "profiles: []\nsysctls: {net.ipv4.ip_forward: {value: 1, policy: yield}}")
    for _ in range(LIMIT.repairs + 2):
        node.drift()
    node.drift()
    (finding,) = node.look(periodic=True).after.sysctls
    assert (node.kernel.values[FORWARD], finding.verdict) == ("0", SysctlVerdict.YIELDED)
    assert node.books.contended()[0].yielded


class Overwriting(FakeKernel):
    """A rival writes over ours, but not before it was read back."""

    def read_sysctl(self, key: str) -> Reading:
        reading = super().read_sysctl(key)
        if reading == "1":
            self.values[key] = "0"
        return reading


def test_a_value_that_is_written_over_again_and_again_is_a_fight(node: Node, capsys: Log) -> None:
    node.kernel = Overwriting()
    for _ in range(2):  # in each of which it is undone more than once
        node.look()
    assert any(f"{FORWARD} is contended" in line and "an unknown writer" in line for line in said(capsys))
    assert node.books.tally.repair_failures == {}


def test_who_writes_over_a_value_again_and_again_is_named_as_the_rival(node: Node) -> None:
    node.kernel = Overwriting()
    node.look(meanwhile=lambda _: node.seen())
    assert node.books.fights.by_name[FORWARD].rival == "agent[7] of agent.service"


class Vanishing(FakeKernel):
    """An interface goes away as soon as its sysctl was written."""

    gone = ""

    def write_sysctl(self, key: str, value: str) -> None:
        super().write_sysctl(key, value)
        self.gone = key

    def expand(self, patterns: Collection[str]) -> Mapping[str, Collection[str]]:
        self.values.pop(self.gone, None)
        return super().expand(patterns)


def test_an_interface_that_goes_away_after_the_write_is_no_fight(tmp_path: Path) -> None:
    node = Node(tmp_path, f"profiles: []\nsysctls: {{{PATTERN}: 1}}")
    node.kernel = Vanishing()
    node.kernel.values = {"net.ipv4.conf.eth0.arp_ignore": "0"}
    node.look()
    assert node.books.fights.by_name == {}


def test_what_the_kernel_refuses_is_a_failure_and_no_fight(node: Node) -> None:
    node.kernel.refused[FORWARD] = errno.EPERM
    for _ in range(LIMIT.repairs + 2):
        node.drift()
        node.history = {}
    assert node.books.fights.by_name == {}
    assert node.books.tally.repair_failures == {FORWARD: LIMIT.repairs + 2}


def test_what_is_on_its_way_out_is_told_once_and_when_it_is_back(tmp_path: Path, capsys: Log) -> None:
    node = Node(tmp_path, "profiles: []\nmodules: {ip_vs_sh: {}}")
    node.look()
    node.kernel.unload("ip_vs_sh", looks=20)
    capsys.readouterr()
    looks = 1
    while node.look().unsettled:
        looks += 1
    assert looks > 2
    told, back, *more = said(capsys)
    assert told.startswith("warning: module ip_vs_sh unloading: ")
    assert (back.startswith("loaded module ip_vs_sh: "), more) == (True, [])


def test_of_two_on_their_way_out_each_is_told_once(tmp_path: Path, capsys: Log) -> None:
    node = Node(tmp_path, "profiles: []\nmodules: {ip_vs_sh: {}, ip_vs_rr: {}}")
    node.look()
    node.kernel.unload("ip_vs_sh", looks=8)
    node.kernel.unload("ip_vs_rr", looks=20)
    capsys.readouterr()
    while node.look().unsettled:
        pass
    lines = [line.partition(": ")[0] if line.startswith("loaded") else line.split(": ")[1] for line in said(capsys)]
    assert sorted(lines) == [
        "loaded module ip_vs_rr",
        "loaded module ip_vs_sh",
        "module ip_vs_rr unloading",
        "module ip_vs_sh unloading",
    ]


def test_what_goes_wrong_twice_while_a_module_is_on_its_way_is_told_twice(tmp_path: Path, capsys: Log) -> None:
    node = Node(tmp_path, "modules: {ip_vs_sh: {}}\nsysctls: {net.ipv4.ip_forward: {value: 1, policy: observe}}")
    node.kernel.values[FORWARD] = "1"
    node.look()
    node.kernel.unload("ip_vs_sh", looks=1000)
    for value in ("0", "1", "1", "0"):
        node.kernel.values[FORWARD] = value
        assert node.look().unsettled
    told = [line.partition(": ")[0] for line in said(capsys) if f" {FORWARD} " in f" {line}"]
    assert told == ["warning", f"{FORWARD} is right again", "warning"]


class Rival(FakeKernel):
    """A kernel on which another program writes after every read."""

    def read_sysctl(self, key: str) -> Reading:
        found = super().read_sysctl(key)
        if key == FORWARD:
            self.values[key] = "0"
        return found


def test_what_is_changed_again_while_it_is_repaired_is_not_yet_told(tmp_path: Path, capsys: Log) -> None:
    node = Node(tmp_path)
    node.look()
    capsys.readouterr()
    node.kernel = Rival(values=dict(node.kernel.values))
    node.look()
    assert node.look().unsettled
    assert [line for line in said(capsys) if " wrong: " in line] == []
    node.kernel = FakeKernel(values=dict(node.kernel.values))
    node.look()
    assert [line for line in said(capsys) if "is right again" in line] == []
