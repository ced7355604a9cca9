"""A recorded write explains a drift to its value, and is dropped when it cannot explain one any more."""

from __future__ import annotations

import pytest

from ipvsd.decide.attribution import KEPT, ObservedWrite, WriteLog, attributed
from ipvsd.model import report
from ipvsd.model.report import Attribution, Repair, Writer

KEY = "net.ipv4.ip_forward"
RMEM = "net.ipv4.tcp_rmem"
SYSCTL, AGENT = Writer(1, "sysctl"), Writer(2, "agent")
CERTAIN, LIKELY, UNKNOWN = Attribution.CERTAIN, Attribution.LIKELY, Attribution.UNKNOWN
REPAIR = Repair(KEY, "0", "1", 1000.0, 0.003)


def write(
    value: str | None = "0", writer: Writer = SYSCTL, before: str = "1", at: float = 100.0, ours: bool = False
) -> ObservedWrite:
    return ObservedWrite(value, writer, before, at, ours)


@pytest.fixture
def log() -> WriteLog:
    return WriteLog(lambda: 100.0)


def blamed(log: WriteLog, complete: bool = True) -> tuple[str, Attribution]:
    """Return the writer to which a drift is attributed, and the certainty."""
    repair = attributed(REPAIR, log.of(KEY, "0"), complete)
    return repair.writer_text, repair.attribution


def test_the_writer_of_the_drifted_value_is_the_cause(log: WriteLog) -> None:
    log.add(KEY, write("0", SYSCTL, before="1"))
    repair = attributed(REPAIR, log.of(KEY, "0"), complete=True)
    assert repair == REPAIR._replace(before="1", writer_text="sysctl[1]", writer=SYSCTL, attribution=LIKELY)


def test_the_writer_of_another_value_or_sysctl_is_not_the_cause(log: WriteLog) -> None:
    log.add(KEY, write("2", SYSCTL))
    log.add(RMEM, write("0"))
    assert log.of(KEY, "0") is None


def test_the_last_of_several_writers_of_the_value_is_the_cause(log: WriteLog) -> None:
    for writer in (SYSCTL, AGENT):
        log.add(KEY, write("0", writer))
    log.add(KEY, write("7", SYSCTL))
    found = log.of(KEY, "0")
    assert found is not None
    assert found.writer is AGENT


@pytest.mark.parametrize(
    ("by", "writer"),
    [
        pytest.param(103.5, AGENT, id="the last one before the value was read"),
        pytest.param(103.0, AGENT, id="in the moment in which it was read"),
        pytest.param(102.5, SYSCTL, id="of one that wrote it again later, the earlier write"),
        pytest.param(100.5, None, id="none before it"),
    ],
)
def test_the_writer_of_the_value_after_the_read_is_not_the_cause(
    log: WriteLog, by: float, writer: Writer | None
) -> None:
    for at, value, who in ((101.0, "0", SYSCTL), (102.0, "7", AGENT), (103.0, "0", AGENT), (104.0, "0", SYSCTL)):
        log.add(KEY, write(value, who, at=at))
    found = log.of(KEY, "0", by)
    assert (found and found.writer) is writer


@pytest.mark.parametrize(
    ("written", "found"),
    [
        pytest.param("4096 131072 6291456", "4096 131072 6291456", id="a list"),
        pytest.param("0x1", "1", id="hexadecimal"),
        pytest.param("-1", "4294967295", id="printed without a sign"),
    ],
)
def test_values_are_compared_by_their_meaning(log: WriteLog, written: str, found: str) -> None:
    log.add(RMEM, write(written))
    assert log.of(RMEM, found) is not None


def test_an_unloading_explains_any_value_and_is_never_certain(log: WriteLog) -> None:
    log.add("ip_vs", write(None, Writer(3, "rmmod"), before=""))
    found = attributed(Repair("ip_vs", "unloaded", "live", 0.0, 0.0), log.of("ip_vs", "unloaded"), complete=False)
    assert (found.writer_text, found.attribution) == ("rmmod[3]", LIKELY)


def test_after_a_storm_only_the_newest_writes_remain(log: WriteLog) -> None:
    for number in range(1000):
        log.add(KEY, write(str(number), Writer(number, "a")))
    assert log.of(KEY, "999") is not None
    assert log.of(KEY, str(1000 - KEPT)) is not None
    assert log.of(KEY, str(999 - KEPT)) is None


def test_a_storm_of_one_kind_does_not_replace_the_others(log: WriteLog) -> None:
    log.add(KEY, write("0", AGENT))
    for _ in range(1000):
        log.add(KEY, write("2", SYSCTL))
    assert log.of(KEY, "0") is not None


@pytest.mark.parametrize(
    ("names", "now", "kept"),
    [
        pytest.param({KEY}, 200.0, False, id="right, and old"),
        pytest.param({KEY}, 130.5, True, id="right, but just heard of: it may not have been stored yet"),
        pytest.param({RMEM}, 200.0, True, id="not right"),
    ],
)
def test_a_write_that_cannot_explain_a_drift_any_more_is_dropped(names: set[str], now: float, kept: bool) -> None:
    log = WriteLog(lambda: 130.0)
    log.add(KEY, write(at=100.0))
    log.expire(names.__contains__, now)
    assert (log.of(KEY, "0") is not None) is kept


def test_repetitions_have_the_time_of_the_first_and_expire_like_the_last() -> None:
    clock = iter([100.0, 200.0])
    log = WriteLog(lambda: next(clock))
    log.add(KEY, write(at=100.0))
    log.add(KEY, write(at=200.0))
    log.expire({KEY}.__contains__, 200.5)
    assert log.of(KEY, "0", by=150.0) == write(at=100.0)


