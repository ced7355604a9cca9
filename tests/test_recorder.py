"""The changes of each round in the log, the history, the counters and the reports."""

from __future__ import annotations

import errno
import re
import signal
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any

import pytest

from ipvsd.model.events import Event, Write
from ipvsd.model.report import Attribution, Writer
from ipvsd.model.types import Reading
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reconcile.changes import Overwritten
from ipvsd.reconcile.rounds import ReconcileResult
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.reporting.recorder import SHOWN_REPAIRS, Recorder
from ipvsd.runtime.event_loop import ReasonKind
from ipvsd.state import repair_history
from tests.asking import said
from tests.fake_kernel import FORWARD, FakeKernel
from tests.reconciling import AGENT, FORWARDING, PEACE, SYSCTL, Node
from tests.service import MAIN, QUIET, STATUS, Service, Until
from tests.trees import put

Log = pytest.CaptureFixture[str]
REPAIRS = 3  # fewer than contention
LIMITED = "\ncontention: {repairs: 3, window: 30s, quiet: 100s}"
PATTERN = "net.ipv4.conf.*.arp_ignore"


class RecordedNode(Node):
    """A node with the daemon's recorder."""

    def __init__(
        self, tree: Path, text: str = FORWARDING, kernel: FakeKernel | None = None, limit: str = LIMITED
    ) -> None:
        super().__init__(text, kernel, limit)
        (tree / "run/ipvsd").mkdir(parents=True, exist_ok=True)
        self.tree, self.recorder = tree, Recorder(str(tree), OperationFailures())
        self.sources.complete = (FORWARD,)

    def round(self, kind: ReasonKind = ReasonKind.SYSCTL, ago: float = 0.0) -> ReconcileResult:
        done = super().round(kind, ago)
        self.recorder.record(self.changes, self.reconciler.registry.contended())
        return done

    def lose(self, ago: float = 0.0) -> ReconcileResult:
        """Change ip_forward, and reconcile."""
        self.kernel.values[FORWARD] = "0"
        return self.round(ago=ago)

    def record(self, value: str = "0", writer: Writer = AGENT, ours: bool = True) -> None:
        """Report a write that causes no immediate repair."""
        self.sources.undelivered.append(self.write(value, writer, ours=ours))

    def repairs(self) -> list[Any]:
        """Return the history."""
        return repair_history.read(str(self.tree)).repairs


@pytest.fixture
def node(tmp_path: Path, capsys: Log) -> RecordedNode:
    """A node after its first round."""
    node = RecordedNode(tmp_path)
    node.round(ReasonKind.START)
    capsys.readouterr()
    return node


def test_a_round_in_which_nothing_happened_records_nothing(node: RecordedNode, capsys: Log) -> None:
    node.round()
    assert (said(capsys), node.recorder.repairs, node.repairs()) == ([], (), [])


def test_a_repair_of_a_round_is_attributed_everywhere(node: RecordedNode, capsys: Log) -> None:
    node.record()
    node.lose()
    (line,) = said(capsys)
    assert "; changed by agent[7] of agent.service, repaired in " in line
    (repair,) = node.recorder.repairs
    assert (repair.before, repair.writer_text, repair.writer) == ("1", "agent[7] of agent.service", AGENT)
    assert repair.attribution is Attribution.CERTAIN
    (kept,) = node.repairs()
    assert (kept["name"], kept["writer_text"], kept["attribution"]) == (FORWARD, repair.writer_text, "certain")
    assert node.recorder.counters.values.repairs == {FORWARD: 1}


def test_a_repair_at_once_is_attributed_everywhere(node: RecordedNode, capsys: Log) -> None:
    node.written(ours=False)
    node.loop.wait(0.002)
    node.kernel.values[FORWARD] = "0"
    node.loop.wait(0.1)
    node.written(writer=SYSCTL)  # now another program writes
    node.round()
    told = "changed probably by agent[7] of agent.service, repaired in 3.5 ms"
    assert said(capsys) == [f"wrote {FORWARD}: '1' (was '0'); {told}"]
    (repair,) = node.recorder.repairs
    assert (repair.writer_text, repair.writer) == ("agent[7] of agent.service", AGENT)
    assert node.repairs()[0]["writer_text"] == repair.writer_text
    values = node.recorder.counters.values
    assert (values.drifts, values.repairs) == ({FORWARD: 1}, {FORWARD: 1})


