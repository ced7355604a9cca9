"""A valid configuration becomes active. An invalid one leaves the last good one active, and is reported once."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipvsd.config import config_files
from ipvsd.config.config_files import MAX_WRITE_SECONDS
from ipvsd.config.parser import ConfigError
from ipvsd.daemon.active_config import GONE, SETTLE, Configured
from tests.asking import said
from tests.trees import make_tree, put

MAIN = "etc/ipvsd/ipvsd.yaml"
KEPT = "var/lib/ipvsd/last-good.json"
BAD = "interval: soon\n"
Log = pytest.CaptureFixture[str]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = make_tree(tmp_path)
    put(root, MAIN, "interval: 30s\n")
    return root


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def configured(tree: Path, clock: Clock, capsys: Log) -> Configured:
    """A started object, whose files have not changed since then."""
    configured = Configured(str(tree), None, clock)
    assert configured.begin()
    assert settled(configured, clock) == (False, False)
    assert configured.due is None
    capsys.readouterr()
    return configured


def settled(configured: Configured, clock: Clock, seconds: float = SETTLE) -> tuple[bool, bool]:
    """Return the results of a reload just before, and just after, these seconds without a change."""
    configured.reload(asked=False)
    clock.now += seconds - 0.01
    before = configured.reload(asked=False)
    clock.now += 0.02
    return before, configured.reload(asked=False)


def test_a_valid_configuration_becomes_active_without_a_message(tree: Path, capsys: Log) -> None:
    configured = Configured(str(tree), None)
    assert configured.begin()
    assert (configured.config.interval, configured.errors, said(capsys)) == (30.0, (), [])
    assert configured.state().files == (f"{tree}/{MAIN}",)


def test_the_time_of_the_last_valid_configuration_is_known(tree: Path, configured: Configured, clock: Clock) -> None:
    first = configured.loaded_at
    put(tree, MAIN, BAD)
    settled(configured, clock)
    assert first is not None
    assert configured.loaded_at == first
    put(tree, MAIN, "interval: 20s\n")
    settled(configured, clock)
    assert configured.loaded_at is not None
    assert configured.loaded_at > first


def test_an_invalid_one_at_the_start_is_replaced_by_the_last_good_one(
    tree: Path, configured: Configured, capsys: Log
) -> None:
    configured.keep()
    put(tree, MAIN, BAD)
    restarted = Configured(str(tree), None)
    assert restarted.begin()
    assert restarted.config == configured.config
    assert restarted.state().errors == restarted.errors != ()
    assert said(capsys)[0] == "error: cannot use the configuration:"
    assert (tree / KEPT).exists()


def test_an_invalid_one_without_a_last_good_one_is_an_error(tree: Path, capsys: Log) -> None:
    put(tree, MAIN, BAD)
    configured = Configured(str(tree), None)
    assert not configured.begin()
    assert len(configured.errors) == 1
    assert said(capsys)[-1] == "error: missing last good configuration; ipvsd does not change the node"


def test_a_named_file_has_no_last_good_configuration(tree: Path, configured: Configured) -> None:
    configured.keep()
    mine = put(tree, "mine.yaml", BAD)
    assert not Configured(str(tree), str(mine)).begin()


def test_a_named_file_is_not_stored_and_no_directory_is_watched(tree: Path) -> None:
    named = Configured(str(tree), str(put(tree, "mine.yaml", "interval: 5s\n")))
    assert named.begin()
    named.keep()
    assert (named.config.interval, named.directories(), (tree / KEPT).exists()) == (5.0, (), False)


def test_a_change_becomes_active_and_is_reported(tree: Path, configured: Configured, clock: Clock, capsys: Log) -> None:
    put(tree, MAIN, "interval: 7s\n")
    assert settled(configured, clock) == (False, True)
    assert configured.config.interval == 7.0
    assert said(capsys) == [f"configuration loaded, {configured.state().hash}"]


def test_without_a_change_nothing_happens_unless_a_person_requests_it(configured: Configured, capsys: Log) -> None:
    assert not configured.reload(asked=False)
    assert said(capsys) == []
    assert configured.reload(asked=True)
    assert said(capsys) == [f"configuration loaded, {configured.state().hash}"]


def test_a_change_without_effect_is_not_reported(tree: Path, configured: Configured, clock: Clock, capsys: Log) -> None:
    put(tree, MAIN, "interval: 30s  # a comment\n")
    assert settled(configured, clock) == (False, False)
    assert said(capsys) == []


def test_an_invalid_change_is_reported_once_and_has_no_effect(
    tree: Path, configured: Configured, clock: Clock, capsys: Log
) -> None:
    before = configured.config
    put(tree, MAIN, BAD)
    assert settled(configured, clock) == (False, False)
    first = said(capsys)
    assert first[0] == "error: cannot use the configuration:"
    assert first[-1] == "warning: ipvsd keeps using the previous configuration"
    assert not configured.reload(asked=False)
    assert said(capsys) == []
    assert not configured.reload(asked=True)
    assert said(capsys) == first
    assert configured.config == before


def test_another_error_is_reported(tree: Path, configured: Configured, clock: Clock, capsys: Log) -> None:
    for text in (BAD, "scheduler: [never]\n"):
        put(tree, MAIN, text)
        settled(configured, clock)
    assert any("scheduler" in line for line in said(capsys))


def test_a_corrected_error_ends_and_is_reported(tree: Path, configured: Configured, clock: Clock, capsys: Log) -> None:
    put(tree, MAIN, BAD)
    settled(configured, clock)
    assert configured.errors
    capsys.readouterr()
    put(tree, MAIN, "interval: 30s\n")
    settled(configured, clock)
    assert configured.errors == configured.state().errors == ()
    assert said(capsys) == [f"configuration loaded, {configured.state().hash}"]


def test_an_invalid_one_is_never_stored(tree: Path, configured: Configured, clock: Clock) -> None:
    configured.keep()
    good = (tree / KEPT).read_bytes()
    put(tree, MAIN, BAD)
    settled(configured, clock)
    configured.keep()
    assert (tree / KEPT).read_bytes() == good


def test_a_failed_store_is_repeated_later(tree: Path, configured: Configured) -> None:
    (tree / "var/lib/ipvsd").rmdir()
    with pytest.raises(FileNotFoundError):
        configured.keep()
    (tree / "var/lib/ipvsd").mkdir()
    configured.keep()
    assert (tree / KEPT).exists()


def test_the_directories_of_the_system_are_watched(tree: Path, configured: Configured) -> None:
    assert {str(tree / "etc/ipvsd"), str(tree / "etc/ipvsd/conf.d")} <= set(configured.directories())


# --- files that are being written ------------------------------------------------------


OPEN = "a program has the file open for writing (ipvsd reads the file once the program closes it)"
HALF, WHOLE = "interval: 7s\n", "interval: 7s\nscheduler: sh\n"


WRITER = """
import sys
with open(sys.argv[1], "wb", 0) as file:
    print(flush=True)
    for line in sys.stdin.buffer:
        file.write(line)
        print(flush=True)
