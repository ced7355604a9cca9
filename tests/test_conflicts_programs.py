"""systemd-networkd, firewalld, NetworkManager, modprobe.d and modules-load.d."""

from __future__ import annotations

import re
from collections.abc import Mapping
from pathlib import Path

import pytest

from ipvsd.conflicts.detection import ConflictReport, complies, detect
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.model.types import Exactly, OneOf, Want, Within
from tests.trees import enable, make_modules, put

FORWARD = "net.ipv4.ip_forward"
ETH = "net.ipv4.conf.eth0.forwarding"


def look(root: Path, files: Mapping[str, str], names: Names, service: str = "") -> ConflictReport:
    for path, text in files.items():
        put(root, path, text)
    if service:
        enable(root, f"{service}.service")
    return detect(str(root), names)


# --- systemd-networkd -------------------------------------------------------------------

GLOBAL = "etc/systemd/networkd.conf"
LINK = "etc/systemd/network/10-eth.network"
OTHERS = "usr/lib/systemd/network/99-all.network"
NO, YES = (f"[Network]\nIPv4Forwarding={said}\n" for said in ("no", "yes"))
ETH0, ANY = "[Match]\nName=eth0\n", "[Match]\nName=*\n"


@pytest.mark.parametrize(
    ("files", "name", "value", "certain"),
    [
        pytest.param({GLOBAL: NO}, FORWARD, "0", True, id="global"),
        pytest.param({GLOBAL: YES}, FORWARD, "1", True, id="global, on"),
        pytest.param({GLOBAL: NO.replace("v4", "v6")}, "net.ipv6.conf.all.forwarding", "0", True, id="IPv6"),
        pytest.param({GLOBAL: NO}, "net.ipv4.conf.default.forwarding", "0", True, id="default"),
        pytest.param({GLOBAL: YES, "usr/lib/systemd/networkd.conf.d/x.conf": NO}, FORWARD, "0", True,
                     id="a later drop-in"),
        pytest.param({GLOBAL: "", "usr/lib/systemd/networkd.conf": NO}, FORWARD, None, True, id="the first file alone"),
        pytest.param({GLOBAL: NO.replace("Network", "Other")}, FORWARD, None, True, id="another section"),
        pytest.param({GLOBAL: NO.replace("no", "maybe")}, FORWARD, None, True, id="no boolean"),
        pytest.param({LINK: "[Network]\nIPForward=ipv4\n"}, FORWARD, "1", False, id="IPForward turns it on"),
        pytest.param({LINK: "[Network]\nIPForward=no\n"}, FORWARD, None, True, id="IPForward never turns it off"),
        pytest.param({LINK: "[Network]\nIPForward=ipv6\n"}, FORWARD, None, True, id="IPForward of the other family"),
        pytest.param({LINK: NO}, FORWARD, None, True, id="a link's is not the node's"),
        pytest.param({LINK: "[Match]\nName=en* eth*\n" + NO}, ETH, "0", True, id="of a link"),
        pytest.param({LINK: "[Match]\nName=!eth*\n" + NO}, ETH, None, True, id="not of it"),
        pytest.param({LINK: "[Match]\nType=ether\n" + NO}, ETH, "0", False, id="by more than a name"),
        pytest.param({LINK: ETH0, f"run/systemd/network/{Path(LINK).name}.d/x.conf": NO}, ETH, "0", True,
                     id="a drop-in of a link"),
        pytest.param({LINK: ETH0, OTHERS: ANY + NO}, ETH, None, True, id="the first file that fits is silent"),
        pytest.param({LINK: ETH0 + YES, OTHERS: ANY + NO}, ETH, "1", True, id="the first file that fits"),
        pytest.param({LINK: f"{ETH0}{NO}[Link]\nUnmanaged=yes\n"}, ETH, None, True, id="a link that is left alone"),
        pytest.param({LINK: "[Match]\nType=ether\n", OTHERS: ANY + NO}, ETH, "0", False, id="after one that may fit"),
        pytest.param({LINK: f"{ETH0}Name=en*\n{NO}"}, ETH, "0", True, id="names add up"),
        pytest.param({LINK: "[Match]\n" + NO}, ETH, None, True, id="an empty [Match] fits no link"),
    ],
)  # fmt: skip
def test_forwarding_by_networkd(
    tmp_path: Path, files: Mapping[str, str], name: str, value: str | None, certain: bool
) -> None:
    found = look(tmp_path, files, Names(sysctls=[name]), "systemd-networkd").settings
    wins = [(item.program, item.value, item.certain) for item in found if item.effective]
    assert wins == ([] if value is None else [(Program.NETWORKD, value, certain)])


