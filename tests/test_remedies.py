"""Every remedy is carried out on the bench, or the documents explain why not."""

from __future__ import annotations

import enum
import importlib
import re
from collections.abc import Iterable, Mapping
from pathlib import Path

import pytest

from ipvsd.conflicts.external_setting import Program
from ipvsd.decide import remedies
from ipvsd.model.types import Plan
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.modprobe.distro_packages import PACKAGES, Package
from tests.samples import kernel, sysctl, wanted_sysctl

ROOT = Path(__file__).parent.parent
TEXT = (ROOT / "docs/remedies.md").read_text()
SECTIONS: Mapping[str, Iterable[enum.Enum]] = {
    "Modules": (verdict for verdict in ModuleVerdict if remedies.for_module(verdict, kernel(), "ip_vs")),
    "Sysctls and module parameters": (verdict for verdict in SysctlVerdict if verdict is not SysctlVerdict.COMPLIANT),
    "Conflicting programs": Program,
}


def rows(heading: str) -> Mapping[str, tuple[str, str]]:
    """Return the remedy and the last column of each row of a section."""
    section = TEXT.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    found = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \|$", section, re.MULTILINE)
    return {name: (remedy, tested) for name, remedy, tested in found}


PROBLEMS = {heading: list(problems) for heading, problems in SECTIONS.items()}
ROWS = {
    problem: rows(heading).get(problem.value, ("", ""))
    for heading, problems in PROBLEMS.items()
    for problem in problems
}


def carried_out() -> set[enum.Enum]:
    """Return the problems whose remedy a test of the virtual machines applies, as their markers declare."""
    found: set[enum.Enum] = set()
    for path in (ROOT / "tests/vm").glob("test_*.py"):
        for item in vars(importlib.import_module(f"tests.vm.{path.stem}")).values():
            marks = getattr(item, "pytestmark", ()) if callable(item) else ()
            found.update(problem for mark in marks if mark.name == "carries_out" for problem in mark.args)
    return found


def test_every_row_belongs_to_a_verdict_or_a_program() -> None:
    assert {heading: set(rows(heading)) for heading in SECTIONS} == {
        heading: {problem.value for problem in problems} for heading, problems in PROBLEMS.items()
    }


@pytest.mark.parametrize("problem", ROWS, ids=str)
def test_every_remedy_is_carried_out_or_the_reason_is_given(problem: enum.Enum) -> None:
    assert re.match(r"(yes\b|no: \w)", ROWS[problem][1])


def test_the_rows_that_are_carried_out_are_those_that_the_tests_declare() -> None:
    assert carried_out() == {problem for problem, row in ROWS.items() if row[1].startswith("yes")}


@pytest.mark.parametrize("problem", [problem for problem, row in ROWS.items() if row[1].startswith("no: ")], ids=str)
def test_an_untested_remedy_needs_more_than_the_bench_has(problem: enum.Enum) -> None:
    commands = re.findall(r"`((?:ipvsd|depmod) [^`]+)`", ROWS[problem][0])
    assert commands == []


@pytest.mark.parametrize(
    ("text", "on_root"),
    [
        (
            "did you mean x? Otherwise, run 'apt install --reinstall linux-image-6'",
            "chroot '/a b' apt install --reinstall",
        ),
        ("run 'apt install linux-image-generic' to install it, and reboot", "run 'chroot '/a b' apt install linux-"),
        ("dnf install kernel-modules-extra-6.12", "dnf --installroot='/a b' install kernel-modules-extra-6.12"),
        ("tdnf install linux", "tdnf --installroot='/a b' install linux"),
        ("zypper install kernel-default", "zypper --root '/a b' install kernel-default"),
        ("run 'pacman -S linux' and reboot", "pacman --root '/a b' -S linux' and reboot"),
        ("run 'apk add linux-lts' and reboot", "apk --root '/a b' add linux-lts"),
        ("(run 'dpkg -S /boot/vmlinuz-6.1' to find it)", "(run 'chroot '/a b' dpkg -S /boot/vmlinuz-6.1' to find"),
        ("run 'depmod -a 6.1'", "run 'depmod -b '/a b' -a 6.1'"),
        ("run 'ipvsd apply --persist' and reboot", "run 'ipvsd apply --persist --root '/a b'' and reboot"),
        ("run 'ipvsd check'", "run 'ipvsd check --root '/a b''"),
        ("run 'systemctl unmask x.service'", "run 'systemctl --root='/a b' unmask x.service'"),
    ],
)
def test_a_command_of_a_remedy_acts_on_the_root(text: str, on_root: str) -> None:
    found = remedies.for_root(text, "/a b")
    assert on_root in found
    assert remedies.for_root(found, "/a b") == found
    assert remedies.for_root(text, "/") == text


@pytest.mark.parametrize("package", PACKAGES, ids=lambda package: package.source)
def test_every_command_that_brings_a_package_can_act_on_another_root(package: Package) -> None:
    commands = re.findall(r"\b(?:apt|dnf|tdnf|zypper|pacman|apk|yum|microdnf)\b", package.advice)
    found = remedies.for_root(package.advice, "/image")
    assert found.count("/image") == len(commands)


@pytest.mark.parametrize(
    ("root", "daemon", "remedy"),
    [
        ("/", False, remedies.APPLY),
        ("/", True, remedies.TRIED),
        ("/image", False, remedies.for_root(remedies.BELOW, "/image")),
        ("/image", True, remedies.for_root(remedies.BELOW, "/image")),
    ],
)
def test_the_remedy_of_an_item_that_ipvsd_can_repair(root: str, daemon: bool, remedy: str) -> None:
    finding = sysctl(SysctlVerdict.NONCOMPLIANT, found="0", remedy=remedies.APPLY)
    assert remedies.adapt(Plan((), (), (finding,)), root, daemon).sysctls[0].remedy == remedy


@pytest.mark.parametrize("verdict", [ModuleVerdict.ABSENT, ModuleVerdict.MODULE_TREE_MISSING])
def test_the_two_newest_kernels_with_a_module_are_named(verdict: ModuleVerdict) -> None:
    seen = kernel()._replace(in_other_kernels={"ip_vs": ("6.1", "6.2", "6.3")})
    assert remedies.for_module(verdict, seen, "ip_vs").startswith("reboot into 6.2 or 6.3, which has the module")


@pytest.mark.parametrize(
    ("name", "origin", "found"),
    [
        ("net.bridge.bridge-nf-call-iptables", "profile kube-proxy-ipvs", True),
        ("net.bridge.bridge-nf-call-iptables", "ipvsd.yaml:3", False),
        ("net.ipv4.ip_forward", "profile kube-proxy-ipvs", False),
    ],
)
def test_the_remedy_for_a_sysctl_of_a_bridge_names_the_key_for_network_plugins(
    name: str, origin: str, found: bool
) -> None:
    remedy = remedies.for_sysctl(wanted_sysctl(name)._replace(origin=origin), remedies.APPLY)
    assert remedy.startswith(remedies.APPLY)
    assert ("set 'bridgeNetfilter: false'" in remedy) is found
