"""Texts of the kernel and its packages: /proc/modules, mounts, routes, CPUs, configuration, releases, os-release."""

from __future__ import annotations

import re

from hypothesis import example
from hypothesis import strategies as st

from ipvsd.kernel import module_tree, os_release, procfs
from ipvsd.model.types import Kernel, ModuleState
from ipvsd.modprobe import distro_packages, kconfig, kernel_names
from tests.fuzz.inputs import hostile, lines, text, words
from tests.fuzz.properties import fuzz

NAMES = ("ip_vs", "ip_vs_rr", "nf_conntrack")
STATES = [state.value for state in ModuleState]

MODULE = st.builds(
    "{} 16384 {} {} {} 0x0000000000000000".format,
    st.sampled_from([*NAMES, "x", "ip-vs"]),
    st.integers(0, 9),
    st.sampled_from(["-", "ip_vs_rr,ip_vs_wrr,", "[permanent],"]),
    st.sampled_from([*STATES, "live", ""]),
)
PROC_MODULES = hostile(lines(MODULE, MODULE, words(*NAMES, "0", "-", "Live")))
RECORDS = st.dictionaries(st.sampled_from([*NAMES, "x"]), st.sampled_from(list(ModuleState)))

MOUNTS = hostile(
    lines(
        st.builds(
            "36 25 0:32 / {} {} shared:1 - proc proc {}".format,
            st.sampled_from(["/proc", "/proc/sys", "/proc/sys/net", "/proc/sys\\040x", "/", "/sys", "/proc/"]),
            st.sampled_from(["rw,nosuid", "ro", "ro,relatime"]),
            st.sampled_from(["rw", "ro"]),
        ),
        words("36", "/proc", "ro", "-"),
    )
)
ROUTES = hostile(
    lines(
        st.builds(
            "{} {} {} 00 fe80000000000000 00000400 00000001 00000000 {} {}".format,
            st.sampled_from(["0" * 32, "f" * 32]),
            st.sampled_from(["00", "40"]),
            st.just("0" * 32),
            st.sampled_from(["00450003", "00000003", "zz", "ffffffffff"]),
            st.sampled_from(["eth0", "lo", "é"]),
        )
    )
)
CPUS = hostile(words("0", "0-3", "5", "7-2", "0-999999", "999999-0", "x", apart=","))
RELEASES = hostile(
    st.sampled_from("""
        6.1.0-50-cloud-amd64 5.14.0-503.el9.x86_64 5.15.0-100.96.32.el9uek.x86_64 6.8.12-4-pve 6.8.0-45-generic
        5.15.90.1-microsoft-standard-WSL2 6.12.9+bpo-amd64 4.18.0-553.el8_10.x86_64+rt 6.6.31+rpt-rpi-v8
        5.10.0-30-rt-amd64
    """.split())
)  # fmt: skip
DISTRIBUTIONS = st.sampled_from(["debian", "ubuntu", "rhel", "ol", "alpine", "arch", "talos", "raspbian", "x", ""])
OS_RELEASE = hostile(
    lines(
        words("ID=", "debian", '"', "'", "ID_LIKE=x", "#", apart="", most=4),
        st.sampled_from(['NAME="A B"', "ID=debian", 'ID="ol"', "ID='sles_sap'", "ID=", " ID=x", "export ID=x"]),
    )
)
KCONFIG = hostile(
    lines(
        st.builds(
            "{}{}{}".format,
            st.sampled_from(["", "# ", " "]),
            st.sampled_from(["CONFIG_IP_VS", "CONFIG_IP_VS_RR", "CONFIG_NETFILTER", "CONFIG_X"]),
            st.sampled_from(["=y", "=m", '="a=b"', " is not set", "=", ""]),
        )
    )
)


