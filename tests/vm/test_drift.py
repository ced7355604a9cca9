"""ipvsd restores unloaded modules and changed sysctls, and reports each once."""

from __future__ import annotations

import pytest

from tests.vm.node import SYSCTLS, UNLOAD_IPVS, Journal, Node, repeated

TIMES = repeated(3, 10)
# Two concurrent loaders of one module can fail for a moment, and log that.
RACE = (
    r"(module (ip_vs\w*|xt_ipvs)( \(optional\))?: (load failed|loadable|loading|unloading)"
    r"|sysctl net\.ipv4\.vs\.\S+: (pending|unsupported|noncompliant|write failed|not kept)): "
)


def _unload(node: Node, command: str, name: str) -> None:
    """Unload a module repeatedly, and wait each time until its reload was counted."""
    sample = f'ipvsd_module_loads_total{{module="{name}"}}'
    due = node.metrics()[sample]
    for _ in range(TIMES):
        due += 1
        node.run(command)
        node.until(lambda due=due: node.metrics()[sample] >= due and node.right(), f"{name} back")  # type: ignore[misc]


@pytest.mark.parametrize("name", ["ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "br_netfilter"])
def test_a_module_that_is_unloaded_is_loaded_again(node: Node, journal: Journal, name: str) -> None:
    before = node.metrics()
    _unload(node, f"rmmod {name}", name)
    node.until(node.right, "everything right")
    after = node.metrics()
    for sample in ("ipvsd_module_unloads_total", f'ipvsd_module_loads_total{{module="{name}"}}'):
        assert after[sample] - before[sample] == TIMES, sample
    told = [line for line in journal.lines() if line.startswith(f"loaded module {name} (was unloaded)")]
    assert len(told) == TIMES
    # An unloading without a known process is attributed to unknown.
    assert all("; unloaded by an unknown process" in line or "; unloaded probably by " in line for line in told)


def test_ip_vs_with_all_its_schedulers_comes_back_with_its_sysctls(node: Node, journal: Journal) -> None:
    journal.expect(RACE)
    before = node.metrics()
    # The daemon is stopped, or it would load the first scheduler again before the last one is unloaded.
    _unload(
        node,
        f"systemctl kill -s STOP ipvsd; {UNLOAD_IPVS}; ! test -e /sys/module/ip_vs; systemctl kill -s CONT ipvsd",
        "ip_vs",
    )
    node.until(node.right, "everything right")
    after = node.metrics()
    for name in ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"):
        sample = f'ipvsd_module_loads_total{{module="{name}"}}'
        assert after[sample] - before[sample] == TIMES, sample
    for key in (key for key in SYSCTLS if ".vs." in key):
        sample = f'ipvsd_sysctl_repairs_total{{sysctl="{key}"}}'
        assert after[sample] - before[sample] == TIMES, sample
    assert len([line for line in journal.lines() if line.startswith("loaded module ip_vs (was unloaded)")]) == TIMES
    assert after["ipvsd_module_load_failures_total"] == before["ipvsd_module_load_failures_total"]
    node.ipvs_answer()


def test_ip_vs_unloaded_under_a_running_daemon_ends_compliant(node: Node, journal: Journal) -> None:
    journal.expect(RACE)
    for _ in range(3):
        node.run(UNLOAD_IPVS, check=False)
        node.until(node.right, "everything right")
    assert not [line for line in journal.lines() if "cannot" in line]


@pytest.mark.parametrize("key", sorted(set(SYSCTLS) - {"net.netfilter.nf_conntrack_max"}))
def test_a_sysctl_that_is_changed_is_restored(node: Node, journal: Journal, key: str) -> None:
    drifts, repairs = (f'ipvsd_sysctl_{metric}_total{{sysctl="{key}"}}' for metric in ("drifts", "repairs"))
    before = node.metrics()
    for count in (1, 2, 3):
        node.run(f"sysctl -w {key}=0")
        node.until(lambda: node.sysctl(key) == "1", f"{key} restored")
        due = before[repairs] + count
        node.until(lambda due=due: node.metrics()[repairs] == due, "the repair counted")  # type: ignore[misc]
    assert node.metrics()[drifts] - before[drifts] == 3
    told = [line for line in journal.lines() if line.startswith(f"wrote {key}: '1' (was '0'); changed ")]
    assert len(told) == 3


def test_nf_conntrack_max_is_a_floor(node: Node) -> None:
    key = "net.netfilter.nf_conntrack_max"
    looks = node.metrics()["ipvsd_reconciliation_duration_seconds_count"]
    node.run(f"sysctl -w {key}=500000")
    node.until(lambda: node.metrics()["ipvsd_reconciliation_duration_seconds_count"] > looks, "a look after the write")
    assert node.sysctl(key) == "500000"
    assert node.finding(key)["verdict"] == "compliant"
    node.run(f"sysctl -w {key}=1000")
    node.until(lambda: node.sysctl(key) == "131072", "the floor restored")


def test_strict_arp_is_managed_only_if_enabled(node: Node) -> None:
    assert node.sysctl("net.ipv4.conf.all.arp_ignore") == "0"
    with node.configured("strictARP: true\n"):
        node.until(lambda: node.sysctl("net.ipv4.conf.all.arp_announce") == "2", "arp_announce")
        assert node.sysctl("net.ipv4.conf.all.arp_ignore") == "1"
        node.run("sysctl -w net.ipv4.ip_forward=0")  # this resets them
        node.until(
            lambda: [node.sysctl(f"net.ipv4.{key}") for key in ("ip_forward", "conf.all.arp_announce")] == ["1", "2"],
            "both right after the change of ip_forward",
        )
    node.run("sysctl -w net.ipv4.conf.all.arp_ignore=0 net.ipv4.conf.all.arp_announce=0")


def test_a_resync_finds_a_write_through_another_procfs(node: Node) -> None:
    with node.configured("interval: 2s\n"):
        node.run("unshare -p -f --mount-proc sh -c 'echo 0 > /proc/sys/net/ipv4/ip_forward'")
        node.until(lambda: node.sysctl("net.ipv4.ip_forward") == "1", "ip_forward restored", 10)


def test_a_scheduler_that_the_kernel_does_not_ship_is_reported_and_harms_nothing(node: Node, journal: Journal) -> None:
    journal.expect(r"module ip_vs_twos \(optional\): (not built|absent): ")
    shipped = node.schedulers()
    with node.configured("profiles: [kube-proxy-ipvs, lvs-full]\n"):
        node.until(lambda: node.live("ip_vs_ftp"), "the schedulers loaded")
        # Linux has `twos` since 5.12. Debian builds it in 6.12, but not in 6.1.
        assert (node.finding("ip_vs_twos")["verdict"] == "live") == ("ip_vs_twos" in shipped)
        assert node.status()["state"] == "ready"
        assert set(node.run("cd /sys/module; ls -d ip_vs_*").out.split()) == {*shipped, "ip_vs_ftp"}
    node.run("rmmod ip_vs_ftp")