def test_drift_does_not_wait_until_many_repairs_are_recorded(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, limit=PEACE)
    node.round(ReasonKind.START)
    assert all(node.drift() for _ in range(64))
    Node.round(node)
    recorded_before: list[int] = []

    def meanwhile() -> None:
        recorded_before.append(len(node.repairs()))
        assert node.drift()
        assert node.kernel.values[FORWARD] == "1"

    node.recorder.record(node.changes, (), meanwhile)
    assert (len(recorded_before) > 4, set(recorded_before), len(node.repairs())) == (True, {0}, 64)


@pytest.mark.parametrize("event", [True, False])
@pytest.mark.parametrize(("complete", "who"), [([FORWARD], "the kernel"), (["net.ipv4.vs.conntrack"], "unknown")])
def test_a_drift_without_a_recorded_write(node: RecordedNode, complete: Collection[str], who: str, event: bool) -> None:
    node.sources.complete = complete
    if event:
        node.drift()
    node.lose()
    assert {repair.writer_text for repair in node.recorder.repairs} == {who}


def test_an_unrecorded_unloading_is_not_attributed(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, "profiles: []\nmodules: {ip_vs_sh: {}}")
    node.round()
    node.sources.complete = ("ip_vs_sh",)
    node.kernel.unload("ip_vs_sh")
    assert node.event("ip_vs_sh")
    node.round()
    assert node.recorder.repairs[-1].writer_text == "unknown"


def test_the_sources_are_drained_while_the_item_is_not_compliant(node: RecordedNode) -> None:
    values: list[str] = []

    def writes() -> list[Write]:
        values.append(node.kernel.values[FORWARD])
        return []

    node.sources.undelivered = [Event(FORWARD, node.loop.now, stored=False, writes=writes)]
    node.lose()
    assert values == ["0"]


def test_a_writer_of_the_same_value_after_the_read_is_not_the_cause(node: RecordedNode) -> None:
    node.record()
    after = node.write(writer=SYSCTL)
    later = [after.writes()[0]._replace(at=node.loop.now + 0.001)]
    node.sources.undelivered.append(after._replace(writes=later.copy))
    node.lose()
    assert node.recorder.repairs[-1].writer == AGENT


def test_the_cause_of_one_drift_is_not_the_cause_of_a_later_one(node: RecordedNode) -> None:
    node.record(ours=False)
    node.lose()
    node.loop.now += 10.0
    node.lose()
    assert [repair.writer_text for repair in node.recorder.repairs] == ["agent[7] of agent.service", "the kernel"]


def test_a_write_during_back_off_is_remembered(node: RecordedNode) -> None:
    node.kernel.refused[FORWARD] = errno.EPERM
    node.record()
    node.lose()
    node.kernel.refused.clear()
    node.loop.now += 10.0
    node.round()
    assert node.recorder.repairs[-1].writer_text == "agent[7] of agent.service"


def test_many_drifts_of_one_item_are_one_line_and_all_counted(tmp_path: Path, capsys: Log) -> None:
    node = RecordedNode(tmp_path, limit=PEACE)
    node.sources.complete = ()
    node.round()
    said(capsys)
    for _ in range(500):
        node.drift()
    node.round()
    lines = said(capsys)
    told = f"{FORWARD} drifted and was repaired 500 times; last changed by an unknown process"
    assert (len(lines), lines[-1]) == (4, told)
    assert node.recorder.counters.values.repairs == {FORWARD: 500}
    assert (len(node.recorder.repairs), len(node.repairs())) == (SHOWN_REPAIRS, repair_history.MAX_REPAIRS)


