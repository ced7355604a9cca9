"""The requirements of the next boot: other kernels, persisted files, and the profile of kube-proxy's other mode."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.model.verdicts import ModuleVerdict
from tests.vm.node import Journal, Node

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


def test_a_kernel_without_ip_vs_is_distinguished_from_the_running_one(node: Node, other_kernel: str) -> None:
    release = node.run("uname -r").out.strip()
    found = node.run("ipvsd preflight", check=False)
    assert found.code == 1
    assert f"kernel {release} (running): ready" in found.out
    assert f"kernel {other_kernel}: not ready" in found.out
    evidence = f"/lib/modules/{other_kernel}/modules.dep does not list the module"
    assert f"! ip_vs absent: {evidence}" in " ".join(found.out.split())
    assert node.run(f"ipvsd preflight --kernel {release}").code == 0


def test_an_image_is_checked_offline(node: Node, other_kernel: str) -> None:
    node.run(f"mkdir -p /root/image/lib/modules && cp -a /lib/modules/{other_kernel} /root/image/lib/modules")
    found = node.run("ipvsd preflight --root /root/image --brief", check=False)
    node.run("rm -r /root/image")
    assert (found.code, found.out.startswith(f"kernel {other_kernel} (next boot): not ready; ip_vs absent")) == (
        1,
        True,
    )


def test_the_daemon_reports_an_installed_kernel(node: Node, request: pytest.FixtureRequest) -> None:
    release = node.run("uname -r").out.strip()
    with node.configured("interval: 2s\n"):
        assert node.metrics()[f'ipvsd_kernel_ready{{release="{release}"}}'] == 1
        sample = f'ipvsd_kernel_ready{{release="{request.getfixturevalue("other_kernel")}"}}'
        node.until(lambda: node.metrics().get(sample) == 0, "the new kernel is not ready")
        assert node.metrics()['ipvsd_state{state="failed"}'] == 0


def test_the_hooks_of_kernel_packages_print_one_line_and_never_fail(node: Node, other_kernel: str) -> None:
    line = f"kernel {other_kernel}: not ready; ip_vs absent"
    found = node.run(f"run-parts --arg={other_kernel} --arg=/boot/x /etc/kernel/postinst.d")
    assert found.err.startswith(line)
    found = node.run(f"/usr/lib/kernel/install.d/95-ipvsd.install add {other_kernel} /x /y")
    assert (found.out, found.err.startswith(line)) == ("", True)
    assert node.run("/etc/kernel/postinst.d/ipvsd no-such-kernel").code == 0


# --- persisted files --------------------------------------------------------------------


CLOSED = "/etc/sysctl.d/99-hardening.conf"
OVERRIDDEN = "/etc/sysctl.d/99-sysctl.conf:1: net.ipv4.ip_forward = 0 # no router"


@pytest.mark.carries_out(ModuleVerdict.MODULES_DISABLED)
def test_a_node_after_a_boot_without_ipvsd_matches_the_prediction(node: Node, journal: Journal) -> None:
    """Two boots: of a kernel on which module loading is disabled at boot, and of one whose files are overridden."""
    journal.expect(r"module \S+ ", r"sysctl \S+ ")
    kept = node.run("cat /etc/sysctl.conf").out
    with node.configured("modules: {ip_vs: {parameters: {conn_tab_bits: 12}}}\n"):
        try:
            node.machine.put(b"kernel.modules_disabled = 1\n", CLOSED)
            told = node.run("ipvsd preflight", check=False)
            assert (told.code, f"{CLOSED}:1: kernel.modules_disabled = 1" in joined(told.out)) == (1, True)
            told = node.run("ipvsd explain ip_vs", check=False)
            assert (told.code, f"{CLOSED}:1" in told.out) == (1, True)
            done = node.run("ipvsd apply --persist")
            assert all(f"wrote {path}" in done.err for path in PERSISTED.split())
            assert node.run("ipvsd preflight", check=False).code == 0
            without_ipvsd(node)
            assert node.sysctl("kernel.modules_disabled") == "1"
            assert node.run("systemctl is-failed systemd-modules-load systemd-sysctl", check=False).code == 1
            assert node.run("ipvsd check").out.startswith("ready: ")
            assert node.right()
            node.run(f"rm {CLOSED}")
            node.machine.put(b"net.ipv4.ip_forward = 0 # no router\n", "/etc/sysctl.conf")
            done = node.run("ipvsd apply --persist", check=False)
            assert (done.code, OVERRIDDEN in joined(done.err)) == (1, True)
            without_ipvsd(node)
            assert node.sysctl("net.ipv4.ip_forward") == "0"
            assert node.run("ipvsd check", check=False).code == 1
            told = node.run("ipvsd explain net.ipv4.ip_forward", check=False)
            assert (told.code, "takes effect; not compliant" in joined(told.out)) == (1, True)
        finally:
            node.machine.put(kept.encode(), "/etc/sysctl.conf")
            node.run(f"rm -f {CLOSED}; systemctl enable --now ipvsd")
        node.until(node.status, "the daemon is back")
    node.run(f"rm {PERSISTED}")


def without_ipvsd(node: Node) -> None:
    """Boot the node with ipvsd disabled."""
    node.run("systemctl disable --now ipvsd")
    node.machine.reboot()
    node.machine.booted()
    assert node.run("systemctl is-active ipvsd", check=False).code != 0


def joined(text: str) -> str:
    return " ".join(text.split())


def test_files_that_are_no_longer_as_configured_are_told(node: Node, journal: Journal) -> None:
    journal.expect(r"/etc/modules-load\.d/ipvsd\.conf does not match the configuration")
    node.run("ipvsd apply --persist")
    with node.configured("interval: 2s\nscheduler: lc\n"):
        node.until(lambda: node.status()["notes"], "a note")
        (note,) = node.status()["notes"]
        assert note == "/etc/modules-load.d/ipvsd.conf does not match the configuration (run 'ipvsd apply --persist')"
        assert f"note: {note}" in " ".join(node.run("ipvsd status").out.split())
        node.run("ipvsd apply --persist")
        node.until(lambda: not node.status()["notes"], "no note any more")
    node.run(f"rm {PERSISTED}; rmmod ip_vs_lc")


# --- kube-proxy's other mode ------------------------------------------------------------


def test_its_rules_need_nothing_but_the_profile(node: Node, journal: Journal) -> None:
    journal.expect(r"module nf_tables: kernel too old: ")
    node.machine.put(RULES.read_bytes(), "/root/rules.nft")
    loader = node.run("sysctl -n kernel.modprobe").out.strip()
    node.run("sysctl -qw kernel.modprobe=/bin/false")  # no module is loaded on demand
    try:
        assert node.run("nft -f /root/rules.nft", check=False).code != 0
        with node.configured("profiles: [kube-proxy-ipvs, kube-proxy-nftables]\n"):
            node.until(lambda: node.live("nf_tables"), "the modules of the profile")
            node.until(lambda: node.status()["state"] in ("ready", "failed"), "a verdict")
            found = node.finding("nf_tables")
            major, minor = (int(part) for part in node.run("uname -r").out.split(".")[:2])
            assert found["verdict"] == ("live" if (major, minor) >= (5, 13) else "kernel_too_old")
            assert node.run("nft -f /root/rules.nft").code == 0
    finally:
        node.run(f"sysctl -qw kernel.modprobe={loader}; nft flush ruleset; rmmod {NFT} nf_tables", check=False)


def test_the_end_of_a_kube_proxy_version_is_reported(node: Node, journal: Journal) -> None:
    journal.expect(r"kube-proxy 1\.36: IPVS mode has been deprecated since 1\.35")
    with node.configured('kubeProxyVersion: "1.36"\n'):
        assert "kube-proxy 1.36: IPVS mode has been deprecated" in node.status()["notes"][0]
        names = {item["name"] for item in node.status()["modules"]}
        assert names == set(node.held())
