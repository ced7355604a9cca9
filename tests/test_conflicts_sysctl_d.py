"""sysctl.d(5) and /etc/sysctl.conf. The expected values come from systemd-sysctl 252 and procps 4.0.2."""

from __future__ import annotations

import random
from collections.abc import Mapping
from pathlib import Path
from typing import Optional

import pytest

from ipvsd.conflicts import sysctl_d
from ipvsd.conflicts.external_setting import ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.sysctl import globs
from tests.trees import put

FORWARD = "net.ipv4.ip_forward"
ALL, ETH = "net.ipv4.conf.all.rp_filter", "net.ipv4.conf.eth0.rp_filter"
EACH = "net.ipv4.conf.*.rp_filter"
A = "etc/sysctl.d/a.conf"
OFF, ON = (f"{FORWARD}={value}" for value in (0, 1))
MASK = "\0"  # a link to /dev/null


def make(root: Path, files: Mapping[str, str]) -> FileTree:
    for path, text in files.items():
        if text == MASK:
            (root / path).parent.mkdir(parents=True, exist_ok=True)
            (root / path).symlink_to("/dev/null")
        else:
            put(root, path, text)
    return FileTree(str(root))


def settings(tree: FileTree, name: str) -> list[ExternalSetting]:
    return list(sysctl_d.settings(tree, Names(sysctls=[name])))


def winner(found: list[ExternalSetting], program: Program) -> Optional[str]:
    wins = [item for item in found if item.program is program and item.effective]
    assert len(wins) <= 1
    return wins[0].value if wins else None


@pytest.mark.parametrize(
    ("files", "name", "systemd", "procps"),
    [
        pytest.param({A: f"{FORWARD}=1\n{FORWARD}=0"}, FORWARD, "0", "0", id="the later line"),
        pytest.param({"etc/sysctl.d/60.conf": OFF, "usr/lib/sysctl.d/70.conf": ON}, FORWARD, "1", "1",
                     id="the later name, whatever the directory"),
        pytest.param({"etc/sysctl.d/60.conf": OFF, "run/sysctl.d/60.conf": ON}, FORWARD, "0", "0",
                     id="of one name the first directory"),
        pytest.param({"usr/local/lib/sysctl.d/60.conf": OFF, "lib/sysctl.d/60.conf": ON}, FORWARD, "0", "0",
                     id="/usr/local/lib before /lib"),
        pytest.param({"etc/sysctl.d/60.conf": MASK, "usr/lib/sysctl.d/60.conf": OFF}, FORWARD, None, None, id="a mask"),
        pytest.param({"etc/sysctl.d/60.conf": "", "usr/lib/sysctl.d/60.conf": OFF}, FORWARD, None, None,
                     id="an empty file"),
        pytest.param({"etc/sysctl.d/60": OFF}, FORWARD, None, None, id="another suffix"),
        pytest.param({"etc/sysctl.d/99.conf": ON, "etc/sysctl.conf": OFF}, FORWARD, "1", "0",
                     id="sysctl.conf without a link"),
        pytest.param({A: "-net/ipv4/ip_forward = 0 "}, FORWARD, "0", "0", id="slashes, a minus"),
        pytest.param({A: f"#{FORWARD}=0\n;{FORWARD}=0\n"}, FORWARD, None, None, id="comments"),
        pytest.param({A: "net.ipv4.conf.eth0/100.rp_filter=2"}, "net.ipv4.conf.eth0/100.rp_filter", "2", "2",
                     id="a dot within"),
        pytest.param({A: f"{ALL}=1\n{EACH}=2"}, ALL, "1", "1", id="named before a pattern"),
        pytest.param({A: f"{ALL}=1\n{EACH}=2"}, ETH, "2", "2", id="a pattern for the rest"),
        pytest.param({A: f"{EACH}=2\n-{ALL}"}, ALL, None, None, id="an exclusion"),
        pytest.param({A: f"{EACH}=2\n-net.ipv4.conf.e*.rp_filter"}, ETH, "2", "2", id="an exclusion is no pattern"),
        pytest.param({A: f"{EACH}=2\nnet.ipv4.conf.e*.rp_filter=1\n{EACH}=2"}, ETH, "1", "2",
                     id="said again, it keeps its place"),
        pytest.param({A: f"{EACH}=2\nnet.ipv4.conf.e*.rp_filter=1\n{EACH}=0"}, ETH, "0", "0",
                     id="said otherwise, it comes last"),
        pytest.param({A: ON, "etc/sysctl.d/b.conf": f"-{FORWARD}"}, FORWARD, None, "1",
                     id="an exclusion takes back, for systemd"),
        pytest.param({A: "net.ipv4.*=1"}, ALL, None, None, id="no pattern over more than a part"),
        pytest.param({A: f"{ON}\nnet.ipv4.conf.all.forwarding=0"}, FORWARD, "0", "0",
                     id="the other file of the same variable"),
    ],
)  # fmt: skip
def test_the_effective_line(
    tmp_path: Path, files: Mapping[str, str], name: str, systemd: str | None, procps: str | None
) -> None:
    found = settings(make(tmp_path, files), name)
    assert winner(found, Program.SYSTEMD_SYSCTL) == systemd
    # Settings of procps are reported only if the result differs.
    assert winner(found, Program.PROCPS) == (None if procps == systemd else procps)


