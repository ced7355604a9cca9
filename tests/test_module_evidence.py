"""The causes of an absent module: containers, former names, places, compression, other kernels."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from ipvsd.cli import main
from tests.asking import MODULES, Ask, ask, configuration, files, running, tree
from tests.fake_kernel import DEPENDS, RELEASE
from tests.trees import make_modules, put, put_sysctl, write_index

__all__ = ["ask", "tree"]


@pytest.mark.parametrize("indexed", [True, False])
def test_a_container_is_told_to_load_modules_on_the_host(tree: Path, ask: Ask, indexed: bool) -> None:
    put(tree, "proc/self/status", "CapBnd: 000001fdfffeffff\n")
    if not indexed:
        running(tree, "6.5.11-8-pve", "debian")
    code, found = ask("check")
    assert code == 1
    assert {found[name].verdict for name in MODULES} == {"capability_missing"}
    assert found["ip_vs"].remedy == "run 'modprobe ip_vs' on the host, or grant CAP_SYS_MODULE"
    put(tree, "proc/self/uid_map", "         0     100000      65536\n")  # no capability helps in a user namespace
    assert ask("check")[1]["ip_vs"][::2] == ("capability_missing", "run 'modprobe ip_vs' on the host")


def test_a_name_that_resembles_a_module_is_treated_as_misspelt(tree: Path, ask: Ask) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "modules: {ip_vss: {}}\n")
    _, found = ask("check")
    assert found["ip_vss"].verdict == "absent"
    assert found["ip_vss"].remedy.startswith("did you mean ip_vs")
    assert "? Otherwise, check the name, or install the package that contains module ip_vss (" in found["ip_vss"].remedy


MOUNTS = "22 21 0:4 / /proc rw,nosuid - proc proc rw\n23 22 0:4 /sys /proc/sys ro,nosuid - proc proc rw\n"


@pytest.mark.parametrize(
    ("mounts", "verdict"),
    [
        (MOUNTS, "write_failed"),
        (MOUNTS + "24 23 0:4 /sys/net /proc/sys/net rw - proc proc rw\n", "noncompliant"),
        (MOUNTS + "24 22 0:4 /sys /proc/sys rw - proc proc rw\n", "noncompliant"),
        ("22 21 0:4 / /proc ro - proc proc rw\n", "write_failed"),
        ("22 21 0:4 / /proc rw,nosuid shared:9 - proc proc ro\n", "write_failed"),  # read-only file system
        ("21 1 8:1 / / ro - ext4 /dev/vda ro\n", "noncompliant"),  # an image on a read-only disk
        ("", "noncompliant"),
    ],
)
def test_sysctls_below_a_read_only_mount_are_set_on_the_host(
    tree: Path, capsys: pytest.CaptureFixture[str], mounts: str, verdict: str
) -> None:
    put_sysctl(tree, "net.ipv4.ip_forward", "0")
    put(tree, "proc/self/mountinfo", mounts)
    main(["check", "--root", str(tree), "--output", "json"])
    sysctls = {item["name"]: item for item in json.loads(capsys.readouterr().out)["sysctls"]}
    found = sysctls["net.ipv4.ip_forward"]
    assert found["verdict"] == verdict
    assert ("on the host" in found["remedy"]) is (verdict == "write_failed")
    assert ("ipvsd apply" in found["remedy"]) is (verdict == "noncompliant")


@pytest.mark.parametrize(
    ("name", "release", "successor"),
    [
        ("nf-conntrack-ipv4", "4.18.0-240.el8.x86_64", "nf_conntrack"),
        ("nf_nat_masquerade_ipv4", RELEASE, "nf_nat"),
        ("nf_nat_ipv4", "4.19.0-1-amd64", ""),
    ],
)
def test_a_former_module_name(tree: Path, ask: Ask, name: str, release: str, successor: str) -> None:
    put_sysctl(tree, "kernel.osrelease", release)
    if release != RELEASE:
        make_modules(tree, release, list(DEPENDS))
    put(tree, "etc/ipvsd/ipvsd.yaml", f"modules: {{{name}: {{}}}}\n")
    _, found = ask("check")
    said = found[name.replace("-", "_")]
    assert said.verdict == ("merged" if successor else "absent")
    if successor:
        assert f"part of {successor} since Linux" in said.evidence
        assert said.remedy == f"use {successor} instead"
        assert "install" not in said.remedy


def test_a_former_name_that_is_an_alias_is_the_module(tree: Path, ask: Ask) -> None:
    write_index(tree / f"lib/modules/{RELEASE}/modules.alias.bin", {"ip_conntrack": ["nf_conntrack"]})
    put(tree, "etc/ipvsd/ipvsd.yaml", "modules: {ip_conntrack: {}}\n")
    assert ask("check")[1]["ip_conntrack"].verdict == "loadable"


def test_an_empty_directory_in_usr_hides_no_tree(tree: Path, ask: Ask) -> None:
    (tree / "usr/lib/modules").mkdir(parents=True)
    assert ask("preflight")[0] == 0
    (tree / "usr/lib/modules" / RELEASE).mkdir()
    assert ask("preflight")[0] == 0


KMOD = "libkmod\0{}ZSTD +XZ {}ZLIB +LIBCRYPTO -EXPERIMENTAL\0"


def pack(tree: Path, kmod: str) -> None:
    """Compress all modules with zstd, and install this kmod."""
    put(tree, "usr/bin/kmod", kmod)
    for file in files(tree):
        file.rename(file.with_suffix(".zst"))


@pytest.mark.parametrize("listed", [True, False])
def test_files_that_this_kmod_cannot_read(tree: Path, ask: Ask, listed: bool) -> None:
    pack(tree, KMOD.format("-", "+"))
    lines = {name: [f"kernel/net/{name}.ko.zst:"] for name in DEPENDS}
    write_index(tree / f"lib/modules/{RELEASE}/modules.dep.bin", lines if listed else {})
    code, found = ask("preflight")
    assert (code, found["ip_vs"].verdict) == (1, "compression_unsupported")
    assert "is compressed with zstd, which this kmod does not support" in found["ip_vs"].evidence
    depmod = f"decompress the files and run 'depmod -b {tree} -a {RELEASE}'"
    assert found["ip_vs"].remedy == f"install a kmod that supports zstd, or {depmod}"


def test_files_that_this_kmod_can_read_need_depmod_alone(tree: Path, ask: Ask) -> None:
    pack(tree, KMOD.format("+", "-"))
    write_index(tree / f"lib/modules/{RELEASE}/modules.dep.bin", {})
    assert ask("check")[1]["ip_vs"].verdict == "index_stale"


def test_another_installed_kernel_has_the_module(tree: Path, ask: Ask) -> None:
    (tree / "lib/modules" / RELEASE).rename(tree / "lib/modules/6.1.0-51-cloud-amd64")
    make_modules(tree, RELEASE, ["br_netfilter"])
    make_modules(tree, "6.1.0-9-cloud-amd64", ["nf_conntrack"])
    _, found = ask("check")
    install = f"run 'chroot {tree} apt install"
    assert found["ip_vs"].remedy.startswith(f"reboot into 6.1.0-51-cloud-amd64, which has the module; or {install}")
    said = f"reboot into 6.1.0-9-cloud-amd64 or 6.1.0-51-cloud-amd64, which has the module; or {install}"
    assert found["nf_conntrack"].remedy.startswith(said)


def test_existing_trees_are_named_if_none_matches(tree: Path, ask: Ask) -> None:
    running(tree, "6.1.21-v8+", "debian")
    _, found = ask("check")
    assert found["ip_vs"].verdict == "module_tree_missing"
    assert found["ip_vs"].evidence == f"no modules in /lib/modules/6.1.21-v8+; other trees: {RELEASE}"
    assert found["ip_vs"].remedy.startswith(f"reboot into {RELEASE}, which has the module, or install the modules for")
    assert "the package is unknown" in found["ip_vs"].remedy


def test_the_option_that_is_not_set_is_in_the_evidence_and_the_remedy(tree: Path, ask: Ask) -> None:
    shutil.rmtree(tree / "lib/modules" / RELEASE)
    make_modules(tree, RELEASE, [])
    put(tree, f"boot/config-{RELEASE}", "CONFIG_NETFILTER=y\nCONFIG_NF_CONNTRACK=m\n# CONFIG_IP_VS is not set\n")
    _, found = ask("check")
    assert found["ip_vs_rr"].verdict == "not_built"
    assert found["ip_vs_rr"].evidence.endswith("contains '# CONFIG_IP_VS is not set'")
    assert found["ip_vs_rr"].remedy == "boot a kernel that was built with CONFIG_IP_VS"


def test_modules_disabled_has_a_remedy_that_works(tree: Path, ask: Ask) -> None:
    put_sysctl(tree, "kernel.modules_disabled", "1")
    _, found = ask("check")
    assert found["ip_vs"].verdict == "modules_disabled"
    assert found["ip_vs"].remedy.startswith(f"run 'ipvsd apply --persist --root {tree}' and reboot")


def test_a_kernel_without_module_support_that_lacks_it(tree: Path, ask: Ask) -> None:
    running(tree, "6.6.0-x", "debian")
    (tree / "proc/modules").unlink()
    (tree / "proc/config.gz").write_bytes(configuration("CONFIG_NETFILTER=y", "# CONFIG_IP_VS is not set"))
    _, found = ask("check")
    assert (found["ip_vs"].verdict, found["br_netfilter"].verdict) == ("not_built", "no_module_support")


def test_a_parameter_is_no_part_of_proc_sys(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tree, "proc/self/mountinfo", MOUNTS)
    put(tree, "etc/ipvsd/ipvsd.yaml", "modules: {nf_conntrack: {parameters: {hashsize: 1000}}}\n")
    put(tree, "proc/modules", "nf_conntrack 1 0 - Live 0x0\n")
    put(tree, "sys/module/nf_conntrack/parameters/hashsize", "16\n")
    main(["check", "--root", str(tree), "--output", "json"])
    (found,) = json.loads(capsys.readouterr().out)["parameters"]
    assert found["verdict"] in ("noncompliant", "needs_module_reload")
    assert "/proc/sys" not in found["evidence"]
