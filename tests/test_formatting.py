"""The output of commands for equal remedies, and the notes."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from tests.boots import Output, run, values
from tests.fake_kernel import RELEASE
from tests.trees import put


def test_one_remedy_of_many_modules_is_printed_once(tree: Path, capsys: Output) -> None:
    put(tree, "proc/modules", "")
    shutil.rmtree(tree / "lib")
    _, out, _ = run(capsys, tree, "check")
    modules = out.partition("MODULES")[2].partition("SYSCTLS")[0]
    assert modules.count(" ! ") > 20
    assert modules.count(f"apt install --reinstall linux-image-{RELEASE}") == 1
    assert modules.count("->") == 2  # two groups, with a compliant item between them
    assert "-> see the remedy for " in modules


def test_a_remedy_that_was_printed_above_is_referred_to(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "profiles: []\nsysctls: {net.a.b: 1, net.ipv4.ip_forward: 1, net.c.d: 1}\n")
    _, out, _ = run(capsys, tree, "check")
    sysctls = out.partition("SYSCTLS")[2]
    assert sysctls.count("-> remove the sysctl from the configuration") == 1
    assert sysctls.rstrip().endswith("-> see the remedy for net.a.b")


@pytest.mark.parametrize(
    ("value", "told"), [("1", "1 (no sysctl matches the pattern yet)"), ("0", "0 (desired 1; no sysctl matches")]
)
def test_a_pattern_without_matches_is_reported(tree: Path, capsys: Output, value: str, told: str) -> None:
    shutil.rmtree(tree / "proc")
    put(tree, "etc/sysctl.d/x.conf", f"net.ipv4.conf.*.forwarding = {value}\n")
    _, out, _ = run(capsys, tree, "check")
    assert told in out
    assert " of 0" not in out


PERSISTED = "etc/sysctl.d/90-ipvsd.conf"


def stop_kernel(tree: Path, image: bool) -> None:
    for name in ("proc", "sys") if image else ():
        shutil.rmtree(tree / name)


@pytest.mark.parametrize("command", ["check", "plan"])
@pytest.mark.parametrize("image", [True, False])
def test_persisted_files_that_are_not_as_configured_are_noted(
    tree: Path, capsys: Output, command: str, image: bool
) -> None:
    stop_kernel(tree, image)
    run(capsys, tree, "apply", "--persist")
    told = f"{PERSISTED} does not match the configuration (run 'ipvsd apply --persist --root ')"
    for stale in (False, True):
        if stale:
            put(tree, PERSISTED, (tree / PERSISTED).read_text().replace("ip_forward = 1", "ip_forward = 0"))
        assert (told in run(capsys, tree, command)[1]) is stale


@pytest.mark.parametrize("image", [True, False])
def test_a_plan_has_the_notes_of_check(tree: Path, capsys: Output, image: bool) -> None:
    stop_kernel(tree, image)
    put(tree, "etc/ipvsd/ipvsd.yaml", 'kubeProxyVersion: "1.40"\n')
    put(tree, "etc/modules-load.d/x.conf", "nosuch\n")
    put(tree, PERSISTED, "")
    notes = values(capsys, tree, "check")[1]["notes"]
    out = run(capsys, tree, "plan")[1]
    assert len(notes) == 3
    assert [note for note in notes if f"note: {note.replace(str(tree), '')}" not in out] == []
