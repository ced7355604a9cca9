"""Properties of LinuxHost that only a tree of files can show, and the index of a kernel's modules."""

from __future__ import annotations

import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.module_loader import Loader, LoadError
from ipvsd.kernel.module_tree import Index
from ipvsd.kernel.roots import normalise_root
from ipvsd.model.types import MISSING, ModuleState, Unreadable
from ipvsd.runtime.rootfs import UnreadableError
from tests.fake_kernel import RELEASE
from tests.scarce import few_descriptors
from tests.trees import TreeLoader, put, put_sysctl, sysctl, write_index

KEY, CORE = "net.ipv4.ip_forward", "nf_conntrack"


@pytest.fixture
def host(tree: Path) -> LinuxHost:
    return LinuxHost(str(tree))


def test_the_kernel_is_that_of_the_tree(host: LinuxHost) -> None:
    kernel = host.kernel(["ip_vs"])
    assert (kernel.release, kernel.distribution, kernel.cpus) == (RELEASE, "debian", 2)


def test_a_kernel_that_changes_is_noticed(tree: Path, host: LinuxHost) -> None:
    host.kernel(["ip_vs"])
    put_sysctl(tree, "kernel.osrelease", "6.12.0")
    kernel = host.kernel(["ip_vs"])
    assert (kernel.release, kernel.indexed) == ("6.12.0", False)


def test_a_module_that_the_list_passed_over_is_asked_about_by_name(tree: Path, host: LinuxHost) -> None:
    put(tree, "proc/modules", "ip_vs_rr 16384 0 - Live 0x0\n")
    put(tree, "sys/module/ip_vs/initstate", "live\n")
    put(tree, "sys/module/ip_vs_sh/initstate", "going\n")
    put(tree, "sys/module/ip_vs_wrr/parameters/of_one_that_is_built_in", "1\n")
    assert host.modules(["ip_vs", "ip_vs_rr", "ip_vs_sh", "ip_vs_wrr", "ip_vs_lc"]) == {
        "ip_vs_rr": ModuleState.LIVE,
        "ip_vs": ModuleState.LIVE,
        "ip_vs_sh": ModuleState.GOING,
    }


@pytest.mark.parametrize(
    ("written", "read"),
    [
        pytest.param(b"4096\t131072\t6291456\n", "4096 131072 6291456", id="several words"),
        pytest.param(b"\xff\xfe\n", "\udcff\udcfe", id="bytes that are no text"),
        *(pytest.param(b"1" * length + b"\n", "1" * length, id=f"{length} bytes")
          for length in (1, 253, 254, 255, 256, 5000, 65535)),
    ],
)  # fmt: skip
def test_a_value_is_read_whole_with_one_blank_between_words(
    tree: Path, host: LinuxHost, written: bytes, read: str
) -> None:
    sysctl(tree, KEY).write_bytes(written)
    assert host.read_sysctl(KEY) == read


@pytest.mark.parametrize("key", ["", "net", "../../etc/os-release", "/etc/os-release", "net/../../../etc/os-release"])
def test_an_invalid_name_is_missing(host: LinuxHost, key: str) -> None:
    assert host.read_sysctl(key) == MISSING
    with pytest.raises(FileNotFoundError):
        host.write_sysctl(key, "1")


@pytest.mark.parametrize("key", ["net.link", "net.dir.secret"])
def test_a_file_or_directory_that_is_a_link_is_not_followed(tree: Path, host: LinuxHost, key: str) -> None:
    outside = put(tree, "outside/secret", "0\n")
    (tree / "proc/sys/net/link").symlink_to(outside)
    (tree / "proc/sys/net/dir").symlink_to(outside.parent)
    assert isinstance(host.read_sysctl(key), Unreadable)
    with pytest.raises(OSError):
        host.write_sysctl(key, "1")
    assert outside.read_text() == "0\n"


@pytest.mark.parametrize("place", ["proc", "proc/sys", "proc/sys/net"])
def test_a_tree_of_sysctls_that_is_a_link_is_not_followed(tree: Path, place: str) -> None:
    outside = tree.with_name("outside")
    (tree / place).rename(outside)
    (tree / place).symlink_to(outside)
    host = LinuxHost(str(tree))
    assert not isinstance(host.read_sysctl(KEY), str)
    with pytest.raises(OSError):
        host.write_sysctl(KEY, "7")
    assert host.expand(["net.ipv4.*"]) == {"net.ipv4.*": []}


def test_a_tree_of_parameters_that_is_a_link_is_not_followed(tree: Path) -> None:
    outside = tree.with_name("outside")
    put(outside, "module/ip_vs/parameters/conn_tab_bits", "12\n")
    shutil.rmtree(tree / "sys")
    (tree / "sys").symlink_to(outside)
    host = LinuxHost(str(tree))
    assert not isinstance(host.read_parameter("ip_vs.conn_tab_bits").reading, str)
    with pytest.raises(OSError):
        host.write_parameter("ip_vs.conn_tab_bits", "13")
    assert (outside / "module/ip_vs/parameters/conn_tab_bits").read_text() == "12\n"


