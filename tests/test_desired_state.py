"""The desired state of the profiles and the user, by kernel."""

from __future__ import annotations

import pytest

from ipvsd.config.desired_state import build_desired, candidates
from ipvsd.config.profiles import notes
from ipvsd.config.schema import Config
from ipvsd.decide.verdicts import judge_module
from ipvsd.model.types import Desired, DesiredSysctl, Exactly, Iptables, ModuleState, Need, Observed, Policy, Within
from ipvsd.model.verdicts import ModuleVerdict as V
from tests.configured import config
from tests.fake_kernel import DEPENDS, NODE
from tests.samples import kernel

DEBIAN = tuple(DEPENDS)
SCHEDULERS = {f"ip_vs_{name}" for name in "rr wrr lc wlc lblc lblcr dh sh mh sed nq fo ovf twos".split()}
EXTRAS = {"xt_nat", "xt_tcpudp", "xt_statistic", "xt_recent", "xt_sctp", "xt_nfacct"}


def want(text: str = "", loadable: tuple[str, ...] = DEBIAN, release: str = "6.1.0", cpus: int = 2) -> Desired:
    return build_desired(config(text), kernel(loadable, release=release, cpus=cpus), {}, {})


def needs(wanted: Desired) -> dict[str, Need]:
    return {module.name: module.need for module in wanted.modules}


def values(wanted: Desired) -> dict[str, str]:
    return {sysctl.key: str(sysctl.want) for sysctl in wanted.sysctls}


def one(wanted: Desired, key: str) -> DesiredSysctl:
    (sysctl,) = (sysctl for sysctl in wanted.sysctls if sysctl.key == key)
    return sysctl


def test_kube_proxy_requires_the_modules_of_its_rules_and_its_choices() -> None:
    found = needs(want())
    lists = {need: {name for name, of in found.items() if of is need} for need in Need}
    assert lists[Need.OPTIONAL] == {"br_netfilter"}
    assert lists[Need.IF_SHIPPED] == EXTRAS | SCHEDULERS - {"ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"}
    assert lists[Need.REQUIRED] == set(NODE) - lists[Need.OPTIONAL] - lists[Need.IF_SHIPPED]


def test_an_optional_module_that_is_not_shipped_is_not_reported() -> None:
    shipped = tuple(name for name in DEBIAN if name not in ("xt_nfacct", "ip_vs_twos"))
    assert not {"xt_nfacct", "ip_vs_twos", "nft_counter"} & set(needs(want(loadable=shipped)))
    assert needs(want(loadable=(*DEBIAN, "nft_counter")))["nft_counter"] is Need.IF_SHIPPED


def test_a_kernel_without_ipv6_needs_nothing_for_it() -> None:
    seen = kernel(DEBIAN)._replace(ipv6=False, iptables=Iptables("/usr/sbin/iptables-legacy"))
    found = needs(build_desired(Config(), seen, {}, {}))
    assert "iptable_nat" in found
    assert not [name for name in found if name.startswith("ip6")]


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        pytest.param("xt_MASQUERADE", {"xt_MASQUERADE"}, id="Linux 5.2 and later"),
        pytest.param("ipt_MASQUERADE ip6t_MASQUERADE", {"ipt_MASQUERADE", "ip6t_MASQUERADE"}, id="before"),
        pytest.param("", {"xt_MASQUERADE"}, id="none stands for the failure"),
    ],
)
def test_the_masquerading_module_is_the_one_that_this_kernel_has(known: str, wanted: set[str]) -> None:
    shipped = (*(name for name in DEBIAN if "MASQUERADE" not in name), *known.split())
    assert {name for name in needs(want(loadable=shipped)) if "MASQUERADE" in name} == wanted


def test_kube_proxy_requires_these_sysctls_with_forwarding_first() -> None:
    assert list(values(want()).items()) == [
        ("net.ipv4.ip_forward", "1"), ("net.ipv4.conf.default.forwarding", "1"), ("net.ipv4.vs.conntrack", "1"),
        ("net.ipv4.vs.expire_nodest_conn", "1"), ("net.ipv4.vs.expire_quiescent_template", "1"),
        ("net.bridge.bridge-nf-call-iptables", "1"), ("net.bridge.bridge-nf-call-ip6tables", "1"),
        ("net.netfilter.nf_conntrack_max", ">= 131072"), ("net.ipv4.conf.*.forwarding", "1"),
    ]  # fmt: skip


def test_every_desired_item_has_its_origin() -> None:
    wanted = want("modules: {zram: {}}\nscheduler: lc\nsysctls:\n  net.a.b: 1\n")
    origins = {item.name: item.origin for item in wanted.modules}
    assert origins["ip_vs"] == "profile kube-proxy-ipvs"
    assert origins["ip_vs_lc"] == "scheduler: lc"
    assert origins["zram"] == "0.yaml:1"
    assert one(wanted, "net.a.b").origin == "0.yaml:4"