def test_a_history_that_cannot_be_written_stops_nothing_and_is_logged_once(node: RecordedNode, capsys: Log) -> None:
    (node.tree / "run/ipvsd").rmdir()
    for _ in range(2):
        node.lose()
    lines = said(capsys)
    assert [line for line in lines if "history" in line] == [
        f"warning: cannot write the history: {node.tree}/run/ipvsd: No such file or directory (ipvsd retries)"
    ]
    assert (len(lines), len(node.recorder.repairs)) == (3, 2)
    (node.tree / "run/ipvsd").mkdir()
    node.round()
    assert "ipvsd can write the history again" in said(capsys)
    assert len(node.repairs()) == 2


# --- contention ---------------------------------------------------------------------------


def contended(node: RecordedNode) -> list[tuple[str, bool, Attribution]]:
    items = node.reconciler.registry.contended().values()
    return [(item.conflicting_program, item.yielded, item.attribution) for item in items]


def test_contention_is_logged_once_with_the_program_and_then_ignored(node: RecordedNode, capsys: Log) -> None:
    for _ in range(REPAIRS):
        node.record()
        node.lose()
    assert len(said(capsys)) == REPAIRS
    node.record()
    node.lose()
    (line,) = said(capsys)
    told = f"{FORWARD} is contended: repaired more than 3 times in 30 s, last changed by agent[7]"
    assert line.startswith(f"warning: {told}")
    assert contended(node) == [("agent[7] of agent.service", False, Attribution.CERTAIN)]
    (finding,) = node.lose().after.sysctls
    assert (node.kernel.values[FORWARD], finding.verdict, said(capsys)) == ("0", SysctlVerdict.CONTENDED, [])


def test_a_resync_writes_a_contended_sysctl_without_a_log_line(node: RecordedNode, capsys: Log) -> None:
    for _ in range(REPAIRS + 2):
        node.lose()
    capsys.readouterr()
    node.round(ReasonKind.RESYNC)
    assert (node.kernel.values[FORWARD], said(capsys), len(contended(node))) == ("1", [], 1)


def test_the_conflicting_program_of_an_unmonitored_sysctl_stays_the_last_known_one(node: RecordedNode) -> None:
    for _ in range(REPAIRS + 1):
        node.record()
        node.lose()
    node.sources.complete = ()
    node.loop.now += 10.0
    node.round()
    node.kernel.values[FORWARD] = "0"
    node.round(ReasonKind.RESYNC)
    assert node.recorder.repairs[-1].writer_text == "unknown"
    assert [rival for rival, _, _ in contended(node)] == ["agent[7] of agent.service"]


def test_a_sysctl_with_the_policy_yield_is_left_to_the_other_program(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, "profiles: []\nsysctls: {net.ipv4.ip_forward: {value: 1, policy: yield}}")
    for _ in range(REPAIRS + 3):
        node.lose()
    (finding,) = node.round(ReasonKind.RESYNC).after.sysctls
    assert (node.kernel.values[FORWARD], finding.verdict) == ("0", SysctlVerdict.YIELDED)
    assert [yielded for _, yielded, _ in contended(node)] == [True]


class Overwriting(FakeKernel):
    """Another program overwrites ipvsd's value, but not before ipvsd has read it back."""

    def read_sysctl(self, key: str) -> Reading:
        reading = super().read_sysctl(key)
        if reading == "1":
            self.values[key] = "0"
        return reading


def test_a_value_that_is_overwritten_repeatedly_is_contended(tmp_path: Path, capsys: Log) -> None:
    node = RecordedNode(tmp_path, kernel=Overwriting())
    for _ in range(2):  # several overwrites in each
        node.round()
    assert any(f"{FORWARD} is contended" in line and "an unknown writer" in line for line in said(capsys))
    assert [change.times for change in node.changes if isinstance(change, Overwritten)] == [3]
    assert node.recorder.counters.values.repair_failures == {}


def test_the_program_that_overwrites_a_value_repeatedly_is_named(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, kernel=Overwriting())
    for _ in range(2):
        node.record()
        node.round()
    assert [rival for rival, _, _ in contended(node)] == ["agent[7] of agent.service"]


class Vanishing(FakeKernel):
    """An interface disappears as soon as its sysctl was written."""

    gone = ""

    def write_sysctl(self, key: str, value: str) -> None:
        super().write_sysctl(key, value)
        self.gone = key

    def expand(self, patterns: Collection[str]) -> Mapping[str, Collection[str]]:
        self.values.pop(self.gone, None)
        return super().expand(patterns)


