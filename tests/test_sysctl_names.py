from __future__ import annotations

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
        pytest.param("", id="empty"),
        pytest.param("net", id="one part"),
        pytest.param("/net/ipv4/ip_forward", id="absolute"),
        pytest.param("/proc/sys/net/ipv4/ip_forward", id="with its mount point"),
        pytest.param(".net.ipv4", id="dot first"),
        pytest.param("net..ipv4", id="empty part"),
        pytest.param("net.ipv4.", id="nothing last"),
        pytest.param("net/../../etc/passwd", id="up"),
        pytest.param("../../etc/passwd", id="up at once"),
        pytest.param("net.ipv4.//.passwd", id="up, as dots turned round"),
        pytest.param("net/./ipv4", id="here"),
        pytest.param("net.ipv4.ip forward", id="space"),
        pytest.param("net.ipv4.ip_forward\n", id="newline"),
        pytest.param("net.ipv4.\0", id="NUL"),
        pytest.param("net.ipv4.\x7f", id="delete"),
        pytest.param("net.ipv4.\u202eforward", id="not ASCII"),
        pytest.param("net.ipv4.conf.*.rp_filter", id="pattern"),
        pytest.param("net.ipv4.conf.eth[01].rp_filter", id="set"),
        pytest.param("net.ipv4.conf\\x", id="backslash"),
    ],
)
def test_a_key_that_leaves_proc_sys_names_nothing(key: str) -> None:
    assert sysctl_names.parts(key) is None


@pytest.mark.parametrize("key", ["net.ipv4.ip_forward", "net.ipv4.conf.eth0/100.rp_filter"])
def test_both_spellings_of_a_key_have_one_name(key: str) -> None:
    path = sysctl_names.parts(key)
    assert path is not None
    assert sysctl_names.name(path) == key
    assert sysctl_names.parts("/".join(path)) == path


@pytest.mark.parametrize(
    ("text", "value"),
    [
        pytest.param("4096\t131072\t6291456\n", "4096 131072 6291456", id="as the kernel prints it"),
        pytest.param("  1 ", "1", id="spaces around"),
        pytest.param("", "", id="empty"),
    ],
)
def test_white_space_does_not_distinguish_values(text: str, value: str) -> None:
    assert sysctl_names.canonical(text) == value


@pytest.mark.parametrize(
    ("text", "number"),
    [
        pytest.param("262144", 262144, id="number"),
        pytest.param("-1", -1, id="negative"),
        pytest.param("18446744073709551615", 2**64 - 1, id="unsigned long"),
        pytest.param("1 2", None, id="two"),
        pytest.param("0x10", 16, id="hexadecimal"),
        pytest.param("", None, id="empty"),
        pytest.param("\u0663", None, id="digit of another script"),
        pytest.param("9" * 5000, None, id="endless"),
    ],
)
def test_an_integer_is_what_the_kernel_prints(text: str, number: object) -> None:
    assert values.integer(text) == number
