"""The machinery of the properties: slow inputs, failures, and kept inputs."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import strategies as st

from tests.fuzz import properties
from tests.fuzz.properties import KEPT, TooSlowError, fuzz, limited


def forever() -> None:
    while True:
        pass


def catastrophic() -> None:
    re.match(r"(a*)*b", "a" * 40)


@pytest.mark.parametrize("work", [forever, catastrophic])
def test_a_slow_input_is_stopped(work: properties.Property) -> None:
    with pytest.raises(TooSlowError), limited(0.02):
        work()


def test_kept_inputs_are_tried_first() -> None:
    seen: list[bytes] = []

    @fuzz(st.binary(max_size=2), kept="yaml", quick=3)
    def holds(data: bytes) -> None:
        seen.append(data)

    holds()
    kept = [file.read_bytes() for file in sorted((KEPT / "yaml").iterdir())]
    assert seen[: len(kept)] == kept
    assert len(seen) > len(kept)


def test_a_property_that_does_not_hold_fails_with_its_smallest_input() -> None:
    seen: list[bytes] = []

    @fuzz(st.binary(), quick=100)
    def fails(data: bytes) -> None:
        seen.append(data)
        assert len(data) < 3

    with pytest.raises(AssertionError):
        fails()
    assert seen[-1] == b"\0\0\0"


def test_a_failure_explains_how_to_keep_its_input(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(properties, "FOUND", tmp_path)
    assert (
        properties._how_to_keep("name", "", (b"a", 1)) == "To keep it: write '@example(b'a', 1)' below @fuzz of name."
    )
    command = properties._how_to_keep("name", "yaml", (b"a",)).split()
    assert Path(command[4]).read_bytes() == b"a"
    assert command[5].startswith(f"{KEPT}/yaml/")
