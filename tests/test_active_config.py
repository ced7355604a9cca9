"""A valid configuration becomes active. An invalid one leaves the last good one active, and is reported once."""

from __future__ import annotations

from pathlib import Path

import pytest

from ipvsd.daemon.active_config import SETTLE, Configured
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
