"""State on disk that is damaged or from another version: status.json, history.jsonl, last-good.json."""

from __future__ import annotations

import contextlib
import io
import json
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Optional

from hypothesis import example
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ipvsd.cli import main
from ipvsd.config.config_files import Files
from ipvsd.config.parser import parse
from ipvsd.reporting.status_document import build_document
from ipvsd.state.last_good_config import PATH, read, write
from ipvsd.state.repair_history import MAX_REPAIRS, RepairHistory
from ipvsd.state.repair_history import PATH as HISTORY
from ipvsd.state.status_file import PATH as STATUS
from ipvsd.state.stored_json import UnusableError
from tests.fuzz.inputs import hostile, lines, words
from tests.fuzz.properties import fuzz
from tests.samples import module, report, sysctl

GOOD: dict[str, Any] = build_document(report(module(), sysctl()))
ODD: SearchStrategy[Any] = st.one_of(
    st.sampled_from([
        None, True, -1, 0, 1e300, float("nan"), float("inf"), 10**400, "", "x", "\x1b[31m", "\ud800", "a" * 5000,
        [], {}, {"name": 1}, "9" * 50,
    ]),
    st.lists(st.sampled_from([None, "x", {}, 1]), max_size=3),
)  # fmt: skip
REPAIR = {**GOOD["repairs"][0], "writer": None}


@st.composite
def changed(draw: st.DrawFn, value: Any) -> Any:
    """Return a document in which one value is changed or missing."""
    if isinstance(value, dict) and value and draw(st.integers(0, 5)):
        key = draw(st.sampled_from(sorted(value)))
        if not draw(st.integers(0, 5)):
            return {name: item for name, item in value.items() if name != key}
        return {**value, key: draw(changed(value[key]))}
    if isinstance(value, list) and value and draw(st.integers(0, 3)):
        at = draw(st.integers(0, len(value) - 1))
        return [*value[:at], draw(changed(value[at])), *value[at + 1 :]]
    return draw(ODD)


def dumped(value: Any) -> str:
    return json.dumps(value)


STATUSES = hostile(st.one_of(st.just(GOOD), changed(GOOD), changed({**GOOD, "repairs": [REPAIR]})).map(dumped))
HISTORIES = hostile(
    lines(st.just(REPAIR).map(dumped), changed(REPAIR).map(dumped), words("{", "}", "null", "1e999", '"a"'))
)
NAMES, TEXTS = ["/etc/ipvsd/ipvsd.yaml", "a"], ["", "interval: 5s\n", "x: [", "\x1b", "\udcff"]
FILES = hostile(st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(TEXTS)), max_size=3).map(dumped))


@contextlib.contextmanager
def tree(path: str, data: bytes) -> Iterator[str]:
    """Create a root with one file."""
    with tempfile.TemporaryDirectory() as root:
        Path(root, path).parent.mkdir(parents=True)
        Path(root, path).write_bytes(data)
        yield root


def said(*command: str) -> tuple[int, str, str]:
    """Return the exit code and the output of a command."""
    out, error = io.StringIO(), io.StringIO()
    with contextlib.redirect_stdout(out), contextlib.redirect_stderr(error):
        code = main(list(command))
    return code, out.getvalue(), error.getvalue()


def refuse(word: str) -> None:
    raise AssertionError(f"JSON has no {word}")


def printable(printed: str) -> bool:
    return all(line.isprintable() for line in printed.split("\n"))


@fuzz(STATUSES, quick=60)
@example(b"[" * 100_000)
@example(dumped({**GOOD, "summary": ""}).encode())
def test_a_damaged_status_is_told_and_never_good(data: bytes) -> None:
    with tree(STATUS, data) as root:
        code, out, error = said("status", "--root", root)
        assert code in (0, 1, 2)
        assert printable(out + error)
        assert out or error
        code_of_json, document, _ = said("status", "--root", root, "--output", "json")
        assert code_of_json == code
        if document:
            json.loads(document, parse_constant=refuse)
        if code == 0:
            assert json.loads(data)["state"] in ("ready", "degraded")


@fuzz(HISTORIES, quick=30)
@example(b'{"seconds": NaN}\n')
@example(b'{"a": ' * 100_000)
def test_only_the_damaged_lines_of_a_history_are_lost(data: bytes) -> None:
    with tree(HISTORY, data) as root:
        code, out, error = said("history", "--root", root)
        assert code in (0, 1, 2)
        assert printable(out + error)
        _, document, _ = said("history", "--root", root, "--output", "json")
        json.loads(document, parse_constant=refuse)


@fuzz(HISTORIES)
@example(b'{"name": "net.ipv4.ip_forward"}\r\r\n')
def test_a_repair_is_added_to_whatever_is_there(data: bytes) -> None:
    with tree(HISTORY, data) as root:
        kept = RepairHistory(root)
        for number in range(3):
            kept.add([{**REPAIR, "actual": str(number)}])
        lines_of_file = Path(root, HISTORY).read_bytes().split(b"\n")[:-1]
        assert [json.loads(line)["actual"] for line in lines_of_file[-3:]] == ["0", "1", "2"]
        assert len(lines_of_file) <= MAX_REPAIRS + 3
        assert all(isinstance(json.loads(line), dict) for line in lines_of_file)


def good(root: str) -> Optional[Files]:
    """Return the last good configuration, or None if there is no usable one."""
    try:
        return read(root)
    except UnusableError:
        return None


@fuzz(FILES)
@example(b'[["a", "\\ud800"]]')
@example(b'[["a", null]]')
def test_a_damaged_last_good_configuration_is_not_used(data: bytes) -> None:
    with tree(PATH, data) as root:
        found = good(root)
        if found is not None:
            parse(found)
            assert json.loads(data) == [[name, content.decode("utf-8", "surrogateescape")] for name, content in found]


@fuzz(
    st.lists(
        st.tuples(st.text(max_size=5), hostile(words("interval: 5s\n", "# é\n", "{}", "~", apart="\n"))), max_size=3
    )
)
def test_a_stored_configuration_is_read_back(files: list[tuple[str, bytes]]) -> None:
    with tree(PATH, b"") as root:
        write(root, tuple(files))
        found = good(root)
        assert found is None or found == tuple(files)
        try:
            parse(files)
        except Exception:  # noqa: BLE001 -- a rejected document is not usable
            assert found is None
        else:
            assert found == tuple(files)
