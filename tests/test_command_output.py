"""The output of programs, bounded in size and time."""

from __future__ import annotations

import pytest

from ipvsd.runtime import command_output
from ipvsd.runtime.command_output import Output

PATIENCE = 10.0


def shell(script: str, limit: int = 1000, seconds: float = PATIENCE) -> Output:
    return command_output.run(("/bin/sh", "-c", script), limit, seconds)


def test_both_streams_and_the_exit_code_are_returned() -> None:
    assert shell("echo out; echo err >&2; exit 3") == Output(3, b"out\nerr\n")


def test_a_program_with_endless_output_is_ended_at_the_limit() -> None:
    assert shell("while :; do echo x; done", limit=10) == Output(None, b"x\n" * 5)


def test_a_program_that_does_not_end_is_ended_in_time() -> None:
    assert shell("echo x; exec sleep 60", seconds=0.1) == Output(None, b"x\n")


def test_the_environment_of_the_caller_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET", "x")

    assert shell('echo "$SECRET$LC_ALL"').text == b"C\n"


def test_a_missing_program_is_an_error() -> None:
    with pytest.raises(FileNotFoundError):
        command_output.run(("/nonexistent/program",), 10, PATIENCE)
