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
def pipe() -> Iterator[tuple[int, int]]:
    read, write = os.pipe()
    yield read, write
    os.close(read)
    os.close(write)


@pytest.fixture
def signals(loop: EventLoop) -> Iterator[EventLoop]:
    before = {number: signal.getsignal(number) for number in (signal.SIGHUP, signal.SIGTERM, signal.SIGINT)}
    loop.install_signal_handlers()
    yield loop
    loop.restore_signal_handlers()
    for number, handler in before.items():
        signal.signal(number, handler)


def test_reasons_that_arrived_meanwhile_are_returned_once_together_and_in_order(loop: EventLoop) -> None:
    before = time.monotonic()
    for number in range(5):
        loop.post(ReasonKind.MODULE, str(number))
    reasons = loop.run_until_reason(10)
    assert [(reason.kind, reason.detail) for reason in reasons] == [(ReasonKind.MODULE, str(n)) for n in range(5)]
    assert before <= reasons[0].at <= reasons[-1].at <= time.monotonic()
    assert loop.run_until_reason(0) == ()


@pytest.mark.parametrize("timeout", [0.0, 0.01, -1.0])
def test_the_wait_ends_with_the_timeout(loop: EventLoop, timeout: float) -> None:
    loop.call_later(3600.0, lambda: loop.post(ReasonKind.SYSCTL))  # does not lengthen the wait
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


@pytest.mark.parametrize("told", ["hello", ""], ids=["with a reason", "without a reason"])
def test_a_descriptor_that_can_be_read_calls_its_reader_and_wakes_with_a_reason(
    loop: EventLoop, pipe: tuple[int, int], told: str
) -> None:
    called: list[bytes] = []

    def take() -> None:
        called.append(os.read(pipe[0], 10))
        if told:
            loop.post(ReasonKind.MODULE, told)

    loop.add_reader(pipe[0], take)
    os.write(pipe[1], b"data")
    assert [reason.detail for reason in loop.run_until_reason(0.05)] == ([told] if told else [])
    assert called == [b"data"]


@pytest.mark.parametrize(
    ("number", "kind"),
    [
        (signal.SIGHUP, ReasonKind.RELOAD), (signal.SIGTERM, ReasonKind.STOP), (signal.SIGINT, ReasonKind.STOP),
    ],
)  # fmt: skip
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


@pytest.mark.parametrize("times", [0, 2], ids=["while reasons wait", "during long work"])
def test_due_timers_run_and_reasons_stay(loop: EventLoop, times: int) -> None:
    loop.post(ReasonKind.MODULE, "before")
    loop.call_later(0.0, lambda: loop.post(ReasonKind.SYSCTL, "due"))
    loop.call_later(60.0, lambda: loop.post(ReasonKind.SYSCTL, "not yet"))
    for _ in range(times):
        loop.run_ready()
    assert sorted(reason.detail for reason in loop.run_until_reason(0)) == ["before", "due"]


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


def always_ready(loop: EventLoop, pipe: tuple[int, int]) -> list[float]:
    """Let a reader ignore the data of a pipe, and return the times at which it will be called."""
    called: list[float] = []
    os.write(pipe[1], b"x")
    loop.add_reader(pipe[0], lambda: called.append(time.monotonic()))
    return called


def test_a_descriptor_that_is_always_ready_is_paused_and_read_again(loop: EventLoop, pipe: tuple[int, int]) -> None:
    called = always_ready(loop, pipe)
    end = time.monotonic() + 0.35
    while time.monotonic() < end:
        loop.run_until_reason(end - time.monotonic())
    assert 100 < len(called) < 120
    assert max(later - sooner for sooner, later in zip(called, called[1:])) > 0.09


def test_a_paused_reader_can_be_removed(loop: EventLoop, pipe: tuple[int, int]) -> None:
    called = always_ready(loop, pipe)
    for _ in range(150):
        loop.run_until_reason(0)
    loop.remove_reader(pipe[0])
    count = len(called)
    loop.run_until_reason(0.15)
    assert len(called) == count


def test_a_paused_reader_that_cannot_be_registered_stays_paused(loop: EventLoop, pipe: tuple[int, int]) -> None:
    called = always_ready(loop, pipe)
    for _ in range(150):
        loop.run_until_reason(0)
    count, away = len(called), os.dup(pipe[0])
    with open(os.devnull) as other:
        os.dup2(other.fileno(), pipe[0])  # epoll refuses it, like any descriptor for which it has no memory
    loop.run_until_reason(0.15)
    assert len(called) == count
    os.dup2(away, pipe[0])
    os.close(away)
    loop.run_until_reason(0.15)
    assert len(called) > count


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
