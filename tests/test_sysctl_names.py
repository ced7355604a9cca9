from __future__ import annotations

from typing import Optional

import pytest

from ipvsd.sysctl import sysctl_names, values


@pytest.mark.parametrize(
    ("key", "path"),
    [
        pytest.param("net.ipv4.ip_forward", "net/ipv4/ip_forward", id="dots"),
        pytest.param("net/ipv4/ip_forward", "net/ipv4/ip_forward", id="slashes"),
        pytest.param("net.ipv4.conf.eth0/100.rp_filter", "net/ipv4/conf/eth0.100/rp_filter", id="dots first"),
        pytest.param("net/ipv4/conf/eth0.100/rp_filter", "net/ipv4/conf/eth0.100/rp_filter", id="slashes first"),
        pytest.param("net.bridge.bridge-nf-call-iptables", "net/bridge/bridge-nf-call-iptables", id="dashes"),
        pytest.param("net.ipv4.conf.lxc123@if4.rp_filter", "net/ipv4/conf/lxc123@if4/rp_filter", id="at sign"),
    ],
)
def test_a_key_names_a_file_by_the_rule_of_sysctl_d(key: str, path: str) -> None:
    assert sysctl_names.parts(key) == tuple(path.split("/"))


@pytest.mark.parametrize(
    "key",
    [
        "", "net", "/net/ipv4/ip_forward", "/proc/sys/net/ipv4/ip_forward", ".net.ipv4", "net..ipv4", "net.ipv4.",
        "net/../../etc/passwd", "../../etc/passwd", "net/./ipv4", "net.ipv4.ip forward", "net.ipv4.ip_forward\n",
        "net.ipv4.\0", "net.ipv4.\x7f", "net.ipv4.\u202eforward", "net.ipv4.conf.*.rp_filter",
        "net.ipv4.conf.eth[01].rp_filter", "net.ipv4.conf\\x",
        "net.ipv4.//.passwd",  # up, as dots turned round
    ],
)  # fmt: skip
def test_a_key_that_leaves_proc_sys_names_nothing(key: str) -> None:
    assert sysctl_names.parts(key) is None


@pytest.mark.parametrize(("index", "part"), [(0, "net"), (3, "eth0.100"), (5, None), (9, None)])
def test_one_part_of_the_path_of_a_sysctl(index: int, part: Optional[str]) -> None:
    assert sysctl_names.part("net.ipv4.conf.eth0/100.rp_filter", index) == part


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4096\t131072\t6291456\n", "4096 131072 6291456"), ("  1 ", "1"), ("", ""),
    ],
)  # fmt: skip
def test_white_space_does_not_distinguish_values(text: str, value: str) -> None:
    assert sysctl_names.canonical(text) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        ("262144", 262144), ("-1", -1), ("18446744073709551615", 2**64 - 1), ("1 2", None), ("0x10", 16), ("", None),
        pytest.param("\u0663", None, id="digit of another script"), pytest.param("9" * 5000, None, id="endless"),
    ],
)  # fmt: skip
def test_an_integer_is_what_the_kernel_prints(text: str, number: object) -> None:
    assert values.integer(text) == number
