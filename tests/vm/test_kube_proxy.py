"""A node on which no module can be loaded any more: the programs for which ipvsd reported ready work there.

Sealing (kernel.modules_disabled=1) lasts until the next boot, so each set of profiles needs one.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from functools import partial
from pathlib import Path

import pytest

from tests.vm import cluster, kernels, kubeproxy
from tests.vm.kubeproxy import KubeProxy, traffic
from tests.vm.node import SYSCTLS, Journal, Node

V4, V6 = cluster.FAMILIES
DUAL = (V4, V6)
SETS = 15  # of kube-proxy 1.20, for each family
PATIENCE = 120  # seconds until kube-proxy has finished, when two machines share the processors
MANY = 20  # with a chance of one in half a million, an endpoint is missed
LEGACY_TABLES = ("iptable_nat", "iptable_filter", "ip6table_nat", "ip6table_filter")
KEEPALIVED = Path(__file__).parent / "guest" / "keepalived.conf"
MODES = [
    pytest.param("ipvs", (V4,), id="ipvs-IPv4"),
    pytest.param("ipvs", (V6,), id="ipvs-IPv6"),
    pytest.param("ipvs", DUAL, id="ipvs-dual"),
    pytest.param("iptables", DUAL, id="iptables-dual"),
]


@pytest.fixture(scope="module")
def machine() -> Iterator[Node]:
    with kubeproxy.booted() as node:
        yield node


@pytest.fixture
def node(machine: Node) -> Node:
    return machine


@pytest.fixture(autouse=True)
def _expected(journal: Journal) -> None:
    journal.expect(r"module nf_tables: kernel too old: ", r"failed: nf_tables kernel too old")


def seal(node: Node) -> KubeProxy:
    """Wait until ipvsd is ready, create the network, and disable module loading."""
    node.until(lambda: node.status().get("state"), "a verdict")
    made = KubeProxy(node)
    node.run("sysctl -qw kernel.modules_disabled=1")
    assert node.run("modprobe sctp", check=False).code != 0
    return made


@pytest.fixture(scope="module")
def nft(machine: Node) -> KubeProxy:
    """A sealed node with its default iptables, that of nf_tables."""
    assert machine.status_line().startswith(machine.ready_line())
    made = seal(machine)
    machine.run("sh /root/kubelet.sh")
    return made


@pytest.fixture(scope="module")
def legacy(machine: Node) -> KubeProxy:
    """The same after a boot with legacy iptables."""
    for program in ("iptables", "ip6tables"):
        machine.run(f"update-alternatives --set {program} /usr/sbin/{program}-legacy")
    machine.machine.reboot()
    machine.machine.booted()
    assert machine.status_line().startswith("ready: ")
    made = seal(machine)
    machine.run("sh /root/kubelet.sh")
    return made


@pytest.fixture(scope="module")
def others(machine: Node) -> KubeProxy:
    """The same after a boot with the two other profiles instead of the first one."""
    profiles = "[kube-proxy-nftables, lvs-full]" if new_enough() else "[lvs-full]"
    machine.machine.put(f"profiles: {profiles}\n".encode(), "/etc/ipvsd/conf.d/sealed.yaml")
    machine.machine.reboot()
    machine.machine.booted()
    assert machine.status_line().startswith("ready: ")
    made = seal(machine)
    machine.run("sysctl -qw net.ipv4.ip_forward=1 net.ipv4.vs.conntrack=1")
    return made


def new_enough() -> bool:
    """Return whether kube-proxy's nftables mode supports this kernel."""
    return tuple(map(int, kernels.chosen().split("."))) >= (5, 13)


# --- traffic ----------------------------------------------------------------------------


