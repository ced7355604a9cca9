"""ipvsd explain on fixture trees: its output as text and as JSON, and its exit codes."""

from __future__ import annotations

import json
import os
import textwrap
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest

from ipvsd.config.profiles import PROFILES
from ipvsd.reporting.status_document import build_document
from ipvsd.state import status_file
from ipvsd.sysctl.catalog import DEFAULTS
from tests import asking
from tests.asking import Output
from tests.fake_kernel import RELEASE
from tests.samples import report
from tests.trees import put, put_sysctl, write_index

FORWARD = "net.ipv4.ip_forward"
MAX = "net.netfilter.nf_conntrack_max"
WANTS = "etc/systemd/system/multi-user.target.wants"


def run(capsys: Output, tree: Path, *arguments: str) -> tuple[int, str, str]:
    """Run the command, and return its exit code and its output without the path of the tree."""
    code, out, err = asking.run(capsys, "explain", *arguments, "--root", tree)
    return code, out.replace(str(tree), "") if tree != Path() else out, err


def values(capsys: Output, tree: Path, name: str) -> Any:
    return json.loads(run(capsys, tree, name, "--output", "json")[1])


def cis(tree: Path) -> None:
    put(tree, "etc/sysctl.d/60-cis.conf", f"# 3.2.1\n{FORWARD} = 0\n")


def drifted(tree: Path) -> None:
    put_sysctl(tree, FORWARD, "0")


def agreeing(tree: Path) -> None:
    cis(tree)
    put(tree, "etc/sysctl.d/99-k8s.conf", f"{FORWARD} = 0x1\n")


def by_tuned(tree: Path) -> None:
    put(tree, f"{WANTS}/tuned.service", "")
    put(tree, "etc/tuned/active_profile", "mine\n")
    put(tree, "etc/tuned/mine/tuned.conf", f"[sysctl]\n{FORWARD} = ${{forward}}\n")


def unread(tree: Path) -> None:
    put(tree, "etc/sysctl.d/README", "")
    (tree / "etc/sysctl.d/x.conf").symlink_to("x.conf")


def unreadable(tree: Path) -> None:
    file = tree / "proc/sys/net/ipv4/ip_forward"
    file.unlink()
    file.mkdir()


def untouched(tree: Path) -> None:
    """The unchanged tree."""


@pytest.mark.parametrize(
    ("make", "name", "code"),
    [
        (untouched, FORWARD, 0), (untouched, "net/ipv4/ip_forward", 0), (untouched, "/proc/sys/net/ipv4/ip_forward", 0),
        (untouched, "ip-vs", 0), (untouched, "dummy", 0), (drifted, FORWARD, 1), (cis, FORWARD, 1),
        (cis, "net.ipv4.vs.conntrack", 0), (agreeing, FORWARD, 0), (by_tuned, FORWARD, 2), (unread, FORWARD, 2),
        (unreadable, FORWARD, 2), (untouched, "nonsense!", 64), (untouched, "a..b", 64), (untouched, "", 64),
    ],
    ids=lambda value: value.__name__ if callable(value) else None,
)  # fmt: skip
def test_exit_codes(tree: Path, capsys: Output, make: Callable[[Path], None], name: str, code: int) -> None:
    make(tree)
    found, out, err = run(capsys, tree, name)
    assert found == code
    assert bool(err) is (code == 64)
    assert bool(out) is (code != 64)
    assert [line for line in out.splitlines() if len(line) > 80] == []


def publish(
    tree: Path, who: object, writer: object = None, contended: Sequence[object] = (), attribution: object = "certain"
) -> None:
    repair = {"name": FORWARD, "actual": "0", "desired": "1", "time": "2027-01-15T07:58:30.000Z", "seconds": 0.0021}
    repairs = [{**repair, "writer_text": who, "writer": writer, "attribution": attribution}]
    status_file.write(str(tree), {**build_document(report()), "repairs": repairs, "contended": contended})


