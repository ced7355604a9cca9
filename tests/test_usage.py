"""The command line: invalid uses, the exit codes of ipvsd(8), and errors as JSON."""

from __future__ import annotations

import contextlib
import io
import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipvsd.cli import main
from ipvsd.commands.apply import settle
from ipvsd.commands.argument_parser import build_parser
from ipvsd.config.parser import parse
from ipvsd.model.report import State
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reporting.status_document import build_document
from ipvsd.state import status_file
from tests.asking import Output, run
from tests.fake_kernel import DEPENDS, RELEASE, FakeKernel
from tests.samples import report, sysctl
from tests.trees import make_modules, make_tree, put, put_sysctl

pytestmark = pytest.mark.system

MAIN = "etc/ipvsd/ipvsd.yaml"


# --- invalid uses -----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "told"),
    [
        ("apply --per", "ipvsd apply: unknown option --per (did you mean '--persist'? run 'ipvsd apply --help')"),
        ("check --out json", "ipvsd check: unknown option --out (did you mean '--output'?"),
        ("check --conf=x", "ipvsd check: unknown option --conf (did you mean '--config'?"),
        ("plan --exit", "ipvsd plan: unknown option --exit (did you mean '--exit-code'?"),
        ("preflight --kern 6.1", "ipvsd preflight: unknown option --kern (did you mean '--kernel'?"),
        ("config show --roto /", "ipvsd config show: unknown option --roto (did you mean '--root'?"),
        ("profile list --outptu json", "ipvsd profile list: unknown option --outptu (did you mean '--output'?"),
        ("check --zzz", "ipvsd check: unknown option --zzz (known: --help, --config, --root, --output; run"),
        ("check -o json", "ipvsd check: unknown option -o ("),
        ("chek", "ipvsd: unknown command 'chek' (did you mean 'check'? run 'ipvsd --help')"),
        ("stat", "ipvsd: unknown command 'stat' (did you mean 'status'?"),
        ("frobnicate", "ipvsd: unknown command 'frobnicate' (known: run, check, "),
        ("config vaildate", "ipvsd config: unknown action 'vaildate' (did you mean 'validate'?"),
        ("check --output xml", "ipvsd check: invalid value 'xml' for --output (known: text, json; run"),
        ("check --output jsno", "ipvsd check: invalid value 'jsno' for --output (did you mean 'json'?"),
        ("check extra", "ipvsd check: unknown argument 'extra' (run 'ipvsd check --help')"),
        ("--root / check", "ipvsd: missing command before --root: options follow the command (run"),
        ("check --config", "ipvsd check: argument --config: expected one argument (run"),
        (
            "history --lines x",
            "ipvsd history: argument --lines: invalid value 'x': must be a number from 1 to 1000000 (ru",
        ),
        ("check --root /nowhere", "ipvsd: cannot use --root /nowhere: not a directory"),
        ("", "ipvsd: the following arguments are required: COMMAND (run 'ipvsd --help')"),
    ],
)
def test_invalid_usage_is_one_line_with_a_hint(capsys: Output, line: str, told: str) -> None:
    code, out, err = run(capsys, *line.split())
    assert (code, out, err.count("\n")) == (64, "", 1)
    assert err.startswith(told)


def parsers(parser: Any) -> list[Any]:
    """Return a parser with those of its commands and their actions."""
    below = [sub for action in parser._actions if isinstance(action.choices, dict) for sub in action.choices.values()]
    return [parser, *(found for sub in below for found in parsers(sub))]


def test_every_command_says_what_it_does_and_no_option_can_be_abbreviated() -> None:
    found = parsers(build_parser())
    assert len(found) > 10
    assert [parser.prog for parser in found if parser.allow_abbrev or not parser.description] == []
    optional = [parser.prog for parser in found if "[ACTION ...]" in parser.format_usage()]
    assert optional == ["ipvsd doctor"]


# --- exit codes and JSON ----------------------------------------------------------------


def nothing(tree: Path) -> None:
    pass


def drifted(tree: Path) -> None:
    put_sysctl(tree, "net.ipv4.ip_forward", "0")


def module_gone(tree: Path) -> None:
    """ip_vs is not loaded, and this kernel lacks it, so its sysctls are pending."""
    shutil.rmtree(tree / "proc/sys/net/ipv4/vs")
    put(tree, "proc/modules", "")
    shutil.rmtree(tree / "lib/modules")


def bridge_filter_gone(tree: Path) -> None:
    put(tree, "proc/modules", (tree / "proc/modules").read_text().replace("br_netfilter", "other"))
    shutil.rmtree(tree / "proc/sys/net/bridge")
    shutil.rmtree(tree / "lib/modules")
    make_modules(tree, RELEASE, [name for name in DEPENDS if name != "br_netfilter"])


def unreadable(tree: Path) -> None:
    (tree / "proc/sys/net/ipv4/ip_forward").unlink()
    (tree / "proc/sys/net/ipv4/ip_forward").symlink_to("/nowhere")


def bad(tree: Path) -> None:
    put(tree, MAIN, "scheduler: maglev\ninterval: soon\n")


