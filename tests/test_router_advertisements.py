"""Nodes that have their default route from router advertisements, and lose it because of IPv6 forwarding."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipvsd.cli import main
from ipvsd.kernel.procfs import ipv6_default_routes
from tests.boots import make_image
from tests.trees import make_tree, put, put_sysctl

Output = pytest.CaptureFixture[str]
ZEROS = "0" * 32
LEARNT = f"{ZEROS} 00 {ZEROS} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00450003     {{}}\n"
STATIC = f"{ZEROS} 00 {ZEROS} 00 fe800000000000000000000000000001 00000400 00000001 00000000 00000003     {{}}\n"
NONE = f"{ZEROS} 00 {ZEROS} 00 {ZEROS} ffffffff 00000001 00000000 00200200       lo\n"
INTERFACES = ("all", "default", "lo", "eth0", "veth1")


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A node with IPv6, whose interface accepts advertisements."""
    tree = make_tree(tmp_path)
    for interface in INTERFACES:
        put_sysctl(tree, f"net.ipv6.conf.{interface}.accept_ra", "1")
    forwards(tree, "0")
    return tree


def forwards(tree: Path, value: str = "1") -> None:
    for interface in INTERFACES:
        put_sysctl(tree, f"net.ipv6.conf.{interface}.forwarding", value)


def notes(tree: Path, capsys: Output, text: str = "") -> list[str]:
    put(tree, "etc/ipvsd/ipvsd.yaml", text)
    main(["check", "--root", str(tree), "--output", "json"])
    return list(json.loads(capsys.readouterr().out)["notes"])


def test_the_interface_and_the_remedy_are_named(tree: Path, capsys: Output) -> None:
    forwards(tree)
    assert notes(tree, capsys) == [
        "the kernel ignores default routes from router advertisements on eth0, because IPv6 forwarding is "
        "enabled and accept_ra is 1 (to accept them, set 'sysctls: {net.ipv6.conf.eth0.accept_ra: 2}')"
    ]


def test_the_note_comes_before_forwarding_is_enabled_if_that_is_desired(tree: Path, capsys: Output) -> None:
    assert notes(tree, capsys) == []
    for interface in ("all", "*", "eth0"):
        assert len(notes(tree, capsys, f"sysctls: {{'net.ipv6.conf.{interface}.forwarding': 1}}\n")) == 1


@pytest.mark.parametrize(
    "text",
    [
        "sysctls: {net.ipv6.conf.eth0.accept_ra: 2}\n",
        "sysctls: {'net.ipv6.conf.eth*.accept_ra': 2}\n",
        "sysctls: {net.ipv6.conf.eth0.accept_ra: 0}\n",
        "sysctls: {net.ipv6.conf.eth0.forwarding: 0}\n",
        "sysctls: {net.ipv6.conf.all.forwarding: 0, 'net.ipv6.conf.*.forwarding': 0}\n",
    ],
)
def test_a_problem_that_the_configuration_solves_is_not_reported(tree: Path, capsys: Output, text: str) -> None:
    forwards(tree)
    assert notes(tree, capsys, text) == []


@pytest.mark.parametrize(
    ("routes", "device", "told"),
    [
        pytest.param(LEARNT.format("eth0"), True, True, id="learnt"),
        pytest.param(LEARNT.format("veth1"), True, True, id="learnt by a virtual one"),
        pytest.param(STATIC.format("eth0"), True, False, id="given"),
        pytest.param(STATIC.format("eth1"), True, False, id="given to another one"),
        pytest.param(NONE, True, True, id="lost"),
        pytest.param(NONE, False, False, id="never had any"),
        pytest.param("", True, True, id="empty"),
    ],
)
def test_readable_routes_are_the_evidence(tree: Path, capsys: Output, routes: str, device: bool, told: bool) -> None:
    forwards(tree)
    put(tree, "proc/net/ipv6_route", routes)
    for name in ("eth0", "veth1"):
        (tree / "sys/class/net" / name).mkdir(parents=True)
    if device:
        (tree / "sys/class/net/eth0/device").mkdir()
    assert bool(notes(tree, capsys)) is told


