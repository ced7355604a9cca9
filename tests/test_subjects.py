"""Names that people use for items that `ipvsd explain` can explain."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvsd.cli import main
from tests.fake_kernel import RELEASE
from tests.trees import make_modules, make_tree, put, put_sysctl, sysctl

pytestmark = pytest.mark.system

Output = pytest.CaptureFixture[str]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A node with the sysctls of some interfaces."""
    tree = make_tree(tmp_path)
    for interface in ("all", "default", "lo", "eth0", "eth0/100"):
        put_sysctl(tree, f"net.ipv4.conf.{interface}.rp_filter", "2")
    put_sysctl(tree, "net.core.somaxconn", "4096")
    return tree


@pytest.mark.parametrize(
    ("asked", "kind", "name"),
    [
        *(
            (asked, "sysctl", "net.ipv4.ip_forward")
            for asked in ("ip_forward", "IP_FORWARD", "net.ipv4.ip_forward=1", "sysctl -w net.ipv4.ip_forward=1",
                          "/proc/sys/net/ipv4/ip_forward")
        ),
        ("nf_conntrack_max", "sysctl", "net.netfilter.nf_conntrack_max"),
        ("bridge-nf-call-iptables", "sysctl", "net.bridge.bridge-nf-call-iptables"),
        ("bridge_nf_call_iptables", "sysctl", "net.bridge.bridge-nf-call-iptables"),
        ("conn_reuse_mode", "sysctl", "net.ipv4.vs.conn_reuse_mode"),
        ("somaxconn", "sysctl", "net.core.somaxconn"),
        ("/proc/sys/net/ipv4/conf/eth0.100/rp_filter", "sysctl", "net.ipv4.conf.eth0/100.rp_filter"),
        *(
            (asked, "module", "ip_vs")
            for asked in ("ipvs", "IPVS", "modprobe ip_vs", "/sys/module/ip_vs", "ip_vs.ko.xz",
                          "/lib/modules/6.1/kernel/net/netfilter/ipvs/ip_vs.ko")
        ),
        ("rr", "module", "ip_vs_rr"), ("maglev", "module", "ip_vs_mh"), ("br-netfilter", "module", "br_netfilter"),
        ("nf_conntrack_ipv4", "module", "nf_conntrack_ipv4"),
        *(
            (asked, "parameter", "nf_conntrack.hashsize")
            for asked in ("hashsize", "/sys/module/nf_conntrack/parameters/hashsize")
        ),
        ("kube-ipvs0", "interface", "kube-ipvs0"), ("/sys/class/net/eth0", "interface", "eth0"),
        ("/proc/sys/net/ipv4/conf/eth0", "interface", "eth0"), ("eth0.100", "interface", "eth0.100"),
    ],
)  # fmt: skip
def test_a_common_name_is_resolved_and_reported(tree: Path, capsys: Output, asked: str, kind: str, name: str) -> None:
    code = main(["explain", asked, "--root", str(tree), "--output", "json"])
    found = json.loads(capsys.readouterr().out)
    assert (code, found["kind"], found["name"]) == (0, kind, name)
    main(["explain", asked, "--root", str(tree)])
    first = " ".join(capsys.readouterr().out.splitlines()[:2])
    assert (f"{asked!r} is {name}" in " ".join(first.split())) is (found["requested_name"] != name)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ("conntrack", "ambiguous name: net.ipv4.vs.conntrack, nf_conntrack (specify one of these names)"),
        ("rp_filter", "ambiguous name: net.ipv4.conf."),
        ("ip_vs_rrr", "unknown module, sysctl or interface on kernel 6.1.0-50-cloud-amd64 (did you mean ip_vs_rr?)"),
        ("br_netfiler", "(did you mean br_netfilter?)"),
        ("ip_foward", "(did you mean net.ipv4.ip_forward?)"),
        ("net.ipv4.ip_foward", "(did you mean net.ipv4.ip_forward?)"),
        ("net.ipv4.conf.eth0.100.rp_filter", "(did you mean net.ipv4.conf.eth0/100.rp_filter?)"),
        ("net.ipv4.conntrack", "(did you mean net.ipv4.vs.conntrack?)"),
        ("net.quite.unknown", "unknown sysctl; kernel 6.1.0-50-cloud-amd64 does not have it (to list"),
        (
            "net.ipv4.conf.*.rp_filter",
            "the configuration does not contain this pattern (matching sysctls: net.ipv4.conf",
        ),
        ("kube-proxy-ipvs", "'ipvsd profile show kube-proxy-ipvs' prints the profile"),
        ("xyzzy", "(specify a sysctl, a module or MODULE.PARAMETER, such as net.ipv4.ip_forward)"),
        ("net.ipv4.ip\u2010forward", "invalid name (specify "),
        ("all", "unknown module"),
        ("default", "unknown module"),
        ("nf_conntrack.hashsiz", "(did you mean nf_conntrack.hashsize?)"),
        ("kube-ipvs1", "(did you mean kube-ipvs0?)"),
        ("eth0.999", "unknown interface or sysctl (specify a sysctl, a module or MODULE.PARAMETER, such as"),
        ("all.forwarding", "(did you mean net.ipv4.conf.all.forwarding?)"),
        ("default.forwarding", "(did you mean net.ipv4.conf.default.forwarding?)"),
        (
            "strictARP",
            "a key of the configuration (specify one of the items that it manages: "
            "net.ipv4.conf.all.arp_ignore, net.ipv4.conf.all.arp_announce)",
        ),
        ("bridgeNetfilter", "net.bridge.bridge-nf-call-iptables, net.bridge.bridge-nf-call-ip6tables, br_netfilter)"),
        ("scheduler", "a key of the configuration (specify the module of a scheduler, such as ip_vs_rr)"),
        ("kubeProxyVersion", "a key of the configuration ('ipvsd config show' prints its value)"),
    ],
)
def test_an_unknown_or_ambiguous_name_is_rejected_with_candidates(
    tree: Path, capsys: Output, asked: str, told: str
) -> None:
    code = main(["explain", asked, "--root", str(tree)])
    out, err = capsys.readouterr()
    assert (code, out) == (64, "")
    assert err.startswith(f"ipvsd: cannot explain {asked!r}: ")
    assert told in err


