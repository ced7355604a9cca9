"""The event loop: the first reason after an idle period at once, and all later reasons together."""

from __future__ import annotations

import os
import signal
import threading
import time
from collections.abc import Iterator

import pytest

from ipvsd.runtime.event_loop import EventLoop, ReasonKind


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    with EventLoop() as loop:
        yield loop


@pytest.fixture
def signals(loop: EventLoop) -> Iterator[EventLoop]:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    loop.install_signal_handlers()
    yield loop
    loop.restore_signal_handlers()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_a_reason_is_returned_with_its_time(loop: EventLoop) -> None:
    before = time.monotonic()
    loop.post(ReasonKind.SYSCTL, "net.ipv4.ip_forward")
    (reason,) = loop.run_until_reason(10)
    assert (reason.kind, reason.detail) == (ReasonKind.SYSCTL, "net.ipv4.ip_forward")
    assert before <= reason.at <= time.monotonic()


def test_reasons_that_arrived_meanwhile_are_returned_together_and_in_order(loop: EventLoop) -> None:
    for number in range(5):
        loop.post(ReasonKind.MODULE, str(number))
    assert [reason.detail for reason in loop.run_until_reason(10)] == list("01234")


def test_a_reason_is_returned_once(loop: EventLoop) -> None:
    loop.post(ReasonKind.MODULE)
    loop.run_until_reason(10)
    assert loop.run_until_reason(0) == ()


@pytest.mark.parametrize("timeout", [0.0, 0.01, -1.0])
def test_the_wait_ends_with_the_timeout(loop: EventLoop, timeout: float) -> None:
    assert loop.run_until_reason(timeout) == ()


def test_the_first_reason_after_an_idle_period_wakes_at_once(loop: EventLoop) -> None:
    thread = threading.Thread(target=loop.post, args=(ReasonKind.CONFIG, "from a thread"))
    thread.start()
    (reason,) = loop.run_until_reason(None)
    late = time.monotonic() - reason.at
    thread.join()
    assert reason.detail == "from a thread"
    assert late < 1.0


def test_nothing_is_lost_when_many_threads_put(loop: EventLoop) -> None:
    def put_many() -> None:
        for _ in range(500):
            loop.post(ReasonKind.SYSCTL)

    threads = [threading.Thread(target=put_many) for _ in range(4)]
    for thread in threads:
        thread.start()
    seen = 0
    while seen < 2000:
        seen += len(loop.run_until_reason(10))
    for thread in threads:
        thread.join()
    assert (seen, loop.run_until_reason(0)) == (2000, ())


def test_more_reasons_than_the_capacity_of_the_pipe_do_not_block(loop: EventLoop) -> None:
    for _ in range(70_000):
        loop.post(ReasonKind.SYSCTL)
    assert len(loop.run_until_reason(10)) == 70_000


def test_a_descriptor_that_can_be_read_calls_its_reader(loop: EventLoop) -> None:
    read, write = os.pipe()
    loop.add_reader(read, lambda: loop.post(ReasonKind.MODULE, os.read(read, 10).decode()))
    os.write(write, b"hello")
    (reason,) = loop.run_until_reason(10)
    loop.remove_reader(read)
    os.close(read)
    os.close(write)
    assert reason.detail == "hello"


def test_a_reader_without_a_reason_wakes_nothing(loop: EventLoop) -> None:
    read, write = os.pipe()

    def swallow() -> None:
        os.read(read, 10)

    loop.add_reader(read, swallow)
    os.write(write, b"nothing")
    assert loop.run_until_reason(0.05) == ()
    loop.remove_reader(read)
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
def test_a_signal_is_a_reason(signals: EventLoop, number: signal.Signals, kind: ReasonKind) -> None:
    os.kill(os.getpid(), number)
    (reason,) = signals.run_until_reason(10)
    assert (reason.kind, reason.detail) == (kind, number.name)


def test_a_signal_behind_a_storm_is_not_lost(signals: EventLoop) -> None:
    for _ in range(70_000):
        signals.post(ReasonKind.SYSCTL)
    os.kill(os.getpid(), signal.SIGTERM)
    assert signals.run_until_reason(10)[-1].kind is ReasonKind.STOP


def test_a_signal_while_others_wait_is_not_lost(signals: EventLoop) -> None:
    signals.post(ReasonKind.SYSCTL)
    os.kill(os.getpid(), signal.SIGHUP)
    assert {reason.kind for reason in signals.run_until_reason(10)} == {ReasonKind.SYSCTL, ReasonKind.RELOAD}


# --- timers -----------------------------------------------------------------------------


def test_due_timers_are_called_in_order_and_wake_nothing(loop: EventLoop) -> None:
    called: list[int] = []
    for number, seconds in enumerate((0.02, 0.01, 0.0, 0.0)):
        loop.call_later(seconds, lambda number=number: called.append(number))  # type: ignore[misc]
    assert called == []
    assert loop.run_until_reason(0.05) == ()
    assert called == [2, 3, 1, 0]


