"""Files of programs that can set managed items: sysctl.d, modprobe.d, modules-load.d, TuneD, networkd and others."""

from __future__ import annotations

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from typing import Optional

from hypothesis import example
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ipvsd.conflicts import firewalld, modprobe, modules_load, networkd, networkmanager, sysctl_d, tuned, ufw
from ipvsd.conflicts.detection import complies
from ipvsd.conflicts.external_setting import Effect, ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.model.types import Exactly
from tests.fuzz.inputs import hostile, lines, text, words
from tests.fuzz.properties import fuzz

UNITS = ("tuned", "firewalld", "NetworkManager", "systemd-networkd", "ufw")
NAMES = Names(
    sysctls=("net.ipv4.ip_forward", "net.ipv4.conf.eth0.forwarding", "net.netfilter.nf_conntrack_max"),
    parameters=("ip_vs.x",),
    modules=("ip_vs", "nf_conntrack"),
)
KEYS = """
net.ipv4.ip_forward net/ipv4/ip_forward net.ipv4.conf.all.forwarding net.ipv4.conf.*.forwarding
net.ipv4.conf.eth0.forwarding
-net.ipv4.ip_forward -net.ipv4.conf.[e]*.forwarding net.ipv4.[z-a] net//ipv4/./ip_forward
net.ipv4.conf.eth0/../all.forwarding
net.netfilter.nf_conntrack_max --net.ipv4.ip_forward net.*.* *.*.* [ net.ipv4.conf.*
""".split()
VALUES = ("0", "1", "262144", "0x1", "010", "1 # note", "", "x", '"1"', ">5", "=>5", "${x}", "1 2")
ASSIGNED = st.builds(
    "{}{}{}".format, st.sampled_from(KEYS), st.sampled_from(["=", " = ", " ", "\t=\t", "=="]), st.sampled_from(VALUES)
)
JUNK = words("net", "=", "#", ";", "\\", "[", "]", "-", "*", most=4)
SYSCTL_D = hostile(lines(ASSIGNED, ASSIGNED, JUNK))


def ini(*known: str) -> SearchStrategy[bytes]:
    return hostile(lines(st.sampled_from(known), st.sampled_from(known), ASSIGNED, JUNK, most=12))


TUNED = ini(
    "[sysctl]", "[main]", "[x]", "include=a", "include=a,b;-c", "include=mine", "type=sysctl", "replace=1", "enabled=0",
    "drop=net.ipv4.ip_forward", "uname_regex=x", "profile_dirs=/a,/etc/tuned", "reapply_sysctl=0",
    "reapply_sysctl_exclude=[z-a]",
    "reapply_sysctl_exclude=net.*", "mine", "a b",
)  # fmt: skip
NETWORKD = ini(
    "[Match]", "[Network]", "[Link]", "Name=eth*", "Name=!eth0", "Name=[z-a]", "Name=", "Name=*", "Type=ether",
    "Kind=x",
    "IPForward=yes", "IPForward=ipv4", "IPv4Forwarding=no", "IPv6Forwarding=1", "IPv4Forwarding=x", "Unmanaged=yes",
)  # fmt: skip
NETWORK_MANAGER = ini(
    "[keyfile]", "[device]", "[device-x]", "[main]", "managed=0", "match-device=interface-name:kube*",
    "unmanaged-devices=*",
    "unmanaged-devices+=interface-name:kube-ipvs0", "unmanaged-devices-=*,except:type:dummy",
    "unmanaged-devices=interface-name:[z-a]",
    "match-device=interface-name:~[!k]*;except:*", "unmanaged-devices=interface-name:=kube-ipvs0",
)  # fmt: skip
FIREWALLD = ini(
    "CleanupModulesOnExit=yes", "CleanupModulesOnExit=no", "CleanupOnExit=no", "FALLBACK_CLEANUP_MODULES_ON_EXIT = True"
)
UFW = ini(
    "ENABLED=yes", "ENABLED='yes", "IPT_SYSCTL=/etc/ufw/sysctl.conf", "IPT_SYSCTL=$(x)", "export ENABLED=YES",
    "IPT_SYSCTL=../x",
)  # fmt: skip
MODULES_LOAD = hostile(lines(words("ip_vs", "ip-vs", "nf_conntrack", "#", ";", "x" * 60, most=2)))
MODPROBE_D = hostile(lines(words("options", "blacklist", "ip_vs", "x=1", "x", "x=", "\\", most=4)))
CMDLINE = hostile(
    words("sysctl.net.ipv4.ip_forward=0", "sysctl.net/ipv4/conf.all", "modules_load=ip_vs,x", "rd.modules_load=ip-vs",
          '"', "'", "=")
)  # fmt: skip

