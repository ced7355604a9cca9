"""The last repairs, kept across restarts and damage of their file, and the command that prints them."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest

from ipvsd.cli import main
from ipvsd.model.report import Attribution, Repair, Writer
from ipvsd.reporting import status_document
from ipvsd.state import repair_history
from ipvsd.state.repair_history import MAX_REPAIRS, PATH, RepairHistory
from ipvsd.state.stored_json import UnusableError
from tests.samples import NOW, WRITER
from tests.scarce import few_descriptors, full
from tests.trees import put

Output = pytest.CaptureFixture[str]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "run/ipvsd").mkdir(parents=True)
    return tmp_path


def items(first: int, number: int = 1) -> list[dict[str, Any]]:
    return [{"name": f"net.key{index}"} for index in range(first, first + number)]


def names(tree: Path) -> list[str]:
    return [item["name"] for item in repair_history.read(str(tree)).repairs]


def lines(tree: Path) -> int:
    return len((tree / PATH).read_bytes().splitlines())


def test_added_repairs_are_read_in_order_even_after_a_restart(tree: Path) -> None:
    assert repair_history.read(str(tree)) == ([], 0)
    for start in range(3):
        kept = RepairHistory(str(tree))
        kept.add([])
        kept.add(items(2 * start))
        kept.add(items(2 * start + 1))
    assert names(tree) == [f"net.key{number}" for number in range(6)]


def test_no_more_than_the_last_ones_are_kept(tree: Path) -> None:
    kept = RepairHistory(str(tree))
    longest = 0
    for number in range(3 * MAX_REPAIRS):
        kept.add(items(number))
        longest = max(longest, lines(tree))
    assert names(tree) == [f"net.key{number}" for number in range(2 * MAX_REPAIRS, 3 * MAX_REPAIRS)]
    assert longest <= 2 * MAX_REPAIRS


def test_more_at_once_than_are_kept_leave_the_last_ones(tree: Path) -> None:
    kept = RepairHistory(str(tree))
    kept.add(items(0))
    kept.add(items(1, 5 * MAX_REPAIRS))
    assert names(tree) == [f"net.key{number}" for number in range(4 * MAX_REPAIRS + 1, 5 * MAX_REPAIRS + 1)]


@pytest.mark.parametrize(
    "damage",
    [
        pytest.param(b'{"name": "net.ke', id="a line that a crash cut"),
        pytest.param(b"\n\n", id="empty lines"),
        pytest.param(b'[1, 2]\n"text"\nnull\n7\n', id="JSON that is no object"),
        pytest.param(b"\xff\xfe\0\n", id="no text"),
        pytest.param(b"[" * 100_000 + b"\n", id="nested without end"),
        pytest.param(b'{"name": ' + b"9" * 10_000 + b"}\n", id="a number without end"),
    ],
)
def test_damaged_lines_are_skipped(tree: Path, damage: bytes) -> None:
    RepairHistory(str(tree)).add(items(1))
    with (tree / PATH).open("ab") as file:
        file.write(damage)
    assert names(tree)[:1] == ["net.key1"]
    restarted = RepairHistory(str(tree))
    restarted.add(items(2))
    restarted.add(items(3))
    assert [name for name in names(tree) if str(name).startswith("net")] == ["net.key1", "net.key2", "net.key3"]


def test_a_crash_before_the_new_file_took_its_place_loses_nothing(tree: Path) -> None:
    RepairHistory(str(tree)).add(items(1))
    put(tree, "run/ipvsd/.history.jsonl.0123456789ab.new", '{"name": "half a li')
    assert names(tree) == ["net.key1"]
    RepairHistory(str(tree)).add(items(2))
    assert names(tree) == ["net.key1", "net.key2"]


@pytest.mark.parametrize("restarted", [False, True], ids=["a line is added", "the file is made anew"])
def test_with_a_full_file_system_the_history_stays_and_new_repairs_follow_later(tree: Path, restarted: bool) -> None:
    kept = RepairHistory(str(tree))
    kept.add(items(0, MAX_REPAIRS))
    kept = RepairHistory(str(tree)) if restarted else kept
    before = (tree / PATH).read_bytes()
    for number in range(2):
        with full(len(before) - 1 + 7 * (not restarted)), pytest.raises(OSError, match="File too large"):
            kept.add(items(MAX_REPAIRS + number))
        assert (tree / PATH).read_bytes() == before
    kept.add(items(MAX_REPAIRS + 2))
    assert names(tree) == [f"net.key{number}" for number in range(3, MAX_REPAIRS + 3)]
    assert os.listdir(tree / "run/ipvsd") == ["history.jsonl"]


def test_without_descriptors_nothing_is_replaced_and_nothing_is_lost(tree: Path) -> None:
    RepairHistory(str(tree)).add(items(1))
    restarted = RepairHistory(str(tree))
    with few_descriptors(), pytest.raises(OSError, match="Too many open files"):
        restarted.add(items(2))
    restarted.add(items(3))
    assert names(tree) == ["net.key1", "net.key2", "net.key3"]


def test_a_file_that_is_gone_is_made_anew(tree: Path) -> None:
    kept = RepairHistory(str(tree))
    kept.add(items(1))
    (tree / PATH).unlink()
    kept.add(items(2))
    assert names(tree) == ["net.key2"]


def test_an_untrusted_history_is_replaced(tree: Path) -> None:
    os.mkfifo(tree / PATH)
    with pytest.raises(UnusableError, match="not a regular file"):
        repair_history.read(str(tree))
    RepairHistory(str(tree)).add(items(1))
    assert names(tree) == ["net.key1"]


def test_the_end_of_a_huge_file_is_read(tree: Path) -> None:
    with (tree / PATH).open("wb") as file:
        file.truncate(1 << 40)  # a sparse file
        file.seek(0, os.SEEK_END)
        file.write(b'\n{"name": "last"}\n')
    assert names(tree) == ["last"]
    RepairHistory(str(tree)).add(items(1))
    assert ((tree / PATH).stat().st_size < 100, names(tree)) == (True, ["last", "net.key1"])


@pytest.mark.parametrize("mask", [0o077, 0o000])
def test_everyone_may_read_it_and_only_root_write(tree: Path, mask: int) -> None:
    before = os.umask(mask)
    try:
        RepairHistory(str(tree)).add(items(1))
    finally:
        os.umask(before)
    assert (tree / PATH).stat().st_mode & 0o777 == 0o644


def test_a_link_in_its_place_is_not_followed(tree: Path) -> None:
    (tree / "victim").write_text("untouched")
    kept = RepairHistory(str(tree))
    (tree / f"{PATH}.new").symlink_to(tree / "victim")
    kept.add(items(1))
    (tree / PATH).unlink()
    (tree / PATH).symlink_to(tree / "victim")
    with pytest.raises(OSError, match="not a regular file"):
        kept.add(items(2))
    assert (tree / "victim").read_text() == "untouched"


def test_a_directory_that_is_missing_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError):
        RepairHistory(str(tmp_path)).add(items(1))
    assert repair_history.read(str(tmp_path)) == ([], 0)


# --- the command ------------------------------------------------------------------------

BY_WRITER = status_document.encode_repair(
    Repair("net.ipv4.ip_forward", "0", "1", NOW, 0.0021, "1", str(WRITER), WRITER, Attribution.CERTAIN)
)
LONG = status_document.encode_repair(
    Repair(
        "net.ipv4.tcp_rmem", "4096 87380 4194304", "4096 131072 6291456", NOW, 0.0021, "",
        "agent[7] of pod 0a1b2c3d-4e5f-6071-8293-a4b5c6d7e8f9", Writer(7, "agent"), Attribution.LIKELY,
    )
)  # fmt: skip


def printed(tree: Path, capsys: Output, *arguments: str) -> str:
    assert main(["history", "--root", str(tree), *arguments]) == 0
    return capsys.readouterr().out


def test_the_command_prints_item_time_duration_and_writer(tree: Path, capsys: Output) -> None:
    RepairHistory(str(tree)).add([BY_WRITER])
    assert printed(tree, capsys) == (
        "2027-01-15T08:00:00.000Z  net.ipv4.ip_forward: 0 -> 1 in 2.1 ms\n      by sysctl[4242] of cron.service\n"
    )


def test_the_command_keeps_to_the_width(tree: Path, capsys: Output) -> None:
    RepairHistory(str(tree)).add([LONG])
    out = printed(tree, capsys).splitlines()
    assert max(map(len, out)) <= 80
    assert " ".join(" ".join(out).split()).endswith(f"probably by {LONG['writer_text']}")


def test_the_command_prints_as_many_as_are_asked_for(tree: Path, capsys: Output) -> None:
    RepairHistory(str(tree)).add([{**BY_WRITER, "name": f"net.key{number}"} for number in range(30)])
    assert printed(tree, capsys).count("->") == 20
    out = printed(tree, capsys, "--lines", "2")
    assert ("net.key28:" in out, "net.key29:" in out, out.count("->")) == (True, True, 2)


def test_the_command_prints_the_stored_json(tree: Path, capsys: Output) -> None:
    RepairHistory(str(tree)).add([BY_WRITER, LONG])
    assert json.loads(printed(tree, capsys, "--output", "json")) == [BY_WRITER, LONG]


def test_without_repairs_the_command_says_so(tree: Path, capsys: Output) -> None:
    assert printed(tree, capsys) == "no repairs since boot\n"
    assert json.loads(printed(tree, capsys, "--output", "json")) == []


@pytest.mark.parametrize(
    ("damage", "code", "complaint"),
    [
        pytest.param(b'{"name": NaN}\n', 2, "skipped 1 damaged line in the history", id="NaN"),
        pytest.param(b"[" * 100_000, 2, "skipped 1 damaged line in the history", id="deep"),
        pytest.param(b"\xff\n[]\n", 2, "skipped 2 damaged lines in the history", id="no text"),
        pytest.param(b'{"name": "net.a"}\n{"na', 0, "skipped 1 damaged line in the history", id="cut off"),
        pytest.param(b'{"name": "net.a", "time": "2999-01-01T00:00:00.000Z"}\n', 0,
                     "1 repair is dated in the future (the clock was set back)", id="from the future"),
    ],
)  # fmt: skip
def test_the_command_reports_damage(tree: Path, capsys: Output, damage: bytes, code: int, complaint: str) -> None:
    (tree / PATH).write_bytes(damage)
    assert main(["history", "--root", str(tree)]) == code
    out, err = capsys.readouterr()
    assert (err, "no repairs since boot" in out) == (f"ipvsd: {complaint}\n", False)
    assert main(["history", "--root", str(tree), "--output", "json"]) == code
    found = json.loads(capsys.readouterr().out)
    assert found["errors"] == [complaint] if code else [item["name"] for item in found] == ["net.a"]


def test_the_command_reports_a_path_that_is_not_a_file(tree: Path, capsys: Output) -> None:
    os.mkfifo(tree / PATH)
    assert main(["history", "--root", str(tree)]) == 2
    assert capsys.readouterr().err.startswith("ipvsd: cannot read the history: not a regular file")
