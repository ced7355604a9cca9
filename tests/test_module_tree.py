"""The reasons for an absent module that the files below a root show."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.module_tree import modprobe_d_stamps
from ipvsd.model.types import Kernel, LoadRestrictions
from tests.fake_kernel import DEPENDS, RELEASE
from tests.trees import make_tree, put, write_index

LOCKDOWN = "sys/kernel/security/lockdown"
MODULES = f"lib/modules/{RELEASE}"
SHIPPED = [name for name in DEPENDS if name not in ("ip_vs_sh", "ip_vs_twos")]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    return make_tree(tmp_path / "root", live=(), shipped=SHIPPED)


def explain(tree: Path, *names: str) -> Kernel:
    host = LinuxHost(str(tree))
    return host.explain(host.kernel(names), names)


def test_a_plain_tree_has_no_load_blockers(tree: Path) -> None:
    found = explain(tree, "ip_vs", "ip_vs_sh")
    assert (found.aliases, found.unindexed, found.kconfig_unset, found.load_blockers) == ({}, {}, {}, {})
    assert found.restrictions == LoadRestrictions()


@pytest.mark.parametrize("file", ["kernel/net/ip_vs_sh.ko", "extra/ip-vs-sh.ko.zst", "updates/dkms/ip_vs_sh.ko.xz"])
def test_a_file_that_the_index_does_not_list(tree: Path, file: str) -> None:
    path = put(tree, f"{MODULES}/{file}", "")
    put(tree, f"{MODULES}/kernel/ip_vs_sh.ko.old", "")
    assert explain(tree, "ip_vs_sh").unindexed == {"ip_vs_sh": str(path)}


def test_a_file_that_is_installed_later_is_found(tree: Path) -> None:
    host = LinuxHost(str(tree))
    names = ["ip_vs_sh"]
    (tree / MODULES / "extra/deep").mkdir(parents=True)
    assert host.explain(host.kernel(names), names).unindexed == {}
    put(tree, f"{MODULES}/extra/deep/ip_vs_sh.ko", "")
    assert list(host.explain(host.kernel(names), names).unindexed) == names


def test_a_tree_below_usr_counts_if_lib_is_a_link_out_of_the_image(tree: Path) -> None:
    (tree / "usr/lib").mkdir(parents=True, exist_ok=True)
    (tree / "lib/modules").rename(tree / "usr/lib/modules")
    (tree / "lib").rmdir()
    (tree / "lib").symlink_to("/usr/lib")
    found = LinuxHost(str(tree), release=RELEASE).kernel(["ip_vs"])
    assert (found.indexed, found.loadable) == (True, frozenset({"ip_vs"}))


def test_a_configuration_that_appears_is_read(tree: Path) -> None:
    host = LinuxHost(str(tree))
    names = ["ip_vs_twos"]
    assert host.explain(host.kernel(names), names).kconfig_unset == {}
    put(tree, f"boot/config-{RELEASE}", "# CONFIG_IP_VS_TWOS is not set\n")
    assert list(host.explain(host.kernel(names), names).kconfig_unset) == names


@pytest.mark.parametrize("place", [f"boot/config-{RELEASE}", f"{MODULES}/config", "proc/config.gz"])
def test_an_option_that_was_not_set(tree: Path, place: str) -> None:
    text = "CONFIG_IP_VS=m\n# CONFIG_IP_VS_TWOS is not set\n# CONFIG_IP_VS_DEBUG is not set\n"
    put(tree, place, "")
    (tree / place).write_bytes(gzip.compress(text.encode()) if place.endswith(".gz") else text.encode())
    assert explain(tree, "ip_vs_twos", "ip_vs_sh", "zfs").kconfig_unset == {
        "ip_vs_twos": "contains '# CONFIG_IP_VS_TWOS is not set'",
        "ip_vs_sh": "does not contain CONFIG_IP_VS_SH",
    }


def test_a_kernel_configuration_that_is_not_gzip_is_ignored(tree: Path) -> None:
    put(tree, "proc/config.gz", "nonsense")
    assert explain(tree, "ip_vs_twos").kconfig_unset == {}


def test_an_alias_of_the_index_and_one_of_the_administrator(tree: Path) -> None:
    aliases = {"ip_conntrack": ["nf_conntrack"], "net_pf_10": ["ipv6"]}
    write_index(tree / MODULES / "modules.alias.bin", aliases)
    put(tree, "etc/modprobe.d/mine.conf", "alias my-vs ip-vs\n")
    found = explain(tree, "ip_conntrack", "my_vs", "ip_vs_rr")
    assert found.aliases == {"ip_conntrack": "nf_conntrack", "my_vs": "ip_vs"}
    assert {"nf_conntrack", "ip_vs"} <= found.loadable


def test_a_file_of_modprobe_d_masks_one_of_the_same_name(tree: Path) -> None:
    put(tree, "usr/lib/modprobe.d/a.conf", "blacklist ip_vs\n")
    put(tree, "usr/lib/modprobe.d/b.conf", "blacklist ip_vs_rr\n")
    put(tree, "etc/modprobe.d/a.conf", "")
    put(tree, "etc/modprobe.d/c.conf.bak", "blacklist ip_vs_wrr\n")
    assert list(explain(tree, "ip_vs", "ip_vs_rr", "ip_vs_wrr").load_blockers) == ["ip_vs_rr"]


def test_an_edited_file_is_read_again(tree: Path) -> None:
    host = LinuxHost(str(tree))
    file = put(tree, "etc/modprobe.d/a.conf", "blacklist ip_vs\n")
    before = modprobe_d_stamps(str(tree))
    assert list(host.explain(host.kernel(["ip_vs"]), ["ip_vs"]).load_blockers) == ["ip_vs"]
    file.write_text("# none\n")
    assert modprobe_d_stamps(str(tree)) != before
    assert host.explain(host.kernel(["ip_vs"]), ["ip_vs"]).load_blockers == {}


@pytest.mark.parametrize(
    ("path", "text", "lock"),
    [
        (LOCKDOWN, "none [integrity] confidentiality\n", LoadRestrictions(signed="lockdown=integrity")),
        (LOCKDOWN, "[none] integrity confidentiality\n", LoadRestrictions()),
        ("sys/module/module/parameters/sig_enforce", "Y\n", LoadRestrictions(signed="module.sig_enforce=1")),
        ("sys/module/module/parameters/sig_enforce", "N\n", LoadRestrictions()),
        ("proc/self/status", "Name:\tx\nCapBnd:\t000001ffffffffff\n", LoadRestrictions()),
        ("proc/self/uid_map", "         0          0 4294967295\n", LoadRestrictions()),
        ("proc/self/uid_map", "         0    1000000 1000000000\n", LoadRestrictions(nested=True)),
        ("proc/self/status", "Name:\tx\nCapBnd:\t00000000a80425fb\n", LoadRestrictions(incapable=True)),
        ("proc/sys/kernel/modules_disabled", "1\n", LoadRestrictions(disabled=True)),
    ],
)
def test_restrictions_of_the_kernel(tree: Path, path: str, text: str, lock: LoadRestrictions) -> None:
    put(tree, path, text)
    assert explain(tree, "ip_vs").restrictions == lock