def test_explain_prints_all_facts(tree: Path, capsys: Output, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tree)  # so that lines always wrap at the same word
    drifted(tree)
    cis(tree)
    put(tree, "usr/lib/sysctl.d/50-x.conf", "net.ipv4.conf.all.forwarding = 1\n")
    put(tree, f"{WANTS}/systemd-networkd.service", "")
    put(tree, "etc/systemd/networkd.conf", "[Network]\nIPv4Forwarding=yes\n")
    publish(tree, "sysctl[4242]", {"pid": 4242, "comm": "sysctl", "unit": "cron.service", "pod": ""})
    code, out, _ = run(capsys, Path(), FORWARD)
    assert code == 1
    assert out == textwrap.dedent("""\
        net.ipv4.ip_forward = 0: noncompliant
          actual value '0', desired value 1
          -> run 'ipvsd apply --persist --root .' to apply the configuration at the next
          boot of this tree

        DESIRED
          1, required
          profile kube-proxy-ipvs: the node routes packets; kube-proxy sets this sysctl
              once, at startup, and exits if that fails (NewProxier,
              pkg/proxy/ipvs/proxier.go)

        KERNEL DEFAULT
          0 (Documentation/networking/ip-sysctl.rst)

        LAST CHANGED BY
          2027-01-15T07:58:30Z  1 -> 0, repaired in 2 ms
              by pid 4242, comm sysctl, unit cron.service

        SETTINGS ON DISK, IN ORDER OF APPLICATION
          systemd-sysctl, at boot, and when systemd-sysctl is restarted:
            - ./usr/lib/sysctl.d/50-x.conf:1
                net.ipv4.conf.all.forwarding = 1  (a later line replaces it)
            ! ./etc/sysctl.d/60-cis.conf:2
                net.ipv4.ip_forward = 0  (takes effect; not compliant)
                -> correct the line in ./etc/sysctl.d/60-cis.conf, or remove it
          systemd-networkd, when systemd-networkd starts or reloads, and when a link
            comes up:
            + ./etc/systemd/networkd.conf:2
                IPv4Forwarding=yes  (takes effect; compliant)
        """)


def test_the_output_for_a_compliant_item_is_short(tree: Path, capsys: Output) -> None:
    assert run(capsys, tree, "ip_vs_sh")[1] == textwrap.dedent("""\
        module ip_vs_sh: live

        DESIRED
          live, required
          profile kube-proxy-ipvs: on the fixed module list of kube-proxy before 1.27
              (GetRequiredIPVSModules, pkg/util/ipvs/ipvs.go)

        LAST CHANGED BY
          unknown: the daemon is not running

        SETTINGS ON DISK, IN ORDER OF APPLICATION
          ipvsd found no settings for this item
        """)


@pytest.mark.parametrize(
    ("who", "writer", "told"),
    [
        ("unknown", None, "by an unknown process\n"),
        ("the kernel", None, "by the kernel\n"),
        ("unknown", {}, "by an unknown process\n"),
        ("x", {"pid": 0, "comm": "", "unit": "a.service", "command": "-w x", "container": "b"},
         "by unit a.service, co"),
        ("x", {"comm": "a\033[2Jb"}, "by comm a\\x1b[2Jb\n"),
        ("x", {"comm": "x" * 5000}, "xxx..."),
        ("x", 7, "by x\n"),
    ],
)  # fmt: skip
def test_the_last_writer(tree: Path, capsys: Output, who: object, writer: object, told: str) -> None:
    publish(tree, who, writer)
    assert told in run(capsys, tree, FORWARD)[1]


def test_the_last_writer_with_a_likely_attribution(tree: Path, capsys: Output) -> None:
    publish(tree, "sysctl[42]", {"pid": 42, "comm": "sysctl"}, attribution="likely")
    assert "probably by pid 42, comm sysctl\n" in run(capsys, tree, FORWARD)[1]


@pytest.mark.parametrize(
    ("how", "told"),
    [
        ({"yielded": False}, "by agent[7] of x.service: ipvsd writes the sysctl only once per resync"),
        ({"attribution": "certain"}, "by agent[7] of x.service: ipvsd writes the sysctl only once per resync"),
        ({"attribution": "likely"}, "probably by agent[7] of x.service: ipvsd writes the sysctl only once per resync"),
        ({"yielded": True}, "by agent[7] of x.service: ipvsd leaves the sysctl to that program"),
    ],
)
def test_who_fights_for_it(tree: Path, capsys: Output, how: Mapping[str, object], told: str) -> None:
    publish(tree, "agent[7]", None, [{"name": FORWARD, "conflicting_program": "agent[7] of x.service", **how}])
    assert f"changed repeatedly {told}" in " ".join(run(capsys, tree, FORWARD)[1].split())