"""


@pytest.fixture
def writer(tree: Path) -> Iterator[Callable[[str], None]]:
    """A program that has truncated the file and has it open.

    It writes the texts that it receives, and ends with an empty one.
    """
    command = [sys.executable, "-IBc", WRITER, str(tree / MAIN)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdin is not None
        assert process.stdout is not None
        input_, output = process.stdin, process.stdout
        output.readline()

        def write(text: str) -> None:
            if not text:
                input_.close()
                process.wait()
            for line in text.splitlines(keepends=True):
                input_.write(line.encode())
                input_.flush()
                output.readline()

        yield write


@pytest.mark.parametrize("text", ["", HALF], ids=["cut off", "half written"])
def test_a_file_that_is_being_written_changes_nothing(
    tree: Path, configured: Configured, clock: Clock, writer: Callable[[str], None], text: str
) -> None:
    configured.keep()
    good = (tree / KEPT).read_bytes()
    if text:
        writer(text)
    for seconds in (SETTLE, 30.0, 100.0):  # the writer waits
        assert settled(configured, clock, seconds) == (False, False)
        assert configured.due is not None
        assert configured.due <= clock.now + 10
    assert configured.waiting[:1] == (f"cannot read {tree}/{MAIN}: {OPEN}",)
    configured.keep()
    assert (tree / KEPT).read_bytes() == good
    writer("scheduler: sh\n")
    writer("")
    assert settled(configured, clock) == (False, True)
    assert (configured.config.scheduler, configured.waiting) == ("sh", ())
    configured.keep()
    assert (tree / KEPT).read_bytes() != good


def test_a_reload_does_not_use_a_file_that_is_being_written(
    tree: Path, configured: Configured, writer: Callable[[str], None], capsys: Log
) -> None:
    writer(HALF)
    assert not configured.reload(asked=True)
    assert configured.config.interval == 30.0
    assert said(capsys) == [f"warning: cannot read the configuration: {tree}/{MAIN}: {OPEN}"]


def test_a_file_that_is_kept_open_is_taken_when_nothing_was_written_for_long(
    tree: Path, configured: Configured, clock: Clock, writer: Callable[[str], None]
) -> None:
    writer(WHOLE)
    long_ago = (tree / MAIN).stat().st_mtime - MAX_WRITE_SECONDS - 1
    os.utime(tree / MAIN, (long_ago, long_ago))
    assert settled(configured, clock) == (False, True)


def test_a_program_that_opens_the_file_while_it_is_read_waits(tree: Path, configured: Configured) -> None:
    # A file is visible completely or not at all, although it is truncated and rewritten repeatedly.
    stop, whole = threading.Event(), {f"interval: {number}s\n" + "# more\n" * 5000 for number in (7, 8)}
    put(tree, MAIN, next(iter(whole)))

    def write() -> None:
        while not stop.is_set():
            for text in whole:
                (tree / MAIN).write_text(text)

    thread = threading.Thread(target=write)
    thread.start()
    try:
        for _ in range(300):
            configured.reload(asked=True)
            assert configured.config.interval in (7.0, 8.0, 30.0)
    finally:
        stop.set()
        thread.join()


def test_lines_that_are_added_one_by_one_are_taken_together(tree: Path, configured: Configured, clock: Clock) -> None:
    put(tree, MAIN, "")
    for line in (HALF, "# more\n", "bridgeNetfilter: false\n", "scheduler: sh\n"):
        with (tree / MAIN).open("a") as file:
            file.write(line)
        assert not configured.reload(asked=False)
        clock.now += SETTLE / 2
    assert settled(configured, clock, SETTLE / 2) == (False, True)
    assert (configured.config.interval, configured.config.scheduler) == (7.0, "sh")


def without(tree: Path) -> None:
    (tree / MAIN).unlink()


def emptied(tree: Path) -> None:
    os.truncate(tree / MAIN, 0)


@pytest.mark.parametrize("lose", [without, emptied], ids=lambda lose: lose.__name__)
def test_a_file_that_is_briefly_absent_or_empty_changes_nothing_and_one_that_stays_away_is_gone(
    tree: Path, configured: Configured, clock: Clock, lose: Callable[[Path], None]
) -> None:
    configured.keep()
    lose(tree)
    assert not configured.reload(asked=False)
    clock.now += GONE - 0.1
    assert not configured.reload(asked=False)
    assert configured.waiting == (
        f"{tree}/{MAIN} is missing or empty (ipvsd accepts this after 10 s, or when the configuration is reloaded)",
    )
    put(tree, MAIN, WHOLE)
    assert settled(configured, clock) == (False, True)
    assert configured.config.scheduler == "sh"
    lose(tree)
    assert settled(configured, clock, GONE) == (False, True)
    assert (configured.config.interval, configured.config.scheduler) == (60.0, "rr")


def test_a_person_means_that_a_file_is_gone(tree: Path, configured: Configured, clock: Clock) -> None:
    configured.keep()
    good = (tree / KEPT).read_bytes()
    without(tree)
    assert configured.reload(asked=True)
    configured.keep()
    assert (tree / KEPT).read_bytes() == good  # it may return
    assert settled(configured, clock) == (False, False)
    configured.keep()
    assert (tree / KEPT).read_bytes() != good


def test_a_drop_in_that_is_replaced_by_rename_is_never_absent(tree: Path, configured: Configured, clock: Clock) -> None:
    put(tree, "etc/ipvsd/conf.d/10-a.yaml", "scheduler: sh\n")
    assert settled(configured, clock) == (False, True)
    (tree / "etc/ipvsd/conf.d/10-a.yaml").rename(tree / "etc/ipvsd/conf.d/10-a.yaml~")
    assert not configured.reload(asked=False)
    clock.now += 1
    put(tree, "etc/ipvsd/conf.d/10-a.yaml", "scheduler: wlc\n")
    assert settled(configured, clock) == (False, True)
    assert configured.config.scheduler == "wlc"


def test_a_volume_whose_link_is_swapped_is_taken_as_a_whole(tree: Path, configured: Configured, clock: Clock) -> None:
    for version, text in (("1", "scheduler: sh\n"), ("2", "scheduler: wlc\n")):
        put(tree, f"etc/ipvsd/..{version}/ipvsd.yaml", text)
    (tree / MAIN).unlink()
    (tree / "etc/ipvsd/..data").symlink_to("..1")
    (tree / MAIN).symlink_to("..data/ipvsd.yaml")
    assert settled(configured, clock) == (False, True)
    (tree / "etc/ipvsd/..data_tmp").symlink_to("..2")
    (tree / "etc/ipvsd/..data_tmp").rename(tree / "etc/ipvsd/..data")
    assert settled(configured, clock) == (False, True)
    assert configured.config.scheduler == "wlc"


def test_a_start_waits_for_a_file_that_is_being_replaced(tree: Path, configured: Configured) -> None:
    configured.keep()
    without(tree)
    waited: list[float] = []

    def pause(seconds: float) -> None:
        waited.append(seconds)
        put(tree, MAIN, WHOLE)

    restarted = Configured(str(tree), None, pause=pause)
    assert restarted.begin()
    assert (restarted.config.scheduler, waited) == ("sh", [SETTLE])


def test_a_start_does_not_wait_for_a_file_that_never_was(tree: Path) -> None:
    without(tree)
    waited: list[float] = []
    assert Configured(str(tree), None, pause=waited.append).begin()
    assert waited == []


def test_a_start_does_not_use_a_file_that_is_being_written(
    tree: Path, configured: Configured, writer: Callable[[str], None], capsys: Log
) -> None:
    configured.keep()
    writer(HALF)
    restarted = Configured(str(tree), None, pause=lambda _: None)
    assert restarted.begin()
    assert restarted.config.interval == 30.0
    assert "open for writing" in said(capsys)[1]


def test_the_initial_configuration_is_stored_after_a_time_without_changes(tree: Path, clock: Clock) -> None:
    put(tree, MAIN, HALF)
    started = Configured(str(tree), None, clock)
    assert started.begin()
    assert started.due == SETTLE
    started.keep()
    assert not (tree / KEPT).exists()
    put(tree, MAIN, WHOLE)  # it was not complete
    settled(started, clock)
    started.keep()
    assert "scheduler" in (tree / KEPT).read_text()


def test_a_file_that_is_open_for_writing_is_not_stored(tree: Path, clock: Clock) -> None:
    started = Configured(str(tree), None, clock)
    assert started.begin()
    with (tree / MAIN).open("r+") as file:
        assert settled(started, clock) == (False, False)
        started.keep()
        assert not (tree / KEPT).exists()
        file.write(WHOLE)
    assert settled(started, clock) == (False, True)
    started.keep()
    assert "scheduler" in (tree / KEPT).read_text()


def test_a_command_does_not_use_a_file_that_is_being_written(tree: Path, writer: Callable[[str], None]) -> None:
    writer(HALF)
    with pytest.raises(ConfigError) as refused:
        config_files.load(str(tree))
    assert refused.value.errors == (f"{tree}/{MAIN}: cannot read the file: {OPEN}",)
    assert config_files.load(str(tree), str(tree / MAIN)).interval == 7.0  # the program itself may read it
    writer("")
    assert config_files.load(str(tree)).interval == 7.0
