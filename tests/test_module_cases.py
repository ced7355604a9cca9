"""What check, preflight and explain say of a node's modules, by field reports; none of them loads anything."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ipvsd.cli import main
from tests.fake_kernel import DEPENDS, RELEASE
from tests.trees import make_modules, make_tree, put, put_sysctl, write_index

MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")
NONE: Sequence[str] = ()


class Found(NamedTuple):
    verdict: str
    evidence: str
    remedy: str


Ask = Callable[..., tuple[int, dict[str, Found]]]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A Debian node on which nothing is loaded, and everything could be."""
    root = make_tree(tmp_path / "root", live=(), values={"net.ipv4.ip_forward": "1"})
    put(root, "proc/self/status", "CapBnd:\t000001ffffffffff\n")
    return root


@pytest.fixture
def ask(tree: Path, capsys: pytest.CaptureFixture[str]) -> Ask:
    """Return the exit code of a command, and what it says of each module."""

    def asked(command: str) -> tuple[int, dict[str, Found]]:
        code = main([*command.split(), "--root", str(tree), "--output", "json"])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        if command.startswith("explain"):
            items = [document["finding"] or {"name": document["name"], **document, "verdict": document["live"]}]
        else:
            items = document["kernels"][0]["modules"] if command == "preflight" else document["modules"]
        return code, {item["name"]: Found(item["verdict"], item["evidence"], item.get("remedy", "")) for item in items}

    return asked


def running(tree: Path, release: str, distribution: str) -> None:
    """Have another kernel run, of which there is no tree."""
    put_sysctl(tree, "kernel.osrelease", release)
    put(tree, "etc/os-release", f"ID={distribution}\n")


def configuration(*lines: str) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode())


BUILT_IN = [f"CONFIG_{name}=y" for name in "IP_VS IP_VS_RR IP_VS_WRR IP_VS_SH NF_CONNTRACK BRIDGE_NETFILTER".split()]


@pytest.mark.parametrize("modular", [True, False])
def test_everything_built_in_and_no_module_tree(tree: Path, ask: Ask, modular: bool) -> None:
    running(tree, "5.15.90.1-microsoft-standard-WSL2", "ubuntu")
    (tree / "proc/config.gz").write_bytes(configuration(*BUILT_IN))
    (tree / "proc/sys/net/ipv4/vs").mkdir(parents=True)
    if not modular:
        (tree / "proc/modules").unlink()
    _, found = ask("check")
    assert {name: found[name].verdict for name in MODULES} == dict.fromkeys(MODULES, "built in")
    assert found["ip_vs_rr"].evidence == "the kernel's configuration: CONFIG_IP_VS_RR=y"


def test_what_is_in_proc_shows_that_a_module_is_built_in(tree: Path, ask: Ask) -> None:
    running(tree, "6.6.0-x", "debian")
    (tree / "proc/sys/net/ipv4/vs").mkdir(parents=True)
    _, found = ask("check")
    assert found["ip_vs"] == ("built in", "there is /proc/sys/net/ipv4/vs", "")
    assert found["ip_vs_rr"].verdict == "module tree gone"


def files(tree: Path, name: str = "") -> list[Path]:
    return sorted((tree / "lib/modules" / RELEASE).glob(f"kernel/net/{name}*.ko.xz"))


def test_files_that_are_gone(tree: Path, ask: Ask) -> None:
    for file in files(tree):
        file.unlink()
    code, found = ask("preflight")
    assert code == 1
    assert {name: found[name].verdict for name in MODULES} == dict.fromkeys(MODULES, "file gone")
    assert found["ip_vs"].remedy == f"apt install --reinstall linux-image-{RELEASE}"


def test_the_file_of_a_dependency_is_gone(tree: Path, ask: Ask) -> None:
    files(tree, "nf_conntrack")[0].unlink()
    for command in ("preflight", "check"):
        code, found = ask(command)
        assert code == 1
        assert {name: found[name].verdict for name in MODULES} == dict.fromkeys(MODULES, "file gone")
        assert found["ip_vs_rr"].evidence.startswith("needs nf_conntrack: modules.dep lists kernel/net/nf_conntrack")


