"""Exit codes of the commands as processes, for every kind of output."""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import pty
import re
import signal
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import pytest

from ipvsd.model.report import State
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reporting.status_document import build_document
from ipvsd.state import status_file
from tests.samples import report, sysctl
from tests.trees import make_tree, put, put_sysctl

pytestmark = pytest.mark.system

F_SETPIPE_SZ = 1031  # in fcntl since Python 3.10
REPOSITORY = Path(__file__).parent.parent
FULL = "ipvsd: cannot write to standard output: No space left on device\n"

# The commands with the exit codes of their verdicts on the tree below, and with usual text on standard output.
COMMANDS = [
    ("check", 1), ("plan --exit-code", 1), ("apply --persist", 1), ("preflight --kernel 1.2.3 --output json", 2),
    ("status", 1), ("explain ip_forward", 1), ("history", 0), ("profile list", 0), ("profile show kube-proxy-ipvs", 0),
    ("config show", 0), ("config validate /nowhere.yaml", 78), ("run --config /nowhere.yaml", 78), ("frobnicate", 64),
    ("--help", 0), ("--version", 0),
]  # fmt: skip


class Ended(NamedTuple):
    code: int
    out: str = ""
    err: str = ""


@pytest.fixture(scope="module")
def tree(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A node that is not compliant now, nor after its next boot."""
    tree = make_tree(tmp_path_factory.mktemp("node"))
    put_sysctl(tree, "net.ipv4.ip_forward", "0")
    put(tree, "etc/sysctl.d/99-other.conf", "net.ipv4.ip_forward = 0\n")
    ended(start(words("apply --persist", tree)))
    made = report(sysctl(SysctlVerdict.NONCOMPLIANT), state=State.FAILED)
    status_file.write(str(tree), build_document(made._replace(boottime=time.clock_gettime(time.CLOCK_BOOTTIME))))
    return tree


def rooted(line: str, tree: Path) -> str:
    with_root = line.split(maxsplit=1)[0] not in ("profile", "frobnicate", "--help", "--version")
    return f"{line} --root {tree}" if with_root else line


def words(line: str, tree: Path) -> list[str]:
    return [sys.executable, "-m", "ipvsd", *rooted(line, tree).split()]


def start(command: Sequence[str], streams: str = "", out: int = subprocess.PIPE) -> subprocess.Popen[bytes]:
    """Start a command like a shell with such redirections."""
    shell = ["/bin/sh", "-c", f'exec "$@" {streams}', "sh", *command]
    environment = {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8"}
    # A test run in the background of a script would pass on that it ignores SIGINT.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        return subprocess.Popen(shell, cwd=REPOSITORY, stdout=out, stderr=subprocess.PIPE, env=environment)
    finally:
        signal.signal(signal.SIGINT, before)


def ended(process: subprocess.Popen[bytes]) -> Ended:
    out, err = process.communicate(timeout=60)
    return Ended(process.returncode, (out or b"").decode(), err.decode())


def expected(code: int, usual: Sequence[object]) -> dict[str, Sequence[object]]:
    """Return the expected end of a command with this exit code, from its usual end."""
    _, out, err = usual
    return {
        "usual": [code, out, err],
        "| true": [code, "", err],
        ">&-": [code, "", err],
        "2>&-": [code, out, ""],
        ">&- 2>&-": [code, "", ""],
        ">/dev/full": [74, "", f"{FULL}{err}"] if out else [code, "", err],
        "2>/dev/full": [code, out, ""],
        "SIGINT": [-signal.SIGINT, "", ""] if out else [code, "", err],
    }


@pytest.mark.parametrize("commands", [COMMANDS[:2], pytest.param(COMMANDS, marks=pytest.mark.full)], ids=["two", "all"])
def test_the_exit_code_of_any_command_does_not_depend_on_its_output(
    tree: Path, commands: Sequence[tuple[str, int]]
) -> None:
    lines = {rooted(line, tree): code for line, code in commands}
    found = json.loads(ended(start([sys.executable, "-m", "tests.endings", *lines])).out)
    for line, code in lines.items():
        assert found[line] == expected(code, found[line]["usual"]), line


# The same from a real start to a real end.
@pytest.mark.parametrize(
    ("streams", "ending"),
    [
        ("| true", Ended(0, "", "1\n")),
        ("| head -1", Ended(0, "failed: net.ipv4.ip_forward noncompliant: ", "1\n")),
        (">&-", Ended(0, "", "1\n")),
        ("2>&-", Ended(0, "failed: net.ipv4.ip_forward noncompliant: ", "1\n")),
        (">/dev/full", Ended(0, "", f"{FULL}74\n")),
        ("2>&- >/dev/full", Ended(0, "", "74\n")),
    ],
)
def test_a_shell_sees_the_exit_code_of_check(tree: Path, streams: str, ending: Ended) -> None:
    check, pipe = " ".join(words("check", tree)), streams if streams.startswith("|") else ""
    done = ended(start(["/bin/sh", "-c", f"{{ {check} {'' if pipe else streams}; echo $? >&2; }} {pipe}"]))
    assert (done.code, done.err) == (ending.code, ending.err)
    assert done.out.startswith(ending.out)


def test_a_stream_that_is_not_writable_is_reported(tree: Path) -> None:
    told = "ipvsd: cannot write to standard output: Bad file descriptor\n"
    assert ended(start(words("check", tree), "1</dev/null")) == Ended(74, "", told)


INTERRUPTED_IMPORT = """
import signal, sys
INTERRUPTED = sys.argv[1]
class Finder:
    def find_spec(self, name, *_):
        if name == INTERRUPTED:
            signal.raise_signal(signal.SIGINT)
sys.meta_path.insert(0, Finder())
from ipvsd.__main__ import main
sys.argv[1:] = ["profile", "list"]
sys.exit(main())
"""


@pytest.mark.parametrize(
    "module", ["ipvsd.cli", "ipvsd.model.printable", "ipvsd.commands.argument_parser", "ipvsd.commands.profile"]
)
def test_an_interrupt_at_any_time_ends_a_command_by_the_signal_without_a_traceback(module: str) -> None:
    assert ended(start([sys.executable, "-c", INTERRUPTED_IMPORT, module])) == Ended(-signal.SIGINT)


def test_every_installed_program_starts_at_the_entry_point_that_handles_interrupts() -> None:
    root = Path(__file__).parent.parent
    assert '\nipvsd = "ipvsd.__main__:main"\n' in (root / "pyproject.toml").read_text()
    assert "\nfrom ipvsd.__main__ import main" in (root / "packaging/rpm/launcher").read_text()


def test_all_output_is_written_to_a_non_blocking_pipe(tree: Path) -> None:
    command = words("profile show kube-proxy-ipvs --output json", tree)
    usual = ended(start(command)).out
    assert len(usual) > 8192
    read, write = os.pipe()
    fcntl.fcntl(write, F_SETPIPE_SZ, 4096)
    os.set_blocking(write, False)  # a terminal or ssh can leave it in this state
    process = start(command, out=write)
    os.close(write)
    with open(read, buffering=512) as pipe:
        assert (pipe.read(), ended(process)) == (usual, Ended(0))


def test_a_terminal_receives_only_the_colours_of_ipvsd(tmp_path: Path) -> None:
    tree = make_tree(tmp_path)
    put_sysctl(tree, "net.ipv4.ip_forward", "0\x1b[31mred\x1b]0;title\a")
    terminal, slave = pty.openpty()
    try:
        process = start(words("check", tree), out=slave)
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # EIO: the other side is closed
            while piece := os.read(terminal, 4096):
                shown += piece
        assert ended(process) == Ended(1)
    finally:
        os.close(terminal)
    text = shown.decode()
    assert "\x1b[31m!\x1b[0m net.ipv4.ip_forward" in text
    assert r"0\x1b[31mred\x1b]0;title\x07" in text
    plain = re.sub(r"\x1b\[(?:0|31|32|33)m", "", text)
    assert all(map(str.isprintable, plain.split("\r\n")))
    assert text.count("\x1b[31m") == 3  # the state, the mark and the verdict
