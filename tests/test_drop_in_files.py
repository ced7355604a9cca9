"""The files that make a node compliant at boot without ipvsd."""

from __future__ import annotations

import shutil
from collections.abc import Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from ipvsd.boot import drop_in_files
from ipvsd.cli import main
from ipvsd.decide.verdicts import judge_sysctl
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.types import Observed, Unreadable
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.runtime.rootfs import UnreadableError
from tests.configured import config
from tests.fake_kernel import CORE, DEPENDS, NODE, RELEASE, FakeKernel
from tests.trees import make_modules, make_tree, put, put_sysctl, sysctl


def body(path: Path) -> list[str]:
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def build(tree: Path, text: str = "") -> Mapping[str, str]:
    made = config(text)
    return drop_in_files.build(made, *observe_and_plan(LinuxHost(str(tree)), made))


def files(tree: Path, text: str = "") -> dict[str, list[str]]:
    texts = build(tree, text).items()
    return {path: [line for line in held.splitlines() if line and line[0] != "#"] for path, held in texts}


def test_a_node_gets_its_modules_and_its_sysctls(tree: Path) -> None:
    found = files(tree)
    assert found[drop_in_files.MODULES_LOAD][:4] == ["ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh"]
    assert sorted(found[drop_in_files.MODULES_LOAD]) == sorted(NODE)
    assert found[drop_in_files.MODPROBE] == []
    assert "net.ipv4.ip_forward = 1" in found[drop_in_files.SYSCTL]


def test_a_name_that_the_kernel_lacks_is_left_out(tmp_path: Path) -> None:
    shipped = [name for name in DEPENDS if name not in ("br_netfilter", "ip_vs_twos")]
    tree = make_tree(tmp_path / "root", live=(), values=CORE, shipped=shipped)
    found = files(tree, "profiles: [kube-proxy-ipvs, lvs-full]")
    assert "br_netfilter" not in found[drop_in_files.MODULES_LOAD]
    assert "ip_vs_twos" not in found[drop_in_files.MODULES_LOAD]
    assert not [line for line in found[drop_in_files.SYSCTL] if "bridge" in line]
    assert "net.ipv4.vs.conntrack = 1" in found[drop_in_files.SYSCTL]


@pytest.mark.parametrize("module", ["two\nlines", "a b", "#x", "a/../b", ""])
def test_an_invalid_module_name_is_not_written(module: str) -> None:
    kernel = FakeKernel(aliases={"some": module}, depends={module: ()})
    made = config("profiles: []\nmodules: {some: {parameters: {x: 1}}}")
    texts = drop_in_files.build(made, *observe_and_plan(kernel, made))
    assert [line for text in texts.values() for line in text.splitlines() if line and line[0] != "#"] == []


def test_alternatives_are_written_as_what_they_are_and_parameters_as_options_of_modprobe(tree: Path) -> None:
    found = files(tree, "profiles: []\nmodules: {some: {anyOf: [nothing, ip_vs_lc]}}")
    assert found[drop_in_files.MODULES_LOAD] == ["ip_vs_lc"]
    found = files(tree, "modules: {ip_vs: {parameters: {conn_tab_bits: 20, x: 1}}}")
    assert found[drop_in_files.MODPROBE] == ["options ip_vs conn_tab_bits=20 x=1"]


@pytest.mark.parametrize(("now", "line"), [("262144", "262144"), ("1000", "131072")])
def test_a_floor_does_not_lower_what_is_there(tree: Path, now: str, line: str) -> None:
    put_sysctl(tree, "net.netfilter.nf_conntrack_max", now)
    assert f"net.netfilter.nf_conntrack_max = {line}" in files(tree)[drop_in_files.SYSCTL]


ARP = "net.ipv4.conf.*.arp_ignore"


@pytest.mark.parametrize(
    ("text", "lines"),
    [
        pytest.param(f"{ARP}: {{value: 1, exclude: [all, eth0.5]}}",
                     ["net.ipv4.conf.default.arp_ignore = 1", "-net.ipv4.conf.all.arp_ignore",
                      "-net.ipv4.conf.eth0/5.arp_ignore", f"{ARP} = 1"], id="with exclusions"),
        pytest.param(f"{ARP}: 1, 'net.ipv4.conf.l?.arp_ignore': {{value: 2, exclude: ['x*']}}",
                     ["net.ipv4.conf.default.arp_ignore = 1", f"{ARP} = 1", "net.ipv4.conf.l?.arp_ignore = 2"],
                     id="the later one last"),
        pytest.param(f"{ARP}: 1, net.ipv4.conf.all.arp_ignore: false, net.ipv4.conf.lo.arp_ignore: {{value: 1, "
                     "policy: observe}, net.ipv4.conf.default.arp_ignore: 2",
                     ["net.ipv4.conf.default.arp_ignore = 2", "-net.ipv4.conf.lo.arp_ignore",
                      "-net.ipv4.conf.all.arp_ignore", f"{ARP} = 1"], id="what is named otherwise"),
        pytest.param("net.ipv4.ip_forward: {value: 1, policy: observe}", [], id="only observed"),
    ],
)  # fmt: skip
def test_a_pattern_means_what_it_means_in_the_configuration(tree: Path, text: str, lines: list[str]) -> None:
    assert files(tree, f"profiles: []\nsysctls: {{{text}}}")[drop_in_files.SYSCTL] == lines


def test_forwarding_is_written_first(tree: Path) -> None:
    text = "sysctls: {net.ipv4.conf.lo.arp_ignore: 1}"
    assert files(tree, text)[drop_in_files.SYSCTL][0] == "net.ipv4.ip_forward = 1"