def test_networkd_that_is_not_started_sets_nothing(tmp_path: Path) -> None:
    (line,) = look(tmp_path, {GLOBAL: NO}, Names(sysctls=[FORWARD])).settings
    assert (line.text, line.effective) == ("IPv4Forwarding=no", False)
    assert line.inactive == "systemd does not start systemd-networkd"


# --- firewalld --------------------------------------------------------------------------

CONF = "etc/firewalld/firewalld.conf"
VERSION = "usr/lib/python3/dist-packages/firewall/config/__init__.py"
FORMER = "usr/lib/python3.9/site-packages/firewall/config/__init__.py"


@pytest.mark.parametrize(
    ("files", "certain"),
    [
        pytest.param({CONF: "CleanupModulesOnExit=no\n"}, None, id="no"),
        pytest.param({CONF: "CleanupModulesOnExit=yes\n"}, True, id="yes"),
        pytest.param({CONF: "", VERSION: "FALLBACK_CLEANUP_MODULES_ON_EXIT = False\n"}, None, id="no, by default"),
        pytest.param({CONF: "", FORMER: "FALLBACK_CLEANUP_MODULES_ON_EXIT = True\n"}, True, id="yes, by default"),
        pytest.param({CONF: "", FORMER: "FALLBACK_CLEANUP_ON_EXIT = True\n"}, True, id="before there was a choice"),
        pytest.param({CONF: "CleanupOnExit=no", FORMER: ""}, None, id="before, and turned off"),
        pytest.param({CONF: ""}, False, id="a version that is not found"),
    ],
)
def test_firewalld_unloads(tmp_path: Path, files: Mapping[str, str], certain: bool | None) -> None:
    found = look(tmp_path, files, Names(modules=["ip_vs_sh", "nf_conntrack", "br_netfilter"]), "firewalld").settings
    expected = [] if certain is None else [("ip_vs_sh", certain), ("nf_conntrack", certain)]
    assert [(item.name, item.certain) for item in found] == expected
    assert all(item.effect is Effect.UNLOADS for item in found)


# --- ufw --------------------------------------------------------------------------------

UFW = {
    "etc/default/ufw": "IPV6=yes\nIPT_SYSCTL=/etc/ufw/sysctl.conf  # the file\n",
    "etc/ufw/ufw.conf": "ENABLED=yes\n",
    "etc/ufw/sysctl.conf": "# route\nnet/ipv4/ip_forward=0\n",
}


@pytest.mark.parametrize(
    ("files", "value"),
    [
        pytest.param({}, "0", id="as shipped"),
        pytest.param({"etc/ufw/ufw.conf": "ENABLED=no\n"}, None, id="not enabled"),
        pytest.param({"etc/ufw/ufw.conf": "ENABLED='YES'\n"}, "0", id="quoted"),
        pytest.param({"etc/ufw/ufw.conf": "ENABLED=yes\nENABLED=no\n"}, None, id="said twice"),
        pytest.param({"etc/default/ufw": 'IPT_SYSCTL=""\n'}, None, id="no file"),
        pytest.param({"etc/default/ufw": "#IPT_SYSCTL=/etc/ufw/sysctl.conf\n"}, None, id="a comment"),
        pytest.param({"etc/default/ufw": "IPT_SYSCTL=/etc/o\n", "etc/o": f"{FORWARD} = 1\n"}, "1", id="another"),
        pytest.param({"etc/ufw/sysctl.conf": "net/ipv4/conf/all/forwarding=0 # x\n"}, "0", id="by the other name"),
        pytest.param({"etc/ufw/sysctl.conf": "net/ipv4/ip_forward=1\nnet/ipv4/ip_forward=no\n"}, "1", id="refused"),
        pytest.param({"etc/ufw/sysctl.conf": "net/ipv4/ip_forward 0\n"}, None, id="no assignment"),
    ],
)
def test_ufw_sets_sysctls_when_it_starts(tmp_path: Path, files: Mapping[str, str], value: str | None) -> None:
    found = look(tmp_path, {**UFW, **files}, Names(sysctls=[FORWARD]), "ufw").settings
    assert [item.value for item in found if item.effective] == ([] if value is None else [value])
    assert {item.program for item in found} <= {Program.UFW}


