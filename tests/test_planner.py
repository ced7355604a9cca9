from __future__ import annotations

from typing import Optional

import pytest

from ipvsd.model import (
    AtLeast,
    Exactly,
    Kernel,
    LoadModule,
    Missing,
    ModuleState,
    ModuleVerdict,
    Need,
    Policy,
    Reading,
    SysctlVerdict,
    Unreadable,
    Want,
    WriteSysctl,
)
from ipvsd.planner import plan, satisfies
from tests.samples import desired, kernel, observed, wanted_module, wanted_sysctl

KEY = "net.ipv4.vs.conntrack"
SHIPPED = kernel(loadable=("ip_vs",))


@pytest.mark.parametrize(
    ("seen", "state", "verdict", "loads"),
    [
        pytest.param(SHIPPED, ModuleState.LIVE, ModuleVerdict.LIVE, False, id="live"),
        pytest.param(SHIPPED, None, ModuleVerdict.LOADABLE, True, id="not loaded"),
        pytest.param(SHIPPED, ModuleState.GOING, ModuleVerdict.UNLOADING, True, id="on its way out"),
        pytest.param(SHIPPED, ModuleState.COMING, ModuleVerdict.LOADING, False, id="on its way in"),
        pytest.param(kernel(built_in=("ip_vs",)), None, ModuleVerdict.BUILT_IN, False, id="built in"),
        pytest.param(
            kernel(built_in=("ip_vs",), modular=False, indexed=False), None, ModuleVerdict.BUILT_IN, False,
            id="built into a kernel without modules",
        ),
        pytest.param(kernel(modular=False), None, ModuleVerdict.NO_SUPPORT, False, id="kernel without modules"),
        pytest.param(kernel(indexed=False), None, ModuleVerdict.TREE_GONE, False, id="tree gone"),
        pytest.param(kernel(indexed=False), ModuleState.LIVE, ModuleVerdict.LIVE, False, id="live, tree gone"),
        pytest.param(kernel(), None, ModuleVerdict.ABSENT, False, id="not shipped"),
        pytest.param(kernel(), ModuleState.LIVE, ModuleVerdict.LIVE, False, id="live, of another tree"),
    ],
)  # fmt: skip
def test_a_required_module(seen: Kernel, state: Optional[ModuleState], verdict: ModuleVerdict, loads: bool) -> None:
    made = plan(desired(wanted_module()), observed(seen, {"ip_vs": state} if state else {}))
    assert made.modules[0].verdict is verdict
    assert made.actions == ((LoadModule("ip_vs"),) if loads else ())


@pytest.mark.parametrize(
    ("seen", "verdict"),
    [
        pytest.param(kernel(), ModuleVerdict.NOT_SHIPPED, id="not shipped"),
        pytest.param(SHIPPED, ModuleVerdict.LOADABLE, id="shipped"),
        pytest.param(kernel(modular=False), ModuleVerdict.NO_SUPPORT, id="kernel without modules"),
    ],
)
def test_a_module_that_is_wanted_where_it_is_shipped(seen: Kernel, verdict: ModuleVerdict) -> None:
    made = plan(desired(wanted_module(need=Need.IF_SHIPPED)), observed(seen))
    assert made.modules[0].verdict is verdict


@pytest.mark.parametrize(
    ("seen", "remedy"),
    [
        pytest.param(kernel(), "apt install --reinstall linux-image-6.1.0-50-cloud-amd64, or run", id="Debian"),
        pytest.param(kernel(distribution="ubuntu"), "apt install linux-modules-extra-6.1", id="Ubuntu"),
        pytest.param(kernel(distribution="rocky"), "dnf install kernel-modules-extra-6.1", id="Rocky"),
        pytest.param(kernel(distribution=""), "install the package with the modules of kernel 6.1", id="unknown"),
        pytest.param(kernel(indexed=False), "reboot into an installed kernel, or apt", id="tree gone"),
        pytest.param(kernel(modular=False), "run a kernel with loadable modules", id="no modules"),
    ],
)
def test_a_module_that_cannot_be_had_says_what_to_do(seen: Kernel, remedy: str) -> None:
    made = plan(desired(wanted_module()), observed(seen))
    assert made.modules[0].remedy.startswith(remedy)


