from __future__ import annotations

from typing import Optional

import pytest

from ipvsd.decide.planner import plan, without_followers
from ipvsd.model.types import (
    MISSING,
    Action,
    DesiredSysctl,
    LoadModule,
    ModuleState,
    Policy,
    Reading,
    Unreadable,
    Within,
    WriteParameter,
    WriteSysctl,
)
from ipvsd.model.verdicts import SysctlVerdict as V
from tests.samples import desired, kernel, observed, wanted_module, wanted_sysctl

KEY = "net.ipv4.vs.conntrack"
SHIPPED = kernel(loadable=("ip_vs",))


@pytest.mark.parametrize(
    ("state", "loads"),
    [
        pytest.param(ModuleState.LIVE, False, id="live"),
        pytest.param(None, True, id="not loaded"),
        pytest.param(ModuleState.GOING, True, id="on its way out"),
        pytest.param(ModuleState.COMING, False, id="on its way in"),
    ],
)
def test_a_module_is_loaded_unless_it_is_there_or_coming(state: Optional[ModuleState], loads: bool) -> None:
    made = plan(desired(wanted_module()), observed(SHIPPED, {"ip_vs": state} if state else {}))
    assert made.actions == ((LoadModule("ip_vs"),) if loads else ())


def test_the_module_of_an_alias_is_loaded() -> None:
    seen = kernel(loadable=("nf_conntrack",))._replace(aliases={"ip_conntrack": "nf_conntrack"})
    made = plan(desired(wanted_module("ip_conntrack")), observed(seen))
    assert made.actions == (LoadModule("ip_conntrack", "nf_conntrack"),)
    assert str(made.actions[0]) == "load module nf_conntrack for ip_conntrack"


@pytest.mark.parametrize(
    ("reading", "verdict", "writes"),
    [
        pytest.param("1", V.COMPLIANT, False, id="right"),
        pytest.param("0", V.NONCOMPLIANT, True, id="wrong"),
        pytest.param("", V.NONCOMPLIANT, True, id="empty"),
        pytest.param(Unreadable("Permission denied"), V.UNREADABLE, False, id="unreadable"),
        pytest.param(MISSING, V.UNSUPPORTED, False, id="no file"),
    ],
)
def test_a_sysctl_without_a_module(reading: Reading, verdict: V, writes: bool) -> None:
    made = plan(desired(wanted_sysctl()), observed(kernel(), sysctls={"net.ipv4.ip_forward": reading}))
    assert made.sysctls[0].verdict is verdict
    assert bool(made.actions) is writes


@pytest.mark.parametrize(
    ("want", "actions"),
    [
        pytest.param(wanted_sysctl(KEY, policy=Policy.OBSERVE), (), id="only observed"),
        pytest.param(wanted_sysctl(KEY), (WriteSysctl(KEY, "0", "1"),), id="with the actual value"),
        pytest.param(wanted_sysctl(KEY, Within(131072)), (WriteSysctl(KEY, "0", "131072"),), id="a floor"),
    ],
)
def test_the_write_to_a_sysctl_that_is_not_compliant(want: DesiredSysctl, actions: tuple[WriteSysctl, ...]) -> None:
    made = plan(desired(want), observed(kernel(), sysctls={KEY: "0"}))
    assert (made.sysctls[0].verdict, made.actions) == (V.NONCOMPLIANT, actions)


def test_forwarding_is_written_first_and_modules_are_loaded_last() -> None:
    other, forward = wanted_sysctl(KEY), wanted_sysctl()
    made = plan(desired(wanted_module(), other, forward), observed(SHIPPED, sysctls={KEY: "0", forward.key: "0"}))
    assert [action.name for action in made.actions] == [forward.key, KEY, "ip_vs"]


@pytest.mark.parametrize(
    ("action", "left"),
    [
        pytest.param(WriteSysctl("net.ipv4.conf.eth0.forwarding", "0", "1"), False, id="forwarding of an interface"),
        pytest.param(WriteSysctl("net.ipv4.conf.eth0.forwarding", "1", "0"), True, id="a different value"),
        pytest.param(WriteSysctl("net.ipv4.conf.eth0.rp_filter", "0", "1"), True, id="a different sysctl"),
        pytest.param(WriteSysctl("net.ipv4.conf.eth0.bc_forwarding", "0", "1"), True, id="a longer name"),
        pytest.param(WriteSysctl("net.ipv6.conf.eth0.forwarding", "0", "1"), True, id="IPv6"),
        pytest.param(WriteParameter("ip_vs.conn_tab_bits", "0", "1"), True, id="a parameter"),
        pytest.param(LoadModule("ip_vs"), True, id="a module"),
    ],
)
def test_what_the_kernel_does_itself_when_ip_forward_is_written_is_left_out(action: Action, left: bool) -> None:
    forward = WriteSysctl("net.ipv4.ip_forward", "0", "1")
    assert without_followers((forward, action)) == ((forward, action) if left else (forward,))
    assert without_followers((action,)) == (action,)


def test_an_empty_desired_state_causes_no_action() -> None:
    assert plan(desired(), observed(kernel())).actions == ()
