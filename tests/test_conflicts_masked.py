"""Files of other programs that are empty or links to /dev/null."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ipvsd.boot.kernel_command_line import command_line
from ipvsd.conflicts import detection
from ipvsd.conflicts.detection import detect
from ipvsd.conflicts.external_setting import Names
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.model.types import RootKind
from tests.trees import enable, put

NAMES = Names(sysctls=["net.ipv4.ip_forward"], modules=["ip_vs"], parameters=["ip_vs.conn_tab_bits"])
FORWARD = "net.ipv4.ip_forward=0\n"
NETWORK = "[Match]\nName=*\n[Network]\nDHCP=yes\n"

# By reader: a file with an effect, the file that replaces it, and files that must be there.
CASES = {
    "modprobe": ("usr/lib/modprobe.d/x.conf", "blacklist ip_vs\n", "etc/modprobe.d/x.conf", ()),
    "modules_load": ("usr/lib/modules-load.d/x.conf", "ip_vs\n", "etc/modules-load.d/x.conf", ()),
    "sysctl_d": ("usr/lib/sysctl.d/x.conf", FORWARD, "etc/sysctl.d/x.conf", ()),
    "networkd": (
        "usr/lib/systemd/networkd.conf", "[Network]\nIPv4Forwarding=no\n", "etc/systemd/networkd.conf",
        ("systemd-networkd",),
    ),
    "a .network file": (
        "usr/lib/systemd/network/x.network", NETWORK, "etc/systemd/network/x.network", ("systemd-networkd",)
    ),
    "ufw": ("etc/ufw/sysctl.conf", FORWARD, "etc/ufw/sysctl.conf", ("ufw",)),
    "tuned": (
        "usr/lib/tuned/x/tuned.conf", "[sysctl]\nnet.ipv4.ip_forward=0\n", "etc/tuned/x/tuned.conf", ("tuned",)
    ),
    "firewalld": ("etc/firewalld/firewalld.conf", "CleanupModulesOnExit=yes\n", "etc/firewalld/firewalld.conf",
                  ("firewalld",)),
    "networkmanager": (
        "usr/lib/NetworkManager/conf.d/x.conf", "[keyfile]\nunmanaged-devices=interface-name:kube-ipvs0\n",
        "etc/NetworkManager/conf.d/x.conf", ("NetworkManager",),
    ),
}  # fmt: skip
CONSTANT = {
    "etc/default/ufw": "ENABLED=yes\nIPT_SYSCTL=/etc/ufw/sysctl.conf\n",
    "etc/tuned/active_profile": "x\n",
    "usr/lib/python3/dist-packages/firewall/config/__init__.py": "FALLBACK_CLEANUP_MODULES_ON_EXIT = False\n",
    # Drop-ins of a .network file that is masked have no effect.
    "etc/systemd/network/x.network.d/y.conf": NETWORK,
}


def mask(root: Path, path: str, how: str) -> None:
    file = root / path
    file.parent.mkdir(parents=True, exist_ok=True)
    file.unlink(missing_ok=True)
    if how == "empty":
        file.write_text("")
    else:
        file.symlink_to(how)


def test_every_reader_has_a_case() -> None:
    readers = {reader.__name__.rpartition(".")[2] for reader in detection._READERS}
    assert readers <= CASES.keys()


@pytest.mark.parametrize("how", ["empty", "/dev/null"])
@pytest.mark.parametrize("reader", CASES)
def test_a_masked_file_has_no_effect_and_hides_that_of_the_package(tmp_path: Path, reader: str, how: str) -> None:
    file, text, masking, services = CASES[reader]
    for path, content in {**CONSTANT, file: text}.items():
        put(tmp_path, path, content)
    for service in services:
        enable(tmp_path, f"{service}.service")
    before = detect(str(tmp_path), NAMES).settings
    mask(tmp_path, masking, how)
    after = detect(str(tmp_path), NAMES)
    assert (after.settings != before, after.unreadable_files) == (True, {})
    # NetworkManager's line excludes the interface, so that without it, the interface is managed.
    assert len(after.settings) == (1 if reader == "networkmanager" else 0)


@pytest.mark.parametrize(
    ("place", "how"),
    [
        ("etc/systemd/system/x.service", "empty"),
        ("etc/systemd/system/x.service", "/dev/null"),
        ("run/systemd/system/x.service", "empty"),
        ("run/systemd/system/x.service", "../../../dev/null"),
        ("usr/lib/systemd/system/x.service", "/dev/null"),
        ("etc/systemd/system/a.target.wants/x.service", "/dev/null"),
    ],
)
def test_a_masked_unit_or_dependency_starts_nothing(tmp_path: Path, place: str, how: str) -> None:
    put(tmp_path, "usr/lib/systemd/system/x.service", "[Unit]\n")
    put(tmp_path, "usr/lib/systemd/system/a.target.wants/x.service", "")
    assert FileTree(str(tmp_path)).enabled("x.service")
    mask(tmp_path, place, how)
    assert not FileTree(str(tmp_path)).enabled("x.service")


UNITS = [
    "NetworkManager", "firewalld", "ipvsd", "ipvsd-apply", "systemd-modules-load", "systemd-networkd",
    "systemd-sysctl", "tuned", "ufw",
]  # fmt: skip


def test_every_unit_that_ipvsd_considers_has_a_case() -> None:
    package = Path(detection.__file__).parent.parent
    texts = [file.read_text() for part in ("boot", "conflicts") for file in package.glob(f"{part}/*.py")]
    assert {unit for text in texts for unit in re.findall(r'"([\w-]+)\.service"', text)} == set(UNITS)


@pytest.mark.parametrize("unit", UNITS)
def test_an_empty_unit_of_a_package_is_not_masked(tmp_path: Path, unit: str) -> None:
    enable(tmp_path, f"{unit}.service")
    tree = FileTree(str(tmp_path))
    assert (tree.masked(f"{unit}.service"), tree.enabled(f"{unit}.service")) == (False, True)
    mask(tmp_path, f"etc/systemd/system/{unit}.service", "empty")
    assert FileTree(str(tmp_path)).masked(f"{unit}.service")


def test_a_link_of_the_administrator_to_an_empty_unit_masks_nothing(tmp_path: Path) -> None:
    enable(tmp_path, "x.service")
    (tmp_path / "etc/systemd/system/x.service").symlink_to("/usr/lib/systemd/system/x.service")
    assert not FileTree(str(tmp_path)).masked("x.service")


@pytest.mark.parametrize(("how", "found"), [("empty", ""), ("/dev/null", "quiet")])
def test_kernel_install_skips_a_command_line_that_is_no_file(tmp_path: Path, how: str, found: str) -> None:
    put(tmp_path, "usr/lib/kernel/cmdline", "quiet")
    mask(tmp_path, "etc/kernel/cmdline", how)
    assert command_line(FileTree(str(tmp_path)), RootKind.FIRST_BOOT, "6.1.0") == found