@fuzz(PROC_MODULES)
def test_only_queried_modules_are_reported_and_live_means_live(data: bytes) -> None:
    said = text(data)
    found, live = procfs.proc_modules(said, NAMES), procfs.live_modules(said)
    assert set(found) <= set(NAMES)
    assert {name for name, state in found.items() if state is ModuleState.LIVE} <= live
    assert all(name and not name.isspace() for name in live)
    assert procfs.proc_modules(said + "\nx 1 0 - Live 0x0\n", NAMES) == found


@fuzz(RECORDS, PROC_MODULES.filter(lambda data: not any(name.encode() in data for name in NAMES)))
def test_modules_are_read_as_the_kernel_prints_them(records: dict[str, ModuleState], others: bytes) -> None:
    said = "".join(f"{name} 1 0 - {state.value} 0x0\n" for name, state in records.items())
    expected = {name: state for name, state in records.items() if name in NAMES}
    for whole in (said + text(others), f"{text(others)}\n{said}"):
        assert procfs.proc_modules(whole, NAMES) == expected


@fuzz(MOUNTS, st.sampled_from(["/proc/sys", "/proc/sys/net", "/proc/sys/"]))
def test_the_last_mount_decides_what_is_read_only(data: bytes, path: str) -> None:
    said = text(data)
    found = procfs.read_only(said, path)
    assert procfs.read_only(f"{said}\n1 1 0:1 / /sys ro - sysfs sysfs ro\n", path) is found
    for flag in ("ro", "rw"):
        last = f"1 1 0:1 / {path.rstrip('/')} {flag} - proc proc rw"
        assert procfs.read_only(f"{said}\n{last}\n", path) is (flag == "ro")


@fuzz(ROUTES)
def test_routes_are_of_interfaces_that_are_named(data: bytes) -> None:
    said = text(data)
    for name, learnt in procfs.ipv6_default_routes(said).items():
        assert name in said
        assert name != "lo"
        assert isinstance(learnt, bool)


@fuzz(CPUS)
def test_a_number_of_cpus_is_bounded_by_what_is_written(data: bytes) -> None:
    said = text(data)
    assert 0 <= procfs.cpu_count(said) <= 1_000_000 * (said.count(",") + 1)
    assert procfs.cpu_count(f"0-3,{said}") == 4 + procfs.cpu_count(f"x,{said}")


@fuzz(RELEASES, RELEASES, RELEASES, DISTRIBUTIONS)
@example(b"6.1", b"6.01", b"9" * 5000, "debian")
def test_releases_have_an_order_and_a_package(one: bytes, other: bytes, third: bytes, distribution: str) -> None:
    releases = [text(data) for data in (one, other, third)]
    order = sorted(map(module_tree.version, releases))
    assert sorted(map(module_tree.version, releases[::-1])) == order
    for release in releases:
        assert module_tree.version(release) < module_tree.version(f"{release}.1") < module_tree.version(f"{release}.10")
        assert kernel_names.kernel_version(release) >= (0, 0)
        kernel = Kernel(release, distribution, 1, True, True, frozenset(), frozenset())
        assert distro_packages.advice(kernel)
        known = distro_packages.find_package(kernel)
        assert known is None or distribution in known.distributions


@fuzz(OS_RELEASE)
@example(b'ID="o')
@example(b"ID=centos\nID=rocky\n")
@example(b"A=1\n" + b"A=$A$A\n" * 60)
def test_a_distribution_is_a_name_and_the_last_line_wins(data: bytes) -> None:
    variables = os_release.parse(text(data))
    assert re.fullmatch("[a-z0-9._-]*", os_release.distribution(variables))
    assert sum(map(len, variables.values())) <= len(data) + (1 << 20)


@fuzz(KCONFIG)
def test_an_option_is_not_both_set_and_left_out(data: bytes) -> None:
    found = kconfig.options(text(data))
    modules = (*NAMES, "ip_vs_rr")
    assert all(option.startswith("CONFIG_") for option in found)
    assert not set(kconfig.built_in(found, modules)) & set(kconfig.unset_options(found, modules))
