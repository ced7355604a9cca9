"""Attribution of drifts on a real kernel, which reports each write just before it stores the value."""

from __future__ import annotations

import contextlib
import os
import shutil
import subprocess
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Optional

import pytest

from tests.namespace.attached import ALL, FILE, KEY, Node, by_another_process, by_tee


@contextlib.contextmanager
def writing(*files: Path) -> Iterator[Callable[[], None]]:
    """Run a shell that writes a 0 to the next of these files at each call, and then returns."""
    script = "".join(f"read answer; echo 0 > {file}; echo done; " for file in files)
    command = ["sh", "-c", f"{script} read answer"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as shell:
        assert shell.stdin is not None
        assert shell.stdout is not None
        asked, answers = shell.stdin, shell.stdout

        def write() -> None:
            asked.write(b"\n")
            asked.flush()
            assert answers.readline() == b"done\n"

        yield write
        asked.close()


@pytest.mark.parametrize(
    ("late", "then", "named"),
    [
        pytest.param(0.0, (), ["sh"], id="a repair for another event"),
        pytest.param(0.0, (by_tee,), ["sh", "tee"], id="a write of the same value just after the repair"),
        pytest.param(30.0, None, ["sh"], id="an event that arrives late"),
    ],
)
def test_a_drift_is_attributed_to_its_own_writer(
    node: Node, late: float, then: Optional[Sequence[Callable[[], None]]], named: list[str]
) -> None:
    by_another_process("0")
    node.late = late
    if then is not None:
        node.event()
        for write in then:  # reported together with the first one
            write()
    node.repaired(len(named))
    assert node.named() == named


def test_two_writes_before_the_event_are_the_cause_of_both_drifts(node: Node) -> None:
    by_tee()
    node.repaired(1)
    with writing(FILE, ALL) as write:
        write()
        node.event()
        write()
        node.repaired(3)
    assert node.named() == ["tee", "sh", "sh"]


def test_a_writer_that_alternates_with_another_is_identified_for_each_drift(node: Node) -> None:
    with writing(FILE, FILE) as write:
        write()
        node.event()
        by_tee()
        node.event()
        write()
        node.repaired(3)
    assert node.named() == ["sh", "tee", "sh"]


def test_two_alternating_writers_are_both_identified(node: Node) -> None:
    names = ["sh", "tee"] * 10
    for count, name in enumerate(names, 1):
        by_another_process("0") if name == "sh" else by_tee()
        node.repaired(count)
    assert node.named() == names


def test_ninety_five_of_a_hundred_are_named(node: Node) -> None:
    sysctl = shutil.which("sysctl", path=f"{os.environ['PATH']}:/usr/sbin:/sbin")
    assert sysctl, "procps is not installed"
    right = 0
    for count in range(1, 101):
        with subprocess.Popen([sysctl, "-q", "-w", f"{KEY}=0"]) as process:
            node.repaired(count)
        right += (node.seen().writer.pid, node.seen().writer.comm) == (process.pid, "sysctl")
    assert (len(node.repairs), right >= 95) == (100, True)
