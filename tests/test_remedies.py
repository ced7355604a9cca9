"""Every remedy is carried out on the bench, or the documents say why not."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipvsd import remedies
from ipvsd.model import ModuleVerdict
from tests.samples import kernel

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/remedies.md").read_text()
ROWS = {row[0]: row[1:] for row in re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", TEXT, re.MULTILINE)}
BENCH = "".join(path.read_text() for path in sorted((ROOT / "tests/vm").glob("test_*.py")))


@pytest.mark.parametrize("verdict", ModuleVerdict, ids=lambda verdict: verdict.value)
def test_every_remedy_is_carried_out_or_the_reason_is_given(verdict: ModuleVerdict) -> None:
    assert (verdict.value in ROWS) is bool(remedies.module(verdict, kernel(), "ip_vs"))
    if verdict.value in ROWS:
        assert re.match(r"(yes|no: \w)", ROWS[verdict.value][1])


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[1].startswith("yes")])
def test_what_is_said_to_be_carried_out_is_on_the_bench(name: str) -> None:
    assert name in BENCH


@pytest.mark.parametrize("name", [name for name, row in ROWS.items() if row[1].startswith("no: ")])
def test_what_is_not_carried_out_would_need_more_than_the_bench_has(name: str) -> None:
    commands = re.findall(r"`((?:ipvsd|depmod) [^`]+)`", ROWS[name][0])
    assert commands == []