def wrong(proxy: KubeProxy, families: Sequence[str], mode: str) -> Sequence[str]:
    """Return the problems of the traffic to each kind of service."""
    expected = [item for family in families for item in traffic(family)]
    web = [f"pod1:tcp/{cluster.address('web', family)}/80" for family in families]
    sticky = [f"client:tcp/{cluster.address('sticky', family)}/80" for family in families]
    many = 4 if mode == "ipvs" else MANY  # IPVS takes them in turn, and the others randomly
    answers = iter(proxy.visit(*(target for target, _ in expected), *web * many, *sticky * 4))
    found = [
        f"{target}: {answer}" for (target, right), answer in zip(expected, answers) if not re.fullmatch(right, answer)
    ]
    rest = [answer.split()[0] for answer in answers]
    every, one = [set(cluster.PODS)], [{pod} for pod in cluster.PODS]
    halves = ((web, rest[: len(web) * many], every), (sticky, rest[len(web) * many :], one))
    for targets, answered, allowed in halves:
        for number, target in enumerate(targets):
            pods = set(answered[number :: len(targets)])
            if pods not in allowed:
                found.append(f"{target}: {pods}")
    return found


def assert_traffic(node: Node, proxy: KubeProxy, families: Sequence[str], mode: str) -> None:
    seen: Sequence[str] = []

    def right() -> bool:
        nonlocal seen
        seen = wrong(proxy, families, mode)
        return not seen

    try:
        node.until(right, "traffic", PATIENCE)
    finally:
        assert not seen, "\n".join([*seen, *proxy.problems()])


def assert_udp_moves(node: Node, proxy: KubeProxy, families: Sequence[str]) -> None:
    """Send requests repeatedly from one port, while the pod that replied is removed."""
    for family in families:
        target = f"client:udp/{cluster.address('dns', family)}/53/4000"
        gone = awaited(node, proxy, target, r"pod[12] .*").split()[0]
        (other,) = set(cluster.PODS) - {gone}
        proxy.publish(families, [gone])
        awaited(node, proxy, target, rf"{other} .*")
        proxy.publish(families)
        # Back in the table with its weight: kube-proxy 1.20 forgets the weight when it is restarted before.
        node.until(partial(both_answer, proxy, families), f"{gone} back", PATIENCE)


def both_answer(proxy: KubeProxy, families: Sequence[str]) -> bool:
    """Return whether each pod replies for a service, over each family."""
    visits = [proxy.visit(*[f"pod1:tcp/{cluster.address('web', family)}/80"] * MANY) for family in families]
    return all({answer.split()[0] for answer in answers} == set(cluster.PODS) for answers in visits)


def awaited(node: Node, proxy: KubeProxy, target: str, right: str) -> str:
    """Let the client send requests until it receives this reply, and return it. A UDP datagram can be lost."""
    answer = ""

    def answered() -> bool:
        nonlocal answer
        (answer,) = proxy.visit(target)
        return re.fullmatch(right, answer) is not None

    try:
        node.until(answered, f"{right} from {target}", PATIENCE)
    finally:
        if not re.fullmatch(right, answer):
            print(answer, node.run("ipvsadm -Ln; ipvsadm -Lnc; conntrack -L -p udp", check=False).out)
            print("\n".join(proxy.log()[-20:]))
    return answer


def assert_nothing_to_complain_about(proxy: KubeProxy) -> None:
    assert not proxy.problems()
    assert not proxy.changed() & set(SYSCTLS)


def assert_works(node: Node, proxy: KubeProxy, mode: str, families: Sequence[str]) -> None:
    """Assert that it works: for both families also with a removed pod, and after a restart with all its objects."""
    proxy.start(mode, families)
    try:
        assert_traffic(node, proxy, families, mode)
        if mode == "ipvs":
            assert_made(node, families)
        if len(families) > 1:
            assert_udp_moves(node, proxy, families)
            assert_nothing_to_complain_about(proxy)
            proxy.restart()
            assert_traffic(node, proxy, families, mode)
        assert_nothing_to_complain_about(proxy)
    finally:
        proxy.stop()
    assert node.status()["state"] == "ready"


def assert_made(node: Node, families: Sequence[str]) -> None:
    """Assert that the objects of IPVS mode exist: its sets, its interface with the addresses of services, its table."""
    sets = node.run("ipset list -n").out.split()
    bound, table = node.run("ip -o addr show kube-ipvs0").out, node.run("ipvsadm -Ln").out
    for family in families:
        assert sum(name.startswith("KUBE-6-") == (family == V6) for name in sets) == SETS
        assert cluster.address("web", family) in bound
        assert cluster.address("web", family) in table