def test_ufw_that_is_not_started_sets_nothing(tmp_path: Path) -> None:
    assert look(tmp_path, UFW, Names(sysctls=[FORWARD])).settings == ()


# --- NetworkManager ---------------------------------------------------------------------

NM = "etc/NetworkManager/NetworkManager.conf"
LATER, RUN = "etc/NetworkManager/conf.d/x.conf", "run/NetworkManager/conf.d/x.conf"
VENDOR = "usr/lib/NetworkManager/conf.d"
KEYS = "[keyfile]\nunmanaged-devices"


@pytest.mark.parametrize(
    ("files", "managed"),
    [
        pytest.param({}, True, id="not a word"),
        pytest.param({NM: KEYS + "=interface-name:kube-ipvs0\n"}, False, id="named"),
        pytest.param({NM: KEYS + "=mac:00:11;interface-name:kube-*\n"}, False, id="a pattern"),
        pytest.param({NM: KEYS + "=interface-name:=kube-*\n"}, True, id="no pattern"),
        pytest.param({NM: KEYS + "=interface-name:[k]*\n"}, True, id="no ranges"),
        pytest.param({NM: KEYS + "=kube-ipvs0\n"}, False, id="bare"),
        pytest.param({NM: KEYS + "=type:dummy\n"}, False, id="by type"),
        pytest.param({NM: KEYS + "=except:interface-name:eth0\n"}, False, id="all but another"),
        pytest.param({NM: KEYS + "=*,except:interface-name:kube-ipvs0\n"}, True, id="all but it"),
        pytest.param({NM: "[main]\nunmanaged-devices=kube-ipvs0\n"}, True, id="another section"),
        pytest.param({NM: KEYS + "=kube-ipvs0\n", LATER: KEYS + "=eth0\n"}, True, id="a later file says otherwise"),
        pytest.param({NM: KEYS + "=eth0\n", LATER: KEYS + "+=kube-ipvs0\n"}, False, id="a later file adds"),
        pytest.param({NM: KEYS + "-=kube-ipvs0\n", f"{VENDOR}/x.conf": KEYS + "=kube-ipvs0\n"}, True,
                     id="the main file takes away from a package's"),
        pytest.param({f"{VENDOR}/zz.conf": KEYS + "=eth0\n", RUN: KEYS + "=kube-ipvs0\n"}, False,
                     id="files in /run come after those of packages"),
        pytest.param({NM: "[device-x]\nmatch-device=interface-name:kube-*\nmanaged=0\n"}, False, id="by device"),
        pytest.param({NM: "[device-x]\nmatch-device=interface-name:eth*\nmanaged=0\n"}, True, id="by another device"),
    ],
)  # fmt: skip
def test_a_networkmanager_file_that_excludes_the_interface_is_recognised(
    tmp_path: Path, files: Mapping[str, str], managed: bool
) -> None:
    found = look(tmp_path, files, Names(modules=["ip_vs", "nf_conntrack"]), "NetworkManager").settings
    assert [item.name for item in found] == (["ip_vs"] if managed else [])


