"""What the next boot will need: other kernels, persisted files, and the profile of kube-proxy's other mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.vm.node import MODULES, Journal, Node

OTHER = "6.99.0-bench"
RULES = Path(__file__).parent / "guest" / "nftables.nft"
NFT = "nft_ct nft_masq nft_nat nft_chain_nat nft_numgen nft_reject_ipv4 nft_reject_ipv6 nft_fib_ipv4 nft_fib_ipv6"
PERSISTED = "/etc/modules-load.d/ipvsd.conf /etc/modprobe.d/ipvsd.conf /etc/sysctl.d/90-ipvsd.conf"


# --- other kernels ----------------------------------------------------------------------


@pytest.fixture
def other_kernel(node: Node) -> Iterator[str]:
    """The release of a kernel that is installed beside the running one and lacks ip_vs."""
    tree = f"/lib/modules/{OTHER}"
    node.run(
        f"cp -a /lib/modules/$(uname -r) {tree} && rm -f {tree}/build {tree}/source && "
        f"find {tree} -name 'ip_vs.ko*' -delete && depmod {OTHER}"
    )
    yield OTHER
    node.run(f"rm -rf {tree}")


def test_a_kernel_without_ip_vs_is_told_from_the_running_one(node: Node, other_kernel: str) -> None:
    release = node.run("uname -r").out.strip()
    found = node.run("ipvsd preflight", check=False)
    assert found.code == 1
    assert f"kernel {release} (running): ready" in found.out
    assert f"kernel {other_kernel}: not ready" in found.out
    assert f"! ip_vs absent: /lib/modules/{other_kernel}/modules.dep does not list it" in " ".join(found.out.split())
    assert node.run(f"ipvsd preflight --kernel {release}").code == 0


def test_an_image_is_looked_at_offline(node: Node, other_kernel: str) -> None:
    node.run(f"mkdir -p /root/image/lib/modules && cp -a /lib/modules/{other_kernel} /root/image/lib/modules")
    found = node.run("ipvsd preflight --root /root/image --brief", check=False)
    node.run("rm -r /root/image")
    assert (found.code, found.out.startswith(f"kernel {other_kernel} (next boot): not ready; ip_vs absent")) == (
        1,
        True,
    )


def test_the_daemon_tells_of_a_kernel_that_is_installed(node: Node, request: pytest.FixtureRequest) -> None:
    release = node.run("uname -r").out.strip()
    with node.configured("interval: 2s\n"):
        assert node.metrics()[f'ipvsd_kernel_ready{{release="{release}",running="true"}}'] == 1
        sample = f'ipvsd_kernel_ready{{release="{request.getfixturevalue("other_kernel")}",running="false"}}'
        node.until(lambda: node.metrics().get(sample) == 0, "the new kernel is not ready")
        assert node.metrics()["ipvsd_ready"] == 1


def test_the_hooks_of_kernel_packages_print_one_line_and_never_fail(node: Node, other_kernel: str) -> None:
    line = f"kernel {other_kernel}: not ready; ip_vs absent"
    found = node.run(f"run-parts --arg={other_kernel} --arg=/boot/x /etc/kernel/postinst.d")
    assert found.err.startswith(line)
    found = node.run(f"/usr/lib/kernel/install.d/95-ipvsd.install add {other_kernel} /x /y")
    assert (found.out, found.err.startswith(line)) == ("", True)
    assert node.run("/etc/kernel/postinst.d/ipvsd no-such-kernel").code == 0


# --- persisted files --------------------------------------------------------------------


def test_a_node_stays_right_without_ipvsd(node: Node, journal: Journal) -> None:
    journal.expect(r"module \S+ ", r"sysctl \S+ ")
    with node.configured("modules: {ip_vs: {parameters: {conn_tab_bits: 12}}}\n"):
        done = node.run("ipvsd apply --persist")
        assert all(f"wrote {path}" in done.err for path in PERSISTED.split())
        node.run("systemctl mask --now ipvsd")
        node.machine.reboot()
        node.machine.booted()
        try:
            assert node.run("systemctl is-failed systemd-modules-load systemd-sysctl", check=False).code == 1
            assert node.run("systemctl is-active ipvsd", check=False).code != 0
            assert node.right()
        finally:
            node.run("systemctl unmask ipvsd && systemctl start ipvsd")
        node.until(node.status, "the daemon is back")
    node.run(f"rm {PERSISTED}")


def test_files_that_are_no_longer_as_configured_are_told(node: Node, journal: Journal) -> None:
    journal.expect(r"/etc/modules-load\.d/ipvsd\.conf is not as configured")
    node.run("ipvsd apply --persist")
    with node.configured("interval: 2s\nscheduler: lc\n"):
        node.until(lambda: node.status()["notes"], "a note")
        (note,) = node.status()["notes"]
        assert note == "/etc/modules-load.d/ipvsd.conf is not as configured (run: ipvsd apply --persist)"
        assert f"note: {note}" in " ".join(node.run("ipvsd status").out.split())
        node.run("ipvsd apply --persist")
        node.until(lambda: not node.status()["notes"], "no note any more")
    node.run(f"rm {PERSISTED}; rmmod ip_vs_lc")


# --- kube-proxy's other mode ------------------------------------------------------------


def test_its_rules_need_nothing_but_the_profile(node: Node, journal: Journal) -> None:
    journal.expect(r"module nf_tables kernel too old: ")
    node.machine.put(RULES.read_bytes(), "/root/rules.nft")
    loader = node.run("sysctl -n kernel.modprobe").out.strip()
    node.run("sysctl -qw kernel.modprobe=/bin/false")  # nothing is loaded on demand
    try:
        assert node.run("nft -f /root/rules.nft", check=False).code != 0
        with node.configured("profiles: [kube-proxy-ipvs, kube-proxy-nftables]\n"):
            node.until(lambda: node.live("nf_tables"), "the modules of the profile")
            node.until(lambda: node.status()["state"] in ("ready", "failed"), "a verdict")
            found = node.finding("nf_tables")
            major, minor = (int(part) for part in node.run("uname -r").out.split(".")[:2])
            assert found["verdict"] == ("live" if (major, minor) >= (5, 13) else "kernel too old")
            assert node.run("nft -f /root/rules.nft").code == 0
    finally:
        node.run(f"sysctl -qw kernel.modprobe={loader}; nft flush ruleset; rmmod {NFT} nf_tables", check=False)


def test_a_version_of_kube_proxy_at_its_end_is_told(node: Node, journal: Journal) -> None:
    journal.expect(r"kube-proxy 1\.36: IPVS mode is deprecated since 1\.35")
    with node.configured('kubeProxyVersion: "1.36"\n'):
        assert "kube-proxy 1.36: IPVS mode is deprecated" in node.status()["notes"][0]
        names = {item["name"] for item in node.status()["modules"]}
        assert names == set(MODULES) - {"ip_vs_wrr", "ip_vs_sh"}