TREES: SearchStrategy[Mapping[str, bytes]] = st.fixed_dictionaries(
    {},
    optional={
        **dict.fromkeys(
            ("etc/sysctl.d/a.conf", "run/sysctl.d/b.conf", "usr/lib/sysctl.d/50-a.conf", "etc/sysctl.conf",
            "etc/ufw/sysctl.conf"),
            SYSCTL_D,
        ),
        **dict.fromkeys(
            ("etc/tuned/tuned-main.conf", "etc/tuned/mine/tuned.conf", "usr/lib/tuned/a/tuned.conf",
            "usr/lib/tuned/b/tuned.conf"),
            TUNED,
        ),
        "etc/tuned/active_profile": hostile(words("mine", "a", "b", "../x", "-", most=3)),
        **dict.fromkeys(
            ("etc/systemd/networkd.conf", "etc/systemd/network/a.network", "run/systemd/network/a.network.d/b.conf"),
            NETWORKD
        ),
        "etc/NetworkManager/NetworkManager.conf": NETWORK_MANAGER,
        "etc/NetworkManager/conf.d/a.conf": NETWORK_MANAGER,
        "etc/firewalld/firewalld.conf": FIREWALLD,
        "usr/lib/python3/dist-packages/firewall/config/__init__.py": FIREWALLD,
        "etc/default/ufw": UFW,
        "etc/ufw/ufw.conf": UFW,
        "etc/modules-load.d/a.conf": MODULES_LOAD,
        "etc/modprobe.d/a.conf": MODPROBE_D,
        "proc/cmdline": CMDLINE,
    },
)  # fmt: skip


class Texts(FileTree):
    """A tree in memory, in which systemd starts every program."""

    def __init__(self, files: Mapping[str, bytes]) -> None:
        super().__init__("/nowhere")
        wanted = {f"etc/systemd/system/a.wants/{unit}.service": "" for unit in UNITS}
        self.files = {**wanted, **{path: text(data) for path, data in files.items()}}

    def read(self, path: str) -> Optional[str]:
        return self.files.get(path)

    def names(self, directory: str) -> Collection[str]:
        inside = (path[len(directory) + 1 :] for path in self.files if path.startswith(f"{directory}/"))
        return {path.partition("/")[0] for path in inside}


Reader = Callable[[FileTree, Names], Iterator[ExternalSetting]]
READERS: tuple[Reader, ...] = (
    modprobe.settings, modules_load.settings, sysctl_d.settings, networkd.settings, tuned.settings,
    firewalld.settings, networkmanager.settings, ufw.settings,
)  # fmt: skip


def told(tree: Texts) -> list[ExternalSetting]:
    return [setting for reader in READERS for setting in reader(tree, NAMES)]


def winners(found: list[ExternalSetting], program: Program) -> dict[str, str]:
    return {item.name: item.value for item in found if item.program is program and item.effective and not item.failure}


def only(path: str, files: SearchStrategy[bytes]) -> SearchStrategy[Mapping[str, bytes]]:
    return st.fixed_dictionaries({path: files})


@fuzz(TREES, quick=15)
@example(
    {
        "etc/ufw/ufw.conf": b"ENABLED=yes\nIPT_SYSCTL=/etc/ufw/sysctl.conf\n",
        "etc/ufw/sysctl.conf": b"net/ipv4/ip_forward=1\r2\nnet/ipv4/ip_forward=0\n",
    }
)
@example({"etc/tuned/active_profile": b"a", "usr/lib/tuned/a/tuned.conf": b"[main]\ninclude=a,a;a\n"})
def test_every_setting_is_a_line_of_an_existing_file(files: Mapping[str, bytes]) -> None:
    tree = Texts(files)
    for setting in told(tree):
        place = re.match(r"(?:/nowhere/|/)?(.*?)(?::([1-9][0-9]*))?\Z", setting.origin)
        assert place
        if place[2]:
            assert place[1] in files
            assert int(place[2]) <= len(re.split(r"\r\n?|\n\r?|\0", text(files[place[1]]))) + 1
        assert setting.name in (*NAMES.sysctls, *NAMES.parameters, *NAMES.modules)
        assert "\n" not in f"{setting.text}{setting.value}{setting.remedy}"
        assert setting.value == " ".join(setting.value.split())
        assert complies(setting, Exactly("1")) in (True, False, None)


