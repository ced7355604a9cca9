"""The query of the kernel's IPVS, with other children in place of the real one."""

from __future__ import annotations

import contextlib
import errno
import os
import shutil
import subprocess
import sys
import time
from pathlib import Path

import pytest

from ipvsd.kernel import ipvs_probe
from ipvsd.kernel.ipvs_probe import IpvsProbe, ProbeProcess, _describe_error, _parse
from ipvsd.model.report import Ipvs
from ipvsd.model.verdicts import ModuleVerdict
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind
from tests.samples import module
from tests.scarce import few_descriptors

NO_ANSWER = Ipvs(None, detail="the query returned no response")
ANSWER = '{"up": true, "version": "1.2.1", "table_size": 4096, "detail": "responded"}'


def child(script: str) -> ProbeProcess:
    return ProbeProcess((sys.executable, "-I", "-S", "-c", script))


@pytest.mark.parametrize("out", [b"", b"{", b"[]", b"1", b"{}", b"null", b"\xff", b'{"up": true, "version": "1"}'])
def test_invalid_output_of_the_child_means_unknown(out: bytes) -> None:
    assert _parse(out) == NO_ANSWER


def test_a_childs_answer_is_taken() -> None:
    process = child(f"print({ANSWER!r})")
    while not process.read():
        pass
    assert process.finish() == Ipvs(True, "1.2.1", 4096, "responded")


def test_a_child_that_stays_after_its_reply_is_ended_and_its_reply_used() -> None:
    process = child(f"import time; print({ANSWER!r}, flush=True); time.sleep(60)")
    process.read()
    begun = time.monotonic()
    assert process.finish().up
    assert time.monotonic() - begun < 30


def test_a_child_that_hangs_is_ended() -> None:
    assert child("import time; time.sleep(60)").finish() == NO_ANSWER


def test_the_child_imports_modules_from_the_same_places_as_its_parent(tmp_path: Path) -> None:
    package = Path(ipvs_probe.__file__).parents[1]
    shutil.copytree(package, tmp_path / "private/ipvsd", ignore=shutil.ignore_patterns("__pycache__"))
    stub = "raise SystemExit(print(__file__))"
    (tmp_path / "private/pyroute2").mkdir()
    (tmp_path / "private/pyroute2/__init__.py").write_text(stub)
    parent = (
        f"import sys; sys.path.insert(0, {str(tmp_path / 'private')!r})\n"
        "from ipvsd.kernel.ipvs_probe import ProbeProcess\n"
        "process = ProbeProcess()\n"
        "while not process.read(): pass\n"
        "print(process._output.decode())"
    )
    done = subprocess.run([sys.executable, "-IB", "-c", parent], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == str(tmp_path / "private/pyroute2/__init__.py")
    assert not list(tmp_path.rglob("__pycache__"))


@pytest.mark.parametrize(
    ("number", "asked", "up"),
    [
        (errno.ENOENT, False, False), (errno.ENOMEM, False, None), (errno.EPERM, False, None),
        (errno.EPERM, True, None), (errno.ENOMEM, True, None), (errno.EOPNOTSUPP, True, False),
    ],
)  # fmt: skip
def test_only_a_missing_family_is_one(number: int, asked: bool, up: bool | None) -> None:
    assert _describe_error(number, asked).up is up


@pytest.mark.parametrize(
    ("local", "verdict", "answer"),
    [
        (True, ModuleVerdict.LOADABLE, Ipvs(False, detail="the ip_vs module is not live")),
        (False, ModuleVerdict.LIVE, Ipvs(None, detail="not queried, because the tree belongs to a different kernel")),
    ],
)
def test_nothing_is_asked_about_another_kernel_or_while_ip_vs_is_not_live(
    local: bool, verdict: ModuleVerdict, answer: Ipvs
) -> None:
    with EventLoop() as loop, contextlib.closing(IpvsProbe(loop, local)) as probe:
        probe.update([module(verdict)], ())
        assert probe.answer == answer


def test_the_answer_wakes_the_loop_and_is_asked_for_once() -> None:
    with EventLoop() as loop, contextlib.closing(IpvsProbe(loop, local=True)) as probe:
        probe.update([module()], ())
        reasons: tuple[Reason, ...] = ()
        while not reasons:
            reasons = loop.run_until_reason(60)
        assert [reason.kind for reason in reasons] == [ReasonKind.IPVS]
        probe.update([module()], reasons)
        assert loop.run_until_reason(0) == ()
        assert probe.answer.detail != "not queried yet"


def test_a_child_that_cannot_be_started_costs_no_descriptor() -> None:
    before = set(os.listdir("/proc/self/fd"))
    with few_descriptors(left=1), pytest.raises(OSError, match="Too many open files"):
        child("")
    assert set(os.listdir("/proc/self/fd")) == before
