"""The profiles on kernels of several distributions: the failed items, and the packages in the remedies."""

from __future__ import annotations

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
EL_10 = "6.12.0-124.8.1.el10_1.x86_64"


def judged(seen: Kernel, loaded: bool = True) -> Plan:
    live = dict.fromkeys(seen.loadable, ModuleState.LIVE) if loaded else {}
    return plan(build_desired(Config(), seen, live, {})._replace(sysctls=()), observed(seen, live))


def state(made: Plan) -> State:
    return assess(made.modules, None, 0.0).state


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        pytest.param(NODE, State.READY, id="Debian"),
        pytest.param([name for name in NODE if name not in IN_EXTRA], State.FAILED, id="EL 10 without extra modules"),
        pytest.param([name for name in NODE if not name.startswith("ip_set")], State.FAILED, id="no sets"),
        pytest.param([name for name in NODE if name != "dummy"], State.FAILED, id="no dummy"),
        pytest.param([name for name in NODE if name != "xt_recent"], State.READY, id="nothing of iptables mode"),
        pytest.param([name for name in NODE if name not in ("ip_vs_lc", "ip_vs_mh")], State.READY, id="few schedulers"),
        pytest.param([name for name in NODE if name != "br_netfilter"], State.DEGRADED, id="no bridge filter"),
        pytest.param(
            [name if name != "xt_MASQUERADE" else "ipt_MASQUERADE" for name in NODE], State.READY, id="before 5.2"
        ),
        pytest.param(
            [name if name != "nft_chain_nat" else "nft_chain_nat_ipv4" for name in NODE], State.READY, id="before 5.1"
        ),
        pytest.param([*NODE, "nft_counter"], State.READY, id="before 5.17"),
        pytest.param(
            [name for name in DEPENDS if name not in ("nf_tables", "nft_compat", "nft_chain_nat")],
            State.READY,
            id="the older tables alone",
        ),
        pytest.param(
            [name for name in NODE if name not in ("nft_compat", "nft_chain_nat")], State.FAILED, id="no back end"
        ),
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


def test_the_remedy_on_el_10_without_extra_modules_names_the_package(tmp_path: Path, capsys: Output) -> None:
    tree = el_10(tmp_path, tuple(name for name in NODE if name not in IN_EXTRA))
    assert cli.main(["check", "--root", str(tree)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("failed: ")
    assert "! ip_set absent" in out
    assert f"dnf --installroot={tree} install kernel-modules-extra-{EL_10}" in " ".join(out.split())


def test_preflight_has_the_same_result_for_the_image(tmp_path: Path, capsys: Output) -> None:
    tree = el_10(tmp_path, ())
    assert cli.main(["preflight", "--root", str(tree)]) == 1
    out = " ".join(capsys.readouterr().out.split())
    assert "ip_set" in out
    assert f"install kernel-modules-extra-{EL_10}" in out
