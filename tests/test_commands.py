"""The commands on fixture trees: their output and exit codes."""

from __future__ import annotations

import json
import shutil
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from ipvsd import __version__
from ipvsd.model.report import State
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reporting.status_document import build_document
from ipvsd.state import status_file
from tests.asking import Output, run
from tests.fake_kernel import CORE, DEPENDS, RELEASE
from tests.samples import module, report, sysctl
from tests.trees import LIVE, READY_LINE, make_tree, put, put_sysctl
from tests.trees import sysctl as sysctl_file

MAIN = "etc/ipvsd/ipvsd.yaml"


def at(tree: Path) -> list[str]:
    return ["--root", str(tree)]


def values(capsys: Output, *arguments: str) -> tuple[int, Any]:
    code, out, _ = run(capsys, *arguments, "--output", "json")
    return code, json.loads(out)


def snapshot(tree: Path) -> dict[str, bytes]:
    return {str(path): path.read_bytes() for path in tree.rglob("*") if path.is_file()}


# --- states of a node -------------------------------------------------------------------


def without_modules(tree: Path) -> None:
    (tree / "proc/modules").unlink()
    shutil.rmtree(tree / "lib/modules" / RELEASE)


def built_in(tree: Path) -> None:
    """A kernel without modules. Files show that everything except the schedulers is built in."""
    without_modules(tree)
    put(tree / "lib/modules" / RELEASE, "modules.builtin", "".join(f"kernel/net/{name}.ko\n" for name in LIVE))


def tree_gone(tree: Path) -> None:
    shutil.rmtree(tree / "lib/modules" / RELEASE)


def tree_gone_nothing_loaded(tree: Path) -> None:
    tree_gone(tree)
    put(tree, "proc/modules", "")


def drifted(tree: Path) -> None:
    put_sysctl(tree, "net.ipv4.ip_forward", "0")


def no_bridge(tree: Path) -> None:
    put(tree, "proc/modules", "".join(f"{name} 1 0 - Live 0x0\n" for name in LIVE if name != "br_netfilter"))
    lines = (f"kernel/{name}.ko:\n" for name in DEPENDS if "br_" not in name)
    put(tree, f"lib/modules/{RELEASE}/modules.dep", "".join(lines))
    shutil.rmtree(tree / "proc/sys/net/bridge")


def unreadable(tree: Path) -> None:
    file = sysctl_file(tree, "net.ipv4.ip_forward")
    file.unlink()
    file.mkdir()


def right(tree: Path) -> None:
    """The unchanged tree."""


EVERYTHING: dict[Callable[[Path], None], tuple[int, str]] = {
    right: (0, "ready"), drifted: (1, "failed"), no_bridge: (0, "degraded"), built_in: (0, "ready"),
    without_modules: (1, "failed"), tree_gone: (0, "ready"), tree_gone_nothing_loaded: (1, "failed"),
    unreadable: (2, "failed"),
}  # fmt: skip


@pytest.mark.parametrize("make", EVERYTHING, ids=lambda make: make.__name__)
def test_check_prints_the_state(tree: Path, capsys: Output, make: Callable[[Path], None]) -> None:
    make(tree)
    assert (run(capsys, "check", *at(tree))[0], values(capsys, "check", *at(tree))[1]["state"]) == EVERYTHING[make]


@pytest.mark.parametrize("make", EVERYTHING, ids=lambda make: make.__name__)
@pytest.mark.parametrize(
    "command", [["check"], ["plan"], ["explain", "net.ipv4.ip_forward"], ["config", "show"]], ids=" ".join
)
def test_output_fits_80_columns_and_has_no_colours(
    tree: Path, capsys: Output, make: Callable[[Path], None], command: list[str]
) -> None:
    make(tree)
    _, out, err = run(capsys, *command, *at(tree))
    assert [line for line in out.splitlines() if len(line) > 80] == []
    assert ("\033" in out, err) == (False, "")


def test_the_kernel_that_runs_the_tests_has_its_verdicts(tmp_path: Path, capsys: Output) -> None:
    # A kernel in a container, one without modules, or one without a module tree.
    code, document = values(capsys, "check", "--config", str(put(tmp_path, "mine.yaml", "{}\n")))
    found = {item["verdict"] for item in document["modules"]}
    assert code in (0, 1)
    assert found <= {verdict.value for verdict in ModuleVerdict}
    assert Path("/proc/modules").exists() or found <= {"no_module_support", "not_built", "built_in"}


@pytest.mark.parametrize(
    "command", [["check"], ["plan"], ["explain", "ip_vs"], ["config", "show"], ["config", "validate"]], ids=" ".join
)
def test_looking_changes_nothing(tree: Path, capsys: Output, command: list[str]) -> None:
    drifted(tree)
    before = snapshot(tree)
    run(capsys, *command, *at(tree))
    assert snapshot(tree) == before