def test_a_dependency_that_is_live_needs_no_file(tree: Path, ask: Ask) -> None:
    files(tree, "nf_conntrack")[0].unlink()
    put(tree, "proc/modules", "nf_conntrack 1 0 - Live 0x0\n")
    _, found = ask("check")
    assert found["ip_vs"].verdict == "loadable"


@pytest.mark.parametrize("gone", ["modules.dep modules.dep.bin", "modules.dep.bin"])
def test_depmod_never_ran(tree: Path, ask: Ask, gone: str) -> None:
    for name in gone.split():
        (tree / "lib/modules" / RELEASE / name).unlink()
    for command in ("preflight", "check"):
        code, found = ask(command)
        assert code == 1
        assert {found[name][::2] for name in MODULES} == {("no index", f"run 'depmod -a {RELEASE}'")}


def test_depmod_never_ran_and_one_module_is_not_there(tree: Path, ask: Ask) -> None:
    (tree / "lib/modules" / RELEASE / "modules.dep.bin").unlink()
    files(tree, "ip_vs_sh")[0].unlink()
    _, found = ask("check")
    assert (found["ip_vs_sh"].verdict, found["ip_vs"].verdict) == ("absent", "no index")


def test_a_dependency_that_is_blacklisted_is_loaded_all_the_same(tree: Path, ask: Ask) -> None:
    put(tree, "etc/modprobe.d/x.conf", "blacklist nf_conntrack\n")
    assert ask("preflight")[0] == 0
    _, found = ask("check")
    assert {found[name].verdict for name in MODULES} == {"loadable"}
    assert found["nf_conntrack"].evidence == "not loaded; blacklisted, and yet loaded for ip_vs, which needs it"
    _, found = ask("explain nf_conntrack")
    assert found["nf_conntrack"].verdict == "loadable"


def test_what_nothing_else_needs_is_kept_out_by_a_blacklist(tree: Path, ask: Ask) -> None:
    file = put(tree, "etc/modprobe.d/x.conf", "blacklist ip-vs-rr\n")
    code, found = ask("preflight")
    assert (code, found["ip_vs_rr"].verdict, found["ip_vs"].verdict) == (1, "blacklisted", "loadable")
    assert found["ip_vs_rr"].evidence == f"{file}:1: blacklist ip_vs_rr"


@pytest.mark.parametrize("command", ["/bin/true", "/bin/false", ":", "echo no nf_conntrack here; exit 0"])
def test_an_install_line_of_a_dependency_is_named(tree: Path, ask: Ask, command: str) -> None:
    file = put(tree, "etc/modprobe.d/x.conf", f"# why\ninstall nf_conntrack {command}\n")
    for asked in ("preflight", "check", "explain ip_vs"):
        code, found = ask(asked)
        assert (code, found["ip_vs"].verdict) == (1, "overridden")
        assert found["ip_vs"].evidence == f"needs nf_conntrack: {file}:2: install nf_conntrack {command}"
        assert found["ip_vs"].remedy.startswith(f"remove 'install nf_conntrack {command}' from {file}")


@pytest.mark.parametrize("command", ["/sbin/modprobe -i $MODPROBE_MODULE && logger x", "/usr/local/bin/load-them"])
def test_an_install_line_that_may_load_the_module_keeps_nothing_out(tree: Path, ask: Ask, command: str) -> None:
    put(tree, "etc/modprobe.d/x.conf", f"install nf_conntrack {command}\ninstall ip_vs {command}\n")
    assert ask("preflight")[0] == 0
    assert {found.verdict for found in ask("check")[1].values()} == {"loadable"}


def test_an_install_line_of_a_module_with_soft_dependencies_is_passed_over(tree: Path, ask: Ask) -> None:
    put(tree, "etc/modprobe.d/x.conf", "install nf_conntrack /bin/true\nsoftdep nf_conntrack pre: br_netfilter\n")
    assert ask("preflight")[0] == 0