def test_a_module_that_only_runs_is_left_out(tree: Path) -> None:
    shutil.rmtree(tree / "lib/modules")
    make_modules(tree, RELEASE, [name for name in DEPENDS if name != "ip_vs_sh"])
    assert "ip_vs_sh" not in files(tree)[drop_in_files.MODULES_LOAD]


def test_a_value_that_the_kernel_refused_is_left_out(tree: Path) -> None:
    sysctl(tree, "net.ipv4.vs.conntrack").unlink()
    sysctl(tree, "net.ipv4.vs.conntrack").mkdir()  # it can be neither read nor written
    assert not [line for line in files(tree)[drop_in_files.SYSCTL] if line.startswith("net.ipv4.vs.conntrack ")]


def test_a_range_with_another_value_is_not_stale(tree: Path) -> None:
    texts = []
    for value in ("262144", "524288"):
        put_sysctl(tree, "net.netfilter.nf_conntrack_max", value)
        texts.append(build(tree))
    assert texts[0] != texts[1]
    drop_in_files.write(str(tree), texts[0])
    assert drop_in_files.find_outdated(str(tree), texts[1]) == ()


@pytest.mark.parametrize("target", ["/data", "../../host"], ids=["in the image", "out of it"])
def test_a_link_is_followed_inside_an_image_only(tree: Path, tmp_path: Path, target: str) -> None:
    for place in (tmp_path / "host", tree / "data"):
        place.mkdir()
    (tree / "etc/sysctl.d").symlink_to(target)
    if target == "/data":
        drop_in_files.write(str(tree), build(tree))
    else:
        with pytest.raises(FileNotFoundError):
            drop_in_files.write(str(tree), build(tree))
    assert (tree / "data/90-ipvsd.conf").exists() is (target == "/data")
    assert list((tmp_path / "host").iterdir()) == []


def test_parallel_writers_all_succeed_and_leave_whole_files(tree: Path) -> None:
    texts = build(tree)
    others = [{path: f"{text}# {number}\n" for path, text in texts.items()} for number in range(8)]
    with ThreadPoolExecutor(len(others)) as pool:
        for _ in range(20):  # every writer finds the content of another one, and writes its own
            list(pool.map(lambda own: drop_in_files.write(str(tree), own), others))
    for path in texts:
        assert (tree / path).read_text() in [own[path] for own in others]
        assert sorted((tree / path).parent.iterdir()) == [tree / path]


def test_writing_replaces_what_differs_and_leaves_nothing_beside_it(tree: Path) -> None:
    texts = build(tree)
    assert drop_in_files.find_outdated(str(tree), texts) == ()  # files that are not there
    assert len(drop_in_files.write(str(tree), texts)) == 3
    assert drop_in_files.write(str(tree), texts) == ()
    assert drop_in_files.find_outdated(str(tree), texts) == ()
    put(tree, drop_in_files.SYSCTL, "net.ipv4.ip_forward = 0\n")
    assert drop_in_files.find_outdated(str(tree), texts) == (str(tree / drop_in_files.SYSCTL),)
    assert drop_in_files.write(str(tree), texts) == (str(tree / drop_in_files.SYSCTL),)
    assert [path.name for path in (tree / "etc/sysctl.d").iterdir()] == ["90-ipvsd.conf"]
    assert (tree / drop_in_files.SYSCTL).stat().st_mode & 0o777 == 0o644


# --- the command, on an image -----------------------------------------------------------


def test_an_image_is_made_compliant_for_the_kernel_that_it_will_boot(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    image = make_tree(tmp_path / "image", live=(), values={})
    put(image, "etc/ipvsd/ipvsd.yaml", "modules: {ip_vs: {parameters: {conn_tab_bits: 16}}}\n")
    assert main(["apply", "--persist", "--root", str(image)]) == 0
    assert "wrote " in capsys.readouterr().err
    assert "ip_vs_sh" in body(image / drop_in_files.MODULES_LOAD)
    assert body(image / drop_in_files.MODPROBE) == ["options ip_vs conn_tab_bits=16"]
    assert body(image / drop_in_files.SYSCTL)[0] == "net.ipv4.ip_forward = 1"
    assert "net.netfilter.nf_conntrack_max = 131072" in body(image / drop_in_files.SYSCTL)  # for two CPUs


def test_an_image_without_a_module_is_written_and_reported(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    image = make_tree(tmp_path / "image", live=(), values={}, shipped=[name for name in DEPENDS if name != "ip_vs_sh"])
    assert main(["apply", "--persist", "--root", str(image)]) == 1
    said = " ".join(capsys.readouterr().err.split())
    assert f"! ip_vs_sh will not be live (absent) after booting kernel {RELEASE} without ipvsd:" in said
    assert "ip_vs_sh" not in body(image / drop_in_files.MODULES_LOAD)


def test_an_image_without_a_kernel_is_refused(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["apply", "--persist", "--root", str(tmp_path)]) == 2
    assert "missing kernel in" in capsys.readouterr().err
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("transient", [True, False])
def test_a_shortage_prevents_writing_and_another_error_does_not(tree: Path, transient: bool) -> None:
    kernel, plan = observe_and_plan(LinuxHost(str(tree)), config(""))
    wanted = plan.sysctls[0].desired
    unread = judge_sysctl(wanted, Unreadable("a reason", transient), Observed(kernel, {}, {}))
    # The text of the remedy depends on the root.
    changed = plan._replace(sysctls=(unread._replace(remedy="adapted"), *plan.sysctls[1:]))
    if transient:
        with pytest.raises(UnreadableError, match=f"cannot read {wanted.key}: a reason"):
            drop_in_files.build(config(""), kernel, changed)
    else:
        assert drop_in_files.build(config(""), kernel, changed)
