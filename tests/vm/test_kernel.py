"""Kernels without a file, a name, or the whole module tree."""

from __future__ import annotations

import pytest

from tests.vm import kernels
from tests.vm.node import Journal, Node

FAST = "interval: 1s\n"
# Limit of the processor time, as a multiple of that of a reconciliation without drift. It includes the replies to
# the bench's own queries.
DEAREST = 8


def test_a_missing_br_netfilter_is_reported_and_the_node_stays_healthy(node: Node, journal: Journal) -> None:
    journal.expect(
        r"module br_netfilter \(optional\): (absent|index stale): ", r"sysctl net\.bridge\.\S+ \(optional\): pending"
    )
    with node.configured(FAST), node.without("br_netfilter"):
        node.until(lambda: node.status()["state"] == "degraded", "degraded")
        assert node.finding("br_netfilter")["verdict"] == "absent"
        assert node.finding("net.bridge.bridge-nf-call-iptables")["verdict"] == "pending"
        assert "br_netfilter" in node.status_line()
        assert node.metrics()['ipvsd_state{state="failed"}'] == 0
        assert node.get("/healthz")[0] == 200
        assert node.run("ipvsd check").code == 0


def test_a_missing_scheduler_fails_the_node_until_it_is_back(node: Node, journal: Journal) -> None:
    journal.expect(r"module ip_vs_sh: (absent|index stale): ")
    release = node.run("uname -r").out.strip()
    pid = node.show("MainPID")
    with node.configured(FAST), node.without("ip_vs_sh"):
        node.until(lambda: node.status()["state"] == "failed", "failed")
        # Since 7.2, Debian's image package contains only links.
        package = "linux-modules" if int(release.split(".")[0]) >= 7 else "linux-image"
        remedy = f"ip_vs_sh absent: run 'apt install --reinstall {package}-{release}'"
        assert remedy in node.status_line()
        code, body = node.get("/healthz")
        assert code == 503
        assert remedy in body
        assert node.metrics()['ipvsd_state{state="failed"}'] == 1
        assert node.run("ipvsd check", check=False).code == 1
        assert node.run("ipvsd status", check=False).code == 1
        assert node.run("ipvsd apply", check=False).code == 1
        busy = node.metrics()["ipvsd_reconciliation_duration_seconds_count"]
        node.until(
            lambda: node.metrics()["ipvsd_reconciliation_duration_seconds_count"] >= busy + 3, "three more looks"
        )
    node.until(lambda: node.status()["state"] == "ready", "ready without a restart")
    assert node.show("MainPID") == pid


@pytest.mark.skipif(
    not kernels.KERNELS[kernels.chosen()].stub, reason="the stub of the second one is compiled for another kernel"
)
def test_an_old_kernel_has_two_connection_trackers(node: Node) -> None:
    place = "/lib/modules/$(uname -r)/extra"
    with node.configured(FAST):
        node.run(f"mkdir {place} && cp /usr/local/lib/bench/nf_conntrack_ipv4.ko {place} && depmod")
        node.until(lambda: node.live("nf_conntrack_ipv4"), "both loaded")
        node.until(lambda: node.finding("nf_conntrack_ipv4")["required"], "both required")
        assert node.finding("nf_conntrack")["verdict"] == "live"
        assert node.status()["state"] == "ready"
        node.run(f"rm -r {place} && depmod && rmmod nf_conntrack_ipv4")
        node.until(
            lambda: "nf_conntrack_ipv4" not in {item["name"] for item in node.status()["modules"]}, "nf_conntrack alone"
        )
        assert node.status()["state"] == "ready"


def cost_of_a_look(node: Node) -> float:
    """Return the seconds of processor time that ipvsd uses for one resync, as the mean of at least five."""
    before, spent = node.metrics()["ipvsd_reconciliation_duration_seconds_count"], int(node.show("CPUUsageNSec"))
    node.until(lambda: node.metrics()["ipvsd_reconciliation_duration_seconds_count"] >= before + 5, "five more looks")
    looks = node.metrics()["ipvsd_reconciliation_duration_seconds_count"] - before
    return (int(node.show("CPUUsageNSec")) - spent) / 1e9 / looks


def test_a_kernel_that_was_upgraded_and_not_rebooted(node: Node, journal: Journal) -> None:
    journal.expect(r"module ip_vs_sh: module tree missing: ")
    with node.configured(FAST):
        usual = cost_of_a_look(node)
        node.run("mv /lib/modules/$(uname -r) /root/tree; rmmod ip_vs_sh")
        node.until(lambda: node.status()["state"] == "failed", "failed")
        finding = node.finding("ip_vs_sh")
        assert finding["verdict"] == "module_tree_missing"
        assert "reboot into an installed kernel" in finding["remedy"]
        assert node.finding("ip_vs_rr")["verdict"] == "live"
        cost = cost_of_a_look(node)
        node.run("mv /root/tree /lib/modules/$(uname -r)")
        assert cost <= DEAREST * usual, (cost, usual)
        node.until(lambda: node.status()["state"] == "ready", "ready again")


def test_a_blacklisted_module_is_not_loaded(node: Node, journal: Journal) -> None:
    journal.expect(r"module ip_vs_sh: blacklisted: ")
    with node.configured(FAST):
        node.run("echo blacklist ip_vs_sh > /etc/modprobe.d/bench.conf; rmmod ip_vs_sh")
        node.until(lambda: node.status()["state"] == "failed", "failed")
        assert node.finding("ip_vs_sh")["verdict"] == "blacklisted"
        assert not node.live("ip_vs_sh")
        node.run("rm /etc/modprobe.d/bench.conf")
        node.until(lambda: node.live("ip_vs_sh"), "loaded without a restart", 30)
