"""ipvsd doctor on broken nodes: it reports the cause first, and nothing on a healthy node.

One machine serves all nodes, with a real kube-proxy (1.20.2, which uses iptables mode if it cannot use IPVS).
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from typing import Any

import pytest

from tests.vm import kubeproxy
from tests.vm.kubeproxy import CONFIG, KubeProxy
from tests.vm.node import Journal, Node

# They take a quarter of an hour, and depend on no other machine test.
pytestmark = pytest.mark.full

FAMILIES = ("IPv4",)
PATIENCE = 120  # seconds
MODULE = "ip_vs_sh"
CONF = "/etc/modprobe.d/bench.conf"


class Bench:
    """A node with a kube-proxy."""

    def __init__(self, node: Node) -> None:
        self.node, self.proxy = node, KubeProxy(node)

    def doctor(self, before: str = "", *arguments: str) -> tuple[int, dict[str, Any]]:
        """Return the exit code and the document of `ipvsd doctor`, run by a command such as `nsenter`."""
        done = self.node.run(f"{before} ipvsd doctor --output json {' '.join(arguments)}".strip(), check=False)
        return done.code, json.loads(done.out)

    def identifiers(self, before: str = "") -> Sequence[str]:
        """Return the identifiers of all findings, the first one first."""
        return [item["id"] for item in self.doctor(before)[1]["findings"]]

    def start(self, mode: str = "ipvs", scheduler: str = "rr", expected: str = "", cleanup: bool = True) -> None:
        """Start kube-proxy, and wait until it reports its mode and, in IPVS mode, has written its services."""
        # With the default sync period, it would write the services again after 30 s.
        settings = {"ipvs": {"scheduler": scheduler, "syncPeriod": "1h0m0s"}}
        self.proxy.start(mode, FAMILIES, settings, cleanup)
        actual = expected or mode or "iptables"
        self.node.until(lambda: self.mode() == actual, f"mode {actual}", PATIENCE)
        if actual == "ipvs":
            self.node.until(lambda: "10.96.0.10:80" in self.node.run("ipvsadm -Ln").out, "services", PATIENCE)

    def mode(self) -> str:
        """Return the actual mode, or an empty text while kube-proxy does not answer."""
        url = "http://127.0.0.1:10249/proxyMode"
        script = f"import urllib.request; print(urllib.request.urlopen('{url}', timeout=5).read().decode())"
        return self.node.run(["python3", "-c", script], check=False).out.strip()

    def stop(self) -> None:
        """Stop kube-proxy, and remove its objects."""
        self.proxy.stop()
        self.node.run("/opt/kube-proxy/kube-proxy --cleanup", check=False)
        self.node.run("ip link delete kube-ipvs0; ipvsadm -C", check=False)


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with kubeproxy.booted() as node:
        node.until(node.right, "the node right", PATIENCE)
        yield Bench(node)


@pytest.fixture
def node(bench: Bench) -> Iterator[Node]:
    yield bench.node
    bench.stop()
    bench.node.run(f"rm -f {CONF}")
    bench.node.until(bench.node.right, "the node right after the test", PATIENCE)


@pytest.fixture(autouse=True)
def _expected(journal: Journal) -> None:
    journal.expect(r".*")  # these tests are about doctor, not about the daemon's log


# --- healthy nodes ----------------------------------------------------------------------


def test_a_healthy_node_is_one_line_without_kube_proxy(bench: Bench, node: Node) -> None:
    assert bench.doctor() == (0, {**bench.doctor()[1], "findings": [], "unchecked": []})
    done = node.run("ipvsd doctor")
    assert " ".join(done.out.split()).endswith("; kube-proxy does not run")


def test_a_healthy_node_is_one_line_with_kube_proxy(bench: Bench, node: Node) -> None:
    bench.start()
    code, document = bench.doctor()

    assert (code, document["findings"], document["unchecked"]) == (0, [], [])
    assert document["kube_proxy"]["mode"] == "ipvs"
    assert document["kube_proxy"]["virtual_services"] > 5
    for command in ("check", "status"):
        shown = " ".join(node.run(f"ipvsd {command}").out.split())
        assert "kube-proxy: mode ipvs, scheduler rr, " in shown
        assert "ipvsd doctor" not in shown


# --- broken nodes -----------------------------------------------------------------------

Broken = Callable[[Bench], AbstractContextManager[None]]


def run(command: str, undo: str = "", mode: str = "ipvs") -> Broken:
    """Return a node on which a command ran after kube-proxy had started in a mode, if one is named."""

    @contextmanager
    def broken(bench: Bench) -> Iterator[None]:
        if mode:
            bench.start(mode)
        try:
            bench.node.run(command)
            yield
        finally:
            bench.node.run(undo or "true")

    return broken


def started(mode: str, scheduler: str = "rr", expected: str = "") -> Broken:
    """Return a node on which kube-proxy was started with these settings."""

    @contextmanager
    def broken(bench: Bench) -> Iterator[None]:
        bench.start(mode, scheduler, expected)
        yield

    return broken


@contextmanager
def not_restarted(bench: Bench) -> Iterator[None]:
    bench.start("iptables")
    # A file in its place, as from a ConfigMap. kube-proxy ends if its own file is written.
    bench.node.machine.put(json.dumps({**CONFIG, "mode": "ipvs"}).encode(), "/run/kube-proxy.new")
    bench.node.run("mv /run/kube-proxy.new /run/kube-proxy.yaml")
    yield


@contextmanager
def fell_back(bench: Bench) -> Iterator[None]:
    """kube-proxy started while a module was blocked. The module is live now."""
    with blocked(bench, f"install {MODULE} /bin/false"):
        bench.start("ipvs", expected="iptables")
    bench.node.until(lambda: bench.node.live(MODULE), f"{MODULE} live", PATIENCE)
    yield


@contextmanager
def blocked(bench: Bench, line: str) -> Iterator[None]:
    bench.node.run(f"echo '{line}' > {CONF}; rmmod {MODULE}")
    try:
        yield
    finally:
        bench.node.run(f"rm -f {CONF}; systemctl restart ipvsd")


def line_of_modprobe_d(line: str) -> Broken:
    return lambda bench: blocked(bench, line)


@contextmanager
def without_file(bench: Bench) -> Iterator[None]:
    with bench.node.without(MODULE):
        yield


@contextmanager
def scheduler_without_file(bench: Bench) -> Iterator[None]:
    with bench.node.without("ip_vs_lblcr"):
        bench.start("ipvs", "lblcr", "iptables")
        yield


@contextmanager
def emptied_table(bench: Bench) -> Iterator[None]:
    bench.start()
    bench.node.run("ipvsadm -C")
    # In the first minute, an empty table is normal.
    bench.node.until(lambda: "table_empty" in bench.identifiers(), "an empty table", PATIENCE)
    yield


@contextmanager
def remains_of_ipvs(bench: Bench) -> Iterator[None]:
    bench.start("ipvs")
    bench.proxy.stop()
    with bench.node.configured("profiles: [lvs-full]\n"):
        bench.start("iptables", cleanup=False)
        yield
        bench.stop()


@contextmanager
def remains_of_iptables(bench: Bench) -> Iterator[None]:
    bench.start("iptables")
    bench.proxy.stop()
    bench.start("ipvs", cleanup=False)
    yield


@contextmanager
def daemon_stopped(bench: Bench, command: str) -> Iterator[None]:
    bench.node.run(f"systemctl stop ipvsd; {command}")
    try:
        yield
    finally:
        bench.node.start()


@contextmanager
def full_table(bench: Bench) -> Iterator[None]:
    with bench.node.configured("sysctls: {net.netfilter.nf_conntrack_max: false}\n"):
        bench.node.run("ping -c 1 127.0.0.1; conntrack -L | wc -l", check=False)
        bench.node.run("sysctl -w net.netfilter.nf_conntrack_max=$(sysctl -n net.netfilter.nf_conntrack_count)")
        yield
        bench.node.run("sysctl -w net.netfilter.nf_conntrack_max=262144")


def refused(mode: str, scheduler: str = "rr") -> Broken:
    """Return a node on which kube-proxy exits because of a value."""

    @contextmanager
    def broken(bench: Bench) -> Iterator[None]:
        bench.proxy.start(mode, FAMILIES, {"ipvs": {"scheduler": scheduler}})
        bench.node.until(lambda: any("Invalid value" in line for line in bench.proxy.log()), "an error", PATIENCE)
        yield

    return broken


@contextmanager
def managed_interface(bench: Bench) -> Iterator[None]:
    bench.start()
    file = "/etc/systemd/network/10-bench.network"
    bench.node.machine.put(b"[Match]\nName=kube-ipvs0\n\n[Network]\nLinkLocalAddressing=no\n", file)
    bench.node.run("systemctl start systemd-networkd; networkctl reload")
    try:
        state = "/run/systemd/netif/links/$(cat /sys/class/net/kube-ipvs0/ifindex)"
        bench.node.until(
            lambda: "ADMIN_STATE=conf" in bench.node.run(f"cat {state}", check=False).out, "managed", PATIENCE
        )
        yield
    finally:
        bench.node.run(f"rm {file}; networkctl reload")


IP_FORWARD = "/etc/sysctl.d/99-bench.conf"
NODES: dict[str, tuple[Broken, str]] = {
    "mode iptables": (started("iptables"), "mode_not_ipvs"),
    "no mode": (started(""), "mode_not_ipvs"),
    "configuration changed without a restart": (not_restarted, "kube_proxy_not_restarted"),
    "fallback to iptables": (fell_back, "mode_mismatch"),
    "unknown scheduler": (refused("ipvs", "round-robin"), "kube_proxy_scheduler_unknown"),
    "scheduler without a module": (scheduler_without_file, "scheduler_unavailable"),
    "scheduler that ipvsd does not know of": (started("ipvs", "lc"), "configurations_differ"),
    "mode in capitals": (refused("IPVS"), "kube_proxy_mode_unknown"),
    "empty table": (emptied_table, "table_empty"),
    "remains of IPVS mode": (remains_of_ipvs, "ipvs_remains"),
    "remains of iptables mode": (remains_of_iptables, "iptables_remains"),
    "module blacklisted": (line_of_modprobe_d(f"blacklist {MODULE}"), "module_blacklisted"),
    "module overridden": (line_of_modprobe_d(f"install {MODULE} /bin/false"), "module_overridden"),
    "module missing": (without_file, "module_absent"),
    "module unloaded, and no daemon": (
        lambda bench: daemon_stopped(bench, f"rmmod {MODULE}"), "module_loadable",
    ),
    "sysctl changed, and no daemon": (
        lambda bench: daemon_stopped(bench, "sysctl -w net.ipv4.ip_forward=0"), "sysctl_noncompliant",
    ),
    "file that sets a sysctl": (
        run(f"echo 'net.ipv4.ip_forward = 0' > {IP_FORWARD}", f"rm {IP_FORWARD}"), "file_undoes_configuration",
    ),
    "unknown name in modules-load.d": (
        run("echo nf_conntrack_ipv4 > /etc/modules-load.d/bench.conf", "rm /etc/modules-load.d/bench.conf"),
        "modules_load_fails",
    ),
    "table of connections full": (full_table, "conntrack_full"),
    "ipset missing": (run("mv $(command -v ipset) /root/ipset", "mv /root/ipset /usr/sbin/ipset"), "ipset_missing"),
    "interface managed by networkd": (managed_interface, "interface_managed"),
    "a kernel without modules": (
        run(
            "mkdir -p /lib/modules/9.9.9/kernel && touch /lib/modules/9.9.9/modules.dep && depmod 9.9.9",
            "rm -r /lib/modules/9.9.9",
        ),
        "kernel_not_ready",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", NODES)
def test_the_cause_is_reported_first(name: str, bench: Bench, node: Node) -> None:
    broken, expected = NODES[name]
    with ExitStack() as stack:
        stack.enter_context(broken(bench))
        found: Sequence[str] = ()

        def reported() -> bool:
            nonlocal found
            found = bench.identifiers()
            return found[:1] == [expected]

        try:
            bench.node.until(reported, expected, 30)
        finally:
            assert found[:1] == [expected], found
        _, document = bench.doctor()
        text = bench.node.run("ipvsd doctor", check=False).out
    assert document["findings"][0]["fix"]
    assert document["findings"][0]["summary"][:30] in " ".join(text.split())


def test_another_network_namespace_is_reported_first(bench: Bench, node: Node) -> None:
    assert bench.identifiers("ip netns exec pod1")[0] == "other_network_namespace"


def test_a_wrong_mode_is_fixed_as_printed(bench: Bench, node: Node) -> None:
    with fell_back(bench):
        (found, *_) = bench.doctor()[1]["findings"]
        command = found["fix"].rpartition("run '")[2].removesuffix("'")
        node.run(command)
        node.until(lambda: bench.mode() == "ipvs", "mode ipvs", PATIENCE)
        node.until(lambda: bench.identifiers() == [], "no finding", PATIENCE)


def test_check_and_status_refer_to_doctor(bench: Bench, node: Node) -> None:
    bench.start("iptables")
    for command in ("check", "status"):
        shown = " ".join(node.run(f"ipvsd {command}", check=False).out.split())
        assert "kube-proxy: mode iptables (this contradicts the configuration: run 'ipvsd doctor')" in shown


def test_a_bundle_is_private_and_has_the_log(bench: Bench, node: Node) -> None:
    bench.start()
    node.run("ipvsd doctor --bundle /root/bundle.tar.gz")
    assert node.run("stat -c %a /root/bundle.tar.gz").out.strip() == "600"
    node.run("mkdir -p /root/bundle && tar -C /root/bundle -xf /root/bundle.tar.gz")
    assert "ipvs" in node.run("cat /root/bundle/ipvsd-bundle/kube-proxy-start.log").out


# The last test, because the kernel's log keeps the line until the next boot.
def test_a_denial_is_reported(bench: Bench, node: Node) -> None:
    line = (
        'audit: type=1400 audit(1700000000.1:2): apparmor="DENIED" operation="open" '
        'profile="cri-containerd.apparmor.d" name="/proc/sys/net/ipv4/vs/conntrack" comm="kube-proxy"'
    )
    node.run(f"echo '{line}' > /dev/kmsg; journalctl --sync")
    assert bench.identifiers() == ["denied_by_security_module"]
