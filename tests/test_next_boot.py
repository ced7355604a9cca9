"""The effect of the next boot on a node without ipvsd, and the reports about it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from ipvsd.boot import drop_in_files, installed_kernels
from ipvsd.config.schema import Config
from ipvsd.kernel.host import LinuxHost
from ipvsd.reconcile.rounds import reconcile
from ipvsd.reporting.notices import Notices
from tests.boots import Output, run, sysctl_conf, values
from tests.fake_kernel import CORE, RELEASE
from tests.trees import WANTS, make_tree, put

pytestmark = pytest.mark.system

BRIDGE = "net.bridge.bridge-nf-call-iptables"


# --- files that come after the persisted ones ---------------------------------------------


# Ways to override the persisted files, by other files.
OVERRIDES: Mapping[str, Mapping[str, str]] = {
    "link": {"etc/sysctl.conf": "net.ipv4.ip_forward = 0\n"},
    "name": {"usr/lib/sysctl.d/99-vendor.conf": "\nnet/ipv4/conf/all/forwarding=0\n"},
    "mask": {"etc/modules-load.d/README": "", "etc/modprobe.d/cis.conf": "install nf_conntrack /bin/true\n"},
    "exclusion": {"etc/sysctl.d/95-x.conf": "-net.ipv4.ip_forward\n"},
    "refusal": {"etc/sysctl.d/95-x.conf": "net.ipv4.ip_forward = yes\n"},
    "range": {"run/sysctl.d/95-x.conf": "net.nf_conntrack_max = 65536 # small\n"},
    "tuned": {
        f"{WANTS}/tuned.service": "", "etc/tuned/active_profile": "mine\n",
        "etc/tuned/mine/tuned.conf": "[sysctl]\nnet.ipv4.ip_forward = 0\n",
        "etc/tuned/tuned-main.conf": "reapply_sysctl = 0\n",  # or it would apply the files of sysctl.d again
    },
    "networkd": {f"{WANTS}/systemd-networkd.service": "",
                 "etc/systemd/networkd.conf": "[Network]\nIPv4Forwarding=no\n"},
    "link of networkd": {f"{WANTS}/systemd-networkd.service": "", "etc/systemd/network/10-lan.network":
                         "[Match]\nName=en* eth0\n[Network]\nIPv4Forwarding=no\n"},
    "ufw": {f"{WANTS}/ufw.service": "", "etc/default/ufw": "IPT_SYSCTL=/etc/ufw/sysctl.conf\n",
            "etc/ufw/ufw.conf": "ENABLED=yes\n", "etc/ufw/sysctl.conf": "net/ipv4/ip_forward=0\n"},
    "command line": {"proc/cmdline": "quiet sysctl.kernel.modules_disabled=1\n"},
}  # fmt: skip


def override(root: Path, how: str) -> None:
    for path, text in OVERRIDES[how].items():
        sysctl_conf(root, text) if path == "etc/sysctl.conf" else put(root, path, text)


@pytest.mark.parametrize(
    ("how", "told"),
    [
        (
            "link",
            "net.ipv4.ip_forward will be 0 ... /etc/sysctl.d/99-sysctl.conf:1: net.ipv4.ip_forward = 0 -> correct",
        ),
        ("name", "/usr/lib/sysctl.d/99-vendor.conf:2: net/ipv4/conf/all/forwarding=0 -> copy the file to /etc/sysctl"),
        ("mask", "/etc/modprobe.d/cis.conf:1: install nf_conntrack /bin/true ... -> remove"),
        ("exclusion", "net.ipv4.ip_forward will be 0"),
        ("refusal", "/95-x.conf:1: net.ipv4.ip_forward = yes, but the kernel refuses the value ... -> correct"),
        ("range", "net.netfilter.nf_conntrack_max will be 65536 ... /run/sysctl.d/95-x.conf:1: net.nf_conntrack_max"),
        ("tuned", "/etc/tuned/mine/tuned.conf:2: net.ipv4.ip_forward=0 -> choose a different profile"),
        ("networkd", "/etc/systemd/networkd.conf:2: IPv4Forwarding=no -> correct IPv4Forwarding="),
        (
            "link of networkd",
            "net.ipv4.conf.eth0.forwarding will be 0 ... /etc/systemd/network/10-lan.network:4: IPv4F",
        ),
        ("link of networkd", "net.ipv4.conf.en*.forwarding will be 0 ... -> correct IPv4Forwarding="),
        ("ufw", "/etc/ufw/sysctl.conf:1: net/ipv4/ip_forward=0 -> correct the line in /etc/ufw/sysctl.conf"),
        ("command line", "-> remove sysctl.kernel.modules_disabled=1 from the kernel command line"),
    ],
)
def test_persisting_fails_if_a_file_overrides_it_and_names_the_line(
    tree: Path, capsys: Output, how: str, told: str
) -> None:
    assert run(capsys, tree, "apply", "--persist")[0] == 0
    override(tree, how)
    code, _, err = run(capsys, tree, "apply", "--persist")
    assert code == 1
    assert all(part in err for part in told.split(" ... "))
    assert how != "link" or err.count(" without ipvsd: ") == 1  # without unaffected items
    assert (tree / drop_in_files.SYSCTL).exists()  # written nevertheless


@pytest.mark.parametrize(
    ("how", "path", "text"),
    [
        ("link", "etc/sysctl.conf", ""), ("name", "etc/sysctl.d/99-vendor.conf", ""),
        ("mask", "etc/modprobe.d/cis.conf", ""), ("refusal", "etc/sysctl.d/95-x.conf", None),
        ("range", "run/sysctl.d/95-x.conf", None), ("link of networkd", "etc/systemd/network/10-lan.network", None),
        ("networkd", "etc/systemd/networkd.conf", "[Network]\nIPv4Forwarding=yes\n"),
        ("ufw", "etc/ufw/sysctl.conf", "net/ipv4/ip_forward=1\n"), ("command line", "proc/cmdline", "quiet\n"),
    ],
)  # fmt: skip
def test_the_remedy_helps(tree: Path, capsys: Output, how: str, path: str, text: Optional[str]) -> None:
    override(tree, how)
    assert run(capsys, tree, "apply", "--persist")[0] == 1
    (tree / path).unlink() if text is None else put(tree, path, text)
    assert run(capsys, tree, "apply", "--persist")[0] == 0


def test_a_line_that_the_kernel_refuses_makes_explain_fail(tree: Path, capsys: Output) -> None:
    override(tree, "refusal")
    assert run(capsys, tree, "apply", "--persist")[0] == 1
    code, out, _ = run(capsys, tree, "explain", "ip_forward")
    assert (code, "sysctl --system" in out) == (1, True)  # uses the line before it, when someone runs it


def test_a_range_is_persisted_as_a_value(tmp_path: Path, capsys: Output) -> None:
    tree = make_tree(tmp_path, live=(), values=CORE)
    put(tree, "etc/ipvsd/ipvsd.yaml", "sysctls: {net.core.somaxconn: {atMost: 4096, required: true}}\n")
    assert run(capsys, tree, "apply", "--persist")[0] == 0
    lines = (tree / drop_in_files.SYSCTL).read_text().splitlines()
    assert {"net.netfilter.nf_conntrack_max = 131072", "net.core.somaxconn = 4096"} <= set(lines)


def test_a_required_sysctl_that_is_only_observed_is_not_promised(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "sysctls: {net.ipv4.ip_forward: {value: 1, policy: observe, required: true}}\n")
    code, _, err = run(capsys, tree, "apply", "--persist")
    assert code == 1
    assert "! net.ipv4.ip_forward will be 0" in err


# --- module loading disabled before ipvsd starts ------------------------------------------


@pytest.mark.parametrize(
    ("path", "line"),
    [
        ("etc/sysctl.d/99-h.conf", "kernel.modules_disabled = 1\n"),
        ("usr/lib/sysctl.d/10-h.conf", "kernel/modules_disabled=0x1 # CIS\n"),
        ("etc/sysctl.conf", "-kernel.modules_disabled=1\r\n"),
    ],
)
def test_with_modules_disabled_in_sysctl_d_a_node_is_not_ready_until_modules_are_persisted(
    tree: Path, capsys: Output, path: str, line: str
) -> None:
    sysctl_conf(tree, "")
    put(tree, path, line)
    code, out, _ = run(capsys, tree, "preflight")
    assert code == 1
    place = path.replace("etc/sysctl.conf", "etc/sysctl.d/99-sysctl.conf")
    assert re.search(rf"not ready ! ip_vs, .*br_netfilter.* modules disabled: /{place}:1", out)
    assert "-> run 'ipvsd apply --persist --root " in out
    code, out, _ = run(capsys, tree, "explain", "ip_vs")
    assert code == 1
    assert f"! /{place}:1 {line.strip()} (blocks the module)" in out
    assert run(capsys, tree, "apply", "--persist")[0] == 0
    assert run(capsys, tree, "preflight") == (0, f"kernel {RELEASE} (running, next boot): ready", "")
    assert run(capsys, tree, "explain", "ip_vs")[0] == 0


@pytest.mark.parametrize(
    "line", ["kernel.modules_disabled = 0\n", "kernel.modules_disabled = yes\n", "#kernel.x = 1\n"]
)
def test_a_line_that_disables_nothing_does_not_matter(tree: Path, capsys: Output, line: str) -> None:
    put(tree, "etc/sysctl.d/99-h.conf", line)
    assert run(capsys, tree, "preflight")[0] == 0
    assert run(capsys, tree, "explain", "ip_vs")[0] == 0


def test_without_modules_disabled_on_the_command_line_a_node_is_ready(tree: Path, capsys: Output) -> None:
    override(tree, "command line")
    put(tree, "etc/modules-load.d/x.conf", "ip_vs\n")  # too late
    code, out, _ = run(capsys, tree, "preflight")
    assert (code, "-> remove sysctl.kernel.modules_disabled=1 from" in out) == (1, True)
    put(tree, "proc/cmdline", "quiet\n")
    assert run(capsys, tree, "preflight")[0] == 0


# --- sysctls and the modules that provide them --------------------------------------------


@pytest.mark.parametrize(
    ("files", "code", "told"),
    [
        ({}, 1, "fails: br_netfilter is not loaded by then"),
        ({"etc/modules-load.d/b.conf": "br_netfilter\n"}, 0, "takes effect; compliant"),
        ({"etc/modules-load.d/b.conf": "br-netfilter # for Kubernetes\n"}, 1, "fails: "),
        ({"etc/modules-load.d/b": "br_netfilter\n"}, 1, "fails: "),
        ({"proc/cmdline": "modules-load=br_netfilter\n"}, 0, "takes effect; compliant"),
        ({"proc/cmdline": "rd.modules_load=br_netfilter\n"}, 1, "fails: "),
        ({"etc/modules-load.d/b.conf": "br_netfilter\n", "etc/modprobe.d/b.conf": "blacklist br_netfilter\n"}, 1,
         "fails: "),
        ({f"{WANTS}/ipvsd.service": ""}, 0, "fails: "),  # and ipvsd writes it
    ],
)  # fmt: skip
def test_a_sysctl_can_be_set_only_after_its_module_was_loaded(
    tree: Path, capsys: Output, files: Mapping[str, str], code: int, told: str
) -> None:
    put(tree, "etc/sysctl.d/99-b.conf", f"{BRIDGE} = 1\n")
    for path, text in files.items():
        put(tree, path, text)
    found, out, _ = run(capsys, tree, "explain", BRIDGE)
    assert (found, told in out) == (code, True)


def test_a_dependency_is_loaded_with_what_needs_it(tree: Path, capsys: Output) -> None:
    put(tree, "etc/modules-load.d/v.conf", "ip_vs_sh\n")
    put(tree, "etc/sysctl.d/99-v.conf", "net.ipv4.vs.conntrack = 1\nnet.netfilter.nf_conntrack_max = 262144\n")
    for name in ("net.ipv4.vs.conntrack", "net.netfilter.nf_conntrack_max"):
        assert "takes effect; compliant" in run(capsys, tree, "explain", name)[1]


@pytest.mark.parametrize(
    ("line", "reason"),
    [
        ("nf_conntrack_ipv4", "the module is now part of nf_conntrack (write nf_conntrack, or remove the line)"),
        ("ip_vs # balancer", "a line must be one module name (write ip_vs alone)"),
        ("ip_vs, ip_vs_rr", "a line must be one module name (write ip_vs ip_vs_rr each on its own line)"),
        ("kernel/net/ip_vs.ko.xz", f"kernel {RELEASE} does not have this module (write ip_vs, or remove the line)"),
        ("IP_VS", f"kernel {RELEASE} does not have this module (write ip_vs, or remove the line)"),
        (
            "ip_vs x=1",
            "a line must be one module name (write ip_vs alone, and put 'options ip_vs x=1' in a file in /etc",
        ),
        ("no_such", f"kernel {RELEASE} does not have this module (remove the line)"),
    ],
)
def test_a_line_that_systemd_modules_load_cannot_load_is_reported(
    tree: Path, capsys: Output, line: str, reason: str
) -> None:
    put(tree, "etc/modules", f"# /etc/modules\n{line}\n")
    (tree / "etc/modules-load.d").mkdir()
    (tree / "etc/modules-load.d/modules.conf").symlink_to("../modules")
    told = f"/etc/modules-load.d/modules.conf:2: systemd-modules-load cannot load {line!r}: {reason}"
    for command in ("check", "preflight"):
        code, out, _ = run(capsys, tree, command)
        assert (code, f"note: {told}" in out) == (0, True)
    (note,) = values(capsys, tree, "preflight")[1]["notes"]
    assert note.replace(str(tree), "").startswith(told)
    assert told in run(capsys, tree, "apply", "--persist")[2]
    if line == "nf_conntrack_ipv4":
        assert "fails: the module is now part of nf_conntrack" in run(capsys, tree, "explain", line)[1]


@pytest.mark.parametrize("unit", ["systemd-modules-load.service", "systemd-sysctl.service"])
def test_files_for_a_masked_unit_have_no_effect(tree: Path, capsys: Output, unit: str) -> None:
    put(tree, "etc/systemd/system/README", "")
    (tree / "etc/systemd/system" / unit).symlink_to("/dev/null")
    code, _, err = run(capsys, tree, "apply", "--persist")
    assert (code, f"{unit} is masked" in err) == (1, True)
    (tree / "etc/systemd/system" / unit).unlink()
    assert run(capsys, tree, "apply", "--persist")[0] == 0


def test_persisting_again_is_no_remedy_for_a_missing_module(tree: Path, capsys: Output) -> None:
    for file in (tree / "lib/modules").rglob("ip_vs.ko*"):
        file.unlink()
    code, _, err = run(capsys, tree, "apply", "--persist")
    assert code == 1
    assert "net.ipv4.vs.conntrack will not be set" in err
    assert "-> see the remedy for module ip_vs" in err
    assert "-> run 'ipvsd apply" not in err


@pytest.mark.parametrize(
    ("line", "remedy"),
    [
        ("ip_vs conn_tab_bits=12", "write ip_vs alone, and put 'options ip_vs conn_tab_bits=12' in a file in"),
        ("ip_vs # for Kubernetes", "write ip_vs alone"),
        ("ip_vs.ko", "write ip_vs, or remove the line"),
        ("nf_conntrack, ip_vs", "write nf_conntrack ip_vs each on its own line"),
        ("ip-vs,", "write ip-vs alone"),
        ("IP_VS", "write ip_vs, or remove the line"),
    ],
)
def test_a_line_that_loads_nothing_is_shown_by_explain_and_logged_by_the_daemon_once(
    tree: Path, capsys: Output, line: str, remedy: str
) -> None:
    put(tree, "etc/modules-load.d/x.conf", f"{line}\n")
    code, out, _ = run(capsys, tree, "explain", "ip_vs")
    assert f"! /etc/modules-load.d/x.conf:1 {line} (fails: " in out
    assert (code, f"-> {remedy}" in out) == (0, True)
    host, config = LinuxHost(str(tree)), Config()
    notices, done = Notices(str(tree), host), reconcile(host, config, {}, lambda: 0.0)
    for _ in range(2):
        notices.update(config, done, installed_kernels.assess_all(str(tree), config))
    told = [text for text in capsys.readouterr().err.splitlines() if "modules-load.d/x.conf:1" in text]
    assert len(told) == 1
    assert told[0].startswith("ipvsd: warning: ")
    assert remedy in told[0]


@pytest.mark.parametrize("link", ["", "../modules", "/etc/modules", "../other"])
@pytest.mark.parametrize(
    ("os_release", "debian"), [("ID=debian", True), ("ID=x\nID_LIKE='ubuntu debian'", True), ("ID=x", False)]
)
def test_a_file_of_modules_that_systemd_does_not_read_is_reported(
    tree: Path, capsys: Output, link: str, os_release: str, debian: bool
) -> None:
    put(tree, "etc/os-release", f"{os_release}\n")
    put(tree, "etc/modules", "# /etc/modules\nloop\nbr-netfilter\nnf_conntrack_ipv4\n")
    (tree / "etc/modules-load.d").mkdir()
    if link:
        (tree / "etc/modules-load.d/modules.conf").symlink_to(link)
    told = "note: /etc/modules names br_netfilter, nf_conntrack_ipv4, but systemd-modules-load does not read this file"
    for command in (["check"], ["plan"], ["apply", "--persist"]):
        said = " ".join(run(capsys, tree, *command)[1:])
        assert (told in said) is (debian and link in ("", "../other"))


def test_a_file_of_modules_that_names_none_of_interest_is_not_reported(tree: Path, capsys: Output) -> None:
    put(tree, "etc/modules", "# /etc/modules\nloop\n")
    assert "note: " not in run(capsys, tree, "check")[1]