def test_check_prints_the_state_first_and_problems_with_remedies(tree: Path, capsys: Output) -> None:
    assert run(capsys, "check", *at(tree))[1].startswith(f"{READY_LINE}\n")
    drifted(tree)
    _, out, _ = run(capsys, "check", *at(tree))
    assert "! net.ipv4.ip_forward" in out
    assert "actual value '0', desired value 1" in out
    assert f"-> run 'ipvsd apply --persist --root {tree}' to apply" in " ".join(out.split())


def test_check_wraps_a_long_value(tree: Path, capsys: Output) -> None:
    put_sysctl(tree, "net.ipv4.tcp_rmem", "4096\t131072\t6291456")
    put_sysctl(tree, "kernel.core_pattern", "|/usr/lib/systemd/systemd-coredump %P %u %g %s %t 9223372036854775808 %h")
    put(tree, MAIN, "sysctls: {net.ipv4.tcp_rmem: 4096 87380 6291456, kernel.core_pattern: core}")
    assert [line for line in run(capsys, "check", *at(tree))[1].splitlines() if len(line) > 80] == []


# --- plan -------------------------------------------------------------------------------


def test_a_plan_is_a_diff_with_its_reason_or_empty(tree: Path, capsys: Output) -> None:
    assert run(capsys, "plan", *at(tree), "--exit-code") == (0, "nothing to do\n", "")
    drifted(tree)
    diff = "# profile kube-proxy-ipvs\n- net.ipv4.ip_forward = 0\n+ net.ipv4.ip_forward = 1\n"
    assert run(capsys, "plan", *at(tree)) == (0, diff, "")
    assert run(capsys, "plan", *at(tree), "--exit-code")[0] == 1


def test_a_plan_contains_the_effects_of_a_load(tmp_path: Path, capsys: Output) -> None:
    tree = make_tree(tmp_path, live=(), values=CORE)
    _, out, _ = run(capsys, "plan", *at(tree))
    assert "+ module ip_vs\n" in out
    assert "+ net.ipv4.vs.conntrack = 1\n" in out


def test_a_plan_contains_problems_without_an_action(tree: Path, capsys: Output) -> None:
    tree_gone_nothing_loaded(tree)
    _, out, _ = run(capsys, "plan", *at(tree))
    (told,) = [part for part in " ".join(out.split()).split("! ")[1:] if "module tree missing: " in part]
    assert told.startswith("ip_vs_rr, ip_vs_wrr, ip_vs_sh, dummy, ")
    assert told.count("->") == 1


def test_a_plan_as_json(tree: Path, capsys: Output) -> None:
    drifted(tree)
    put(tree, "proc/modules", "".join(f"{name} 1 0 - Live 0x0\n" for name in LIVE if name != "ip_vs_sh"))
    _, found = values(capsys, "plan", *at(tree))
    origin = "profile kube-proxy-ipvs"
    assert found["actions"] == [
        {"action": "write", "name": "net.ipv4.ip_forward", "actual": "0", "desired": "1", "origin": origin},
        {"action": "load", "name": "ip_vs_sh", "actual": "unloaded", "desired": "live", "origin": origin},
    ]
    assert found.keys() == {"actions", "notes"}
    assert found["notes"] == values(capsys, "check", *at(tree))[1]["notes"]


def test_apply_is_for_the_running_kernel_only(tree: Path, capsys: Output) -> None:
    before = snapshot(tree)
    code, _, err = run(capsys, "apply", *at(tree))
    assert (code, snapshot(tree)) == (64, before)
    assert err.startswith("ipvsd: cannot apply the configuration under --root")


# --- status -----------------------------------------------------------------------------


def publish(tree: Path, state: State = State.READY, age: float = 1.0) -> None:
    absent = module(ModuleVerdict.ABSENT, "ip_vs_sh", remedy="install it")
    made = report(absent, sysctl(SysctlVerdict.COMPLIANT), state=state, line=f"{state.value}: so it is")
    status_file.write(str(tree), build_document(made._replace(boottime=time.clock_gettime(time.CLOCK_BOOTTIME) - age)))


@pytest.mark.parametrize(("state", "code"), [(State.READY, 0), (State.DEGRADED, 0), (State.FAILED, 1)])
def test_status_prints_the_report_of_the_daemon(tree: Path, capsys: Output, state: State, code: int) -> None:
    publish(tree, state)
    found, out, err = run(capsys, "status", *at(tree))
    assert (found, err) == (code, "")
    assert out.startswith(f"{state.value}: so it is\nlast reconciliation 1 s ago; resync every 60 s\n")
    assert [line for line in out.splitlines() if len(line) > 80] == []


