"""TuneD's active profile, and the files that it applies after it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ipvsd.conflicts import tuned
from ipvsd.conflicts.external_setting import ExternalSetting, Names, Program
from ipvsd.conflicts.file_tree import FileTree
from tests.trees import put

FORWARD = "net.ipv4.ip_forward"
MAX = "net.netfilter.nf_conntrack_max"
ENABLED = {"etc/systemd/system/multi-user.target.wants/tuned.service": "", "etc/tuned/active_profile": "mine\n"}
PROFILE = "etc/tuned/mine/tuned.conf"
OFF, ON = (f"[sysctl]\n{FORWARD}={value}\n" for value in (0, 1))
BASE, IN_USR = "etc/tuned/base/tuned.conf", "usr/lib/tuned/mine/tuned.conf"
CIS = {"etc/sysctl.d/60-cis.conf": f"{FORWARD} = 0\n"}


def settings(root: Path, files: Mapping[str, str], *names: str) -> list[ExternalSetting]:
    for path, text in files.items():
        put(root, path, text)
    return list(tuned.settings(FileTree(str(root)), Names(sysctls=names or (FORWARD,))))


def told(found: list[ExternalSetting]) -> list[tuple[Program, str]]:
    return [(item.program, item.value) for item in found if item.effective]


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({PROFILE: OFF}, ["0"], id="etc"),
        pytest.param({IN_USR: OFF}, ["0"], id="usr"),
        pytest.param({"usr/lib/tuned/profiles/mine/tuned.conf": OFF}, ["0"], id="usr/profiles"),
        pytest.param({PROFILE: ON, IN_USR: OFF}, ["1"], id="etc before usr"),
        pytest.param({PROFILE: "[main]\ninclude=base\n", "usr/lib/tuned/base/tuned.conf": OFF}, ["0"], id="included"),
        pytest.param({PROFILE: f"[main]\ninclude=base\n{ON}", BASE: OFF}, ["1"], id="over what is included"),
        pytest.param({PROFILE: "[main]\ninclude=base\n[sysctl]\nreplace=1\nvm.x=1", BASE: OFF}, [], id="replaced"),
        pytest.param({PROFILE: f"[main]\ninclude=base\n[sysctl]\ndrop={FORWARD}", BASE: OFF}, [], id="dropped"),
        pytest.param({PROFILE: "[main]\ninclude=mine\n", IN_USR: OFF}, ["0"], id="extends its namesake"),
        pytest.param({PROFILE: f"[main]\ninclude=mine, mine;-none;${{x}}\n{OFF}"}, ["0"], id="includes itself"),
        pytest.param({PROFILE: f"[main]\ninclude=none\n{OFF}"}, [], id="a profile is missing"),
        pytest.param({PROFILE: "[main]\ninclude=base\n[more]\nx=1\n", BASE: f"[more]\ntype=sysctl\n{FORWARD}=0\n"}, [],
                     id="no longer of the type"),
        pytest.param({PROFILE: f"[more]\ntype=sysctl\n{FORWARD}=0\n"}, ["0"], id="another section of the type"),
        pytest.param({PROFILE: f"[sysctl]\nenabled=0\n{FORWARD}=0\n"}, [], id="not enabled"),
        pytest.param({PROFILE: f"[sysfs]\n{FORWARD}=0\n"}, [], id="not for sysctls"),
        pytest.param({PROFILE: "[sysctl]\nnet/ipv4/ip_forward = \"0\" # why\n"}, ["0"], id="slashes, quotes, comment"),
        pytest.param({"etc/tuned/active_profile": "", PROFILE: OFF}, [], id="none active"),
        pytest.param({"etc/tuned/active_profile": "a mine", "etc/tuned/a/tuned.conf": ON, PROFILE: OFF}, ["0"],
                     id="two active"),
        pytest.param({"etc/tuned/post_loaded_profile": "last\n", PROFILE: "", "etc/tuned/last/tuned.conf": OFF}, ["0"],
                     id="loaded after the active one"),
        pytest.param(
            {"etc/tuned/tuned-main.conf": "profile_dirs = /usr/lib/tuned/profiles,/opt/tuned\n",
             "opt/tuned/mine/tuned.conf": OFF}, ["0"], id="a directory of the site",
        ),
        pytest.param({"etc/tuned/active_profile": "../../x", "etc/x/tuned.conf": OFF}, [], id="no name of a profile"),
    ],
)  # fmt: skip
def test_the_value_of_the_active_profile(tmp_path: Path, files: Mapping[str, str], expected: list[str]) -> None:
    assert [value for _, value in told(settings(tmp_path, {**ENABLED, **files}))] == expected


@pytest.mark.parametrize(
    ("line", "value"),
    [
        (f"{MAX} = ${{isolated}}", "${isolated}"),
        (f"{MAX}=>1048576", "1048576"),
        (f"{MAX}=<1000", "1000"),
        (f"uname_regex=aarch64\n{MAX}=5", "5"),
    ],
)
def test_a_setting_that_only_tuned_can_evaluate_is_not_certain(tmp_path: Path, line: str, value: str) -> None:
    (found,) = settings(tmp_path, {**ENABLED, PROFILE: f"[sysctl]\n{line}\n"}, MAX)
    assert (found.value, found.certain) == (value, False)


ANY = {PROFILE: "[sysctl]\nvm.swappiness=10\n"}


@pytest.mark.parametrize(
    ("files", "expected"),
    [
        pytest.param({**ANY, **CIS}, ["0"], id="etc"),
        pytest.param({**ANY, "run/sysctl.d/x.conf": f"{FORWARD}=0"}, ["0"], id="run"),
        pytest.param({**ANY, "run/sysctl.d/x.conf": f"{FORWARD}=0", "etc/sysctl.d/x.conf": f"{FORWARD}=1"}, ["0"],
                     id="run masks etc, other than for systemd"),
        pytest.param({**ANY, **CIS, "etc/sysctl.conf": f"{FORWARD}=1"}, ["1"], id="sysctl.conf last"),
        pytest.param({**ANY, "usr/lib/sysctl.d/x.conf": f"{FORWARD}=0"}, [], id="not usr"),
        pytest.param({**ANY, "etc/sysctl.d/x.conf": "net.ipv4.*=0\n-net.ipv4.ip_forward=0"}, [], id="no patterns"),
        pytest.param({PROFILE: "[main]\nsummary=x\n", **CIS}, [], id="a profile without sysctls"),
        pytest.param({**ANY, **CIS, "etc/tuned/tuned-main.conf": "reapply_sysctl = 0\n"}, [], id="turned off"),
        pytest.param({**ANY, **CIS, "etc/tuned/tuned-main.conf": "reapply_sysctl = 1 # x\n"}, ["0"], id="turned on"),
        pytest.param({**ANY, **CIS, "etc/tuned/tuned-main.conf": "reapply_sysctl_exclude = vm.x, net.ipv4.*\n"}, [],
                     id="excluded"),
    ],
)  # fmt: skip
def test_reapplied_files(tmp_path: Path, files: Mapping[str, str], expected: list[str]) -> None:
    found = settings(tmp_path, {**ENABLED, **files})
    assert told(found) == [(Program.REAPPLY, value) for value in expected]


def test_a_service_that_is_not_started_sets_nothing(tmp_path: Path) -> None:
    files = {"etc/tuned/active_profile": "mine\n", PROFILE: OFF, **CIS}
    assert settings(tmp_path, files) == []


def test_an_endless_chain_of_profiles_ends(tmp_path: Path) -> None:
    chain = {f"etc/tuned/p{number}/tuned.conf": f"[main]\ninclude=p{number + 1}\n" for number in range(200)}
    assert settings(tmp_path, {**ENABLED, "etc/tuned/active_profile": "p0\n", **chain}) == []