def daemon(state: State) -> Callable[[Path], None]:
    def publish(tree: Path) -> None:
        made = report(sysctl(SysctlVerdict.COMPLIANT), state=state)
        status_file.write(str(tree), {**build_document(made), "boottime": time.clock_gettime(time.CLOCK_BOOTTIME)})

    return publish


def stale(tree: Path) -> None:
    status_file.write(str(tree), {**build_document(report(sysctl())), "boottime": -1e6})


def no_kernel(tree: Path) -> None:
    shutil.rmtree(tree / "lib/modules")


# From ipvsd(8): the state of the tree, the command, the exit code, and whether it is an error.
CASES = [
    (nothing, "check", 0), (bridge_filter_gone, "check", 0), (drifted, "check", 1), (module_gone, "check", 1),
    (unreadable, "check", 2), (bad, "check", 78), (nothing, "check extra", 64), (nothing, "check --output xml", 64),
    (nothing, "check --config /nowhere.yaml", 78), (nothing, "frobnicate", 64),
    (nothing, "plan", 0), (drifted, "plan", 0), (bad, "plan", 78),
    (nothing, "plan --exit-code", 0), (drifted, "plan --exit-code", 1), (module_gone, "plan --exit-code", 1),
    (unreadable, "plan --exit-code", 1), (bridge_filter_gone, "plan --exit-code", 0),
    (nothing, "apply", 64), (bad, "apply --persist", 78), (no_kernel, "apply --persist", 2),
    (nothing, "preflight", 0), (no_kernel, "preflight", 2), (nothing, "preflight --kernel 1.2.3", 2),
    (bad, "preflight", 78),
    (daemon(State.READY), "status", 0), (daemon(State.DEGRADED), "status", 0), (daemon(State.FAILED), "status", 1),
    (nothing, "status", 2), (stale, "status", 2),
    (nothing, "explain net.ipv4.ip_forward", 0), (drifted, "explain net.ipv4.ip_forward", 1),
    (unreadable, "explain net.ipv4.ip_forward", 2), (nothing, "explain nonsense!", 64),
    (bad, "explain net.ipv4.ip_forward", 78),
    (nothing, "history", 0), (nothing, "config show", 0), (bad, "config show", 78), (nothing, "config validate", 0),
    (bad, "config validate", 78),
]  # fmt: skip


@pytest.mark.parametrize(("prepare", "line", "code"), CASES)
def test_exit_codes_are_those_of_the_manual_and_errors_are_json_on_request(
    tree: Path, capsys: Output, prepare: Callable[[Path], None], line: str, code: int
) -> None:
    prepare(tree)
    arguments = [*line.split(), "--root", str(tree)]
    found, _, complaints = run(capsys, *arguments)
    assert found == code
    found, out, err = run(capsys, *arguments, "--output", "json")
    assert (found, err) == (code, complaints)
    if out:
        parsed = json.loads(out)
        failed = isinstance(parsed, dict) and "error" in parsed
        assert failed is bool(code and complaints)
        if failed:
            assert parsed["errors"][0] == parsed["error"]
            assert all(isinstance(error, str) and error in complaints for error in parsed["errors"])
    else:
        assert code == 0


@pytest.mark.parametrize("arguments", [["profile", "show", "nonsense"], ["profile", "shwo", "x"]])
def test_commands_without_a_root_fail_as_json_too(capsys: Output, arguments: list[str]) -> None:
    code, out, err = run(capsys, *arguments, "--output=json")
    assert code == 64
    assert json.loads(out)["error"] == err.rstrip("\n").removeprefix("ipvsd: ")


def test_all_errors_of_a_configuration_are_in_the_json(tree: Path, capsys: Output) -> None:
    bad(tree)
    for command in (["check"], ["config", "show"], ["config", "validate"]):
        _, out, err = run(capsys, *command, "--root", str(tree), "--output", "json")
        assert json.loads(out)["errors"] == err.splitlines()
        assert len(err.splitlines()) == 2


def test_persisting_into_an_image_prints_json_for_any_result(tree: Path, capsys: Output) -> None:
    command = ["apply", "--persist", "--root", str(tree), "--output", "json"]
    code, out, _ = run(capsys, *command)
    made = json.loads(out)
    assert (code, "error" in made, made["persisted"]["noncompliant"]) == (0, False, [])
    assert [Path(path).name for path in made["persisted"]["written"]] == ["ipvsd.conf", "ipvsd.conf", "90-ipvsd.conf"]
    put(tree, "etc/sysctl.d/99-other.conf", "net.ipv4.ip_forward = 0\n")
    code, out, _ = run(capsys, *command)
    made = json.loads(out)
    assert (code, made["persisted"]["noncompliant"][0]["name"]) == (1, "net.ipv4.ip_forward")
    assert made["error"] == made["errors"][0]
    assert made["error"].startswith("net.ipv4.ip_forward will be 0 after booting kernel 6.1.0-50-cloud-amd64")
    assert "99-other.conf:1" in made["error"]


# --- remedies ----------------------------------------------------------------------------


