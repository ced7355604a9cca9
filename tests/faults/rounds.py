"""One round: the node is disturbed while a call of its daemon fails, and must recover afterwards."""

from __future__ import annotations

import time
from collections import Counter
from typing import NamedTuple

from tests.faults.calls import Fault, Row, is_interpreter
from tests.faults.node import BACKLOG, INTERVAL, Injection, Node, wait

_PATIENCE = 6 * INTERVAL  # until a node has recovered
# Python's message if its signal handler has no memory for a byte (signal.set_wakeup_fd()).
_SIGNAL = "Exception ignored when trying to write to the signal wakeup fd:\nTraceback"
_REACHED = 5 * INTERVAL  # until a call happens


class Outcome(NamedTuple):
    """The result of a round: its problems. `reached` means that the call happened."""

    reached: bool
    problems: tuple[str, ...] = ()
    ended: bool = False


def record(node: Node) -> dict[Row, int]:
    """Return the calls of a round without a fault, with their numbers."""
    node.start()
    _rest(node)  # Python compiles its imports
    made: dict[Row, int] = {}
    node.made = made
    node.restart()
    _rest(node)
    node.made = None
    samples = Counter[frozenset[tuple[str, int]]]()
    for _ in range(50):  # descriptors that are open most of the time
        samples[frozenset(node.descriptors().items())] += 1
        time.sleep(0.01)
    node.up = {one["name"] for one in node.status()["sources"] if one["up"]}
    node.calm = Counter(dict(samples.most_common(1)[0][0]))
    return made


def _rest(node: Node) -> None:
    node.disturb()
    _whole(node, -1)
    looks = node.status()["reconciliations"]
    wait(lambda: node.status()["reconciliations"] > looks + 1, _PATIENCE)


def attempt(node: Node, row: Row, fault: Fault, number: int = 1, lasting: bool = False) -> Outcome:
    """Let a call fail once, or until the end of the round.

    A call that happens only once after a start gets a new start.
    """
    injection = Injection(row, fault, number, lasting)
    if node.running() and not node.broken:
        node.injection = injection
        outcome = _attempt(node, injection, len(node.said()))
        if outcome.reached or number > 1:
            return outcome
    injection = Injection(row, fault, number, lasting)
    node.restart(injection)
    return _attempt(node, injection, 0)


def _attempt(node: Node, injection: Injection, logged: int) -> Outcome:
    """Run a round. `logged` is the length of the log before it."""
    problems = []
    wait(lambda: injection.reached.is_set() or not node.running() or node.page("healthz")[0] == 200, _REACHED)
    wait(lambda: node.status()["reconciliations"] > 0, _REACHED)
    looks = node.status()["reconciliations"]
    node.disturb()
    reached = injection.reached.wait(_REACHED)
    if injection.lasting and reached:
        problems += _false_ready(node, looks)
    if injection.fault is Fault.KILL and reached:
        node.ended()
        problems += node.stored()
    node.injection = None
    ended = not node.running()
    if not ended:
        node.resync()
        problems += _whole(node, looks)
        ended = not node.running()
    said = node.said()[logged:]
    if ended:
        excused = injection.fault is Fault.KILL or is_interpreter(injection.row)
        if not excused:
            problems.append(f"it ended with {node.service.process.returncode}")
        node.restart()
        problems += _whole(node, -1)
    if "Traceback" in said.replace(_SIGNAL, "") and not (ended and is_interpreter(injection.row)):
        problems.append("traceback: " + " / ".join(said[said.index("Traceback") :].splitlines()[:20]))
    if not reached and injection.number == 1:
        problems.append("the call was not made")
    return Outcome(reached, tuple(problems), ended)


def _false_ready(node: Node, looks: int) -> list[str]:
    """Return the places that report ready after a reconciliation although an item has not been compliant."""
    wait(lambda: not node.running() or node.status()["reconciliations"] > looks + 1, _REACHED)
    deadline = time.monotonic() + INTERVAL
    while True:
        status, page = node.status(), node.page("healthz")
        wrong = node.wrong()
        if status.get("config", {}).get("errors"):  # the former one is active, and the status says so
            wrong = [problem for problem in wrong if str(BACKLOG) not in problem]
        told = [status["summary"]] if status["state"] == "ready" and status["reconciliations"] > looks + 1 else []
        told += [page[1].strip()] if page[1].startswith("ready") and status["reconciliations"] > looks + 1 else []
        if not wrong or not told:
            return []
        if time.monotonic() > deadline:
            return [f"says {told[0]!r}, but {wrong[0]}"]
        time.sleep(0.05)


def _whole(node: Node, looks: int) -> list[str]:
    """Wait until the node is compliant, and reported so after so many reconciliations. Return the missing parts."""
    lacking: list[str] = []

    def is_whole() -> bool:
        if not node.running():
            return True
        lacking[:] = node.wrong()
        if not node.page("healthz")[1].startswith("ready"):
            lacking.append("/healthz does not say that it is ready")
        status = node.status()
        if status["state"] != "ready" or status["reconciliations"] <= looks:
            lacking.append(f"says {status['summary']!r}")
        lacking.extend(
            f"{one['name']}: {one['detail']}"
            for one in status.get("sources", ())
            if not one["up"] and one["name"] in node.up
        )
        lacking.extend(f"{one['operation']}: {one['error']}" for one in status.get("failures", ()))
        lacking.extend(f"left over: {file}" for file in node.left_over())
        if not node.kept():
            lacking.append("the last good configuration is another one")
        if not lacking and node.calm and not wait(lambda: node.descriptors() == node.calm, INTERVAL):
            now = node.descriptors()
            lacking.append(f"descriptors: {dict(now - node.calm)} more, {dict(node.calm - now)} less")
        return not lacking

    wait(is_whole, _PATIENCE)
    node.broken = bool(lacking) and node.running()
    return lacking if node.running() else []
