"""Parameters of modules: set when a module is loaded, and managed afterwards."""

from __future__ import annotations

import pytest

from ipvsd.model.types import LoadModule, WriteParameter
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reconcile.rounds import ReconcileResult
from tests.fake_kernel import FakeKernel
from tests.reconciling import settle

BITS = "ip_vs.conn_tab_bits"
HASH = "nf_conntrack.hashsize"


def verdict(done: ReconcileResult, name: str) -> SysctlVerdict:
    return next(finding.verdict for finding in done.after.parameters if finding.name == name)


@pytest.fixture
def kernel() -> FakeKernel:
    return FakeKernel()


def test_a_module_is_loaded_with_its_parameters(kernel: FakeKernel) -> None:
    done = settle(kernel, "modules: {ip_vs: {parameters: {conn_tab_bits: 20}}}")
    assert LoadModule("ip_vs", options=("conn_tab_bits=20",)) in done.proved
    assert kernel.parameters[BITS] == "20"
    assert verdict(done, BITS) is SysctlVerdict.COMPLIANT


def test_parameters_keep_a_module_of_a_profile_unchanged(kernel: FakeKernel) -> None:
    done = settle(kernel, "modules: {br_netfilter: {parameters: {x: 1}}}")
    (found,) = (finding for finding in done.after.modules if finding.name == "br_netfilter")
    assert (found.desired.need.value, found.desired.origin) == ("optional", "profile kube-proxy-ipvs")


def test_a_writable_parameter_is_written(kernel: FakeKernel) -> None:
    kernel.load_module("nf_conntrack")
    done = settle(kernel, "modules: {nf_conntrack: {parameters: {hashsize: 65536}}}")
    assert WriteParameter(HASH, "16384", "65536") in done.proved


def test_a_parameter_that_the_kernel_rounds_is_not_kept(kernel: FakeKernel) -> None:
    kernel.load_module("nf_conntrack")
    kernel.clamps[HASH] = lambda _: "65024"
    done = settle(kernel, "modules: {nf_conntrack: {parameters: {hashsize: 65000}}}")
    assert verdict(done, HASH) is SysctlVerdict.NOT_KEPT


def test_a_read_only_parameter_needs_a_reload_and_names_the_obstacle(kernel: FakeKernel) -> None:
    kernel.load_module("ip_vs_sh")
    done = settle(kernel, "modules: {ip_vs: {parameters: {conn_tab_bits: 20}}}")
    (found,) = done.after.parameters
    assert found.verdict is SysctlVerdict.NEEDS_MODULE_RELOAD
    why = "the kernel accepts this parameter only while it loads module ip_vs; the module is in use by "
    assert found.evidence.startswith(f"actual value '12', desired value 20; {why}")
    assert not any(isinstance(outcome.action, WriteParameter) for outcome in done.outcomes)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        pytest.param("ip_vs: {parameters: {conn_tab_bits: 0xc}}", SysctlVerdict.COMPLIANT, id="the same number"),
        pytest.param("ip_vs: {parameters: {nonsense: 1}}", SysctlVerdict.UNSUPPORTED, id="the module lacks it"),
        pytest.param("ip_conntrack: {parameters: {hashsize: 65536}}", SysctlVerdict.COMPLIANT, id="of an alias"),
    ],
)
def test_the_verdict_on_a_parameter(kernel: FakeKernel, text: str, expected: SysctlVerdict) -> None:
    kernel.aliases["ip_conntrack"] = "nf_conntrack"
    (found,) = settle(kernel, f"modules: {{{text}}}").after.parameters
    assert found.verdict is expected


def test_a_parameter_of_a_module_that_is_not_live_is_pending(kernel: FakeKernel) -> None:
    kernel.depends.pop("ip_vs")
    done = settle(kernel, "modules: {ip_vs: {parameters: {conn_tab_bits: 20}}}")
    assert verdict(done, BITS) is SysctlVerdict.PENDING


def test_a_parameter_of_a_built_in_module_belongs_on_the_command_line(kernel: FakeKernel) -> None:
    kernel.built_in.add("ip_vs")
    kernel.parameters[BITS] = "12"
    (found,) = settle(kernel, "modules: {ip_vs: {parameters: {conn_tab_bits: 20}}}").after.parameters
    assert found.verdict is SysctlVerdict.NEEDS_MODULE_RELOAD
    assert found.remedy == "add ip_vs.conn_tab_bits=20 to the kernel command line and reboot"
