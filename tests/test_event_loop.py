"""The mailbox: the first reason after silence at once, and everything that came meanwhile together."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from ipvsd.runtime.event_loop import Mailbox, ReasonKind


@pytest.fixture
def mailbox() -> Iterator[Mailbox]:
    with Mailbox() as mailbox:
        yield mailbox


@pytest.fixture
def signals(mailbox: Mailbox) -> Iterator[Mailbox]:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    mailbox.take_signals()
    yield mailbox
    mailbox.release_signals()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_reason_is_handed_out_with_its_time(mailbox: Mailbox) -> None:
    before = time.monotonic()
    mailbox.put(ReasonKind.SYSCTL, "net.ipv4.ip_forward")
    (reason,) = mailbox.take(10)
    assert (reason.kind, reason.detail) == (ReasonKind.SYSCTL, "net.ipv4.ip_forward")
    assert before <= reason.at <= time.monotonic()


def test_what_came_meanwhile_is_handed_out_together_and_in_order(mailbox: Mailbox) -> None:
    for number in range(5):
        mailbox.put(ReasonKind.MODULE, str(number))
    assert [reason.detail for reason in mailbox.take(10)] == list("01234")


def test_a_reason_is_handed_out_once(mailbox: Mailbox) -> None:
    mailbox.put(ReasonKind.MODULE)
    mailbox.take(10)
    assert mailbox.take(0) == ()


@pytest.mark.parametrize("timeout", [0.0, 0.01, -1.0])
def test_silence_ends_with_the_timeout(mailbox: Mailbox, timeout: float) -> None:
    assert mailbox.take(timeout) == ()


def test_the_first_reason_after_silence_wakes_at_once(mailbox: Mailbox) -> None:
    thread = threading.Thread(target=mailbox.put, args=(ReasonKind.CONFIG, "from a thread"))
    thread.start()
    (reason,) = mailbox.take(None)
    late = time.monotonic() - reason.at
    thread.join()
    assert reason.detail == "from a thread"
    assert late < 1.0


def test_nothing_is_lost_when_many_threads_put(mailbox: Mailbox) -> None:
    def put_many() -> None:
        for _ in range(500):
            mailbox.put(ReasonKind.SYSCTL)

    threads = [threading.Thread(target=put_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = 0
    while seen < 2000:
        seen += len(mailbox.take(10))
    for thread in threads:
        thread.join()
    assert (seen, mailbox.take(0)) == (2000, ())


def test_more_reasons_than_the_pipe_holds_block_nobody(mailbox: Mailbox) -> None:
    for _ in range(70_000):
        mailbox.put(ReasonKind.SYSCTL)
    assert len(mailbox.take(10)) == 70_000


def test_a_descriptor_that_can_be_read_calls_its_reader(mailbox: Mailbox) -> None:
    read, write = os.pipe()
    mailbox.watch(read, lambda: mailbox.put(ReasonKind.MODULE, os.read(read, 10).decode()))
    os.write(write, b"hello")
    (reason,) = mailbox.take(10)
    mailbox.unwatch(read)
    os.close(read)
    os.close(write)
    assert reason.detail == "hello"


def test_a_reader_that_has_no_reason_wakes_nobody(mailbox: Mailbox) -> None:
    read, write = os.pipe()

    def swallow() -> None:
        os.read(read, 10)

    mailbox.watch(read, swallow)
    os.write(write, b"nothing")
    assert mailbox.take(0.05) == ()
    mailbox.unwatch(read)
    os.close(read)
    os.close(write)


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGHUP, ReasonKind.RELOAD),
        (signal.SIGTERM, ReasonKind.STOP),
        (signal.SIGINT, ReasonKind.STOP),
    ],
)
def test_a_signal_is_a_reason(signals: Mailbox, number: signal.Signals, kind: ReasonKind) -> None:
    os.kill(os.getpid(), number)
    (reason,) = signals.take(10)
    assert (reason.kind, reason.detail) == (kind, number.name)


def test_a_signal_behind_a_storm_is_not_lost(signals: Mailbox) -> None:
    for _ in range(70_000):
        signals.put(ReasonKind.SYSCTL)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.take(10)[-1].kind is ReasonKind.STOP


def test_a_signal_while_others_wait_is_not_lost(signals: Mailbox) -> None:
    signals.put(ReasonKind.SYSCTL)
    os.kill(os.getpid(), signal.SIGHUP)
    assert {reason.kind for reason in signals.take(10)} == {ReasonKind.SYSCTL, ReasonKind.RELOAD}


# --- timers -----------------------------------------------------------------------------


def test_what_is_due_is_called_in_its_order_and_wakes_nobody(mailbox: Mailbox) -> None:
    called: list[int] = []
    for number, seconds in enumerate((0.02, 0.01, 0.0, 0.0)):
        mailbox.later(seconds, lambda number=number: called.append(number))  # type: ignore[misc]
    assert called == []
    assert mailbox.take(0.05) == ()
    assert called == [2, 3, 1, 0]


def test_it_is_called_once_and_not_before_its_time(mailbox: Mailbox) -> None:
    due, called = time.monotonic() + 0.01, list[float]()
    mailbox.later(0.01, lambda: called.append(time.monotonic()))
    mailbox.take(0.03)
    mailbox.take(0.03)
    assert [at >= due for at in called] == [True]


def test_what_is_due_may_leave_a_reason_or_ask_for_more(mailbox: Mailbox) -> None:
    mailbox.later(0.0, lambda: mailbox.later(0.001, lambda: mailbox.put(ReasonKind.SYSCTL, "turned back")))
    assert [reason.detail for reason in mailbox.take(None)] == ["turned back"]


def test_what_asks_for_more_again_and_again_holds_nobody_up(mailbox: Mailbox) -> None:
    called: list[int] = []

    def again() -> None:
        called.append(1)
        mailbox.later(0.0, again)

    again()
    mailbox.put(ReasonKind.MODULE)
    assert [reason.kind for reason in mailbox.take(None)] == [ReasonKind.MODULE]
    assert len(called) == 2


def test_a_timer_that_is_far_away_does_not_lengthen_the_wait(mailbox: Mailbox) -> None:
    mailbox.later(3600.0, lambda: mailbox.put(ReasonKind.SYSCTL))
    assert mailbox.take(0.01) == ()


def test_within_long_work_what_is_due_is_called_and_reasons_stay(mailbox: Mailbox) -> None:
    mailbox.put(ReasonKind.MODULE, "before")
    mailbox.later(0.0, lambda: mailbox.put(ReasonKind.SYSCTL, "due"))
    mailbox.later(60.0, lambda: mailbox.put(ReasonKind.SYSCTL, "not yet"))
    mailbox.serve()
    mailbox.serve()
    assert [reason.detail for reason in mailbox.take(0)] == ["before", "due"]


def test_what_is_due_is_called_while_reasons_wait(mailbox: Mailbox) -> None:
    mailbox.put(ReasonKind.MODULE)
    mailbox.later(0.0, lambda: mailbox.put(ReasonKind.SYSCTL))
    assert {reason.kind for reason in mailbox.take(10)} == {ReasonKind.MODULE, ReasonKind.SYSCTL}


def test_what_a_reader_has_ended_is_not_read(mailbox: Mailbox) -> None:
    pipes = [os.pipe(), os.pipe()]
    read: list[int] = []

    def take(own: int) -> None:
        read.append(own)
        for number, _ in pipes:
            mailbox.unwatch(number)

    for number, write in pipes:
        mailbox.watch(number, lambda number=number: take(number))  # type: ignore[misc]
        os.write(write, b"x")
    mailbox.take(0)
    assert len(read) == 1
    for pair in pipes:
        for number in pair:
            os.close(number)


def test_a_descriptor_that_is_always_ready_rests_and_is_read_again(mailbox: Mailbox) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    called: list[float] = []
    mailbox.watch(read, lambda: called.append(time.monotonic()))
    end = time.monotonic() + 0.35
    while time.monotonic() < end:
        mailbox.take(end - time.monotonic())
    assert 100 < len(called) < 120
    assert max(later - sooner for sooner, later in zip(called, called[1:])) > 0.09
    mailbox.unwatch(read)
    os.close(read)
    os.close(write)


def test_one_that_rests_can_be_forgotten(mailbox: Mailbox) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    called: list[int] = []
    mailbox.watch(read, lambda: called.append(1))
    for _ in range(150):
        mailbox.take(0)
    mailbox.unwatch(read)
    count = len(called)
    mailbox.take(0.15)
    assert len(called) == count
    os.close(read)
    os.close(write)


def test_one_that_cannot_be_waited_for_again_rests_on_until_it_can(mailbox: Mailbox) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    called: list[int] = []
    mailbox.watch(read, lambda: called.append(1))
    for _ in range(150):
        mailbox.take(0)
    count, away = len(called), os.dup(read)
    with open(os.devnull) as other:
        os.dup2(other.fileno(), read)  # which epoll refuses, as anything for which it has no memory
    mailbox.take(0.15)
    assert len(called) == count
    os.dup2(away, read)
    mailbox.take(0.15)
    assert len(called) > count
    mailbox.unwatch(read)
    for number in (read, write, away):
        os.close(number)


def test_a_reason_for_which_the_pipe_has_no_memory_is_handed_out_with_the_next_one(mailbox: Mailbox) -> None:
    mailbox.take(0)
    with open("/dev/full", "w") as full:
        write, away = mailbox._write, os.dup(mailbox._write)
        os.dup2(full.fileno(), write)
        mailbox.put(ReasonKind.SYSCTL, "first")
        os.dup2(away, write)
    os.close(away)
    threading.Timer(0.0, lambda: mailbox.put(ReasonKind.SYSCTL, "second")).start()
    assert mailbox.take(10)[0].detail == "first"
    mailbox.put(ReasonKind.SYSCTL, "third")
    assert mailbox.take(10)[-1].detail == "third"
