"""State that ipvsd stores: every reader reports damage as damage."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

import pytest

from ipvsd import __version__
from ipvsd.config import config_files
from ipvsd.daemon.active_config import Configured
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reporting.status_document import build_document
from ipvsd.state import last_good_config, status_file, stored_json
from tests.asking import Output, run
from tests.samples import module, report, sysctl
from tests.trees import make_tree, put

DAMAGED = "ipvsd: cannot read the daemon's status: the status file is damaged"
KEPT = "var/lib/ipvsd/last-good.json"


def now() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def good() -> dict[str, Any]:
    """Return a status document from the daemon in which every list has an item."""
    absent = module(ModuleVerdict.ABSENT, "ip_vs_sh", remedy="install it")
    made = report(module(), absent, sysctl(SysctlVerdict.COMPLIANT), sysctl(SysctlVerdict.NONCOMPLIANT, found=None))
    found = {**build_document(made._replace(boottime=now())), "events_lost": 1}
    parameter = {**found["sysctls"][0], "name": "ip_vs.conn_tab_bits", "members": {"compliant": 1, "total": 2}}
    config = {**found["config"], "errors": ["f:1: x: unknown key"]}
    written = json.dumps({**found, "notes": ["note"], "parameters": [parameter], "config": config})
    read: dict[str, Any] = json.loads(written)
    return read


def status(tree: Path, capsys: Output, *output: str) -> tuple[int, str, str]:
    return run(capsys, "status", "--root", tree, *output)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    (tmp_path / "run/ipvsd").mkdir(parents=True)
    return tmp_path


def test_a_valid_document_is_used(tree: Path, capsys: Output) -> None:
    status_file.write(str(tree), good())
    code, out, err = status(tree, capsys)
    assert (code, err) == (0, "")
    assert out.startswith("ready: ")


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        pytest.param("", "the file is damaged: Expecting value: line 1 column 1 (char 0)", id="empty"),
        pytest.param("[" * 100_000, "the file is damaged: nested too deeply", id="nested lists"),
        pytest.param('{"a":' * 100_000, "the file is damaged: nested too deeply", id="nested objects"),
        pytest.param('{"boottime": NaN}', "the file is damaged: invalid number NaN", id="NaN"),
        pytest.param('{"boottime": -Infinity}', "the file is damaged: invalid number -Infinity", id="infinity"),
        pytest.param('{"boottime": 1e999}', "the file is damaged: invalid number 1e999", id="as good as infinity"),
        pytest.param('{"boottime": -1e300}', "the file is damaged: invalid number -1e300", id="hundreds of digits"),
        pytest.param('{"a": ' + "9" * 500_000 + "}", f"the file is damaged: invalid number {'9' * 20}...", id="digits"),
        pytest.param("[]", "the file is damaged: invalid document", id="no object"),
        pytest.param("{}", "missing boottime", id="nothing in it"),
        pytest.param(None, "the status file is missing (", id="no file"),
        pytest.param('{"boottime": "x"}', "the file is damaged: invalid boottime", id="a text for a number"),
        pytest.param("\udcff", "the file is damaged: ", id="no text"),
        pytest.param(
            '{"version": "9.0\\u001b[2J"}',
            f"version mismatch: the file is from ipvsd 9.0\\x1b[2J, this command is version {__version__}: missing "
            "boottime",
            id="another version",
        ),
    ],
)
def test_damage_is_reported_and_is_not_absence(tree: Path, capsys: Output, text: Optional[str], complaint: str) -> None:
    if text is not None:
        (tree / status_file.PATH).write_bytes(text.encode("utf-8", "surrogateescape"))
    code, out, err = status(tree, capsys)
    assert (code, out) == (2, "")
    assert err.startswith(f"ipvsd: cannot read the daemon's status: {complaint}")
    assert complaint.endswith((" ", "(")) or err.endswith(f"{complaint}\n")


def test_a_document_that_was_cut_off_anywhere_is_damaged(tree: Path, capsys: Output) -> None:
    text = json.dumps(good())
    for length in range(0, len(text) - 1, 97):
        put(tree, status_file.PATH, text[:length])
        code, out, err = status(tree, capsys)
        complaint = "ipvsd: cannot read the daemon's status: the file is damaged: "
        assert (code, out, err.startswith(complaint)) == (2, "", True)


@pytest.mark.parametrize(("ahead", "code"), [(0.4, 0), (5000.0, 2)])
def test_a_document_from_the_future_is_unknown(tree: Path, capsys: Output, ahead: float, code: int) -> None:
    status_file.write(str(tree), {**good(), "boottime": now() + ahead})
    found, _, err = status(tree, capsys)
    assert (found, "s in the future" in err) == (code, code == 2)


def test_a_document_of_another_version_is_used_if_it_has_all_keys(tree: Path, capsys: Output) -> None:
    status_file.write(str(tree), {**good(), "version": "0.0.1", "new": {"key": 1}})
    code, out, err = status(tree, capsys)
    assert (code, out.startswith("ready: ")) == (0, True)
    mismatch = f"the daemon is version 0.0.1, this command is version {__version__}"
    assert err == f"ipvsd: version mismatch: {mismatch} (run 'systemctl restart ipvsd')\n"


def test_a_sysctl_without_an_origin_is_damage(tree: Path) -> None:
    first, *others = good()["sysctls"]
    damaged = {key: value for key, value in first.items() if key != "origin"}
    status_file.write(str(tree), {**good(), "sysctls": [damaged, *others]})

    with pytest.raises(stored_json.UnusableError, match="origin"):
        status_file.read(str(tree))


@pytest.mark.parametrize("state", ["splendid", "", "\x1b[2J"])
def test_an_unknown_state_is_damage(tree: Path, capsys: Output, state: str) -> None:
    status_file.write(str(tree), {**good(), "state": state})
    assert status(tree, capsys)[::2] == (2, f"{DAMAGED}: invalid state {state!a}\n")


@pytest.mark.parametrize("interval", [-1, 0, 86_401, 1e18])
def test_an_excessive_interval_is_damage(tree: Path, capsys: Output, interval: float) -> None:
    document = good()
    status_file.write(str(tree), {**document, "config": {**document["config"], "interval": interval}})
    assert status(tree, capsys)[::2] == (2, f"{DAMAGED}: invalid config.interval\n")


def keys(value: Any, path: tuple[str, ...] = ()) -> Iterator[tuple[str, ...]]:
    """Yield the path of each key of a document. The first item stands for all of a list."""
    value = value[0] if isinstance(value, list) and value else value
    for key, item in value.items() if isinstance(value, dict) else ():
        yield (*path, key)
        yield from keys(item, (*path, key))


def without(document: Any, path: tuple[str, ...]) -> Any:
    holder = document
    for key in path[:-1]:
        holder = holder[key][0] if isinstance(holder[key], list) else holder[key]
    del holder[path[-1]]
    return document


@pytest.mark.parametrize("path", keys(good()), ids=".".join)
def test_a_key_that_is_missing_leads_to_no_traceback(tree: Path, capsys: Output, path: tuple[str, ...]) -> None:
    put(tree, status_file.PATH, json.dumps(without(good(), path)))
    code, out, err = status(tree, capsys)
    assert code == 0 or (code, out) == (2, "")
    assert code == 0 or err.startswith("ipvsd: cannot read the daemon's status: missing ")


def test_on_the_systems_own_paths_another_users_file_is_not_believed(tmp_path: Path) -> None:
    file = put(tmp_path, "x", "{}")
    file.chmod(0o666)
    with pytest.raises(stored_json.UnusableError, match=r"users other than root can write|belongs to uid \d+"):
        stored_json.read("/", str(file))
    assert stored_json.read(str(tmp_path), "x") == b"{}"


def test_the_end_of_a_large_file_is_read_if_that_suffices(tmp_path: Path) -> None:
    put(tmp_path, "x", "0123456789")
    assert stored_json.read(str(tmp_path), "x", 4, tail=True) == b"6789"
    with pytest.raises(stored_json.UnusableError, match="the file is larger than 4 bytes"):
        stored_json.read(str(tmp_path), "x", 4)


def test_numbers_are_those_of_json() -> None:
    assert stored_json.parse(b"[0, -1, 1.5, 12345678901234567890]") == [0, -1, 1.5, 12345678901234567890]
    assert stored_json.parse(b"1e19") == 1e19


# --- the last good configuration --------------------------------------------------------


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (Path.exists, "missing last good configuration"),
        (lambda file: file.write_text("[["), "cannot use the last good configuration: the file is damaged: "),
        (lambda file: file.write_text('[["f", "new: 1"]]'), "the file is damaged, or from a different version: f:1: "),
        (os.mkfifo, "cannot use the last good configuration: not a regular file"),
    ],
    ids=["absent", "damaged", "another version's", "no file"],
)
def test_the_reason_for_a_missing_last_good_configuration_is_reported(
    tmp_path: Path, capsys: Output, make: Any, why: str
) -> None:
    root = make_tree(tmp_path / "root")
    put(root, config_files.MAIN, "nonsense: 1\n")
    make(root / KEPT)
    assert not Configured(str(root), None).begin()
    assert why in capsys.readouterr().err


def test_files_that_are_too_large_to_keep_are_an_error(tmp_path: Path) -> None:
    root = make_tree(tmp_path / "root")
    with pytest.raises(OSError, match="larger than"):
        last_good_config.write(str(root), (("f", b"#" * (1 << 24)),))
    assert last_good_config.read(str(root)) is None