def test_a_daemon_that_has_repaired_nothing(tree: Path, capsys: Output) -> None:
    status_file.write(str(tree), {**build_document(report()), "repairs": []})
    assert "LAST CHANGED BY\n  the daemon has observed no change\n" in run(capsys, tree, FORWARD)[1]
    contended = [{"name": FORWARD, "conflicting_program": "agent[7]"}]
    status_file.write(str(tree), {**build_document(report()), "repairs": [], "contended": contended})
    told = "the daemon has observed no change changed repeatedly by agent[7]: ipvsd writes"
    assert told in " ".join(run(capsys, tree, FORWARD)[1].split())


@pytest.mark.parametrize("text", ["{", "[" * 100_000, "{}", '{"repairs": 1}', '{"repairs": [1, {"name": []}]}'])
def test_a_damaged_status_does_not_mean_that_nothing_was_found(tree: Path, capsys: Output, text: str) -> None:
    put(tree, status_file.PATH, text)
    _, out, err = run(capsys, tree, FORWARD)
    assert err.startswith("ipvsd: cannot read the daemon's status: ")
    assert "LAST CHANGED BY\n  unknown: " in out


def test_a_blocked_or_unloaded_module_removes_its_sysctls(tree: Path, capsys: Output) -> None:
    put(tree, "etc/modprobe.d/cis.conf", "install ip_vs /bin/true\n")
    put(tree, "etc/modules-load.d/k8s.conf", "ip_vs\n")
    put(tree, f"{WANTS}/firewalld.service", "")
    put(tree, "etc/firewalld/firewalld.conf", "CleanupModulesOnExit=yes\n")
    for name in ("ip_vs", "net.ipv4.vs.conntrack"):
        code, out, _ = run(capsys, tree, name)
        assert code == 1
        assert "install ip_vs /bin/true  (blocks the module)\n" in out
        assert "CleanupModulesOnExit=yes  (unloads the module)\n" in out
        assert ("fails: /etc/modprobe.d/cis.conf:1" in " ".join(out.split())) is (name == "ip_vs")


def test_the_manager_of_the_interface_is_reported_with_its_remedy_and_is_not_a_failure(
    tree: Path, capsys: Output
) -> None:
    put(tree, f"{WANTS}/NetworkManager.service", "")
    code, out, _ = run(capsys, tree, "ip_vs")
    told = "NetworkManager manages kube-ipvs0, and can remove the service addresses from it"
    assert (code, told in " ".join(out.split())) == (0, True)
    put(tree, "etc/NetworkManager/conf.d/rke2-canal.conf", "[keyfile]\nunmanaged-devices=interface-name:cali*\n")
    assert "to /etc/NetworkManager/conf.d/zz-ipvs.conf" in " ".join(run(capsys, tree, "kube-ipvs0")[1].split())


@pytest.mark.parametrize(
    ("name", "first"),
    [
        ("net.ipv4.tcp_rmem", "net.ipv4.tcp_rmem = 4096 131072 6291456: not managed by ipvsd"),
        ("net.ipv4.tcp_fack", "net.ipv4.tcp_fack = -: not managed by ipvsd"),
        ("ip_vs_ftp", "module ip_vs_ftp: loadable, not managed by ipvsd"),
        ("my-vs", "'my-vs' is ip_vs\nmodule ip_vs: live, not managed by ipvsd"),
        ("nf_conntrack.hashsize", "nf_conntrack.hashsize = 16384: not managed by ipvsd"),
        ("nf_conntrack.nothing", "nf_conntrack.nothing = -: not managed by ipvsd"),
    ],
)
def test_an_unmanaged_item_is_shown_as_well(tree: Path, capsys: Output, name: str, first: str) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "profiles: []\n")
    write_index(tree / f"lib/modules/{RELEASE}/modules.alias.bin", {"my_vs": ["ip_vs"]})
    put(tree, "sys/module/nf_conntrack/parameters/hashsize", "16384\n")
    put(tree, "etc/sysctl.d/a.conf", f"{name} = 7\n")
    put(tree, "etc/modprobe.d/a.conf", "options nf_conntrack hashsize=7 nothing=7\nblacklist ip_vs\n")
    code, out, _ = run(capsys, tree, name)
    assert (code, "DESIRED" in out, "  - /etc/" in out) == (0, False, name != "ip_vs_ftp")
    assert out.startswith(f"{first}\n")