def test_a_soft_dependency_that_cannot_be_had_keeps_nothing_out(tree: Path, ask: Ask) -> None:
    put(tree, "etc/modprobe.d/x.conf", "install br_netfilter /bin/true\nsoftdep ip_vs pre: br_netfilter gone\n")
    code, found = ask("preflight")
    assert (code, found["ip_vs"].verdict, found["br_netfilter"].verdict) == (0, "loadable", "overridden")


def test_an_alias_of_nothing_keeps_a_module_out(tree: Path, ask: Ask) -> None:
    file = put(tree, "etc/modprobe.d/x.conf", "alias ip_vs off\n")
    code, found = ask("preflight")
    assert (code, found["ip_vs"].verdict) == (1, "overridden")
    assert found["ip_vs"].evidence == f"alias of off: {file}:1: alias ip_vs off"


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("module_blacklist=nf_conntrack", "blacklisted"),  # the kernel refuses dependencies, too
        ("module_blacklist=nf-conntrack", "loadable"),  # and compares names as they stand
        ("modprobe.blacklist=nf_conntrack", "loadable"),
        ("modprobe.blacklist=ip_vs", "loadable"),  # ip_vs_rr brings it in
        ("modprobe.blacklist=nf_conntrack,ip_vs_rr", "blacklisted"),
        ("modprobe.blacklist=ip-vs-rr", "loadable"),
    ],
)
def test_the_kernels_command_line(tree: Path, ask: Ask, text: str, verdict: str) -> None:
    put(tree, "proc/cmdline", f"quiet {text}\n")
    _, found = ask("check")
    assert found["ip_vs_rr"].verdict == verdict
    if verdict == "blacklisted":
        assert "boot loader's configuration" in found["ip_vs_rr"].remedy
        assert "from /proc" not in str(ask("explain ip_vs_rr"))


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("options nf_conntrack hashsize = 262144", "bad options"),
        ("options nf-conntrack hashsize =262144", "bad options"),
        ("options nf_conntrack hashsize", "bad options"),
        ("options nf_conntrack hashsize=262144", "loadable"),
        ('options nf_conntrack hashsize="262144"', "loadable"),
        ("options nf_conntrack no_such_parameter = 1", "loadable"),  # the kernel ignores it, with a line in its log
        ("options nf_conntrack x=1 -- hashsize", "loadable"),
        ("options ip_conntrack hashsize = 1", "loadable"),  # those of an alias count only for who asks by it
    ],
)
def test_options_with_blanks(tree: Path, ask: Ask, line: str, verdict: str) -> None:
    file = put(tree, "etc/modprobe.d/x.conf", f"{line}\n")
    _, found = ask("check")
    assert found["ip_vs"].verdict == verdict
    if verdict == "bad options":
        assert found["ip_vs"].evidence.startswith(f"needs nf_conntrack: {file}:1: options nf_conntrack hashsize")
        assert found["ip_vs"].remedy == f"write hashsize=VALUE without blanks in {file}"


@pytest.mark.parametrize("indexed", [True, False])
def test_a_container_is_told_to_load_modules_on_the_host(tree: Path, ask: Ask, indexed: bool) -> None:
    put(tree, "proc/self/status", "CapBnd: 000001fdfffeffff\n")
    if not indexed:
        running(tree, "6.5.11-8-pve", "debian")
    code, found = ask("check")
    assert code == 1
    assert {found[name].verdict for name in MODULES} == {"refused: no capability"}
    assert found["ip_vs"].remedy == "run 'modprobe ip_vs' on the host, or grant CAP_SYS_MODULE"


MOUNTS = "22 21 0:4 / /proc rw,nosuid - proc proc rw\n23 22 0:4 /sys /proc/sys ro,nosuid - proc proc rw\n"