def test_many_interfaces_are_one_short_note(tree: Path, capsys: Output) -> None:
    forwards(tree)
    for number in range(9):
        put_sysctl(tree, f"net.ipv6.conf.ens{number}/7.accept_ra", "1")
    [note] = notes(tree, capsys)
    assert "on ens0.7, ens1.7, ens2.7 and 7 more, because " in note
    assert "{net.ipv6.conf.ens0/7.accept_ra: 2}" in note


def test_a_plan_contains_the_note_as_well(tree: Path, capsys: Output) -> None:
    forwards(tree)
    assert main(["plan", "--root", str(tree)]) == 0
    out = capsys.readouterr().out
    assert out.startswith("nothing to do\nnote: the kernel ignores default routes")
    assert [line for line in out.splitlines() if len(line) > 80] == []
    put_sysctl(tree, "net.ipv6.conf.eth0.accept_ra", "2")  # the interface accepts advertisements
    assert notes(tree, capsys) == []


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("net.ipv6.conf.all.forwarding", True),
        ("net.ipv6.conf.*.forwarding", True),
        ("net.ipv6.conf.eth0.accept_ra", True),
        ("net.ipv6.conf.veth1.forwarding", False),
        ("net.ipv4.ip_forward", False),
    ],
)
def test_the_explanation_of_a_sysctl_of_the_interface_contains_the_note(
    tree: Path, capsys: Output, name: str, told: bool
) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "sysctls: {net.ipv6.conf.all.forwarding: 1, 'net.ipv6.conf.*.forwarding': 1}\n")
    main(["explain", name, "--root", str(tree)])
    assert ("note: the kernel ignores default routes" in capsys.readouterr().out) is told
    main(["explain", name, "--root", str(tree), "--output", "json"])
    assert bool(json.loads(capsys.readouterr().out)["notes"]) is told


def test_persisting_the_configuration_of_a_node_reports_the_note(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "sysctls: {net.ipv6.conf.all.forwarding: 1}\n")
    main(["apply", "--persist", "--root", str(tree)])
    assert "note: the kernel ignores default routes from router advertisements on eth0," in capsys.readouterr().err


@pytest.mark.parametrize(
    ("config", "line", "told"),
    [
        ("sysctls: {net.ipv6.conf.all.forwarding: 1}\n", "", True),
        ("sysctls: {'net.ipv6.conf.*.forwarding': 1}\n", "", True),
        ("", "", False),
        ("sysctls: {net.ipv6.conf.all.forwarding: 0}\n", "", False),
        ("sysctls: {net.ipv6.conf.all.forwarding: {value: 1, policy: observe}}\n", "", False),
        ("sysctls: {net.ipv6.conf.all.forwarding: 1, net.ipv6.conf.eth0.accept_ra: 2}\n", "", False),
        ("sysctls: {net.ipv6.conf.all.forwarding: 1}\n", "net.ipv6.conf.eth0.accept_ra = 2\n", False),
        ("sysctls: {net.ipv6.conf.all.forwarding: 1}\n", "net.ipv6.conf.eth0.accept_ra = 1\n", True),
    ],
)
def test_an_image_whose_interfaces_are_unknown_has_a_general_note(
    tmp_path: Path, capsys: Output, config: str, line: str, told: bool
) -> None:
    image = make_image(tmp_path / "image")
    put(image, "etc/ipvsd/ipvsd.yaml", config)
    put(image, "etc/sysctl.d/x.conf", line)
    for command in (["check"], ["plan"], ["apply", "--persist"], ["explain", "net.ipv6.conf.all.forwarding"]):
        main([*command, "--root", str(image)])
        said = " ".join("".join(capsys.readouterr()).split())
        assert ("note: the kernel will ignore default routes" in said) is told


@pytest.mark.parametrize("text", ["", "x", f"{ZEROS} 00\n", LEARNT.format("eth0").replace("00450003", "zz")])
def test_other_texts_are_no_learnt_routes(text: str) -> None:
    assert True not in ipv6_default_routes(text).values()
