from __future__ import annotations

import pytest

from ipvsd.kernel import procfs
from ipvsd.model.types import ModuleState
from ipvsd.modprobe import kernel_names

PROC_MODULES = """\
ip_vs_sh 16384 0 - Live 0x0000000000000000
ip_vs 208896 6 ip_vs_sh,ip_vs_wrr,ip_vs_rr, Live 0xffffffffc0a00000
nf_conntrack 192512 1 ip_vs, Live 0x0000000000000000
br_netfilter 36864 0 - Unloading 0x0000000000000000
ip_vs_rr 16384 0 - Loading 0x0000000000000000 (+)
tainted 16384 0 - Live 0x0000000000000000 (OE)
"""

NAMES = ("ip_vs", "ip_vs_sh", "ip_vs_rr", "br_netfilter", "tainted", "ip_vs_wlc")


def test_proc_modules_gives_the_state_of_the_modules_asked_about() -> None:
    assert procfs.proc_modules(PROC_MODULES, NAMES) == {
        **dict.fromkeys(("ip_vs", "ip_vs_sh", "tainted"), ModuleState.LIVE),
        "ip_vs_rr": ModuleState.COMING,
        "br_netfilter": ModuleState.GOING,
    }


@pytest.mark.parametrize(
    "text",
    [
        pytest.param("", id="empty"), pytest.param("ip_vs", id="name only"),
        pytest.param("ip_vs 1 0 -", id="cut off before the state"),
        pytest.param("ip_vs 1 0 - Zombie 0x0", id="unknown state"),
        pytest.param(" ip_vs 1 0 - Live 0x0", id="no name first"),
        pytest.param("ip_vs_sh2 1 0 ip_vs, Live 0x0", id="another module"),
        pytest.param("\0\ufffd\n\n\n", id="no text at all"),
    ],
)  # fmt: skip
def test_invalid_lines_of_proc_modules_are_ignored(text: str) -> None:
    assert procfs.proc_modules(text, NAMES) == {}


@pytest.mark.parametrize(
    ("text", "name"),
    [
        ("ip_vs", "ip_vs"), ("snd-hda-intel", "snd_hda_intel"), ("8021q", "8021q"), ("a" * 55, "a" * 55),
        ("a" * 56, None), ("", None), ("ip_vs.ko", None), ("../x", None), ("ip_vs\n", None), ("ip vs", None),
        ("ipvs\u00e9", None),
    ],
)  # fmt: skip
def test_a_module_name(text: str, name: object) -> None:
    assert kernel_names.module_name(text) == name


@pytest.mark.parametrize(
    ("line", "found"),
    [
        pytest.param("kernel/net/netfilter/ipvs/ip_vs.ko: kernel/x.ko", True, id="modules.dep"),
        pytest.param("kernel/net/netfilter/ipvs/ip_vs.ko:", True, id="without dependencies"),
        pytest.param("kernel/net/netfilter/ipvs/ip_vs.ko.xz: a", True, id="xz"),
        pytest.param("kernel/net/netfilter/ipvs/ip_vs.ko.zst:", True, id="zstd"),
        pytest.param("kernel/net/netfilter/ipvs/ip-vs.ko:", True, id="dash in the file name"),
        pytest.param("kernel/net/netfilter/ipvs/ip_vs.ko", True, id="modules.builtin"),
        pytest.param("/lib/modules/6.1/updates/ip_vs.ko:", True, id="absolute, as depmod -b may write"),
        pytest.param("ip_vs.ko:", True, id="no directory"),
        pytest.param("kernel/net/ip_vs_sh.ko: kernel/net/ip_vs.ko", False, id="as a dependency only"),
        pytest.param("kernel/net/ip_vs_sh.ko:", False, id="longer name"),
        pytest.param("kernel/net/my_ip_vs.ko:", False, id="longer at the front"),
        pytest.param("kernel/net/ip_vs.konsole:", False, id="no module file"),
        pytest.param("kernel/ip_vs.ko/other.ko:", False, id="as a directory"),
    ],
)
def test_a_line_of_the_index(line: str, found: bool) -> None:
    text = f"kernel/first.ko:\n{line}\nkernel/last.ko:\n"
    assert kernel_names.indexed_names(text, ["ip_vs"]) == ({"ip_vs"} if found else frozenset())


def test_an_index_of_a_whole_distribution_lists_all_queried_modules() -> None:
    text = "".join(f"kernel/net/m{number}.ko.xz: kernel/net/m0.ko.xz\n" for number in range(5000))
    assert kernel_names.indexed_names(text, ["m0", "m4999", "m5000"]) == {"m0", "m4999"}
    assert kernel_names.indexed_names(text, []) == frozenset()


@pytest.mark.parametrize(
    ("release", "version"),
    [
        ("6.1.0-50-cloud-amd64", (6, 1)), ("4.18.0-553.el8_10.x86_64", (4, 18)), ("5.10", (5, 10)), ("", (0, 0)),
        ("nonsense", (0, 0)),
    ],
)  # fmt: skip
def test_a_kernel_release_has_a_version(release: str, version: tuple[int, int]) -> None:
    assert kernel_names.kernel_version(release) == version


@pytest.mark.parametrize(
    ("text", "count"),
    [
        ("0\n", 1), ("0-3\n", 4), ("0-3,5,8-9\n", 7), ("3-0", 0), ("", 0), ("0-x,1", 1),
    ],
)  # fmt: skip
def test_a_list_of_processors_is_counted(text: str, count: int) -> None:
    assert procfs.cpu_count(text) == count
