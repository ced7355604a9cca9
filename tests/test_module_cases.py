"""check, preflight and explain agree on modules: built in, missing, moved, blacklisted, overridden, or bad options."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from ipvsd.cli import main
from tests.asking import MODULES, Ask, ask, configuration, files, running, tree, without_tree
from tests.elf import module, packed
from tests.fake_kernel import RELEASE
from tests.trees import put, write_index

__all__ = ["ask", "tree"]

pytestmark = pytest.mark.system

WSL = "5.15.90.1-microsoft-standard-WSL2"


@pytest.mark.parametrize("modular", [True, False])
@pytest.mark.parametrize("command", ["check", "preflight", f"preflight --kernel {WSL}"])
def test_everything_built_in_and_no_module_tree(tree: Path, ask: Ask, modular: bool, command: str) -> None:
    without_tree(tree, WSL, "ubuntu", modular)
    code, found = ask(command)
    assert {found[name].verdict for name in found} == {"built_in"}
    assert found["ip_vs_rr"].evidence == "the kernel's configuration: CONFIG_IP_VS_RR=y"
    if command != "check":  # the sysctls count as well there
        assert code == 0


@pytest.mark.parametrize("command", ["check", "preflight"])
def test_a_kernel_without_a_module_tree_that_lacks_a_module(tree: Path, ask: Ask, command: str) -> None:
    without_tree(tree, WSL, "ubuntu")
    lines = gzip.decompress((tree / "proc/config.gz").read_bytes()).decode().replace("CONFIG_IP_VS_SH=y", "")
    (tree / "proc/config.gz").write_bytes(configuration(lines, "# CONFIG_IP_VS_SH is not set"))
    code, found = ask(command)
    assert (code, found["ip_vs_sh"].verdict, found["ip_vs"].verdict) == (1, "not_built", "built_in")


def test_a_kernel_without_a_module_tree_that_needs_one_is_no_installed_kernel(tree: Path, ask: Ask) -> None:
    running(tree, "6.6.0-x", "debian")
    (tree / "proc/sys/net/ipv4/vs").mkdir(parents=True)  # shows that ip_vs is built in
    _, found = ask("check")
    assert found["ip_vs"] == ("built_in", "/proc/sys/net/ipv4/vs exists", "")
    assert found["ip_vs_rr"].verdict == "module_tree_missing"
    assert main(["preflight", "--kernel", "6.6.0-x", "--root", str(tree)]) == 2


def test_no_line_is_persisted_for_what_is_built_into_a_kernel_without_a_module_tree(tree: Path) -> None:
    without_tree(tree, WSL, "ubuntu")
    assert main(["apply", "--persist", "--root", str(tree)]) == 0
    lines = (tree / "etc/modules-load.d/ipvsd.conf").read_text().splitlines()
    assert [line for line in lines if line and not line.startswith("#")] == []
    assert "net.ipv4.vs.conntrack = 1" in (tree / "etc/sysctl.d/90-ipvsd.conf").read_text()


def test_files_that_are_gone(tree: Path, ask: Ask) -> None:
    for file in files(tree):
        file.unlink()
    code, found = ask("preflight")
    assert code == 1
    assert {name: found[name].verdict for name in MODULES} == dict.fromkeys(MODULES, "file_missing")
    assert found["ip_vs"].remedy == f"run 'chroot {tree} apt install --reinstall linux-image-{RELEASE}'"


@pytest.mark.parametrize("command", ["preflight", "check"])
@pytest.mark.parametrize("name", ["ip_vs", "nf_conntrack"])
@pytest.mark.parametrize("place", ["updates/dkms/{}.ko.xz", "kernel/net/{}.ko", "kernel/net/netfilter/{}.ko"])
def test_a_file_that_was_moved_or_packed_needs_depmod(
    tree: Path, ask: Ask, command: str, name: str, place: str
) -> None:
    top = tree / "lib/modules" / RELEASE
    new = top / place.format(name)
    new.parent.mkdir(parents=True, exist_ok=True)
    (top / f"kernel/net/{name}.ko.xz").rename(new)
    code, found = ask(command)
    assert (code, found["ip_vs"].verdict) == (1, "index_stale")
    said = f"modules.dep lists kernel/net/{name}.ko.xz, which is missing; {new} exists"
    assert found["ip_vs"].evidence.removeprefix("needs nf_conntrack: ") == said
    assert found["ip_vs"].remedy == f"run 'depmod -b {tree} -a {RELEASE}'"
    main(["apply", "--persist", "--root", str(tree)])
    assert "ip_vs\n" not in (tree / "etc/modules-load.d/ipvsd.conf").read_text()


def test_a_file_that_was_packed_so_that_this_kmod_cannot_read_it(tree: Path, ask: Ask) -> None:
    put(tree, "usr/bin/kmod", "libkmod\0-ZSTD +XZ +ZLIB +LIBCRYPTO -EXPERIMENTAL\0")
    file = files(tree, "nf_conntrack")[0]
    file.rename(file.with_suffix(".zst"))
    _, found = ask("check")
    assert found["ip_vs"].verdict == "compression_unsupported"
    assert found["ip_vs"].remedy.startswith("install a kmod that supports zstd, or decompress the files and run")


def test_the_package_of_a_file_from_outside_the_kernel_is_unknown(tree: Path, ask: Ask) -> None:
    index = {
        "ip_vs": ["updates/dkms/ip_vs.ko: kernel/net/nf_conntrack.ko.xz"],
        "nf_conntrack": ["kernel/net/nf_conntrack.ko.xz:"],
    }
    write_index(tree / f"lib/modules/{RELEASE}/modules.dep.bin", index)
    files(tree, "ip_vs")[0].unlink()
    _, found = ask("check")
    assert found["ip_vs"].verdict == "file_missing"
    assert found["ip_vs"].remedy.startswith(
        "reinstall the package that contains updates/dkms/ip_vs.ko, or remove that package and run"
    )


@pytest.mark.parametrize("name", ["nosuch", "zfs", "nvidia"])
def test_an_unknown_module_has_no_package_in_its_remedy(tree: Path, ask: Ask, name: str) -> None:
    put(tree, "etc/ipvsd/ipvsd.yaml", f"modules: {{{name}: {{}}}}\n")
    for command in ("check", "preflight"):
        code, found = ask(command)
        assert (code, found[name].verdict) == (1, "absent")
        said = f"check the name, or install the package that contains module {name} (unknown to ipvsd)"
        assert found[name].remedy == said


def test_the_file_of_a_dependency_is_needed_unless_it_is_live(tree: Path, ask: Ask) -> None:
    files(tree, "nf_conntrack")[0].unlink()
    for command in ("preflight", "check"):
        code, found = ask(command)
        assert code == 1
        assert {name: found[name].verdict for name in MODULES} == dict.fromkeys(MODULES, "file_missing")
        assert found["ip_vs_rr"].evidence.startswith("needs nf_conntrack: modules.dep lists kernel/net/nf_conntrack")
    main(["apply", "--persist", "--root", str(tree)])
    persisted = (tree / "etc/modules-load.d/ipvsd.conf").read_text().split("\n")
    assert [name for name in (*MODULES, "br_netfilter") if name in persisted] == ["br_netfilter"]
    put(tree, "proc/modules", "nf_conntrack 1 0 - Live 0x0\n")
    assert ask("check")[1]["ip_vs"].verdict == "loadable"


@pytest.mark.parametrize("gone", ["modules.dep modules.dep.bin", "modules.dep.bin", ""])
def test_depmod_never_ran_or_left_a_damaged_index(tree: Path, ask: Ask, gone: str) -> None:
    put(tree, f"lib/modules/{RELEASE}/modules.dep.bin", "")
    for name in gone.split():
        (tree / "lib/modules" / RELEASE / name).unlink()
    for command in ("preflight", "check"):
        code, found = ask(command)
        assert code == 1
        assert {found[name][::2] for name in MODULES} == {("no_index", f"run 'depmod -b {tree} -a {RELEASE}'")}


def test_leftovers_of_dkms_are_not_a_module_tree(tree: Path, ask: Ask) -> None:
    (tree / "lib/modules" / RELEASE).rename(tree / "lib/modules/6.1.0-51-cloud-amd64")
    put(tree, f"lib/modules/{RELEASE}/updates/dkms/other.ko", "")
    _, found = ask("check")
    assert found["ip_vs"].verdict == "module_tree_missing"
    said = f"reboot into 6.1.0-51-cloud-amd64, which has the module, or run 'chroot {tree} apt install"
    assert found["ip_vs"].remedy.startswith(said)


def test_depmod_never_ran_and_one_module_is_not_there(tree: Path, ask: Ask) -> None:
    (tree / "lib/modules" / RELEASE / "modules.dep.bin").unlink()
    files(tree, "ip_vs_sh")[0].unlink()
    _, found = ask("check")
    assert (found["ip_vs_sh"].verdict, found["ip_vs"].verdict) == ("absent", "no_index")


def test_a_dependency_that_is_blacklisted_is_loaded_all_the_same(tree: Path, ask: Ask) -> None:
    put(tree, "etc/modprobe.d/x.conf", "blacklist nf_conntrack\n")
    assert ask("preflight")[0] == 0
    _, found = ask("check")
    assert {found[name].verdict for name in MODULES} == {"loadable"}
    evidence = "not loaded yet; the blacklist line has no effect, because the module is a dependency of ip_vs"
    assert found["nf_conntrack"].evidence == evidence
    _, found = ask("explain nf_conntrack")
    assert found["nf_conntrack"].verdict == "loadable"


@pytest.mark.parametrize("command", ["/bin/true", "/bin/false", ":", "echo no nf_conntrack here; exit 0"])
def test_an_install_line_of_a_dependency_is_named(tree: Path, ask: Ask, command: str) -> None:
    file = put(tree, "etc/modprobe.d/x.conf", f"# why\ninstall nf_conntrack {command}\n")
    for asked in ("preflight", "check", "explain ip_vs"):
        code, found = ask(asked)
        assert (code, found["ip_vs"].verdict) == (1, "overridden")
        assert found["ip_vs"].evidence == f"needs nf_conntrack: {file}:2: install nf_conntrack {command}"
        assert found["ip_vs"].remedy.startswith(f"remove 'install nf_conntrack {command}' from {file}")


HELPER = "/sbin/modprobe -i $MODPROBE_MODULE && logger x"


@pytest.mark.parametrize(
    ("text", "blocked"),
    [
        ("blacklist ip-vs-rr", {"ip_vs_rr": ("blacklisted", "FILE:1: blacklist ip_vs_rr")}),
        ("alias ip_vs off", {"ip_vs": ("overridden", "alias of off: FILE:1: alias ip_vs off")}),
        ("install br_netfilter /bin/true\nsoftdep ip_vs pre: br_netfilter gone",
         {"br_netfilter": ("overridden", "FILE:1: install br_netfilter /bin/true")}),
        *((f"install nf_conntrack {command}\ninstall ip_vs {command}", {})
          for command in (HELPER, "/usr/local/bin/load-them")),
    ],
    ids=["a blacklist of a module without users", "an alias of a missing module", "a missing soft dependency",
         "an install line that runs modprobe", "an install line that may load the module"],
)  # fmt: skip
def test_lines_block_only_the_modules_that_they_name(
    tree: Path, ask: Ask, text: str, blocked: dict[str, tuple[str, str]]
) -> None:
    file = put(tree, "etc/modprobe.d/x.conf", f"{text}\n")
    for command in ("preflight", "check"):
        code, found = ask(command)
        assert {name: each[:2] for name, each in found.items() if each.verdict != "loadable"} == {
            name: (verdict, evidence.replace("FILE", str(file))) for name, (verdict, evidence) in blocked.items()
        }
        assert command == "check" or code == int(bool(set(MODULES) & set(blocked)))


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        ("module_blacklist=nf_conntrack", "blacklisted"),  # the kernel refuses dependencies as well
        ("module_blacklist=nf-conntrack", "loadable"),  # and compares names literally
        ("modprobe.blacklist=nf_conntrack", "loadable"),
        ("modprobe.blacklist=ip_vs", "loadable"),  # ip_vs_rr depends on it
        ("modprobe.blacklist=nf_conntrack,ip_vs_rr", "blacklisted"),
        ("modprobe.blacklist=ip-vs-rr", "loadable"),
        ("-- module_blacklist=nf_conntrack", "loadable"),  # the kernel passes it to init
        ('"--" module_blacklist=nf_conntrack', "loadable"),
        ("x=-- module_blacklist=nf_conntrack", "blacklisted"),
        ("--x module_blacklist=nf_conntrack", "blacklisted"),
        ("-- modprobe.blacklist=ip_vs_rr", "blacklisted"),  # libkmod reads all of it
        ('module_blacklist="dummy,nf_conntrack"', "blacklisted"),
    ],
)
def test_the_kernels_command_line(tree: Path, ask: Ask, text: str, verdict: str) -> None:
    put(tree, "proc/cmdline", f"quiet {text}\n")
    _, found = ask("check")
    assert found["ip_vs_rr"].verdict == verdict
    if verdict == "blacklisted":
        assert "(boot loader configuration)" in found["ip_vs_rr"].remedy
        assert "from /proc" not in str(ask("explain ip_vs_rr"))


@pytest.mark.parametrize(
    ("line", "verdict"),
    [
        ("options nf_conntrack hashsize = 262144", "invalid_options"),
        ("options nf-conntrack hashsize =262144", "invalid_options"),
        ("options nf_conntrack hashsize", "invalid_options"),
        ("options nf_conntrack hashsize=262144", "loadable"),
        ('options nf_conntrack hashsize="262144"', "loadable"),
        ("options nf_conntrack hashsize= 262144", "invalid_options"),
        ("options nf_conntrack hashsize=many", "invalid_options"),
        ("options nf_conntrack hashsize=0x1000", "loadable"),
        ("options nf_conntrack acct = 1", "loadable"),  # of type bool: it needs no value
        ("options nf_conntrack tries = 1", "invalid_options"),
        ("options nf_conntrack no_such_parameter = 1", "loadable"),  # the kernel ignores it, with a line in its log
        ("options nf_conntrack x=1 -- hashsize", "loadable"),
        ("options ip_conntrack hashsize = 1", "loadable"),  # those of an alias apply only to a request for the alias
    ],
)
def test_options_with_blanks(tree: Path, ask: Ask, line: str, verdict: str) -> None:
    file = put(tree, "etc/modprobe.d/x.conf", f"{line}\n")
    types = [("parmtype", "acct:bool"), ("parmtype", "tries:uint")]
    files(tree, "nf_conntrack")[0].write_bytes(packed(module("nf_conntrack", info=types), ".ko.xz"))
    _, found = ask("check")
    assert found["ip_vs"].verdict == verdict
    if verdict == "invalid_options":
        assert found["ip_vs"].evidence.startswith(f"needs nf_conntrack: {file}:1: options nf_conntrack ")
        assert found["ip_vs"].remedy == f"write {line.split()[2].partition('=')[0]}=VALUE (without spaces) in {file}"


def test_a_parameter_without_a_value_on_the_command_line(tree: Path, ask: Ask) -> None:
    put(tree, "proc/cmdline", "quiet nf_conntrack.hashsize\n")
    remedy = ask("check")[1]["ip_vs"].remedy
    assert remedy == "write hashsize=VALUE (without spaces) in the boot loader configuration"