def remedies(tree: Path, capsys: Output) -> dict[str, str]:
    main(["check", "--root", str(tree), "--output", "json"])
    found = json.loads(capsys.readouterr().out)
    return {item["name"]: item["remedy"] for item in (*found["modules"], *found["sysctls"])}


def test_no_text_about_a_tree_mentions_its_daemon(tree: Path, capsys: Output) -> None:
    drifted(tree)
    put(tree, "proc/modules", "")
    daemon(State.FAILED)(tree)  # an image of a running system contains it
    for command in ("check", "plan", "explain net.ipv4.ip_forward", "explain ip_vs_rr"):
        out = " ".join(run(capsys, *command.split(), "--root", str(tree))[1].split())
        assert f"run 'ipvsd apply --persist --root {tree}' to apply" in out or command == "plan"
        wrong = ("ipvsd status", "systemctl", "as root", "journalctl", "ipvsd.service retries")
        assert [words for words in wrong if words in out] == []


def test_the_status_below_a_root_does_not_ask_to_start_a_service(tree: Path, capsys: Output) -> None:
    assert "systemctl" not in run(capsys, "status", "--root", str(tree))[2]


def test_the_root_is_named_as_a_shell_takes_it(tmp_path: Path, capsys: Output) -> None:
    tree = make_tree(tmp_path / "my image")
    drifted(tree)
    assert remedies(tree, capsys)["net.ipv4.ip_forward"].startswith(f"run 'ipvsd apply --persist --root '{tree}''")


@pytest.mark.parametrize(
    ("typed", "meant"),
    [
        ("net.ipv4.conf.eth0.forward", "net.ipv4.conf.eth0.forwarding"),
        ("net.ipv4.vs.expire_nodest", "net.ipv4.vs.expire_nodest_conn"),
        ("net.ipv4.conntrack", "net.ipv4.vs.conntrack"),
        ("vendor.special.knob_on", "vendor.special.knob_one"),
        ("net.ipv4.quite_unlike_any", None),
    ],
)
def test_a_sysctl_that_this_kernel_lacks_is_reported_with_a_similar_one(
    tree: Path, capsys: Output, typed: str, meant: str | None
) -> None:
    put_sysctl(tree, "vendor.special.knob_one", "1")
    put(tree, MAIN, f"sysctls: {{{typed}: 1}}\n")
    remedy = remedies(tree, capsys)[typed]
    assert remedy.startswith(
        f"did you mean {meant}? Otherwise, remove the sysctl" if meant else "remove the sysctl from the conf"
    )


@pytest.mark.parametrize("name", ["net.bridge.bridge-nf-call-iptables", "net.bridge.bridge-nf-call-ip6tables"])
def test_a_bridge_sysctl_that_is_off_can_be_intended(tree: Path, capsys: Output, name: str) -> None:
    put_sysctl(tree, name, "0")
    alternative = "; if a network plugin requires the sysctl to be 0, set 'bridgeNetfilter: false'"
    assert remedies(tree, capsys)[name].endswith(alternative)
    put(tree, MAIN, f"sysctls: {{{name}: 1}}\n")
    assert "bridgeNetfilter" not in remedies(tree, capsys)[name]


def test_a_contended_or_refused_bridge_sysctl_can_be_intended_as_well() -> None:
    name = "net.bridge.bridge-nf-call-iptables"
    for trouble in ({"contested": {name: "0"}}, {"refused": {name: 1}}):
        kernel = FakeKernel(**trouble)
        settle(kernel, parse([]), lambda _: None)
        kernel.values[name] = "0"
        done, _ = settle(kernel, parse([]), lambda _: None)
        [remedy] = [finding.remedy for finding in done.after.sysctls if finding.name == name]
        assert remedy.endswith("'bridgeNetfilter: false'")


# --- apply ------------------------------------------------------------------------------


def test_apply_prints_the_actions_of_every_round_and_retry() -> None:
    kernel, pauses = FakeKernel(looks_until_live={"ip_vs": 4}), list[float]()
    done, proved = settle(kernel, parse([]), pauses.append)
    assert pauses
    assert not done.unsettled
    told = [str(action) for action in proved]
    assert told[0] == "set net.ipv4.ip_forward from '0' to '1'"
    assert {"load module ip_vs", "load module ip_vs_rr", "set net.ipv4.vs.conntrack from '0' to '1'"} <= set(told)
    assert len(told) == len(set(told))


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.mark.parametrize(
    "line",
    [
        "apply", "explain nonsense!", "explain net.quite.unknown", "preflight --kernel 1.2.3", "status", "check --zzz",
        "x",
    ],
)  # fmt: skip
def test_on_a_terminal_a_complaint_fits_its_width(tree: Path, capsys: Output, line: str) -> None:
    _, _, told = run(capsys, *line.split(), "--root", str(tree))
    with contextlib.redirect_stderr(Terminal()) as terminal:
        main([*line.split(), "--root", str(tree)])
    lines = terminal.getvalue().splitlines()
    assert " ".join(map(str.strip, lines)) == told.strip()
    assert [item for item in lines if len(item) > 80 and str(tree) not in item] == []