def test_every_line_is_reported_with_its_place_and_remedy(tmp_path: Path) -> None:
    tree = make(tmp_path, {"usr/lib/sysctl.d/50-x.conf": f"#\n{FORWARD} = 1\n", "etc/sysctl.d/60.conf": f"{FORWARD}=0"})
    vendor, local = settings(tree, FORWARD)
    assert (vendor.text, vendor.effective) == (f"{FORWARD} = 1", False)
    assert vendor.origin == f"{tmp_path}/usr/lib/sysctl.d/50-x.conf:2"
    assert vendor.remedy == f"copy the file to {tmp_path}/etc/sysctl.d, and remove the line from the copy"
    assert local.remedy == f"correct the line in {tmp_path}/etc/sysctl.d/60.conf, or remove it"


def test_sysctl_conf_with_a_link_is_reported_once(tmp_path: Path) -> None:
    tree = make(tmp_path, {"etc/sysctl.conf": f"{FORWARD}=0", "etc/sysctl.d/README": ""})
    (tmp_path / "etc/sysctl.d/99-sysctl.conf").symlink_to("../sysctl.conf")
    assert [item.origin for item in settings(tree, FORWARD)] == [f"{tmp_path}/etc/sysctl.d/99-sysctl.conf:1"]


def test_a_line_about_a_name_of_any_bytes(tmp_path: Path) -> None:
    put(tmp_path, "etc/sysctl.d/a.conf", "").write_bytes(b"net.ipv4.conf.br\xff.rp_filter = 1\n")
    assert winner(settings(FileTree(str(tmp_path)), r"net.ipv4.conf.br\xff.rp_filter"), Program.SYSTEMD_SYSCTL) == "1"


def test_values_that_mean_the_same_are_no_difference(tmp_path: Path) -> None:
    tree = make(tmp_path, {"etc/sysctl.d/a.conf": f"{FORWARD}=1", "etc/sysctl.conf": f"{FORWARD} = 0x1"})
    assert [item.program for item in settings(tree, FORWARD)] == [Program.SYSTEMD_SYSCTL]


def test_the_command_line_of_the_kernel(tmp_path: Path) -> None:
    put(tmp_path, "proc/cmdline", "quiet sysctl.net.ipv4.ip_forward=0 sysctl.kernel.x=1\n")
    (found,) = settings(FileTree(str(tmp_path)), FORWARD)
    assert (found.program, found.value, found.origin) == (Program.KERNEL, "0", "/proc/cmdline")


LINKS = ("*", "eth*", "e?h0", "default", "all", "eth0", "[ed]*", "d*", "eth1", "*0")
PARAMETERS = ("rp_filter", "forwarding", "r*", "*")
ASKED = [f"net/ipv4/conf/{link}/{name}" for link in ("all", "default", "eth0", "eth1") for name in PARAMETERS[:2]]


@pytest.mark.parametrize("seed", range(5))
def test_a_settled_sysctl_has_the_value_that_all_writes_in_order_give(
    monkeypatch: pytest.MonkeyPatch, seed: int
) -> None:
    dice = random.Random(seed)
    settled = sysctl_d._settled
    count = 0
    for _ in range(100):
        keys = [f"net/ipv4/conf/{dice.choice(LINKS)}/{dice.choice(PARAMETERS)}" for _ in range(dice.randint(1, 7))]
        text = "\n".join(
            f"{dice.choice(['', '', '-'])}{key} = {dice.choice(['0', '1', '1', '2', 'x'])}" for key in keys
        )
        paths = dice.sample(ASKED, dice.randint(1, 8))
        known = {path: dice.choice("01") for path in paths if dice.random() < 0.15}
        for read, simulate in (
            (sysctl_d.assignments, sysctl_d.simulate_systemd_sysctl),
            (sysctl_d.procps_assignments, sysctl_d.simulate_procps),
        ):
            found = list(read("x.conf", text))
            count += bool(settled(found, paths, known))
            quick = simulate(found, paths, known)
            with monkeypatch.context() as patch:
                patch.setattr(sysctl_d, "_settled", lambda *_: {})
                assert simulate(found, paths, known) == quick, text
    assert count > 20


def test_the_cost_of_patterns_that_all_match_does_not_grow_with_their_number(monkeypatch: pytest.MonkeyPatch) -> None:
    compared: list[str] = []
    matches = globs.Glob.matches

    def counted(glob: globs.Glob, name: str) -> bool:
        compared.append(name)
        return matches(glob, name)

    monkeypatch.setattr(globs.Glob, "matches", counted)
    paths = [f"net/ipv4/conf/eth{number}/rp_filter" for number in range(100)]
    counts = []
    for size in (50, 400):
        compared.clear()
        text = "\n".join(f"net/ipv4/conf/*[a-z{number}]*/rp_filter = {number}" for number in range(size))
        sysctl_d.simulate_systemd_sysctl(list(sysctl_d.assignments("x.conf", text)), paths)
        counts.append(len(compared))
    # Only the default of the interfaces is compared with every pattern.
    assert counts[1] < counts[0] + 5 * 400
