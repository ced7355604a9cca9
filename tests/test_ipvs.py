"""The question to the kernel's IPVS, with other children in place of the one that asks."""

from __future__ import annotations

import sys
import time

import pytest

from ipvsd.ipvs import Asker, Question, _parse
from ipvsd.model import (
    ModuleFinding,
    ModuleVerdict,
    Need,
    Reason,
    ReasonKind,
    WantedModule,
)
from ipvsd.report import Ipvs
from ipvsd.wake import Mailbox

NO_ANSWER = Ipvs(None, detail="the child that asks gave no answer")
ANSWER = '{"up": true, "version": "1.2.1", "table_size": 4096, "detail": "answers"}'


def child(script: str) -> Question:
    return Question((sys.executable, "-I", "-S", "-c", script))


@pytest.mark.parametrize("out", [b"", b"{", b"[]", b"1", b"{}", b"null", b"\xff", b'{"up": true, "version": "1"}'])
def test_a_child_that_says_nothing_useful_leaves_it_open(out: bytes) -> None:
    assert _parse(out) == NO_ANSWER


def test_a_childs_answer_is_taken() -> None:
    question = child(f"print({ANSWER!r})")
    while not question.read():
        pass
    assert question.end() == Ipvs(True, "1.2.1", 4096, "answers")


def test_a_child_that_lingers_after_its_answer_is_ended_and_believed() -> None:
    question = child(f"import time; print({ANSWER!r}, flush=True); time.sleep(60)")
    question.read()
    begun = time.monotonic()
    assert question.end().up
    assert time.monotonic() - begun < 30


def test_a_child_that_hangs_is_ended() -> None:
    assert child("import time; time.sleep(60)").end() == NO_ANSWER


def finding(verdict: ModuleVerdict) -> ModuleFinding:
    return ModuleFinding(WantedModule("ip_vs", Need.REQUIRED, "test"), verdict, "")


def test_nothing_is_asked_while_ip_vs_is_not_live() -> None:
    with Mailbox() as mailbox:
        asker = Asker(mailbox, local=True)
        asker.consider([finding(ModuleVerdict.LOADABLE)], ())
        assert asker.answer == Ipvs(False, detail="module ip_vs is not live")
        asker.close()


def test_nothing_is_asked_about_another_kernel() -> None:
    with Mailbox() as mailbox:
        asker = Asker(mailbox, local=False)
        asker.consider([finding(ModuleVerdict.LIVE)], ())
        assert asker.answer.detail == "not asked: the running kernel is another one"


def test_the_answer_wakes_the_loop_and_is_asked_for_once() -> None:
    with Mailbox() as mailbox:
        asker = Asker(mailbox, local=True)
        asker.consider([finding(ModuleVerdict.LIVE)], ())
        reasons: tuple[Reason, ...] = ()
        while not reasons:
            reasons = mailbox.take(60)
        assert [reason.kind for reason in reasons] == [ReasonKind.IPVS]
        asker.consider([finding(ModuleVerdict.LIVE)], reasons)
        assert mailbox.take(0) == ()
        assert asker.answer.detail != "not asked yet"
        asker.close()
