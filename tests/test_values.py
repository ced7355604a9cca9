"""Values with the same meaning, and others."""

from __future__ import annotations

import pytest

from ipvsd.model.types import Exactly, OneOf, Want, Within
from ipvsd.sysctl.values import equivalent, satisfies, value_to_write

KEY = "net.ipv4.ip_forward"
PORTS = "net.ipv4.ip_local_reserved_ports"
MASK = "net.core.rps_default_mask"
DROP = "net.ipv4.vs.drop_entry"


@pytest.mark.parametrize(
    ("name", "one", "other", "expected"),
    [
        pytest.param(KEY, "1", "1", True, id="equal"),
        pytest.param(KEY, "1", "0", False, id="different"),
        pytest.param(KEY, "0x1f", "31", True, id="hexadecimal"),
        pytest.param(KEY, "010", "8", True, id="octal, as the kernel reads it"),
        pytest.param(KEY, "010", "10", False, id="not decimal"),
        pytest.param(KEY, "08", "8", False, id="no number at all"),
        pytest.param(KEY, "-1", "-1", True, id="negative"),
        pytest.param(KEY, "-1", "4294967295", True, id="without its sign, 32 bits"),
        pytest.param(KEY, "-1", "18446744073709551615", True, id="without its sign, 64 bits"),
        pytest.param(KEY, "-2", "4294967295", False, id="another one without its sign"),
        pytest.param("net.ipv4.tcp_rmem", "4096 131072 6291456", "4096 131072 6291456", True, id="three numbers"),
        pytest.param(
            "net.ipv4.tcp_rmem", "4096 0x20000 6291456", "4096 131072 6291456", True, id="one of three in hex"
        ),
        pytest.param("net.ipv4.tcp_rmem", "4096 131072", "4096 131072 6291456", False, id="two of three"),
        pytest.param("net.core.default_qdisc", "fq", "fq", True, id="a word"),
        pytest.param("net.core.default_qdisc", "fq", "fq_codel", False, id="another word"),
        pytest.param(PORTS, "8080,8081,9000", "8080-8081,9000", True, id="neighbours are joined"),
        pytest.param(PORTS, "9000,8080-8081", "8080-8081,9000", True, id="in order"),
        pytest.param(PORTS, "8080-8090,8085-8099", "8080-8099", True, id="overlapping"),
        pytest.param(PORTS, "1-2,5-6,7-8", "1-2,5-8", True, id="neighbours after another range"),
        pytest.param(PORTS, "8080", "8080-8081", False, id="not all of them"),
        pytest.param(PORTS, "", "", True, id="none"),
        pytest.param(PORTS, "", "8080", False, id="none and one"),
        pytest.param("net.ipv4.vs.est_cpulist", "0-3,5", "0,1-3,5", True, id="CPUs"),
        pytest.param(MASK, "f", "00000000,0000000f", True, id="a mask"),
        pytest.param(MASK, "0xff", "ff", True, id="a mask with a prefix"),
        pytest.param(MASK, "f", "00000000,0000001f", False, id="another mask"),
        pytest.param(MASK, "x", "f", False, id="no mask"),
        pytest.param(DROP, "1", "2", True, id="it changes by itself"),
        pytest.param(DROP, "1", "0", False, id="not to off"),
        pytest.param(DROP, "3", "2", False, id="not from always"),
        pytest.param(KEY, "1", "2", False, id="others do not change by themselves"),
        pytest.param("ip_vs.x", "1", "Y", True, id="a truth value of a module"),
        pytest.param("ip_vs.x", "n", "1", False, id="the other one"),
        pytest.param("ip_vs.x", "N", "Y", False, id="the other one, as a module prints both"),
    ],
)
def test_two_values(name: str, one: str, other: str, expected: bool) -> None:
    assert equivalent(name, one, other) is expected
    assert equivalent(name, other, one) is expected


@pytest.mark.parametrize(
    ("value", "want", "right", "written"),
    [
        pytest.param("1", Exactly("1"), True, "1", id="equal"),
        pytest.param("0", Exactly("1"), False, "1", id="not equal"),
        pytest.param("5", Within(5), True, "5", id="at the floor"),
        pytest.param("6", Within(5), True, "6", id="above the floor"),
        pytest.param("4", Within(5), False, "5", id="below the floor"),
        pytest.param("4", Within(None, 5), True, "4", id="below the ceiling"),
        pytest.param("6", Within(None, 5), False, "5", id="above the ceiling"),
        pytest.param("4", Within(5, 9), False, "5", id="below a range"),
        pytest.param("10", Within(5, 9), False, "9", id="above a range"),
        pytest.param("-1", Within(0), False, "0", id="negative"),
        pytest.param("5 6", Within(5), False, "5", id="two numbers"),
        pytest.param("", Within(0), False, "0", id="nothing"),
        pytest.param("2", OneOf(("0", "2")), True, "0", id="one of them"),
        pytest.param("1", OneOf(("0", "2")), False, "0", id="none of them"),
    ],
)
def test_a_desired_value_and_the_written_one(value: str, want: Want, right: bool, written: str) -> None:
    assert satisfies(KEY, value, want) is right
    assert value_to_write(want, value) == written