def test_the_setting_that_removes_an_item_is_named(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/conf.d/x.yaml", "sysctls:\n  net.ipv4.ip_forward: false\nmodules: {ip_vs_ftp: false}\n")
    for name, line in (("net.ipv4.ip_forward", 2), ("ip_vs_ftp", 3)):
        out = " ".join(run(capsys, tree, name)[1].split())
        assert f"/etc/ipvsd/conf.d/x.yaml:{line}: ipvsd does not manage {name}, because its setting is 'false'" in out


@pytest.mark.parametrize(
    ("config", "name", "told"),
    [
        ("modules: {ip_conntrack: {}}", "ip_conntrack", "module nf_conntrack: live"),
        ("modules: {ip_conntrack: {}}", "nf_conntrack", "module nf_conntrack: live"),
        ("modules: {lb: {anyOf: [nothing, ip_vs_none, ip_vs]}}", "ip_vs", "module ip_vs: live"),
        ("modules: {nf-conntrack: {parameters: {hashsize: 16384}}}", "nf-conntrack.hashsize", "= 16384: compliant"),
        ("sysctls: {net.nf_conntrack_max: {atLeast: 1}}", "net.nf_conntrack_max", f"{MAX} = 262144: compliant"),
        ("sysctls: {net.ipv4.conf.*.arp_ignore: 0}", "net.ipv4.conf.lo.arp_ignore", "lo.arp_ignore = 0: compliant"),
    ],
)
def test_names_are_found_in_every_spelling(tree: Path, capsys: Output, config: str, name: str, told: str) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", f"profiles: []\n{config}\n")
    write_index(tree / f"lib/modules/{RELEASE}/modules.alias.bin", {"ip_conntrack": ["nf_conntrack"]})
    put(tree, "sys/module/nf_conntrack/parameters/hashsize", "16384\n")
    code, out, _ = run(capsys, tree, name)
    assert (code, out.splitlines()[0].endswith(told)) == (0, True)
    assert "/etc/ipvsd/ipvsd.yaml:2\n" in out


def test_a_pattern_is_explained_with_all_that_it_fits(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", "sysctls: {net.ipv4.conf.*.arp_ignore: 0}\n")
    put(tree, "etc/sysctl.d/a.conf", "net.ipv4.conf.lo.arp_ignore = 1\n")
    code, out, _ = run(capsys, tree, "net.ipv4.conf.*.arp_ignore")
    assert code == 1
    assert "of net.ipv4.conf.lo.arp_ignore: net.ipv4.conf.lo.arp_ignore = 1" in out


def test_a_value_of_the_configuration_beside_the_reason_of_the_profile(tree: Path, capsys: Output) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", f"sysctls: {{{MAX}: {{atLeast: 200000, policy: observe}}}}\n")
    _, out, _ = run(capsys, tree, MAX)
    assert "  >= 200000, required, observe\n  /etc/ipvsd/ipvsd.yaml:1\n  profile kube-proxy-ipvs: kube-proxy's" in out


def test_as_json(tree: Path, capsys: Output) -> None:
    cis(tree)
    found = values(capsys, tree, FORWARD)
    assert found["finding"]["verdict"] == "compliant"
    assert (found["name"], found["kind"], found["managed"], found["actual"]) == (FORWARD, "sysctl", True, "1")
    assert (found["status_available"], found["repair"], found["unreadable_files"]) == (False, None, [])
    assert found["settings"] == [
        {
            "name": FORWARD,
            "effect": "sets",
            "program": "systemd_sysctl",
            "applied_when": "at boot, and when systemd-sysctl is restarted",
            "origin": "/etc/sysctl.d/60-cis.conf:2",
            "text": f"{FORWARD} = 0",
            "value": "0",
            "effective": True,
            "certain": True,
            "failure": "",
            "inactive": "",
            "compliant": False,
            "remedy": "correct the line in /etc/sysctl.d/60-cis.conf, or remove it",
        }
    ]


def test_a_hostile_file_does_not_reach_the_terminal(tree: Path, capsys: Output) -> None:
    os.makedirs(tree / "etc/sysctl.d")
    (tree / "etc/sysctl.d/\033[31m.conf").write_bytes(f"{FORWARD} = 0 \033[2J\xff\n".encode("latin-1"))
    _, out, _ = run(capsys, tree, FORWARD)
    assert "\033" not in out


def test_every_sysctl_of_a_profile_has_a_default_with_its_source() -> None:
    assert set(DEFAULTS) == {entry.key for profile in PROFILES.values() for entry in profile.sysctls}
    assert all(source.startswith("Documentation/networking/") for _, source in DEFAULTS.values())