def test_an_interface_that_goes_away_after_the_write_is_not_contended(tmp_path: Path) -> None:
    node = RecordedNode(tmp_path, f"profiles: []\nsysctls: {{{PATTERN}: 1}}", Vanishing())
    for number in range(2 * REPAIRS):
        node.kernel.values = {f"net.ipv4.conf.eth{number}.arp_ignore": "0"}
        node.round()
        assert not [change for change in node.changes if isinstance(change, Overwritten)]
    assert contended(node) == []


def test_a_refused_write_is_a_failure_and_not_contention(node: RecordedNode) -> None:
    node.kernel.refused[FORWARD] = errno.EPERM
    for _ in range(REPAIRS + 2):
        node.lose()
        node.loop.now += 60.0
    assert contended(node) == []
    assert node.recorder.counters.values.repair_failures == {FORWARD: REPAIRS + 2}


def test_modules_that_are_being_unloaded_are_logged_once_each_and_when_they_are_reloaded(
    tmp_path: Path, capsys: Log
) -> None:
    node = RecordedNode(tmp_path, "profiles: []\nmodules: {ip_vs_sh: {}, ip_vs_rr: {}}")
    node.round()
    node.kernel.unload("ip_vs_sh", looks=8)
    node.kernel.unload("ip_vs_rr", looks=20)
    capsys.readouterr()
    looks = 1
    while node.round().unsettled:
        looks += 1
    assert looks > 2
    told = {f"{what} {name}" for what in ("loaded module", "warning: module") for name in ("ip_vs_rr", "ip_vs_sh")}
    lines = said(capsys)
    assert {re.split(r" \(|: unloading: /", line)[0] for line in lines} == told
    assert len(lines) == len(told)


def test_two_problems_during_an_unload_are_logged_twice(tmp_path: Path, capsys: Log) -> None:
    node = RecordedNode(
        tmp_path, "modules: {ip_vs_sh: {}}\nsysctls: {net.ipv4.ip_forward: {value: 1, policy: observe}}"
    )
    node.kernel.values[FORWARD] = "1"
    node.round()
    node.kernel.unload("ip_vs_sh", looks=1000)
    for value in ("0", "1", "1", "0"):
        node.kernel.values[FORWARD] = value
        assert node.round().unsettled
    told = [line.partition(": ")[0] for line in said(capsys) if FORWARD in line]
    assert told == ["warning", f"{FORWARD} is compliant again", "warning"]


class Rival(FakeKernel):
    """A kernel on which another program can write after every read."""

    writes = False

    def read_sysctl(self, key: str) -> Reading:
        found = super().read_sysctl(key)
        if self.writes and key == FORWARD:
            self.values[key] = "0"
        return found


def test_a_value_that_changes_during_its_repair_is_not_logged_yet(tmp_path: Path, capsys: Log) -> None:
    kernel = Rival()
    node = RecordedNode(tmp_path, kernel=kernel)
    node.round()
    capsys.readouterr()
    kernel.writes = True
    node.round()
    assert node.round().unsettled
    assert [line for line in said(capsys) if " wrong: " in line] == []
    kernel.writes = False
    node.round()
    assert [line for line in said(capsys) if "is compliant again" in line] == []


# --- another configuration -------------------------------------------------------------


RMEM = "net.ipv4.tcp_rmem"


def configure(node: RecordedNode, text: str) -> None:
    node.configure(f"profiles: []\n{text}")


def untouched(node: RecordedNode) -> bool:
    values = node.recorder.counters.values
    return (values.drifts, values.repairs, node.recorder.repairs, node.repairs()) == ({}, {}, (), [])