@pytest.mark.parametrize(
    ("files", "place"),
    [
        ({}, "ipvs.conf"),
        ({NM: KEYS + "=eth0\n"}, "ipvs.conf"),
        ({RUN: KEYS + "=eth0\n"}, "ipvs.conf"),
        ({"etc/NetworkManager/conf.d/calico.conf": KEYS + "=cali*\n"}, "ipvs.conf"),
        ({"etc/NetworkManager/conf.d/rke2-canal.conf": KEYS + "=cali*\n"}, "zz-ipvs.conf"),
        ({"etc/NetworkManager/conf.d/zzz.conf": KEYS + "=cali*\n"}, "zzz~ipvs.conf"),
    ],
)
def test_the_remedy_for_networkmanager_helps(tmp_path: Path, files: Mapping[str, str], place: str) -> None:
    (found,) = look(tmp_path, files, Names(modules=["ip_vs"]), "NetworkManager").settings
    file = f"etc/NetworkManager/conf.d/{place}"
    assert found.remedy.endswith(f" to {tmp_path}/{file}")
    words = found.remedy.split("'")
    put(tmp_path, file, f"{words[1]}\n{words[3]}\n")
    assert detect(str(tmp_path), Names(modules=["ip_vs"])).settings == ()


@pytest.mark.parametrize(
    ("match", "managed"),
    [
        ("Name=*", True), ("Name=eth0 k*", True), ("Name=!eth0", True), ("Name=!kube-*", False),
        ("Name=eth0\nName=kube-ipvs0", True), ("Name=*\nName=", False), ("Type=ether", True), ("Type=wlan", False),
        ("Kind=!dummy", False), ("Name=*\nKind=dummy", True), ("Name=*\nDriver=virtio_net", False),
        ("Name=*\nMACAddress=00:11:22:33:44:55", False), ("", False),
    ],
)  # fmt: skip
def test_networkd_takes_the_interface_by_the_first_file_that_matches(tmp_path: Path, match: str, managed: bool) -> None:
    files = {"run/systemd/network/50-all.network": f"[Match]\n{match}\n[Network]\nDHCP=yes\n"}
    found = look(tmp_path, files, Names(modules=["ip_vs"]), "systemd-networkd").settings
    assert [(item.effect, item.program) for item in found] == [(Effect.INTERFERES, Program.NETWORKD)] * managed


@pytest.mark.parametrize("name", ["50-all.network", "00-all.network", "00-.network", "+.network"])
def test_the_remedy_for_networkd_helps(tmp_path: Path, name: str) -> None:
    files = {f"etc/systemd/network/{name}": "[Match]\nName=*\n[Network]\nDHCP=yes\n"}
    (found,) = look(tmp_path, files, Names(modules=["ip_vs"]), "systemd-networkd").settings
    words, (place,) = found.remedy.split("'"), re.findall(r"/(etc/systemd/network/\S+\.network)\Z", found.remedy)
    put(tmp_path, place, "".join(f"{word}\n" for word in words[1:9:2]))
    assert detect(str(tmp_path), Names(modules=["ip_vs"])).settings == ()


# --- modprobe.d, modules-load.d ---------------------------------------------------------


def test_lines_that_block_and_that_load_a_module(tmp_path: Path) -> None:
    files = {
        "etc/modprobe.d/cis.conf": "\ninstall ip_vs /bin/true\n",
        "etc/modprobe.d/masked.conf": "",
        "usr/lib/modprobe.d/masked.conf": "blacklist nf_conntrack\n",
        "etc/modules-load.d/k8s.conf": "# for kube-proxy\nip-vs\nnf_conntrack\n",
        "proc/cmdline": "quiet modules_load=a,ip_vs rd.modules_load=ip_vs module_blacklist=dummy\n",
    }
    found = look(tmp_path, files, Names(modules=["ip_vs", "dummy"])).settings
    assert [(item.name, item.effect, item.origin.removeprefix(f"{tmp_path}/"), item.text) for item in found] == [
        ("ip_vs", Effect.BLOCKS, "etc/modprobe.d/cis.conf:2", "install ip_vs /bin/true"),
        ("dummy", Effect.BLOCKS, "/proc/cmdline", "module_blacklist=dummy"),
        ("ip_vs", Effect.LOADS, "/proc/cmdline", "modules_load=ip_vs"),
        ("ip_vs", Effect.LOADS, "etc/modules-load.d/k8s.conf:2", "ip-vs"),
        ("ip_vs", Effect.LOADS, "/proc/cmdline", "rd.modules_load=ip_vs"),
    ]


