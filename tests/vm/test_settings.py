"""Parameters of modules, patterns of sysctls, and values by their meaning, on a real kernel."""

from __future__ import annotations

import pytest

from ipvsd.model.verdicts import SysctlVerdict
from tests.vm.node import UNLOAD_IPVS, Journal, Node, repeated

LINKS = repeated(100, 1000)


@pytest.mark.carries_out(SysctlVerdict.NEEDS_MODULE_RELOAD)
def test_a_parameter_is_given_and_told_where_it_cannot_be_changed(node: Node, journal: Journal) -> None:
    journal.expect(r"sysctl ip_vs\.conn_tab_bits \(optional\): (needs a module reload|pending): ")
    path = "/sys/module/ip_vs/parameters/conn_tab_bits"
    with node.configured("modules: {ip_vs: {parameters: {conn_tab_bits: 15}}}\n"):
        node.until(lambda: node.status()["state"] == "degraded", "the parameter told of")
        found = node.status()["parameters"][0]
        assert (found["name"], found["verdict"], found["actual"]) == (
            "ip_vs.conn_tab_bits",
            "needs_module_reload",
            "12",
        )
        assert "the module is in use by" in found["evidence"]
        # The remedy, carried out.
        node.run(f"systemctl stop ipvsd; {UNLOAD_IPVS}; systemctl start ipvsd")
        node.until(lambda: node.status().get("state") == "ready", "ready again")
        assert node.run(f"cat {path}").out.strip() == "15"
        assert node.status()["ipvs"]["table_size"] in (0, 1 << 15)
    node.run(f"systemctl stop ipvsd; {UNLOAD_IPVS}; systemctl start ipvsd")
    node.until(node.right, "everything as it was")


def test_a_writable_parameter_is_managed(node: Node) -> None:
    path = "/sys/module/nf_conntrack/parameters/hashsize"
    before = node.run(f"cat {path}").out.strip()
    with node.configured("modules: {nf_conntrack: {parameters: {hashsize: 32768}}}\n"):
        node.until(lambda: node.run(f"cat {path}").out.strip() == "32768", "the parameter written")
        node.run(f"echo 16384 > {path}")
        node.until(lambda: node.run(f"cat {path}").out.strip() == "32768", "the parameter written again")
        node.until(
            lambda: node.metrics()['ipvsd_parameter_repairs_total{parameter="nf_conntrack.hashsize"}'] == 1,
            "it is counted",
        )
    node.run(f"echo {before} > {path}")


def test_a_new_interface_gets_its_value_at_once(node: Node, journal: Journal) -> None:
    pattern = "net.ipv4.conf.*.rp_filter"
    journal.expect(r"wrote \d+ sysctls that match ")
    with node.configured(f'sysctls: {{{pattern}: {{value: 2, exclude: [all, default, "other*"]}}}}\n'):
        node.until(lambda: node.finding(pattern)["compliant"], "those that are there")
        node.run("ip link add bench0.5 type veth peer name other0")
        node.until(lambda: node.sysctl("net/ipv4/conf/bench0.5/rp_filter") == "2", "the new one", 10)
        assert node.sysctl("net.ipv4.conf.other0.rp_filter") != "2"
        node.run("sysctl -qw net/ipv4/conf/bench0.5/rp_filter=1")
        node.until(lambda: node.sysctl("net/ipv4/conf/bench0.5/rp_filter") == "2", "the drift repaired")
        node.run("ip link del bench0.5")
        node.until(lambda: node.finding(pattern)["members"]["total"] < 3, "it left no trace")
        assert not [name for name in node.metrics() if "bench0" in name]


def test_many_interfaces_come_and_go_at_once(node: Node, journal: Journal) -> None:
    pattern = "net.ipv4.conf.*.rp_filter"
    journal.expect(r"wrote \d+ sysctls that match ", rf"sysctl {pattern.replace('*', '.*')}.*")
    with node.configured(f"sysctls: {{{pattern}: {{value: 2, exclude: [all, default]}}}}\n"):
        node.until(lambda: node.finding(pattern)["compliant"], "those that are there")
        series = len(node.metrics())
        node.run(
            f"seq 1 {LINKS // 2} | sed 's/.*/link add va& type veth peer name vb&/' > /root/add; "
            f"seq 1 {LINKS // 2} | sed 's/.*/link del va&/' > /root/del; ip -batch /root/add",
            timeout=600,
        )
        node.until(
            lambda: node.finding(pattern)["members"]["total"] > LINKS and node.finding(pattern)["compliant"],
            "every interface right",
            180,
        )
        values = node.run("cat /proc/sys/net/ipv4/conf/v*/rp_filter | sort | uniq -c").out.split()
        assert values == [str(LINKS), "2"]
        assert len(node.metrics()) == series
        node.run("ip -batch /root/del", timeout=600)
        node.until(lambda: node.finding(pattern)["members"]["total"] < 10, "all of them gone", 180)
        assert int(node.show("NRestarts")) == 0
        pid = node.show("MainPID")
        node.until(lambda: int(node.run(f"ls /proc/{pid}/fd | wc -l").out) < 60, "no descriptor left behind", 90)


def test_values_are_compared_by_their_meaning(node: Node) -> None:
    key = "net.ipv4.ip_local_reserved_ports"
    with node.configured(f'sysctls: {{{key}: "30001,30000,31000-31001", net.ipv4.tcp_max_tw_buckets: 0x2000}}\n'):
        node.until(lambda: node.sysctl(key) == "30000-30001,31000-31001", "the ports")
        node.until(lambda: node.sysctl("net.ipv4.tcp_max_tw_buckets") == "8192", "a hexadecimal number")
        node.until(lambda: node.finding(key)["compliant"], "it is right")
        drifts = f'ipvsd_sysctl_drifts_total{{sysctl="{key}"}}'
        assert node.metrics()[drifts] == 0
    node.run(f"sysctl -qw {key}=")