# --- kube-proxy itself ------------------------------------------------------------------


@pytest.mark.parametrize(("mode", "families"), MODES)
def test_kube_proxy_works_on_a_sealed_node(node: Node, nft: KubeProxy, mode: str, families: Sequence[str]) -> None:
    assert_works(node, nft, mode, families)


def test_rules_of_newer_versions_work_as_well(node: Node, nft: KubeProxy) -> None:
    assert node.run("sh /root/newer.sh").err == ""


def test_an_unconfigured_scheduler_works_as_well(node: Node, nft: KubeProxy) -> None:
    assert_each_scheduler(node, nft)


def test_the_older_tables_are_not_there(node: Node, nft: KubeProxy) -> None:
    assert not [name for name in LEGACY_TABLES if node.live(name)]
    assert "for iptables-nft: iptables is /usr/sbin/xtables-nft-multi" in node.finding("nft_compat")["evidence"]


@pytest.mark.parametrize(
    ("mode", "families"),
    [MODES[2], pytest.param("iptables", DUAL, id="iptables-dual", marks=pytest.mark.full)],
)
def test_kube_proxy_works_with_the_older_tables(
    node: Node, legacy: KubeProxy, mode: str, families: Sequence[str]
) -> None:
    because = "for iptables-legacy: iptables is /usr/sbin/xtables-legacy-multi"
    assert because in node.finding("iptable_nat")["evidence"]
    assert not node.live("nft_compat")
    assert_works(node, legacy, mode, families)


def test_rules_of_newer_versions_work_with_legacy_tables(node: Node, legacy: KubeProxy) -> None:
    assert node.run("sh /root/newer.sh").err == ""


# --- the other profiles -----------------------------------------------------------------


@pytest.mark.skipif(not new_enough(), reason="kube-proxy's nftables mode takes no kernel before 5.13")
def test_the_rules_of_nftables_mode_pass_traffic(node: Node, others: KubeProxy) -> None:
    node.run("nft -f /root/nftables.nft")
    try:
        assert_traffic(node, others, DUAL, "nftables")
        assert node.run("conntrack -D -p udp", check=False).err.startswith("conntrack v")
    finally:
        node.run("nft delete table ip kube-proxy; nft delete table ip6 kube-proxy")


def test_a_director_has_every_scheduler(node: Node, others: KubeProxy) -> None:
    assert_each_scheduler(node, others)


def test_keepalived_finds_all_that_it_needs(node: Node, others: KubeProxy) -> None:
    node.machine.put(KEEPALIVED.read_bytes(), "/etc/keepalived/keepalived.conf")
    node.run("systemctl start keepalived")
    try:
        for address in ("192.0.2.80", "2001:db8::80"):
            target = f"client:tcp/{address}/80"
            awaited(node, others, target, r"pod[12] .*")
        said = node.run("journalctl -q -b -u keepalived -o cat").out
        assert not re.search(r"(?i)\berror|cannot|can't|failed|unable", said), said
    finally:
        node.run("systemctl stop keepalived")


def assert_each_scheduler(node: Node, proxy: KubeProxy) -> None:
    """Create a service with each available scheduler in turn, and visit it."""
    node.run("ip addr add 192.0.2.70/32 dev lo")
    pods = " ".join(f"-a -t 192.0.2.70:80 -r {pod[V4]}:{cluster.PORT} -m;" for pod in cluster.PODS.values())
    commands = pods.replace("-a -t", "ipvsadm -a -t")
    try:
        for name in sorted(node.schedulers()):
            scheduler = name[len("ip_vs_") :]
            node.run(f"ipvsadm -A -t 192.0.2.70:80 -s {scheduler}; {commands}")
            (answer,) = proxy.visit("client:tcp/192.0.2.70/80")
            node.run("ipvsadm -D -t 192.0.2.70:80")
            assert re.fullmatch(r"pod[12] \S+", answer), (scheduler, answer)
    finally:
        node.run("ip addr del 192.0.2.70/32 dev lo")
