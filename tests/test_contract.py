"""The guarantees of every Host: a fake kernel, a tree of files, and in the bench a real kernel."""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from ipvsd.kernel.host import Host
from ipvsd.kernel.module_loader import BlacklistedError, LoadError
from ipvsd.model.types import MISSING, ModuleState, Unreadable
from tests.contract import REAL, Bench, FakeBench, TreeBench, real_bench

CONNTRACK = "net.ipv4.vs.conntrack"
DROP_RATE = "net.ipv4.vs.am_droprate"
ARP_IGNORE = "net.ipv4.conf.lo.arp_ignore"
NAMES = ("ip_vs", "ip_vs_sh", "nf_conntrack", "br_netfilter", "ip_vs_nonsense")

_real = [pytest.param("real", marks=pytest.mark.vm)] if REAL else []


@pytest.fixture(params=["fake", "tree", *_real])
def bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    yield from _bench(request.param, tmp_path)


@pytest.fixture(params=["fake", *_real])
def kernel_bench(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Bench]:
    """A bench with a kernel, real or fake, that can refuse. The files of a tree accept everything."""
    yield from _bench(request.param, tmp_path)


def _bench(kind: str, tmp_path: Path) -> Iterator[Bench]:
    if kind == "real":
        with real_bench() as real:
            yield real
    else:
        yield FakeBench() if kind == "fake" else TreeBench(tmp_path)


# --- the kernel and its index -----------------------------------------------------------


def test_the_kernel_has_a_release_and_processors_and_takes_modules(bench: Bench) -> None:
    kernel = bench.host.kernel(NAMES)
    assert kernel.release
    assert kernel.cpus >= 1
    assert (kernel.modular, kernel.indexed) == (True, True)


def test_the_index_lists_the_loadable_ones_of_the_queried_modules_loaded_or_not(bench: Bench) -> None:
    for _ in range(2):
        assert bench.host.kernel(NAMES).loadable == {"ip_vs", "ip_vs_sh", "nf_conntrack", "br_netfilter"}
        assert bench.host.kernel(["ip_vs"]).loadable == {"ip_vs"}
        bench.host.load_module("ip_vs_sh")


# --- modules ----------------------------------------------------------------------------


def test_a_module_is_live_with_its_dependencies_after_it_was_loaded_once_or_again(bench: Bench) -> None:
    assert not {"ip_vs", "ip_vs_sh", "br_netfilter"} & set(bench.host.modules(NAMES))
    for _ in range(2):
        bench.host.load_module("ip_vs_sh")
        live = dict.fromkeys(("ip_vs", "ip_vs_sh", "nf_conntrack"), ModuleState.LIVE)
        assert bench.host.modules(NAMES) == live
    assert bench.host.modules(["ip_vs_sh"]) == {"ip_vs_sh": ModuleState.LIVE}


def test_an_unknown_module_cannot_be_loaded(bench: Bench) -> None:
    with pytest.raises(LoadError):
        bench.host.load_module("ip_vs_nonsense")


def test_a_blacklisted_module_is_not_loaded(bench: Bench) -> None:
    bench.blacklist("ip_vs_sh")
    with pytest.raises(BlacklistedError):
        bench.host.load_module("ip_vs_sh")
    assert "ip_vs_sh" not in bench.host.modules(NAMES)


def test_an_unloaded_module_is_gone_and_can_be_loaded_again(bench: Bench) -> None:
    for _ in range(2):
        bench.host.load_module("ip_vs_sh")
        assert bench.host.modules(["ip_vs_sh"]) == {"ip_vs_sh": ModuleState.LIVE}
        bench.unload("ip_vs_sh")
        assert "ip_vs_sh" not in bench.host.modules(NAMES)


def test_a_module_in_use_cannot_be_unloaded(kernel_bench: Bench) -> None:
    kernel_bench.host.load_module("ip_vs_sh")
    with pytest.raises(OSError, match="in use"):
        kernel_bench.unload("ip_vs")