# --- certainty --------------------------------------------------------------------------


HERE, ELSEWHERE = (write("0", SYSCTL, ours=ours) for ours in (True, False))
FLOOD = [write("0", Writer(100 + number, "flood")) for number in range(5)]


@pytest.mark.parametrize(
    ("writes", "who", "attribution"),
    [
        pytest.param([write("7", AGENT, ours=True), HERE], "sysctl[1]", CERTAIN, id="the only writer here"),
        pytest.param([write("0", AGENT, ours=True), HERE], "sysctl[1]", LIKELY, id="the last of several writers here"),
        pytest.param([HERE, write("0", AGENT)], "sysctl[1]", LIKELY, id="one here, and later one elsewhere"),
        pytest.param([write("0", AGENT), HERE], "sysctl[1]", LIKELY, id="one here, and earlier one elsewhere"),
        pytest.param([ELSEWHERE, HERE, ELSEWHERE], "sysctl[1]", CERTAIN, id="one here, which writes elsewhere as well"),
        pytest.param([ELSEWHERE], "sysctl[1]", LIKELY, id="the only writer, in an unknown namespace"),
        pytest.param([ELSEWHERE, FLOOD[0]], "unknown", UNKNOWN, id="two writers in unknown namespaces"),
        pytest.param([ELSEWHERE, *FLOOD], "unknown", UNKNOWN, id="many writers in unknown namespaces"),
        pytest.param([write(None, SYSCTL, ours=True)], "sysctl[1]", LIKELY, id="a truncated value"),
        pytest.param([], "the kernel", LIKELY, id="no writer, although all are seen"),
    ],
)  # fmt: skip
def test_the_certainty_depends_on_the_writers_and_their_namespaces(
    log: WriteLog, writes: list[ObservedWrite], who: str, attribution: Attribution
) -> None:
    for item in writes:
        log.add(KEY, item)
    assert blamed(log) == (who, attribution)
    repair = attributed(REPAIR, log.of(KEY, "0"), complete=True)
    assert who != "unknown" or (repair.writer, repair.before) == (None, "")


def test_without_a_writer_the_cause_is_unknown_unless_all_are_seen(log: WriteLog) -> None:
    assert blamed(log, complete=False) == ("unknown", UNKNOWN)


@pytest.mark.parametrize(
    ("ours", "who", "attribution"),
    [(True, "sysctl[1]", LIKELY), (False, "unknown", UNKNOWN)],
    ids=["to our sysctl", "nobody knows where"],
)
@pytest.mark.parametrize(
    ("storm", "at"),
    [
        pytest.param(True, 100.0, id="more than is kept"),
        pytest.param(False, 100.0, id="more than there was room for"),
        pytest.param(False, 99.0, id="more than there was room for, later"),
    ],
)
def test_a_possibly_missed_write_reduces_the_certainty(
    log: WriteLog, ours: bool, who: str, attribution: Attribution, storm: bool, at: float
) -> None:
    for number in range(KEPT if storm else 0):
        log.add(KEY, write(f"{number + 2}", AGENT))
    log.add(KEY, write("0", SYSCTL, at=at, ours=ours))
    if not storm:
        log.missed()
    assert blamed(log, complete=storm) == (who, attribution)


def test_earlier_missed_writes_do_not_matter(log: WriteLog) -> None:
    log.missed()
    log.add(KEY, write("0", SYSCTL, at=100.1, ours=True))
    assert blamed(log) == ("sysctl[1]", CERTAIN)


@pytest.mark.parametrize("several", [True, False], ids=["other writers", "the same writer"])
def test_a_write_that_certainly_caused_one_drift_explains_no_other(log: WriteLog, several: bool) -> None:
    for number in range(2 * KEPT):
        writer = Writer(number * several, "tee")
        log.add(KEY, write("0", writer, at=100.0 + number, ours=True))
        explained = log.explain(KEY, "0")
        assert explained
        assert (explained.writer, explained.attribution) == (writer, CERTAIN)


def test_a_repeated_write_can_explain_two_drifts(log: WriteLog) -> None:
    log.add(KEY, write("0", SYSCTL, ours=True), times=2)
    log.explain(KEY, "0")
    log.add(KEY, write("0", AGENT, ours=True))
    assert blamed(log) == ("agent[2]", LIKELY)


def test_a_likely_cause_of_a_drift_can_explain_another(log: WriteLog) -> None:
    for writer in (SYSCTL, AGENT):
        log.add(KEY, write("0", writer, ours=True))
    log.explain(KEY, "0")
    assert blamed(log) == ("agent[2]", LIKELY)


@pytest.mark.parametrize(
    ("writer", "text"),
    [
        (Writer(7, "zebra"), "zebra[7]"),
        (Writer(7, "sysctl", "cron.service"), "sysctl[7] of cron.service"),
        (Writer(7, "", "cron.service"), "a process[7] of cron.service"),
        (Writer(0, "", "cron.service"), "a process of cron.service"),
        (Writer(7, "x", "a.scope", "0123456789abcdef"), "x[7] of container 0123456789ab"),
        (Writer(7, "x", "a.scope", "0123456789abcdef", "pod-uid"), "x[7] of pod pod-uid"),
        (report.UNKNOWN, "an unknown process"),
    ],
)
def test_the_text_of_a_writer(writer: object, text: str) -> None:
    assert CERTAIN.describe(str(writer)) == UNKNOWN.describe(str(writer)) == f"by {text}"
    assert LIKELY.describe(str(writer)) == f"probably by {text}"
