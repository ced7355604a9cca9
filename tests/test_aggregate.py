"""The matches of a pattern, from the configuration to the reports."""

from __future__ import annotations

import pytest

from ipvsd.decide.aggregate import by_pattern
from ipvsd.model.types import WriteSysctl
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.sysctl.patterns import Scope
from tests.fake_kernel import FakeKernel
from tests.reconciling import Node, settle

PATTERN = "net.ipv4.conf.*.rp_filter"
RULE = "'net.ipv4.conf.*.rp_filter': "


def key(interface: str) -> str:
    return f"net.ipv4.conf.{interface}.rp_filter"


@pytest.fixture
def kernel() -> FakeKernel:
    kernel = FakeKernel()
    for interface in ("all", "default", "lo", "eth0", "eth1/100"):
        kernel.values[key(interface)] = "1"
    return kernel


def of(text: str) -> str:
    return f"profiles: []\nsysctls:\n  {text}\n"


def zero(kernel: FakeKernel) -> set[str]:
    return {name.split(".")[3] for name, value in kernel.values.items() if name.endswith("rp_filter") and value == "0"}


@pytest.mark.parametrize(
    ("text", "written"),
    [
        pytest.param(f"{RULE} 0", {"all", "default", "lo", "eth0", "eth1/100"}, id="all of them"),
        pytest.param(f"{RULE} {{value: 0, exclude: [all, default]}}", {"lo", "eth0", "eth1/100"}, id="but some"),
        pytest.param(f"{RULE} {{value: 0, exclude: ['eth*']}}", {"all", "default", "lo"}, id="but those that fit"),
        pytest.param(f"{RULE} {{value: 0, exclude: [eth1.100]}}", {"all", "default", "lo", "eth0"}, id="a dot within"),
        pytest.param("'net/ipv4/conf/eth1.*/rp_filter': 0", {"eth1/100"}, id="with slashes"),
        pytest.param(f"{RULE} 0\n  {key('lo')}: 1", {"all", "default", "eth0", "eth1/100"}, id="a name beats it"),
        pytest.param(f"{RULE} 0\n  {key('lo')}: false", {"all", "default", "eth0", "eth1/100"}, id="a dropped one"),
        pytest.param(f"{RULE} 0\n  '{key('eth?')}': 1", {"all", "default", "lo", "eth1/100"}, id="the later"),
        pytest.param(f"{RULE} {{value: 0, policy: observe}}", set(), id="only told of"),
        pytest.param(f"{RULE} false", set(), id="dropped"),
    ],
)
def test_writes_for_a_pattern(kernel: FakeKernel, text: str, written: set[str]) -> None:
    settle(kernel, of(text))
    assert zero(kernel) == written


def test_its_findings_are_reported_as_one(kernel: FakeKernel) -> None:
    kernel.refused[key("eth0")] = 1
    done = settle(kernel, of(f"{RULE} 0"))
    (found,) = by_pattern(done.after.sysctls)
    assert (found.name, found.members, found.verdict) == (PATTERN, (4, 5), SysctlVerdict.WRITE_FAILED)
    evidence = f"{key('eth0')}: actual value '1', desired value 0; writing failed"
    assert found.evidence.startswith(f"4 of 5 compliant; {evidence}")
    assert WriteSysctl(key("eth1/100"), "1", "0") in done.proved  # each is written by its name


@pytest.mark.parametrize(
    ("text", "verdict", "evidence"),
    [
        ("'net.ipv4.conf.nothing*.x': 0", SysctlVerdict.UNSUPPORTED, "no sysctl matches the pattern"),
        ("'net.ipv4.conf.*.x': {value: 0, required: true}", SysctlVerdict.UNSUPPORTED, "no sysctl matches the pattern"),
        ("'net.ipv4.vs.expire_*': 1", SysctlVerdict.PENDING, "provided by module ip_vs, which is not live"),
    ],
)
def test_a_pattern_without_matches(kernel: FakeKernel, text: str, verdict: SysctlVerdict, evidence: str) -> None:
    (found,) = by_pattern(settle(kernel, of(text)).after.sysctls)
    assert (found.verdict, found.evidence, found.members) == (verdict, evidence, (0, 0))
    assert found.desired.required is ("required" in text)


def test_an_interface_that_vanishes_leaves_no_trace(kernel: FakeKernel) -> None:
    node = Node(f"profiles: []\nsysctls:\n  {RULE} 0\n", kernel)
    node.round()
    kernel.values[key("eth0")] = "1"
    node.round()
    del kernel.values[key("eth0")]
    node.round()
    assert key("eth0") not in node.reconciler.registry.items
    kernel.values[key("eth0")] = "1"  # another interface of this name
    node.round()
    assert node.counters.values.repairs == node.counters.values.drifts == {PATTERN: 1}


def test_an_interface_that_vanishes_between_listing_and_reading_is_nothing(kernel: FakeKernel) -> None:
    listed = [*kernel.expand([PATTERN])[PATTERN], key("gone")]
    kernel.expand = lambda patterns: dict.fromkeys(patterns, listed)  # type: ignore[method-assign]
    (found,) = by_pattern(settle(kernel, of(f"{RULE} 0")).after.sysctls)
    assert (found.members, found.verdict) == ((5, 5), SysctlVerdict.COMPLIANT)


def test_an_exclusion_applies_to_the_matches_of_wildcards() -> None:
    assert "net.ipv4.conf.eth0.x" not in Scope("net.*.conf.*.x", ["ipv4"])
    assert "net.ipv4.conf.eth0.x" in Scope("net.*.conf.*.x", ["conf", "net", "x"])


def test_a_pattern_whose_matches_are_all_named_has_no_effect(kernel: FakeKernel) -> None:
    done = settle(kernel, of(f"'net.ipv4.conf.lo.rp_*': 0\n  {key('lo')}: 1"))
    assert [finding.name for finding in by_pattern(done.after.sysctls)] == [key("lo")]


def test_the_sysctl_that_is_not_compliant_is_named_for_a_pattern_of_one_character(kernel: FakeKernel) -> None:
    kernel.refused[key("eth0")] = 1
    (found,) = by_pattern(settle(kernel, of("'net.ipv4.conf.eth?.rp_filter': 0")).after.sysctls)
    assert found.evidence.startswith(f"0 of 1 compliant; {key('eth0')}: actual value '1'")
