"""The profiles on kernels of several distributions: the failed items, and the packages in the remedies."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import pytest

from ipvsd import cli
from ipvsd.config.desired_state import build_desired
from ipvsd.config.schema import Config
from ipvsd.decide.health import assess
from ipvsd.decide.planner import plan
from ipvsd.model.report import State
from ipvsd.model.types import Kernel, ModuleState, Plan
from tests.fake_kernel import DEPENDS, EXTENSIONS, NODE, RELEASE, SETS
from tests.samples import kernel, observed
from tests.trees import READY, make_tree, put

Output = pytest.CaptureFixture[str]

IN_EXTRA = {"br_netfilter", "ip_set", *SETS, *EXTENSIONS}  # of EL 10, in kernel-modules-extra
NFT = ("nf_tables", "nft_compat", "nft_chain_nat")
EL_10 = "6.12.0-124.8.1.el10_1.x86_64"


def without(*gone: str) -> list[str]:
    return [name for name in NODE if name not in gone]


def judged(seen: Kernel, loaded: bool = True) -> Plan:
    live = dict.fromkeys(seen.loadable, ModuleState.LIVE) if loaded else {}
    return plan(build_desired(Config(), seen, live, {})._replace(sysctls=()), observed(seen, live))


def state(made: Plan) -> State:
    return assess(made.modules, None, 0.0).state


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(NODE, State.READY, id="Debian"),
        pytest.param(without(*IN_EXTRA), State.FAILED, id="EL 10 without extra modules"),
        pytest.param(without("ip_set", *SETS), State.FAILED, id="no sets"),
        pytest.param(without("dummy"), State.FAILED, id="no dummy"),
        pytest.param(without("xt_recent"), State.READY, id="nothing of iptables mode"),
        pytest.param(without("ip_vs_lc", "ip_vs_mh"), State.READY, id="few schedulers"),
        pytest.param(without("br_netfilter"), State.DEGRADED, id="no bridge filter"),
        pytest.param([*without("xt_MASQUERADE"), "ipt_MASQUERADE"], State.READY, id="before 5.2"),
        pytest.param([*without("nft_chain_nat"), "nft_chain_nat_ipv4"], State.READY, id="before 5.1"),
        pytest.param([*NODE, "nft_counter"], State.READY, id="before 5.17"),
        pytest.param([name for name in DEPENDS if name not in NFT], State.READY, id="the older tables alone"),
        pytest.param(without("nft_compat", "nft_chain_nat"), State.FAILED, id="no back end"),
    ],
)
def test_a_kernel_is_judged_by_what_kube_proxy_needs(names: list[str], expected: State) -> None:
    assert state(judged(kernel(tuple(names)))) is expected


def test_a_kernel_with_everything_built_in_is_compliant() -> None:
    assert state(judged(kernel(built_in=NODE), loaded=False)) is State.READY


def el_10(tmp_path: Path, live: tuple[str, ...]) -> Path:
    shipped = [name for name in DEPENDS if name not in IN_EXTRA]
    values = {key: value for key, value in READY.items() if "bridge" not in key}
    tree = make_tree(tmp_path / "root", live=live, values=values, shipped=shipped)
    put(tree, "etc/os-release", 'ID=rhel\nVERSION_ID="10.1"\n')
    put(tree, "proc/sys/kernel/osrelease", f"{EL_10}\n")
    (tree / "lib/modules" / RELEASE).rename(tree / "lib/modules" / EL_10)
    return tree


@pytest.mark.parametrize(("command", "live"), [("check", without(*IN_EXTRA)), ("preflight", ())])
def test_the_remedy_on_el_10_without_extra_modules_names_the_package(
    tmp_path: Path, capsys: Output, command: str, live: Sequence[str]
) -> None:
    tree = el_10(tmp_path, tuple(live))
    assert cli.main([command, "--root", str(tree)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "ip_set" in out
    assert f"dnf --installroot={tree} install kernel-modules-extra-{EL_10}" in out