# --- sysctls ----------------------------------------------------------------------------


def test_a_sysctl_comes_with_its_module_at_the_kernels_default_and_goes_with_it(bench: Bench) -> None:
    for _ in range(2):
        assert bench.host.read_sysctl(CONNTRACK) == MISSING
        bench.host.load_module("ip_vs")
        assert bench.host.read_sysctl(CONNTRACK) == "0"
        bench.host.write_sysctl(CONNTRACK, "1")
        assert bench.host.read_sysctl(CONNTRACK) == "1"
        bench.unload("ip_vs")


def test_a_shorter_value_leaves_nothing_of_a_longer_one(bench: Bench) -> None:
    bench.host.load_module("ip_vs")
    bench.host.write_sysctl(DROP_RATE, "1000")
    bench.host.write_sysctl(DROP_RATE, "7")
    assert bench.host.read_sysctl(DROP_RATE) == "7"


def test_a_sysctl_without_a_module_can_be_written_and_restored(bench: Bench) -> None:
    before = bench.host.read_sysctl(ARP_IGNORE)
    assert isinstance(before, str)
    for value in ("1", before):
        bench.host.write_sysctl(ARP_IGNORE, value)
        assert bench.host.read_sysctl(ARP_IGNORE) == value


@pytest.mark.parametrize("key", [CONNTRACK, "net.ipv4.conf.lo.no_such_key"])
def test_writing_a_missing_sysctl_is_an_error_and_creates_nothing(bench: Bench, key: str) -> None:
    with pytest.raises(FileNotFoundError):
        bench.host.write_sysctl(key, "1")
    assert bench.host.read_sysctl(key) == MISSING


def test_a_directory_is_no_sysctl(bench: Bench) -> None:
    assert bench.host.read_sysctl("net.ipv4.conf.lo") == Unreadable("Is a directory")


def test_a_value_that_is_no_number_is_refused_and_changes_nothing(kernel_bench: Bench) -> None:
    before = kernel_bench.host.read_sysctl(ARP_IGNORE)
    with pytest.raises(OSError):
        kernel_bench.host.write_sysctl(ARP_IGNORE, "nonsense")
    assert kernel_bench.host.read_sysctl(ARP_IGNORE) == before


# --- read errors -------------------------------------------------------------------------


def test_without_descriptors_a_value_is_unreadable_for_the_moment(bench: Bench) -> None:
    bench.host.load_module("ip_vs")
    with bench.starved():
        readings = (bench.host.read_sysctl(ARP_IGNORE), bench.host.read_parameter("ip_vs.conn_tab_bits").reading)
        assert set(readings) == {Unreadable("Too many open files", transient=True)}
    assert isinstance(bench.host.read_sysctl(ARP_IGNORE), str)


ASKS: list[Callable[[Host], object]] = [
    lambda host: host.kernel(NAMES), lambda host: host.modules(NAMES), lambda host: host.module_state("ip_vs"),
    lambda host: host.expand(["net.ipv4.conf.*.arp_ignore"]), lambda host: host.write_sysctl(ARP_IGNORE, "1"),
]  # fmt: skip


@pytest.mark.parametrize("ask", ASKS, ids=["kernel", "modules", "a live module", "expand", "write"])
def test_without_descriptors_nothing_is_reported_as_absent(bench: Bench, ask: Callable[[Host], object]) -> None:
    bench.host.load_module("ip_vs")
    bench.host.kernel(NAMES)
    with bench.starved(), pytest.raises(OSError, match="Too many open files") as caught:
        ask(bench.host)
    assert caught.value.errno == errno.EMFILE
    assert bench.host.modules(["ip_vs"]) == {"ip_vs": ModuleState.LIVE}


def test_without_descriptors_there_is_no_reason_for_absence(bench: Bench) -> None:
    kernel = bench.host.kernel(NAMES)
    with bench.starved(), pytest.raises(OSError, match="Too many open files"):
        bench.host.explain(kernel, NAMES)
