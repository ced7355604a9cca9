"""Reports never contain the command line of a process, because hidepid= (proc(5)) hides it from everyone but root."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Iterator, Mapping
from pathlib import Path

import pytest

from ipvsd.cli import main
from ipvsd.daemon.publisher import build_report
from ipvsd.kernel.processes import ProcessResolver
from ipvsd.model.report import Report, Writer
from ipvsd.reconcile.changes import WriteRefused
from ipvsd.reporting import metrics, recorder
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.reporting.status_document import build_document
from ipvsd.runtime.event_loop import ReasonKind
from ipvsd.state import status_file
from tests.fake_kernel import FORWARD
from tests.reconciling import Node
from tests.samples import report
from tests.trees import make_tree

SECRET = "xyzzy"
Output = pytest.CaptureFixture[str]


@pytest.fixture
def writer() -> Iterator[Writer]:
    """A running process with a secret in its command line."""
    command = ["sh", "-c", "echo; read answer", "agent", f"--token={SECRET}"]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as process:
        assert process.stdout
        process.stdout.readline()
        yield ProcessResolver().resolve(process.pid, "", 0)
        assert process.stdin
        process.stdin.close()


@pytest.fixture
def logged(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The text that was sent to the journal, including fields."""
    lines = list[str]()

    def log(level: str, text: str, fields: Mapping[str, str] = {}) -> None:
        lines.append(json.dumps([level, text, dict(fields)]))

    monkeypatch.setattr(recorder, "log", log)
    return lines


def blame(tree: Path, writer: Writer) -> Report:
    """Let the process cause a drift, unload a module, contend, and write to a guarded sysctl. Return the report."""
    text = "profiles: []\nmodules: {ip_vs_sh: {}}\nsysctls: {net.ipv4.ip_forward: 1}"
    node, kept = Node(text, peace="\ncontention: {repairs: 1}"), recorder.Recorder(str(tree), OperationFailures())
    for _ in range(4):
        done = node.round(ReasonKind.RESYNC)
        kept.record(node.changes, node.reconciler.registry.contended())
        node.kernel.values[FORWARD] = "0"
        node.written(writer=writer)
        node.unloaded("ip_vs_sh", writer)
    refused = WriteRefused(FORWARD, "0", writer, 3)
    kept.record([refused], ())
    assert {repair.name for repair in kept.repairs} == {FORWARD, "ip_vs_sh"}
    told = build_report(done.kernel, done.after, node.reconciler.registry, kept, "bpf")
    return report()._replace(repairs=told.repairs, contended=told.contended)


def test_arguments_are_in_no_output(tmp_path: Path, writer: Writer, logged: list[str], capsys: Output) -> None:
    tree = make_tree(tmp_path / "tree")
    told = blame(tree, writer)
    assert told.contended
    status_file.write(str(tree), build_document(told))
    for command in ("status", "history", f"explain {FORWARD}", "explain ip_vs_sh"):
        for output in ("text", "json"):
            main([*command.split(), "--root", str(tree), "--output", output])
    outputs = {
        "journal": "\n".join(logged),
        "/status": json.dumps(build_document(told)),
        "/metrics": metrics.exposition(lambda: told)().decode(),
        "commands": capsys.readouterr().out,
        **{path.name: path.read_text() for path in (tree / "run/ipvsd").glob("*.json*")},
    }
    assert {"status.json", "history.jsonl"} <= outputs.keys()
    named = [name for name, text in outputs.items() if f"sh[{writer.pid}]" in text]
    assert set(named) == outputs.keys() - {"/metrics"}
    assert [name for name, text in outputs.items() if SECRET in text] == []


def test_no_field_that_makes_journald_add_arguments_is_sent(tmp_path: Path, writer: Writer, logged: list[str]) -> None:
    (tmp_path / "run/ipvsd").mkdir(parents=True)
    blame(tmp_path, writer)
    fields = {name for line in logged for name in json.loads(line)[2]}
    assert "OBJECT_COMM" in fields
    assert not fields & {"OBJECT_PID", "OBJECT_CMDLINE"}  # systemd.journal-fields(7)