@fuzz(TREES, quick=15)
def test_one_setting_of_each_program_is_effective(files: Mapping[str, bytes]) -> None:
    programs = (Program.SYSTEMD_SYSCTL, Program.TUNED, Program.UFW)
    found = (item for item in told(Texts(files)) if item.effect is Effect.SETS and item.effective)
    won = [(item.name, item.program) for item in found if item.program in programs]
    assert len(set(won)) == len(won)


@fuzz(SYSCTL_D, SYSCTL_D, SYSCTL_D, seconds=5.0)  # five texts, each of up to 64 KiB
def test_a_masked_file_sets_nothing(one: bytes, other: bytes, masked: bytes) -> None:
    files = {"etc/sysctl.d/a.conf": one, "usr/lib/sysctl.d/b.conf": other}
    assert told(Texts({**files, "run/sysctl.d/a.conf": masked})) == told(Texts(files))


@fuzz(SYSCTL_D, st.sampled_from(["131072", "262144"]))
def test_a_line_of_the_last_file_is_what_systemd_leaves(data: bytes, value: str) -> None:
    # Not of ip_forward, which has an alias: a line that repeats a setting keeps the position of the first.
    last = f"net.netfilter.nf_conntrack_max = {value}\n".encode()
    found = winners(told(Texts({"etc/sysctl.d/a.conf": data, "etc/sysctl.d/z.conf": last})), Program.SYSTEMD_SYSCTL)
    assert found["net.netfilter.nf_conntrack_max"] == value


@fuzz(SYSCTL_D)
def test_comments_and_empty_lines_set_nothing(data: bytes) -> None:
    said = text(data)
    more = said.replace("\n", "\n# net.ipv4.ip_forward = 9\n\n; x\n")
    for read in (sysctl_d.assignments, sysctl_d.procps_assignments):
        assert [(item.path, item.value, item.key) for item in read("a", said)] == [
            (item.path, item.value, item.key) for item in read("a", more)
        ]
        for item in read("a", said):
            assert item.path
            assert not set(item.path.split("/")) & {"", ".", ".."}


@fuzz(SYSCTL_D)
def test_the_result_is_the_value_of_some_line(data: bytes) -> None:
    asked = [sysctl_d.path_of(name) for name in NAMES.sysctls]
    for read, leave in (
        (sysctl_d.assignments, sysctl_d.simulate_systemd_sysctl),
        (sysctl_d.procps_assignments, sysctl_d.simulate_procps),
    ):
        found = list(read("a", text(data)))
        left = leave(found, asked)
        assert set(left.winners) <= set(left.values) <= set(asked)
        assert set(left.winners.values()) <= set(found)
        assert set(left.failing) <= {line.origin for line in found}


@fuzz(hostile(words("net", "*", "[", "[!", "]", "[z-a]", "[[:alpha:]]", "\\", "?", apart="", most=9)))
@example(b"[" * 60_000)
@example(b"*a" * 30_000)
def test_a_pattern_takes_no_time(data: bytes) -> None:
    lines = sysctl_d.assignments("a", f"net.ipv4.conf.{text(data)}.forwarding = 0")
    sysctl_d.simulate_systemd_sysctl(
        list(lines), ["net/ipv4/conf/eth0/forwarding", f"net/ipv4/conf/{'a' * 250}/forwarding"]
    )


@fuzz(only("proc/cmdline", CMDLINE), MODULES_LOAD)
def test_a_module_to_load_is_one_word_of_its_line(files: Mapping[str, bytes], data: bytes) -> None:
    tree = Texts({**files, "etc/modules-load.d/a.conf": data})
    cmdline, said = text(files["proc/cmdline"]), {line.strip(" \t") for line in re.split("[\r\n\0]", text(data))}
    for line in modules_load.lines(tree, cmdline):
        assert line.text
        assert line.text == line.text.strip(" \t\n\r")
        assert line.origin == modules_load.CMDLINE or line.text in said
    assert "".join(modules_load.words(cmdline)) in re.sub(r"\s", "", cmdline) or re.search("[\"']", cmdline)