def test_the_last_value_of_a_parameter_counts_that_of_the_command_line_before_all(tmp_path: Path) -> None:
    files = {
        "etc/modprobe.d/b.conf": "options ip-vs conn_tab_bits=14 other=1\n",
        "usr/lib/modprobe.d/a.conf": "options ip_vs conn_tab_bits=12\n",
        "proc/cmdline": "ip_vs.conn_tab_bits=16 nf_conntrack.conn_tab_bits=1\n",
    }
    found = look(tmp_path, files, Names(parameters=["ip_vs.conn_tab_bits"])).settings
    assert [(item.program, item.value, item.effective) for item in found] == [
        (Program.MODPROBE, "12", False),
        (Program.MODPROBE, "14", False),
        (Program.KERNEL, "16", True),
    ]


# --- whether it complies ----------------------------------------------------------------


@pytest.mark.parametrize(
    ("value", "certain", "want", "expected"),
    [
        ("1", True, Exactly("1"), True),
        ("0x1", True, Exactly("1"), True),
        ("0", True, Exactly("1"), False),
        ("0", False, Exactly("1"), None),
        ("1", False, Exactly("1"), True),
        ("1 # kubelet", True, Exactly("1"), True),
        ("1# kubelet", True, Exactly("1"), False),
        ("262144", True, Within(131072), True),
        ("65536", True, Within(131072), False),
        ("${x}", False, Within(131072), None),
        ("2", True, OneOf(("1", "2")), True),
        ("0", True, None, None),
    ],
)
def test_a_value_agrees_if_the_planner_finds_it_compliant(
    value: str, certain: bool, want: Want | None, expected: bool | None
) -> None:
    setting = ExternalSetting(FORWARD, Effect.SETS, Program.TUNED, "f:1", "x", value, certain=certain)
    assert complies(setting, want) is expected


@pytest.mark.parametrize(
    ("effect", "certain", "expected"),
    [
        (Effect.LOADS, True, True), (Effect.BLOCKS, True, False), (Effect.UNLOADS, True, False),
        (Effect.UNLOADS, False, None), (Effect.INTERFERES, True, None),
    ],
)  # fmt: skip
def test_a_module_is_desired_in_the_kernel(effect: Effect, certain: bool, expected: bool | None) -> None:
    setting = ExternalSetting("ip_vs", effect, Program.FIREWALLD, "f:1", "x", certain=certain)
    assert complies(setting, None) is expected


def test_an_unreadable_file_is_reported_and_hides_no_other(tmp_path: Path) -> None:
    put(tmp_path, "etc/sysctl.d/90.conf", f"{FORWARD}=0\n")
    (tmp_path / "etc/sysctl.d/50.conf").symlink_to("50.conf")
    found = detect(str(tmp_path), Names(sysctls=[FORWARD]))
    assert [item.value for item in found.settings] == ["0"]
    assert list(found.unreadable_files) == [f"{tmp_path}/etc/sysctl.d/50.conf"]


def test_dependencies_in_an_image_are_those_of_its_newest_kernel(tmp_path: Path) -> None:
    make_modules(tmp_path, "6.1.0-9-amd64", [])
    make_modules(tmp_path, "6.1.0-10-amd64", ["ip_vs", "nf_conntrack"])
    found = look(tmp_path, {"etc/modprobe.d/cis.conf": "install nf_conntrack /bin/true\n"}, Names(modules=["ip_vs"]))
    assert [(item.name, item.effect, item.text) for item in found.settings] == [
        ("ip_vs", Effect.BLOCKS, "install nf_conntrack /bin/true")
    ]