@pytest.mark.parametrize(
    ("reading", "verdict", "writes"),
    [
        pytest.param("1", SysctlVerdict.RIGHT, False, id="right"),
        pytest.param("0", SysctlVerdict.WRONG, True, id="wrong"),
        pytest.param("", SysctlVerdict.WRONG, True, id="empty"),
        pytest.param(Unreadable("Permission denied"), SysctlVerdict.UNREADABLE, False, id="unreadable"),
        pytest.param(Missing(), SysctlVerdict.UNSUPPORTED, False, id="no file"),
    ],
)
def test_a_sysctl_without_a_module(reading: Reading, verdict: SysctlVerdict, writes: bool) -> None:
    made = plan(desired(wanted_sysctl()), observed(kernel(), sysctls={"net.ipv4.ip_forward": reading}))
    assert made.sysctls[0].verdict is verdict
    assert bool(made.actions) is writes


@pytest.mark.parametrize(
    ("seen", "state", "verdict"),
    [
        pytest.param(SHIPPED, None, SysctlVerdict.PENDING, id="module not loaded"),
        pytest.param(SHIPPED, ModuleState.COMING, SysctlVerdict.PENDING, id="module on its way in"),
        pytest.param(SHIPPED, ModuleState.GOING, SysctlVerdict.PENDING, id="module on its way out"),
        pytest.param(kernel(), None, SysctlVerdict.PENDING, id="module not shipped"),
        pytest.param(SHIPPED, ModuleState.LIVE, SysctlVerdict.UNSUPPORTED, id="module live"),
        pytest.param(kernel(built_in=("ip_vs",)), None, SysctlVerdict.UNSUPPORTED, id="module built in"),
    ],
)
def test_a_sysctl_without_a_file_waits_for_its_module(
    seen: Kernel, state: Optional[ModuleState], verdict: SysctlVerdict
) -> None:
    want = wanted_sysctl(KEY, provider="ip_vs")
    made = plan(desired(want), observed(seen, {"ip_vs": state} if state else {}))
    assert made.sysctls[0].verdict is verdict
    assert made.actions == ()


def test_an_observed_sysctl_is_wrong_and_not_written() -> None:
    want = wanted_sysctl(policy=Policy.OBSERVE)
    made = plan(desired(want), observed(kernel(), sysctls={want.key: "0"}))
    assert (made.sysctls[0].verdict, made.actions) == (SysctlVerdict.WRONG, ())


def test_a_write_knows_what_was_found() -> None:
    want = wanted_sysctl()
    made = plan(desired(want), observed(kernel(), sysctls={want.key: "0"}))
    assert made.actions == (WriteSysctl(want.key, "0", "1"),)


def test_a_floor_is_what_is_written() -> None:
    want = wanted_sysctl(KEY, AtLeast(131072))
    made = plan(desired(want), observed(kernel(), sysctls={KEY: "65536"}))
    assert made.actions == (WriteSysctl(KEY, "65536", "131072"),)


def test_forwarding_is_written_first_and_modules_are_loaded_last() -> None:
    other, forward = wanted_sysctl(KEY), wanted_sysctl()
    made = plan(desired(wanted_module(), other, forward), observed(SHIPPED, sysctls={KEY: "0", forward.key: "0"}))
    assert [action.name for action in made.actions] == [forward.key, KEY, "ip_vs"]


def test_nothing_wanted_is_nothing_to_do() -> None:
    assert plan(desired(), observed(kernel())).actions == ()


@pytest.mark.parametrize(
    ("value", "want", "right"),
    [
        pytest.param("1", Exactly("1"), True, id="equal"),
        pytest.param("01", Exactly("1"), False, id="another text"),
        pytest.param("5", AtLeast(5), True, id="at the floor"),
        pytest.param("6", AtLeast(5), True, id="above"),
        pytest.param("4", AtLeast(5), False, id="below"),
        pytest.param("-1", AtLeast(0), False, id="negative"),
        pytest.param("5 6", AtLeast(5), False, id="two numbers"),
        pytest.param("", AtLeast(0), False, id="nothing"),
    ],
)
def test_a_value_satisfies_a_want(value: str, want: Want, right: bool) -> None:
    assert satisfies(value, want) is right