def test_status_prints_the_failed_sources_and_the_last_repairs(tree: Path, capsys: Output) -> None:
    publish(tree)
    _, out, _ = run(capsys, "status", *at(tree))
    assert "source config_files is down: no inotify\n" in out
    folded = " ".join(out.split())
    assert "2027-01-15T07:58:30Z net.ipv4.ip_forward: 0 -> 1 in 2 ms, by sysctl[4242] of cron.service" in folded
    assert "watch backend: bpf; 3 events lost (uevents 3)\n" in out
    assert "net.ipv4.vs.conntrack is contended: changed probably by agent[7]\n" in out


def test_a_report_older_than_two_intervals_is_unknown(tree: Path, capsys: Output) -> None:
    publish(tree, age=121.0)
    code, out, err = run(capsys, "status", *at(tree))
    assert (code, out.startswith("ready: so it is\n")) == (2, True)
    assert err.startswith("ipvsd: outdated result: the last reconciliation was 121 s ago")


def test_status_as_json_is_the_document_with_its_age_and_kube_proxy(tree: Path, capsys: Output) -> None:
    publish(tree)
    code, found = values(capsys, "status", *at(tree))
    assert code == 0
    assert 1.0 <= found.pop("age") < 60.0
    assert found.pop("kube_proxy") is None
    assert {**found, "age": 0.0} == json.loads((tree / status_file.PATH).read_text())


def test_the_status_file_is_readable_by_everyone_and_replaced_in_one_step(tree: Path) -> None:
    publish(tree)
    before = (tree / status_file.PATH).stat()
    publish(tree)
    after = (tree / status_file.PATH).stat()
    assert after.st_mode & 0o777 == 0o644
    assert before.st_ino != after.st_ino or before.st_mtime_ns != after.st_mtime_ns
    assert [path.name for path in (tree / "run/ipvsd").iterdir() if path.is_file()] == ["status.json"]


# --- config -----------------------------------------------------------------------------

MAPS = """\
startup: {mode: strict}
contention: {repairs: 3, window: 2s, quiet: 4s}
guard: {allow: [a.service]}
web: {listen: []}
"""


def test_the_effective_configuration_contains_the_origin_of_each_value(tree: Path, capsys: Output) -> None:
    put(tree, MAIN, "scheduler: sh\nsysctls:\n  net.ipv4.ip_forward: 1\n")
    _, out, _ = run(capsys, "config", "show", *at(tree))
    assert f"scheduler: sh  # {tree}/{MAIN}:1" in out
    assert "interval: 60s  # default" in out
    _, found = values(capsys, "config", "show", *at(tree))
    assert found["origins"]["sysctls.net.ipv4.ip_forward"] == f"{tree}/{MAIN}:3"
    assert found["files"] == [f"{tree}/{MAIN}"]


@pytest.mark.parametrize(
    "key", ["startup.mode", "contention.repairs", "contention.window", "contention.quiet", "guard.allow", "web.listen"]
)
def test_a_setting_within_a_map_has_its_origin(tree: Path, capsys: Output, key: str) -> None:
    put(tree, MAIN, f"# {key}\n" + MAPS)
    _, found = values(capsys, "config", "show", *at(tree))
    assert found["origins"][key].startswith(f"{tree}/{MAIN}:")


def test_the_configuration_or_one_file_can_be_validated(tree: Path, capsys: Output) -> None:
    valid = (0, "valid: built-in defaults (no configuration file)\n", "")
    assert run(capsys, "config", "validate", *at(tree)) == valid
    file = str(put(tree, "new.yaml", "scheduler: [\n"))
    for arguments in ([file], ["--config", file]):
        code, out, err = run(capsys, "config", "validate", *arguments)
        assert (code, out, err.startswith(f"{file}:2: invalid YAML: ")) == (78, "", True)


@pytest.mark.parametrize(
    "command", [["check"], ["plan"], ["explain", "ip_vs"], ["config", "show"], ["config", "validate"]], ids=" ".join
)
def test_a_bad_configuration_exits_78_with_every_error(tree: Path, capsys: Output, command: list[str]) -> None:
    file = put(tree, MAIN, "schedular: rr\ninterval: soon\n")
    code, out, err = run(capsys, *command, *at(tree))
    assert (code, out) == (78, "")
    assert err.splitlines() == [
        f"{file}:1: unknown key 'schedular' (did you mean 'scheduler'?)",
        f"{file}:2: interval: must be a duration, not a string (such as 60s, 5m)",
    ]


# --- usage ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "line", ["", "frobnicate", "check --output xml", "check extra", "config", "check --root /nowhere"]
)
def test_bad_usage_exits_64(capsys: Output, line: str) -> None:
    code, out, err = run(capsys, *line.split())
    assert (code, out, bool(err)) == (64, "", True)


def test_the_version_and_the_help_of_every_command(capsys: Output) -> None:
    assert run(capsys, "--version") == (0, f"ipvsd {__version__}\n", "")
    code, out, _ = run(capsys, "--help")
    assert code == 0
    assert all(name in out for name in ("run", "check", "plan", "apply", "status", "config"))
    assert [line for line in out.splitlines() if len(line) > 80] == []
