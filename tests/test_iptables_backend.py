"""Detection of the back end of iptables that a node uses. No other back end is loaded."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ipvsd.commands.explanation import explain
from ipvsd.config import config_files
from ipvsd.config.desired_state import build_desired
from ipvsd.config.iptables_backend import choose
from ipvsd.config.profiles import KUBE_PROXY_IPVS
from ipvsd.config.schema import Config
from ipvsd.decide.planner import plan
from ipvsd.kernel import iptables
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.types import Iptables, Kernel, ModuleFinding, Need
from ipvsd.model.verdicts import ModuleVerdict
from tests.fake_kernel import DEPENDS, LEGACY_TABLES, LEGACY_TABLES6
from tests.samples import kernel, observed
from tests.trees import make_tree, put

NFT = ("nf_tables", "nft_compat", "nft_chain_nat")
LEGACY = ("ip_tables", *LEGACY_TABLES, "ip6_tables", *LEGACY_TABLES6)
UNSURE = "the default backend"


def chosen(program: str = "", tables: str = "", without: str = "", ipv6: bool = True) -> tuple[str, str]:
    known = tuple(name for name in DEPENDS if name not in without.split())
    seen = kernel(known)._replace(iptables=Iptables(program, tuple(tables.split())), ipv6=ipv6)
    choice = choose(KUBE_PROXY_IPVS.back_ends, seen, seen.loadable)
    return choice.back_end.name, choice.reason


@pytest.mark.parametrize(
    ("program", "tables", "name", "because"),
    [
        *(
            (path, "", name, f"iptables is {path}")
            for path, name in {
                "/usr/sbin/xtables-nft-multi": "nft", "/usr/sbin/iptables-nft": "nft", "/sbin/xtables-multi": "legacy",
                "/usr/sbin/xtables-legacy-multi": "legacy", "/usr/sbin/iptables-legacy": "legacy",
            }.items()
        ),
        # The kernel already contains tables that another program created.
        ("/usr/sbin/xtables-nft-multi", "nat filter", "nft", "iptables is /usr/sbin/xtables-nft-multi"),
        ("", "nat filter", "legacy", "legacy tables exist (nat, filter)"),
        ("/usr/local/sbin/iptables", "nat", "legacy", "legacy tables exist (nat)"),
        ("/usr/local/sbin/iptables", "", "nft", UNSURE),
        ("", "", "nft", UNSURE),
    ],
)  # fmt: skip
def test_the_program_of_the_node_decides_and_then_the_tables_in_use(
    program: str, tables: str, name: str, because: str
) -> None:
    assert chosen(program, tables) == (name, f"for iptables-{name}: {because}")


@pytest.mark.parametrize(
    ("used", "without", "name", "because"),
    [
        ("nft", "nft_compat", "legacy", "this kernel lacks nft_compat of iptables-nft"),
        ("nft", "nft_chain_nat", "legacy", "this kernel lacks nft_chain_nat of iptables-nft"),
        ("legacy", "iptable_nat ip_tables", "nft", "this kernel lacks ip_tables of iptables-legacy"),
        ("legacy", "ip6table_nat", "nft", "this kernel lacks ip6table_nat of iptables-legacy"),
        # Neither is complete: the report names the missing modules of the one that the node uses.
        ("legacy", "ip_tables nf_tables", "legacy", "iptables is iptables-legacy"),
        ("nft", "ip_tables nf_tables", "nft", "iptables is iptables-nft"),
    ],
)
def test_a_kernel_that_supports_one_back_end_uses_that_one(used: str, without: str, name: str, because: str) -> None:
    assert chosen(f"iptables-{used}", without=without) == (name, f"for iptables-{name}: {because}")


def test_a_back_end_is_complete_without_modules_for_ipv6_that_is_absent_and_with_older_names() -> None:
    assert chosen("iptables-legacy", without="ip6_tables ip6table_nat", ipv6=False)[0] == "legacy"
    seen = kernel((*(name for name in DEPENDS if name != "nft_chain_nat"), "nft_chain_nat_ipv4"))
    assert choose(KUBE_PROXY_IPVS.back_ends, seen, seen.loadable).back_end.name == "nft"


def findings(seen: Kernel) -> dict[str, ModuleFinding]:
    return {found.name: found for found in plan(build_desired(Config(), seen, {}, {}), observed(seen)).modules}


@pytest.mark.parametrize(
    ("program", "loaded", "left_alone"), [("iptables-nft", NFT, LEGACY), ("iptables-legacy", LEGACY, NFT)]
)
def test_the_modules_of_the_other_back_end_are_not_managed(
    program: str, loaded: tuple[str, ...], left_alone: tuple[str, ...]
) -> None:
    found = findings(kernel(tuple(DEPENDS))._replace(iptables=Iptables(program)))
    assert {found[name].desired.need for name in loaded} == {Need.REQUIRED}
    assert not set(left_alone) & set(found)
    assert found[loaded[0]].evidence.endswith(f"; for {program}: iptables is {program}")


def test_a_built_in_back_end_is_compliant() -> None:
    seen = kernel(tuple(name for name in DEPENDS if name not in LEGACY), built_in=LEGACY)
    seen = seen._replace(iptables=Iptables("iptables-legacy"))
    assert {findings(seen)[name].verdict for name in LEGACY} == {ModuleVerdict.BUILT_IN}


# --- the files --------------------------------------------------------------------------


def link(root: Path, path: str, target: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.symlink_to(target)


@pytest.mark.parametrize(
    ("links", "program"),
    [
        pytest.param(
            {"usr/sbin/iptables": "/etc/alternatives/x", "etc/alternatives/x": "/usr/sbin/iptables-legacy",
             "usr/sbin/iptables-legacy": "xtables-legacy-multi", "sbin": "/usr/sbin"},
            "/usr/sbin/xtables-legacy-multi", id="of Debian",
        ),
        pytest.param({"sbin/iptables": "../../../../../usr/sbin/xtables-nft-multi"}, "/usr/sbin/xtables-nft-multi",
                     id="too many parents"),
        pytest.param({"sbin": "../builder"}, "", id="a directory that is outside"),
        pytest.param({"usr/sbin/iptables": "iptables"}, "/usr/sbin/iptables", id="a loop"),
    ],
)  # fmt: skip
def test_links_are_followed_inside_the_root(tmp_path: Path, links: Mapping[str, str], program: str) -> None:
    put(tmp_path, "builder/iptables", "")
    put(tmp_path, "root/usr/sbin/xtables-legacy-multi", "")
    for path, target in links.items():
        link(tmp_path / "root", path, target)
    assert iptables.detect(str(tmp_path / "root")).program == program


def test_tables_that_exist_are_read(tmp_path: Path) -> None:
    put(tmp_path, "proc/net/ip_tables_names", "nat\nfilter\n")
    assert iptables.detect(str(tmp_path)).tables == ("nat", "filter")


@pytest.mark.parametrize(
    ("paths", "there"),
    [
        ([], True),
        (["proc/sys/net/ipv4/ip_forward"], False),
        (["proc/sys/net/ipv4/ip_forward", "proc/net/if_inet6"], True),
        (["proc/sys/net/ipv4/ip_forward", "proc/sys/net/ipv6/route/gc_elasticity"], True),
    ],
)
def test_ipv6_is_there_unless_a_kernel_shows_nothing_of_it(tmp_path: Path, paths: list[str], there: bool) -> None:
    for path in paths:
        put(tmp_path, path, "")
    assert iptables.has_ipv6(str(tmp_path)) is there


def test_the_host_detects_both(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "root")
    link(tree, "usr/sbin/iptables", "xtables-legacy-multi")
    seen = LinuxHost(str(tree)).kernel(["ip_vs"])
    assert (seen.iptables.program, seen.ipv6) == ("/usr/sbin/xtables-legacy-multi", True)


# --- explain ----------------------------------------------------------------------------


def explained(tree: Path, name: str) -> list[tuple[str, str]]:
    return list(explain(str(tree), config_files.load(str(tree), None), name).reasons)


def test_explain_prints_the_reason_for_the_back_end(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "root")
    link(tree, "usr/sbin/iptables", "xtables-nft-multi")
    ((profile, why),) = explained(tree, "nft_compat")
    assert (profile, why.startswith("iptables-nft: ")) == ("profile kube-proxy-ipvs", True)
    assert why.endswith("; for iptables-nft: iptables is /usr/sbin/xtables-nft-multi")


def test_explain_gives_no_reason_of_a_back_end_that_is_not_the_nodes(tmp_path: Path) -> None:
    tree = make_tree(tmp_path / "root")
    put(tree, "etc/ipvsd/ipvsd.yaml", "modules: {iptable_nat: {}}\n")
    assert [origin for origin, _ in explained(tree, "iptable_nat")] == [f"{tree}/etc/ipvsd/ipvsd.yaml:1"]
