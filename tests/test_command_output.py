"""The output of programs, bounded in size and time."""

from __future__ import annotations

import contextlib
import os
import resource

import pytest

from ipvsd.runtime import command_output
from ipvsd.runtime.command_output import Output

PATIENCE = 10.0
FD_SETSIZE = 1024  # of glibc


def shell(script: str, limit: int = 1000, seconds: float = PATIENCE) -> Output:
    return command_output.run(("/bin/sh", "-c", script), limit, seconds)


def test_both_streams_and_the_exit_code_are_returned() -> None:
    assert shell("echo out; echo err >&2; exit 3") == Output(3, b"out\nerr\n")


def test_a_program_with_endless_output_is_ended_at_the_limit() -> None:
    assert shell("while :; do echo x; done", limit=10) == Output(None, b"x\n" * 5)


def test_a_program_that_does_not_end_is_ended_in_time() -> None:
    assert shell("echo x; exec sleep 60", seconds=0.1) == Output(None, b"x\n")


def test_a_program_can_be_run_with_thousands_of_open_descriptors() -> None:
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 4096), hard))
    with contextlib.ExitStack() as stack:
        stack.callback(resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard))
        while stack.enter_context(open(os.devnull)).fileno() <= FD_SETSIZE:
            pass
        assert shell("echo out") == Output(0, b"out\n")


def test_the_environment_of_the_caller_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")

    assert shell('echo "$SECRET$LC_ALL"').text == b"C\n"


def test_a_missing_program_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        command_output.run(("/nonexistent/program",), 10, PATIENCE)