@pytest.mark.parametrize(
    ("mounts", "verdict"),
    [
        (MOUNTS, "refused"),
        (MOUNTS + "24 23 0:4 /sys/net /proc/sys/net rw - proc proc rw\n", "wrong"),
        (MOUNTS + "24 22 0:4 /sys /proc/sys rw - proc proc rw\n", "wrong"),
        ("22 21 0:4 / /proc ro - proc proc rw\n", "refused"),
        ("21 1 8:1 / / ro - ext4 /dev/vda ro\n", "wrong"),  # an image on a read-only disk
        ("", "wrong"),
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
    assert ("on the host" in found["remedy"]) is (verdict == "refused")
    assert ("ipvsd apply" in found["remedy"]) is (verdict == "wrong")


@pytest.mark.parametrize(
    ("name", "release", "successor"),
    [
        ("nf_conntrack_ipv4", RELEASE, "nf_conntrack"),
        ("nf_conntrack_ipv6", "4.19.0-1-amd64", "nf_conntrack"),
        ("nf-conntrack-ipv4", "4.18.0-240.el8.x86_64", "nf_conntrack"),  # EL 8.3 took it over
        ("nf_nat_ipv4", RELEASE, "nf_nat"),
        ("nf_nat_masquerade_ipv4", RELEASE, "nf_nat"),
        ("ipt_MASQUERADE", RELEASE, "xt_MASQUERADE"),
        ("ip_conntrack", RELEASE, "nf_conntrack"),
        ("nf_conntrack_ipv4", "4.18.0-1-amd64", ""),
        ("nf_conntrack_ipv4", "4.18.0-193.el8.x86_64", ""),
        ("nf_nat_ipv4", "4.19.0-1-amd64", ""),
    ],
)
def test_a_name_that_the_kernel_does_not_have_any_more(
    tree: Path, ask: Ask, name: str, release: str, successor: str
) -> None:
    put_sysctl(tree, "kernel.osrelease", release)
    if release != RELEASE:
        make_modules(tree, release, list(DEPENDS))
    put(tree, "etc/ipvsd/ipvsd.yaml", f"modules: {{{name}: {{}}}}\n")
    _, found = ask("check")
    said = found[name.replace("-", "_")]
    assert said.verdict == ("merged" if successor else "absent")
    if successor:
        assert f"a part of {successor} since Linux" in said.evidence
        assert said.remedy == f"name {successor} in its place"
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


@pytest.mark.parametrize("link", ["lib/modules", f"lib/modules/{RELEASE}", "lib"])
def test_an_absolute_link_is_followed_inside_the_root(tree: Path, ask: Ask, link: str) -> None:
    (tree / "elsewhere").mkdir()
    (tree / link).rename(tree / "elsewhere/it")
    (tree / link).symlink_to("/elsewhere/it")
    assert ask("preflight")[0] == 0


def test_nothing_is_read_outside_the_root(tree: Path, tmp_path: Path, ask: Ask) -> None:
    (tree / "lib/modules" / RELEASE).rename(tmp_path / "outside")
    (tree / "lib/modules" / RELEASE).symlink_to(f"../../../{tmp_path.name}/../outside")
    _, found = ask("check")
    assert found["ip_vs"].verdict == "module tree gone"


KMOD = "libkmod\0{}ZSTD +XZ {}ZLIB +LIBCRYPTO -EXPERIMENTAL\0"


@pytest.mark.parametrize("listed", [True, False])
def test_files_that_this_kmod_cannot_read(tree: Path, ask: Ask, listed: bool) -> None:
    put(tree, "usr/bin/kmod", KMOD.format("-", "+"))
    for file in files(tree):
        file.rename(file.with_suffix(".zst"))
    lines = {name: [f"kernel/net/{name}.ko.zst:"] for name in DEPENDS}
    write_index(tree / f"lib/modules/{RELEASE}/modules.dep.bin", lines if listed else {})
    code, found = ask("preflight")
    assert (code, found["ip_vs"].verdict) == (1, "unreadable compression")
    assert "is packed with zstd, which this kmod lacks" in found["ip_vs"].evidence
    assert found["ip_vs"].remedy == "install a kmod that reads zstd, or unpack the module files and run depmod"


def test_files_that_this_kmod_can_read_need_depmod_alone(tree: Path, ask: Ask) -> None:
    put(tree, "usr/bin/kmod", KMOD.format("+", "-"))
    for file in files(tree):
        file.rename(file.with_suffix(".zst"))
    write_index(tree / f"lib/modules/{RELEASE}/modules.dep.bin", {})
    assert ask("check")[1]["ip_vs"].verdict == "index stale"


def test_another_installed_kernel_has_the_module(tree: Path, ask: Ask) -> None:
    (tree / "lib/modules" / RELEASE).rename(tree / "lib/modules/6.1.0-51-cloud-amd64")
    make_modules(tree, RELEASE, ["br_netfilter"])
    make_modules(tree, "6.1.0-9-cloud-amd64", ["nf_conntrack"])
    _, found = ask("check")
    assert found["ip_vs"].remedy.startswith("reboot into 6.1.0-51-cloud-amd64, which has it; or apt install")
    said = "reboot into 6.1.0-9-cloud-amd64 or 6.1.0-51-cloud-amd64, which has it; or apt install"
    assert found["nf_conntrack"].remedy.startswith(said)


def test_the_trees_that_there_are_are_named_where_none_fits(tree: Path, ask: Ask) -> None:
    running(tree, "6.1.21-v8+", "debian")
    _, found = ask("check")
    assert found["ip_vs"].verdict == "module tree gone"
    assert found["ip_vs"].evidence == f"there are no modules in /lib/modules/6.1.21-v8+; there are trees of {RELEASE}"
    assert found["ip_vs"].remedy.startswith(f"reboot into {RELEASE}, which is installed, or install the modules of")
    assert "ipvsd does not know their package" in found["ip_vs"].remedy


def test_an_option_that_another_one_depends_on_is_the_one_to_blame(tree: Path, ask: Ask) -> None:
    make_modules(tree, RELEASE, NONE)
    for file in files(tree, "ip_vs"):
        file.unlink()
    put(tree, f"boot/config-{RELEASE}", "CONFIG_NETFILTER=y\nCONFIG_NF_CONNTRACK=m\n# CONFIG_IP_VS is not set\n")
    _, found = ask("check")
    assert found["ip_vs_rr"].verdict == "not built"
    assert found["ip_vs_rr"].evidence.endswith("says '# CONFIG_IP_VS is not set'")
    assert found["ip_vs_rr"].remedy == "run a kernel that was built with CONFIG_IP_VS"


def test_modules_disabled_has_a_remedy_that_works(tree: Path, ask: Ask) -> None:
    put_sysctl(tree, "kernel.modules_disabled", "1")
    _, found = ask("check")
    assert found["ip_vs"].verdict == "refused: modules_disabled"
    assert found["ip_vs"].remedy.startswith("run 'ipvsd apply --persist' and reboot")


def test_a_kernel_without_modules_that_left_it_out(tree: Path, ask: Ask) -> None:
    running(tree, "6.6.0-x", "debian")
    (tree / "proc/modules").unlink()
    (tree / "proc/config.gz").write_bytes(configuration("CONFIG_NETFILTER=y", "# CONFIG_IP_VS is not set"))
    _, found = ask("check")
    assert (found["ip_vs"].verdict, found["br_netfilter"].verdict) == ("not built", "no module support")


def test_a_parameter_is_no_part_of_proc_sys(tree: Path, capsys: pytest.CaptureFixture[str]) -> None:
    put(tree, "proc/self/mountinfo", MOUNTS)
    put(tree, "etc/ipvsd/ipvsd.yaml", "modules: {nf_conntrack: {parameters: {hashsize: 1000}}}\n")
    put(tree, "proc/modules", "nf_conntrack 1 0 - Live 0x0\n")
    put(tree, "sys/module/nf_conntrack/parameters/hashsize", "16\n")
    main(["check", "--root", str(tree), "--output", "json"])
    (found,) = json.loads(capsys.readouterr().out)["parameters"]
    assert found["verdict"] in ("wrong", "needs a reload")
    assert "/proc/sys" not in found["evidence"]