@pytest.mark.parametrize(
    ("known", "wanted"),
    [
        pytest.param(("nf_conntrack",), {"nf_conntrack"}, id="Linux 4.19 and later"),
        pytest.param(("nf_conntrack", "nf_conntrack_ipv4"), {"nf_conntrack", "nf_conntrack_ipv4"}, id="before"),
        pytest.param(("nf_conntrack_ipv4",), {"nf_conntrack_ipv4"}, id="the old one alone"),
        pytest.param((), {"nf_conntrack"}, id="neither stands for the failure"),
    ],
)
def test_the_connection_tracking_module_is_the_one_that_this_kernel_has(
    known: tuple[str, ...], wanted: set[str]
) -> None:
    found = needs(want(loadable=known))
    assert {name for name in ("nf_conntrack", "nf_conntrack_ipv4") if name in found} == wanted


def test_connection_tracking_that_is_built_in_or_runs_without_an_index_counts() -> None:
    both = {"nf_conntrack", "nf_conntrack_ipv4"}
    assert "nf_conntrack_ipv4" in needs(build_desired(Config(), kernel(built_in=("nf_conntrack_ipv4",)), {}, {}))
    live = dict.fromkeys(both, ModuleState.LIVE)
    assert both <= set(needs(build_desired(Config(), kernel(indexed=False), live, {})))


@pytest.mark.parametrize(
    ("release", "touched"),
    [
        ("3.10.0-1160.el7", False), ("4.0.9", False), ("4.1.0", True), ("4.18.0-553.el8_10", True), ("5.8.18", True),
        ("5.9.0", False), ("6.1.0", False), ("nonsense", False),
    ],
)  # fmt: skip
def test_conn_reuse_mode_is_set_only_where_kube_proxy_sets_it(release: str, touched: bool) -> None:
    assert values(want(release=release)).get("net.ipv4.vs.conn_reuse_mode") == ("0" if touched else None)


@pytest.mark.parametrize(
    ("cpus", "floor"), [(0, 131072), (1, 131072), (4, 131072), (5, 163840), (8, 262144), (32, 1048576), (256, 1048576)]
)
def test_the_table_of_connections_grows_with_the_processors(cpus: int, floor: int) -> None:
    assert one(want(cpus=cpus), "net.netfilter.nf_conntrack_max").want == Within(floor)


def test_strict_arp_adds_two_sysctls() -> None:
    added = values(want("strictARP: true")).items() - values(want()).items()
    assert added == {("net.ipv4.conf.all.arp_ignore", "1"), ("net.ipv4.conf.all.arp_announce", "2")}


def test_without_the_bridge_filter_none_of_its_items_is_desired() -> None:
    wanted = want("bridgeNetfilter: false")
    assert "br_netfilter" not in needs(wanted)
    assert not [key for key in values(wanted) if key.startswith("net.bridge.")]


def test_the_module_of_the_scheduler_is_required() -> None:
    assert needs(want("scheduler: wlc"))["ip_vs_wlc"] is Need.REQUIRED


def test_without_a_profile_nothing_is_desired() -> None:
    assert want("profiles: []") == Desired((), ())


def test_an_lvs_director_requires_every_shipped_scheduler() -> None:
    optional = dict.fromkeys([*SCHEDULERS, "ip_vs_ftp"], Need.IF_SHIPPED)
    required = dict.fromkeys(["ip_vs", "nf_conntrack"], Need.REQUIRED)
    assert needs(want("profiles: [lvs-full]")) == {**required, **optional}


@pytest.mark.parametrize("order", ["[lvs-full, kube-proxy-ipvs]", "[kube-proxy-ipvs, lvs-full]"])
def test_the_stronger_need_of_several_profiles_counts(order: str) -> None:
    wanted = want(f"profiles: {order}")
    assert needs(wanted)["ip_vs_sh"] is Need.REQUIRED
    assert needs(wanted)["ip_vs_lc"] is Need.IF_SHIPPED
    assert len({module.name for module in wanted.modules}) == len(wanted.modules)


@pytest.mark.parametrize(
    ("said", "need"),
    [
        ("ip_vs_sh: {required: false}", Need.OPTIONAL), ("ip_vs_sh: {}", Need.REQUIRED), ("ip_vs_sh: false", None),
        ("br_netfilter: {required: true}", Need.REQUIRED), ("br_netfilter: {}", Need.OPTIONAL),
        ("xt_recent: {}", Need.REQUIRED), ("xt_recent: {parameters: {ip_list_tot: 200}}", Need.IF_SHIPPED),
        ("ip_vs_wlc: {}", Need.REQUIRED), ("ip-vs-wlc: {required: false}", Need.OPTIONAL),
    ],
)  # fmt: skip
def test_a_user_adds_weakens_or_drops_a_module(said: str, need: object) -> None:
    name = said.partition(":")[0].replace("-", "_")
    assert needs(want(f"modules: {{{said}}}")).get(name) is need


@pytest.mark.parametrize(
    ("said", "expected"),
    [
        ("2", (Exactly("2"), Policy.ENFORCE, True)),
        ("{policy: observe}", (Exactly("1"), Policy.OBSERVE, True)),
        ("{required: false}", (Exactly("1"), Policy.ENFORCE, False)),
        ("{atLeast: 2}", (Within(2), Policy.ENFORCE, True)),
    ],
)
def test_a_user_overrides_a_part_of_a_profiles_sysctl(said: str, expected: tuple[object, ...]) -> None:
    wanted = one(want(f"sysctls: {{net.ipv4.vs.conntrack: {said}}}"), "net.ipv4.vs.conntrack")
    assert (wanted.want, wanted.policy, wanted.required) == expected


