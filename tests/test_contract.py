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
    assert kernel.modular
    assert kernel.indexed


def test_the_index_lists_the_loadable_ones_of_the_queried_modules(bench: Bench) -> None:
    assert bench.host.kernel(NAMES).loadable == {"ip_vs", "ip_vs_sh", "nf_conntrack", "br_netfilter"}


def test_the_index_contains_only_queried_modules(bench: Bench) -> None:
    assert bench.host.kernel(["ip_vs"]).loadable == {"ip_vs"}


def test_being_loaded_makes_no_difference_to_the_index(bench: Bench) -> None:
    bench.host.load_module("ip_vs_sh")

    assert "ip_vs_sh" in bench.host.kernel(NAMES).loadable


# --- modules ----------------------------------------------------------------------------


def test_a_module_that_is_not_loaded_is_not_listed(bench: Bench) -> None:
    assert "ip_vs" not in bench.host.modules(NAMES)


def test_a_loaded_module_is_live(bench: Bench) -> None:
    bench.host.load_module("br_netfilter")

    assert bench.host.modules(["br_netfilter"]) == {"br_netfilter": ModuleState.LIVE}


def test_loading_a_module_loads_its_dependencies(bench: Bench) -> None:
    bench.host.load_module("ip_vs_sh")

    listed = bench.host.modules(["ip_vs", "ip_vs_sh", "nf_conntrack"])
    assert listed == dict.fromkeys(("ip_vs", "ip_vs_sh", "nf_conntrack"), ModuleState.LIVE)


def test_only_the_modules_that_were_asked_about_are_listed(bench: Bench) -> None:
    bench.host.load_module("ip_vs_sh")

    assert set(bench.host.modules(["ip_vs_sh"])) == {"ip_vs_sh"}


def test_loading_a_live_module_again_is_no_error(bench: Bench) -> None:
    bench.host.load_module("ip_vs")
    bench.host.load_module("ip_vs")

    assert bench.host.modules(["ip_vs"]) == {"ip_vs": ModuleState.LIVE}


def test_an_unknown_module_cannot_be_loaded(bench: Bench) -> None:
    with pytest.raises(LoadError):
        bench.host.load_module("ip_vs_nonsense")


def test_a_blacklisted_module_is_not_loaded(bench: Bench) -> None:
    bench.blacklist("ip_vs_sh")

    with pytest.raises(BlacklistedError):
        bench.host.load_module("ip_vs_sh")
    assert "ip_vs_sh" not in bench.host.modules(NAMES)


def test_an_unloaded_module_is_gone_and_can_be_loaded_again(bench: Bench) -> None:
    bench.host.load_module("ip_vs_sh")
    bench.unload("ip_vs_sh")
    assert "ip_vs_sh" not in bench.host.modules(NAMES)

    bench.host.load_module("ip_vs_sh")
    assert bench.host.modules(["ip_vs_sh"]) == {"ip_vs_sh": ModuleState.LIVE}


def test_a_module_in_use_cannot_be_unloaded(kernel_bench: Bench) -> None:
    kernel_bench.host.load_module("ip_vs_sh")

    with pytest.raises(OSError, match="in use"):
        kernel_bench.unload("ip_vs")


# --- sysctls ----------------------------------------------------------------------------


def test_a_sysctl_is_missing_while_its_module_is(bench: Bench) -> None:
    assert bench.host.read_sysctl(CONNTRACK) == MISSING


def test_a_sysctl_comes_with_its_module_at_the_kernels_default(bench: Bench) -> None:
    bench.host.load_module("ip_vs")

    assert bench.host.read_sysctl(CONNTRACK) == "0"


def test_a_sysctl_goes_with_its_module(bench: Bench) -> None:
    bench.host.load_module("ip_vs")
    bench.unload("ip_vs")

    assert bench.host.read_sysctl(CONNTRACK) == MISSING


def test_a_module_reload_resets_its_sysctls(bench: Bench) -> None:
    bench.host.load_module("ip_vs")
    bench.host.write_sysctl(CONNTRACK, "1")
    bench.unload("ip_vs")
    bench.host.load_module("ip_vs")

    assert bench.host.read_sysctl(CONNTRACK) == "0"


def test_a_written_value_is_read_back(bench: Bench) -> None:
    bench.host.load_module("ip_vs")
    bench.host.write_sysctl(CONNTRACK, "1")

    assert bench.host.read_sysctl(CONNTRACK) == "1"


def test_a_shorter_value_leaves_nothing_of_a_longer_one(bench: Bench) -> None:
    bench.host.load_module("ip_vs")
    bench.host.write_sysctl(DROP_RATE, "1000")
    bench.host.write_sysctl(DROP_RATE, "7")

    assert bench.host.read_sysctl(DROP_RATE) == "7"


def test_a_sysctl_without_a_module_can_be_written_and_restored(bench: Bench) -> None:
    before = bench.host.read_sysctl(ARP_IGNORE)
    assert isinstance(before, str)
    bench.host.write_sysctl(ARP_IGNORE, "1")
    assert bench.host.read_sysctl(ARP_IGNORE) == "1"

    bench.host.write_sysctl(ARP_IGNORE, before)
    assert bench.host.read_sysctl(ARP_IGNORE) == before


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
        assert bench.host.read_sysctl(ARP_IGNORE) == Unreadable("Too many open files", transient=True)
        assert bench.host.read_parameter("ip_vs.conn_tab_bits").reading == Unreadable(
            "Too many open files", transient=True
        )
    assert isinstance(bench.host.read_sysctl(ARP_IGNORE), str)


ASKS: list[Callable[[Host], object]] = [
    lambda host: host.kernel(NAMES),
    lambda host: host.modules(NAMES),
    lambda host: host.module_state("ip_vs"),
    lambda host: host.expand(["net.ipv4.conf.*.arp_ignore"]),
    lambda host: host.write_sysctl(ARP_IGNORE, "1"),
]


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