@pytest.mark.parametrize(
    ("before", "now", "lines"),
    [
        pytest.param(f"sysctls: {{{FORWARD}: 1}}", f"sysctls: {{{FORWARD}: 0}}",
                     [f"configuration changed: set {FORWARD} from '1' to '0'"], id="a value"),
        pytest.param(f"sysctls: {{{RMEM}: 4096 131072 6291456}}", f"sysctls: {{{RMEM}: 8192 131072 6291456}}",
                     [f"configuration changed: set {RMEM} from '4096 131072 6291456' to '8192 131072 6291456'"],
                     id="words"),
        pytest.param(f"sysctls: {{{FORWARD}: {{value: 0, policy: observe}}}}", f"sysctls: {{{FORWARD}: 0}}",
                     [f"configuration changed: set {FORWARD} from '1' to '0'"], id="a policy"),
        pytest.param(
            "sysctls: {net.ipv4.conf.*.arp_ignore: 0}", "sysctls: {net.ipv4.conf.*.arp_ignore: 1}",
            [
                "configuration changed: set net.ipv4.conf.all.arp_ignore from '0' to '1'",
                "configuration changed: set net.ipv4.conf.default.arp_ignore from '0' to '1'",
                "configuration changed: set net.ipv4.conf.lo.arp_ignore from '0' to '1'",
            ], id="a pattern",
        ),
        pytest.param("modules: {nf_conntrack: {parameters: {hashsize: 16384}}}",
                     "modules: {nf_conntrack: {parameters: {hashsize: 32768}}}",
                     ["configuration changed: set nf_conntrack.hashsize from '16384' to '32768'"], id="a parameter"),
        pytest.param(f"sysctls: {{{FORWARD}: 1}}", f"sysctls: {{{FORWARD}: 1, {RMEM}: 8192 131072 6291456}}",
                     [f"wrote {RMEM}: '8192 131072 6291456' (was '4096 131072 6291456')"], id="one more"),
    ],
)  # fmt: skip
def test_a_changed_configuration_is_logged_as_such_and_not_counted(
    node: RecordedNode, capsys: Log, before: str, now: str, lines: list[str]
) -> None:
    configure(node, before)
    capsys.readouterr()
    configure(node, now)
    assert sorted(said(capsys)) == lines
    assert untouched(node)
    node.round()
    assert (said(capsys), untouched(node)) == ([], True)


def test_a_later_drift_is_a_drift(node: RecordedNode, capsys: Log) -> None:
    configure(node, f"sysctls: {{{FORWARD}: 0}}")
    capsys.readouterr()
    node.kernel.values[FORWARD] = "1"
    node.round()
    assert said(capsys)[0].startswith(f"wrote {FORWARD}: '0' (was '1'); changed ")
    assert node.recorder.counters.values.drifts == node.recorder.counters.values.repairs == {FORWARD: 1}


def test_a_drift_before_the_change_is_not_counted_as_a_repair_after_it(node: RecordedNode) -> None:
    node.kernel.refused[FORWARD] = 1
    node.lose()
    assert node.recorder.counters.values.drifts == {FORWARD: 1}
    node.kernel.refused.clear()
    node.kernel.values[FORWARD] = "1"
    configure(node, f"sysctls: {{{FORWARD}: 0}}")
    assert node.kernel.values[FORWARD] == "0"
    assert (node.recorder.counters.values.drifts, node.recorder.repairs) == ({FORWARD: 1}, ())


def test_an_item_that_never_complied_with_the_new_configuration_does_not_drift(node: RecordedNode) -> None:
    node.kernel.refused[FORWARD] = 1
    configure(node, f"sysctls: {{{FORWARD}: 0}}")
    for _ in range(3):
        node.round()
    assert untouched(node)


def test_the_effect_of_a_configuration_is_not_attributed(service: Service, until: Until) -> None:
    service.ready()
    until((service.tree / STATUS).exists, "the status is published")
    put(service.tree, MAIN, f"{QUIET}sysctls: {{net.ipv4.vs.conntrack: 0}}\n")
    service.process.send_signal(signal.SIGHUP)
    service.hears("READY=1")
    log = service.stop()[1]
    assert "ipvsd: configuration changed: set net.ipv4.vs.conntrack from '1' to '0'" in log
    assert not [line for line in log if "changed by" in line or "repair" in line]
    assert not (service.tree / repair_history.PATH).exists() or repair_history.read(str(service.tree)).repairs == []