def test_the_managed_one_of_several_items_with_one_name_is_chosen(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "sysctls: {net.ipv4.conf.all.rp_filter: 2}\n")
    assert main(["explain", "rp_filter", "--root", str(tree)]) == 0
    assert "'rp_filter' is net.ipv4.conf.all.rp_filter" in capsys.readouterr().out
    put(tree, "etc/ipvsd/ipvsd.yaml", "sysctls: {'net.ipv4.conf.*.rp_filter': 2}\n")
    assert main(["explain", "rp_filter", "--root", str(tree)]) == 0
    assert "net.ipv4.conf.*.rp_filter = 2: compliant" in capsys.readouterr().out


def test_the_interface_of_kube_proxy_is_explained_with_its_manager(tree: Path, capsys: Output) -> None:
    (tree / "etc/systemd/system/multi-user.target.wants").mkdir(parents=True)
    put(tree, "etc/systemd/system/multi-user.target.wants/NetworkManager.service", "")
    assert main(["explain", "kube-ipvs0", "--root", str(tree)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("interface kube-ipvs0: absent kube-proxy creates this interface in IPVS mode, keeps it down,")
    assert "? /" in out
    assert "-> add the lines '[keyfile]' and 'unmanaged-devices+=interface-name:kube-ipvs0' to" in out


def test_an_interface_is_explained_with_its_managed_sysctls(tree: Path, capsys: Output) -> None:
    assert main(["explain", "eth0", "--root", str(tree)]) == 0
    out = " ".join(capsys.readouterr().out.split())
    assert out.startswith("interface eth0: present network interface; ipvsd manages 1 of its sysctls SYSCTLS")
    assert "+ net.ipv4.conf.eth0.forwarding compliant 1" in out


def test_the_loopback_interface_exists_without_a_file(tree: Path, capsys: Output) -> None:
    shutil.rmtree(tree / "proc/sys/net/ipv4/conf/lo")
    assert main(["explain", "lo", "--root", str(tree)]) == 0
    assert capsys.readouterr().out.startswith("interface lo: present\n")


def closed(tree: Path, key: str) -> None:
    put_sysctl(tree, key, "0")


def closed_at_boot(tree: Path, key: str) -> None:
    put(tree, "etc/sysctl.d/99-x.conf", f"{key} = 0\n")


def unreadable(tree: Path, key: str) -> None:
    file = sysctl(tree, key)
    file.rename(file.with_name("beside"))
    file.symlink_to("beside")  # links are not followed


def left_alone(tree: Path, key: str) -> None:
    closed(tree, key)
    put(tree, "etc/ipvsd/ipvsd.yaml", f"sysctls: {{{key}: false}}\n")


@pytest.mark.parametrize(
    ("make", "code", "verdicts"),
    [
        (closed, 1, ["noncompliant"]),
        (closed_at_boot, 1, ["compliant"]),
        (unreadable, 2, ["unreadable"]),
        (left_alone, 0, []),
    ],
)
@pytest.mark.parametrize("name", ["eth0", "kube-ipvs0"])
def test_an_interface_is_as_compliant_as_its_sysctls(
    tree: Path, capsys: Output, make: Callable[[Path, str], None], code: int, verdicts: list[str], name: str
) -> None:
    key = f"net.ipv4.conf.{name}.forwarding"
    put_sysctl(tree, key, "1")
    make(tree, key)
    assert main(["explain", name, "--root", str(tree), "--output", "json"]) == code
    document = json.loads(capsys.readouterr().out)
    assert [item["verdict"] for item in document["sysctls"]] == verdicts
    assert document["managed"] is bool(verdicts)
    assert main(["explain", key, "--root", str(tree)]) == code


def test_a_module_that_only_this_kernel_knows_is_one(tree: Path, capsys: Output) -> None:
    shutil.rmtree(tree / "lib/modules")
    make_modules(tree, RELEASE, ("ip_vs", "vendor_lb"))
    assert main(["explain", "vendor_lb", "--root", str(tree)]) == 0
    assert capsys.readouterr().out.startswith("module vendor_lb: loadable, not managed by ipvsd\n")