def test_a_root_that_is_a_link_itself_is_fine(tree: Path) -> None:
    tree.with_name("link").symlink_to(tree)
    assert LinuxHost(str(tree.with_name("link"))).read_sysctl(KEY) == "1"


def test_no_module_can_be_loaded_into_another_root(host: LinuxHost) -> None:
    with pytest.raises(LoadError, match="only into the running kernel"):
        host.load_module("ip_vs")


# --- the index --------------------------------------------------------------------------


@pytest.fixture
def directory(tree: Path) -> Path:
    return tree / "lib/modules" / RELEASE


@pytest.fixture
def index(tree: Path) -> Index:
    return Index(str(tree), RELEASE)


def test_the_index_is_read_again_when_its_files_change(index: Index, directory: Path) -> None:
    assert "ip_vs" in index.update(["ip_vs"]).loadable
    write_index(directory / "modules.dep.bin", {"other": ["kernel/other.ko:"]})
    assert index.update(["ip_vs"]).loadable == frozenset()


def test_the_index_is_not_read_again_while_they_do_not(index: Index, directory: Path) -> None:
    index.update(["ip_vs"])
    file = directory / "modules.dep.bin"
    before = file.stat()
    with file.open("r+b") as opened:  # the same file with the same size
        opened.write(b"x" * before.st_size)
    os.utime(file, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert index.update(["ip_vs"]).loadable == {"ip_vs"}


def test_the_index_answers_new_questions(index: Index) -> None:
    index.update(["ip_vs"])
    assert index.update(["ip_vs", "ip_vs_sh", "ipv6"]).loadable == {"ip_vs", "ip_vs_sh"}
    assert index.update(["ip_vs", "ip_vs_sh", "ipv6"]).built_in == {"ipv6"}


def test_an_index_that_goes_and_comes_back_is_noticed(index: Index, directory: Path) -> None:
    directory.rename(directory.with_name("away"))
    assert (index.update(["ip_vs"]).readable, index.loadable) == (False, frozenset())
    directory.with_name("away").rename(directory)
    assert (index.update(["ip_vs"]).readable, index.loadable) == (True, frozenset({"ip_vs"}))
    shutil.rmtree(directory)
    assert not index.update(["ip_vs"]).readable


@pytest.mark.parametrize("data", [None, b"nonsense, and more of it"], ids=["missing", "damaged"])
def test_without_its_binary_form_there_is_no_index(index: Index, directory: Path, data: bytes | None) -> None:
    (directory / "modules.dep.bin").unlink()  # libkmod reads no other form
    if data:
        (directory / "modules.dep.bin").write_bytes(data)
    assert (index.update(["ip_vs"]).readable, index.loadable) == (False, frozenset())


def test_libkmod_that_cannot_be_opened_for_a_moment_is_used_later(monkeypatch: pytest.MonkeyPatch) -> None:
    library, libraries = TreeLoader(Path("/")), list[Loader]()
    library.live[CORE] = "Live"  # so that nothing is written

    def opened() -> Loader:
        if not libraries:
            raise LoadError("cannot open libkmod: Too many open files", errno.EMFILE)
        return libraries.pop()

    monkeypatch.setattr("ipvsd.kernel.host.Libkmod", opened)
    host = LinuxHost("/")
    with pytest.raises(LoadError):
        host.load_module(CORE)
    libraries.append(library)
    host.load_module(CORE)
    host.load_module(CORE)
    assert libraries == []


# --- the root --------------------------------------------------------------------------


@pytest.mark.parametrize("root", ["//", "/usr/..", "/./", "/proc/self/root", "/proc/self/root/usr/.."])
def test_every_name_of_the_root_directory_is_slash(root: str) -> None:
    assert normalise_root(root) == "/"


def test_without_a_descriptor_the_root_is_unreadable() -> None:
    for left in range(2):
        with few_descriptors(left), pytest.raises(UnreadableError, match="Too many open files"):
            normalise_root("//")


@pytest.mark.parametrize("root", ["/usr", "/proc", "."])
def test_any_other_root_keeps_its_name(root: str) -> None:
    assert normalise_root(root) == root


UNPRIVILEGED = """
import os, sys
from ipvsd.cli import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(["check", "--root", sys.argv[1]]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_root_that_this_user_cannot_read_is_not_absent(tmp_path: Path) -> None:
    root = tmp_path / "closed/root"
    root.mkdir(parents=True)
    root.parent.chmod(0o700)
    for above in (tmp_path, *list(tmp_path.parents)[:2]):
        above.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, str(root)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"ipvsd: cannot read {root}/: Permission denied\n")