def test_it_is_called_once_and_not_before_its_time(loop: EventLoop) -> None:
    due, called = time.monotonic() + 0.01, list[float]()
    loop.call_later(0.01, lambda: called.append(time.monotonic()))
    loop.run_until_reason(0.03)
    loop.run_until_reason(0.03)
    assert [at >= due for at in called] == [True]


def test_what_is_due_may_leave_a_reason_or_ask_for_more(loop: EventLoop) -> None:
    loop.call_later(0.0, lambda: loop.call_later(0.001, lambda: loop.post(ReasonKind.SYSCTL, "repaired")))
    assert [reason.detail for reason in loop.run_until_reason(None)] == ["repaired"]


def test_a_timer_that_re_adds_itself_does_not_block(loop: EventLoop) -> None:
    called: list[int] = []

    def again() -> None:
        called.append(1)
        loop.call_later(0.0, again)

    again()
    loop.post(ReasonKind.MODULE)
    assert [reason.kind for reason in loop.run_until_reason(None)] == [ReasonKind.MODULE]
    assert len(called) == 2


def test_a_timer_that_is_far_away_does_not_lengthen_the_wait(loop: EventLoop) -> None:
    loop.call_later(3600.0, lambda: loop.post(ReasonKind.SYSCTL))
    assert loop.run_until_reason(0.01) == ()


def test_during_long_work_due_timers_run_and_reasons_stay(loop: EventLoop) -> None:
    loop.post(ReasonKind.MODULE, "before")
    loop.call_later(0.0, lambda: loop.post(ReasonKind.SYSCTL, "due"))
    loop.call_later(60.0, lambda: loop.post(ReasonKind.SYSCTL, "not yet"))
    loop.run_ready()
    loop.run_ready()
    assert [reason.detail for reason in loop.run_until_reason(0)] == ["before", "due"]


def test_due_timers_run_while_reasons_wait(loop: EventLoop) -> None:
    loop.post(ReasonKind.MODULE)
    loop.call_later(0.0, lambda: loop.post(ReasonKind.SYSCTL))
    assert {reason.kind for reason in loop.run_until_reason(10)} == {ReasonKind.MODULE, ReasonKind.SYSCTL}


def test_a_reader_that_was_removed_is_not_called(loop: EventLoop) -> None:
    pipes = [os.pipe(), os.pipe()]
    read: list[int] = []

    def take(own: int) -> None:
        read.append(own)
        for number, _ in pipes:
            loop.remove_reader(number)

    for number, write in pipes:
        loop.add_reader(number, lambda number=number: take(number))  # type: ignore[misc]
        os.write(write, b"x")
    loop.run_until_reason(0)
    assert len(read) == 1
    for pair in pipes:
        for number in pair:
            os.close(number)


def test_a_descriptor_that_is_always_ready_is_paused_and_read_again(loop: EventLoop) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    called: list[float] = []
    loop.add_reader(read, lambda: called.append(time.monotonic()))
    end = time.monotonic() + 0.35
    while time.monotonic() < end:
        loop.run_until_reason(end - time.monotonic())
    assert 100 < len(called) < 120
    assert max(later - sooner for sooner, later in zip(called, called[1:])) > 0.09
    loop.remove_reader(read)
    os.close(read)
    os.close(write)


def test_a_paused_reader_can_be_removed(loop: EventLoop) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    called: list[int] = []
    loop.add_reader(read, lambda: called.append(1))
    for _ in range(150):
        loop.run_until_reason(0)
    loop.remove_reader(read)
    count = len(called)
    loop.run_until_reason(0.15)
    assert len(called) == count
    os.close(read)
    os.close(write)


def test_a_paused_reader_that_cannot_be_registered_stays_paused(loop: EventLoop) -> None:
    read, write = os.pipe()
    os.write(write, b"x")
    called: list[int] = []
    loop.add_reader(read, lambda: called.append(1))
    for _ in range(150):
        loop.run_until_reason(0)
    count, away = len(called), os.dup(read)
    with open(os.devnull) as other:
        os.dup2(other.fileno(), read)  # epoll refuses it, like any descriptor for which it has no memory
    loop.run_until_reason(0.15)
    assert len(called) == count
    os.dup2(away, read)
    loop.run_until_reason(0.15)
    assert len(called) > count
    loop.remove_reader(read)
    for number in (read, write, away):
        os.close(number)


def test_a_reason_without_memory_in_the_pipe_is_returned_with_the_next_one(loop: EventLoop) -> None:
    loop.run_until_reason(0)
    with open("/dev/full", "w") as full:
        write, away = loop._wakeup_write, os.dup(loop._wakeup_write)
        os.dup2(full.fileno(), write)
        loop.post(ReasonKind.SYSCTL, "first")
        os.dup2(away, write)
    os.close(away)
    threading.Timer(0.0, lambda: loop.post(ReasonKind.SYSCTL, "second")).start()
    assert loop.run_until_reason(10)[0].detail == "first"
    loop.post(ReasonKind.SYSCTL, "third")
    assert loop.run_until_reason(10)[-1].detail == "third"