def test_a_users_own_sysctl_is_enforced_and_its_absence_no_failure() -> None:
    wanted = one(want("sysctls: {net.ipv4.tcp_rmem: 4096 1 2}"), "net.ipv4.tcp_rmem")
    assert wanted == DesiredSysctl("net.ipv4.tcp_rmem", Exactly("4096 1 2"), Policy.ENFORCE, False, "0.yaml:1")


def test_a_dropped_sysctl_is_not_desired() -> None:
    assert "net.ipv4.ip_forward" not in values(want("sysctls: {net/ipv4/ip_forward: false}"))


@pytest.mark.parametrize(
    ("key", "module"),
    [
        ("net.ipv4.vs.sloppy_tcp", "ip_vs"), ("net.ipv4.vs.lblc_expiration", "ip_vs_lblc"),
        ("net.ipv4.vs.lblcr_expiration", "ip_vs_lblcr"), ("net.bridge.bridge-nf-call-arptables", "br_netfilter"),
        ("net.netfilter.nf_conntrack_max", "nf_conntrack"), ("net.ipv4.ip_forward", None),
    ],
)  # fmt: skip
def test_a_sysctl_knows_the_module_that_brings_it(key: str, module: object) -> None:
    assert one(want(f"sysctls: {{{key}: 1}}"), key).provider == module


def test_the_index_is_asked_about_everything_that_may_matter() -> None:
    asked = candidates(config("scheduler: wlc\nmodules: {zram: {}}\nsysctls: {net.ipv4.vs.lblc_expiration: 1}"))
    assert {*DEPENDS, "nf_conntrack_ipv4", "ip_vs_wlc", "zram"} - {"ip_vs_ftp"} <= asked


# --- kube-proxy's version ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "schedulers"),
    [
        ("", {"ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"}),
        ("kubeProxyVersion: 1.26", {"ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"}),
        ("kubeProxyVersion: 1.27", {"ip_vs_rr"}),
        ("kubeProxyVersion: 1.30\nscheduler: sh", {"ip_vs_sh"}),
    ],
)
def test_a_version_of_kube_proxy_tightens_the_set(text: str, schedulers: set[str]) -> None:
    found = {name: need for name, need in needs(want(text)).items() if name.startswith("ip_vs_")}
    required = {name for name, need in found.items() if need is Need.REQUIRED}
    assert (required, set(found)) == (schedulers, SCHEDULERS)


@pytest.mark.parametrize(
    ("text", "newer"),
    [
        ("", {"ip_set_hash_ip", "xt_ipvs"}),
        ("kubeProxyVersion: 1.25", set()),
        ("kubeProxyVersion: 1.26", {"ip_set_hash_ip"}),
        ("kubeProxyVersion: 1.29", {"ip_set_hash_ip", "xt_ipvs"}),
    ],
)
def test_modules_of_newer_kube_proxy_versions_are_desired_for_these(text: str, newer: set[str]) -> None:
    assert {name for name in ("ip_set_hash_ip", "xt_ipvs") if name in needs(want(text))} == newer


@pytest.mark.parametrize(
    ("text", "count", "said"),
    [
        ("", 0, ""),
        ("kubeProxyVersion: 1.34", 0, ""),
        ("kubeProxyVersion: 1.35", 1, "kube-proxy 1.35: IPVS mode has been deprecated since 1.35"),
        ("kubeProxyVersion: 1.41", 1, "kube-proxy 1.41: IPVS mode is off by default"),
        ("kubeProxyVersion: 1.43", 1, "kube-proxy 1.43: IPVS mode was removed in 1.43"),
        ("kubeProxyVersion: 1.43\nprofiles: [kube-proxy-nftables]", 0, ""),
        ("kubeProxyVersion: 1.28\nprofiles: [kube-proxy-nftables]", 1, "kube-proxy 1.28: there is no nftables mode"),
        ("kubeProxyVersion: 1.30\nprofiles: [kube-proxy-nftables]", 1, "kube-proxy 1.30: nftables mode is not stable"),
    ],
)
def test_a_version_of_kube_proxy_has_its_notes(text: str, count: int, said: str) -> None:
    made = config(text)
    found = notes(made.profiles, made.kube_proxy)
    assert len(found) == count
    assert "".join(found).startswith(said)


def test_an_old_kernel_is_too_old_for_nftables_whatever_it_has() -> None:
    wanted = want("profiles: [kube-proxy-nftables]")
    (module,) = (module for module in wanted.modules if module.name == "nf_tables")
    for release, verdict in (("5.10.0", V.KERNEL_TOO_OLD), ("5.13.0", V.LIVE)):
        seen = Observed(kernel(release=release), {"nf_tables": ModuleState.LIVE}, {})
        assert judge_module(module, seen).verdict is verdict
