"""Interfaces that do not forward: kube-proxy's profiles desire forwarding on each, now and later."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from ipvsd.boot import drop_in_files
from ipvsd.cli import main
from ipvsd.decide.aggregate import by_pattern
from tests.configured import config
from tests.fake_kernel import FORWARD, FORWARDING, FakeKernel
from tests.reconciling import settle
from tests.trees import make_tree, put, put_sysctl

Output = pytest.CaptureFixture[str]
PATTERN = "net.ipv4.conf.*.forwarding"
ETH0 = "net.ipv4.conf.eth0.forwarding"
DEFAULT = "net.ipv4.conf.default.forwarding"


@pytest.fixture
def kernel() -> FakeKernel:
    """A compliant node."""
    kernel = FakeKernel()
    settle(kernel)
    assert [kernel.values[name] for name in (FORWARD, *FORWARDING)] == ["1"] * 4
    return kernel


@pytest.mark.parametrize("name", [ETH0, DEFAULT])
def test_a_node_with_an_interface_that_does_not_forward_is_not_ready(tmp_path: Path, capsys: Output, name: str) -> None:
    tree = make_tree(tmp_path)
    put_sysctl(tree, name, "0")
    assert main(["check", "--root", str(tree)]) == 1
    assert capsys.readouterr().out.startswith("failed: ")


@pytest.mark.parametrize("name", FORWARDING)
def test_an_interface_is_made_to_forward_again(kernel: FakeKernel, name: str) -> None:
    kernel.values[name] = "0"
    assert [str(action) for action in settle(kernel).proved] == [f"set {name} from '0' to '1'"]


def test_an_interface_that_appears_is_managed(kernel: FakeKernel) -> None:
    kernel.values["net.ipv4.conf.veth1.forwarding"] = "0"
    done = settle(kernel)
    assert kernel.values["net.ipv4.conf.veth1.forwarding"] == "1"
    [found] = [finding for finding in by_pattern(done.after.sysctls) if finding.name == PATTERN]
    assert (found.members, found.desired.required) == ((3, 3), True)


def test_a_plan_shows_what_the_kernel_does_by_itself_as_one_line(tmp_path: Path, capsys: Output) -> None:
    tree = make_tree(tmp_path)
    for name in (FORWARD, *FORWARDING):
        put_sysctl(tree, name, "0")
    main(["plan", "--root", str(tree)])
    assert capsys.readouterr().out == f"# profile kube-proxy-ipvs\n- {FORWARD} = 0\n+ {FORWARD} = 1\n"
    main(["plan", "--root", str(tree), "--output", "json"])
    assert [item["name"] for item in json.loads(capsys.readouterr().out)["actions"]] == [FORWARD]


def test_interfaces_are_written_if_ip_forward_cannot_be(kernel: FakeKernel) -> None:
    kernel.write_sysctl(FORWARD, "0")
    kernel.refused[FORWARD] = 1
    assert {action.name for action in settle(kernel).proved} == set(FORWARDING)


@pytest.mark.parametrize(
    ("text", "held"),
    [
        (f"sysctls: {{{ETH0}: false}}", {"default", "lo"}),
        (f"sysctls: {{'{PATTERN}': false}}", {"default"}),
        (f"sysctls: {{'{PATTERN}': {{exclude: [eth0]}}}}", {"default", "lo"}),
        (f"sysctls: {{'{PATTERN}': false, {DEFAULT}: false}}", set()),
        ("sysctls: {'net.ipv4.conf.eth*.forwarding': {value: 0}}", {"default", "lo"}),
        ("profiles: [kube-proxy-nftables]", {"default", "lo", "eth0"}),
        ("profiles: [lvs-full]", set()),
    ],
)
def test_an_interface_can_be_left_alone(kernel: FakeKernel, text: str, held: set[str]) -> None:
    kernel.values.update(dict.fromkeys(FORWARDING, "0"))
    settle(kernel, text)
    assert {name.split(".")[3] for name in FORWARDING if kernel.values[name] == "1"} == held


def test_an_interface_can_be_less_important(kernel: FakeKernel) -> None:
    done = settle(kernel, f"sysctls: {{'{PATTERN}': {{policy: observe, required: false}}}}")
    [found] = [finding for finding in by_pattern(done.after.sysctls) if finding.name == PATTERN]
    assert (found.desired.policy.value, found.desired.required, str(found.desired.want)) == ("observe", False, "1")


def test_a_pattern_that_excludes_all_leaves_ip_forward_alone() -> None:
    kernel = FakeKernel()
    kernel.values["net.ipv4.ip_forward"] = "1"
    settle(kernel, f"profiles: []\nsysctls: {{'{PATTERN}': {{value: 0, exclude: [all, default]}}}}")
    assert kernel.values[FORWARD] == "1"


def test_the_persisted_file_does_the_same_at_boot(kernel: FakeKernel) -> None:
    made = config(f"sysctls: {{{FORWARD}: 0, {ETH0}: false}}")
    done = settle(kernel, made)
    lines = drop_in_files.build(made, done.kernel, done.after)[drop_in_files.SYSCTL].splitlines()
    assert f"{PATTERN} = 1" in lines
    assert {f"-{ETH0}", "-net.ipv4.conf.all.forwarding", f"{FORWARD} = 0"} <= set(lines)


def test_a_link_that_networkd_keeps_from_forwarding_is_explained(tmp_path: Path, capsys: Output) -> None:
    tree = make_tree(tmp_path)
    put_sysctl(tree, ETH0, "0")
    put(tree, "etc/systemd/system/multi-user.target.wants/systemd-networkd.service", "")
    put(tree, "etc/systemd/network/10-eth0.network", "[Match]\nName=eth0\n[Network]\nIPv4Forwarding=no\n")
    assert main(["explain", ETH0, "--root", str(tree)]) == 1
    out = capsys.readouterr().out
    assert "/etc/systemd/network/10-eth0.network:4" in out
    assert "an interface without it drops packets that it should forward" in " ".join(out.split())
