"""Names and values of sysctls: in the configuration, in files, and as the kernel prints them."""

from __future__ import annotations

from typing import Optional

from hypothesis import example
from hypothesis import strategies as st

from ipvsd.model.types import Exactly, OneOf, Want, Within
from ipvsd.sysctl import semantics, sysctl_names, values
from tests.fuzz.inputs import hostile, text, words
from tests.fuzz.properties import fuzz

KEYS = """
net.ipv4.ip_forward net.ipv4.conf.eth0.rp_filter net.ipv4.vs.drop_entry net.core.somaxconn kernel.modules_disabled
net.ipv4.tcp_rmem net.ipv4.ip_local_reserved_ports net.core.flow_limit_cpu_bitmap net.netfilter.nf_conntrack_max
""".split()
NUMBERS = """
0 1 2 -1 01 010 08 0x1F 0X1f 0x -0 +1 2147483647 2147483648 -2147483648 -2147483649 4294967295 18446744073709551615
18446744073709551616 00000000000000000001 1# 1#2 # 1-3 1,2,3 3-1 1-2,3-4 00000000,00000001 ff 1.5 1e3 Y N on off yes
""".split()
VALUE = hostile(words(*NUMBERS, "\t", "\v", "\x1c", "\x85", most=6))
NAME = hostile(words("net", "ipv4", "conf", "eth0", "eth0.100", "*", "..", ".", "/", "\\x2a", "=", "-", apart="."))
SLASHED = hostile(words("net", "ipv4", "conf", "eth0", "eth0.100", "*", "..", "%", ";", apart="/"))
INTEGERS = st.one_of(st.integers(-(2**31), 2**31 - 1), st.sampled_from([0, 1, -1]))
WANTS = st.one_of(
    st.builds(Exactly, st.sampled_from(NUMBERS)),
    st.builds(OneOf, st.lists(st.sampled_from(NUMBERS), min_size=1, max_size=3).map(tuple)),
    INTEGERS.map(Within),
    INTEGERS.map(lambda ceiling: Within(None, ceiling)),
    st.builds(lambda floor, width: Within(floor, floor + width), INTEGERS, st.integers(0, 1000)),
)


def path(key: str) -> str:
    return "/".join(sysctl_names.parts(key) or ())


@fuzz(st.one_of(NAME, SLASHED), quick=15)
def test_a_name_stays_below_proc_sys_and_is_one_name(data: bytes) -> None:
    key = text(data)
    parts = sysctl_names.parts(key)
    if parts is None:
        return
    assert len(parts) > 1
    assert not {"", ".", ".."} & set(parts)
    assert not any("/" in part or "\0" in part for part in parts)
    name = sysctl_names.name(parts)
    assert sysctl_names.name(sysctl_names.parts(name) or ()) == name
    assert name.isascii()
    assert name.isprintable()
    assert " " not in name
    # The other spelling.
    turned = key.translate({ord("."): "/", ord("/"): "."})
    assert sysctl_names.name(sysctl_names.parts(turned) or ()) == name


@fuzz(VALUE)
def test_a_canonical_value_stays_unchanged(data: bytes) -> None:
    value = sysctl_names.canonical(text(data))
    assert sysctl_names.canonical(value) == value
    assert "\n" not in value
    assert "  " not in value


@fuzz(st.sampled_from(KEYS), VALUE, VALUE, quick=60)
def test_the_order_of_two_values_does_not_matter(key: str, one: bytes, other: bytes) -> None:
    first, second = sysctl_names.canonical(text(one)), sysctl_names.canonical(text(other))
    assert values.equivalent(key, first, first)
    assert values.equivalent(key, first, second) is values.equivalent(key, second, first)


@fuzz(st.sampled_from(KEYS), WANTS, VALUE, quick=60)
def test_the_written_value_is_compliant(key: str, want: Want, data: bytes) -> None:
    found = sysctl_names.canonical(text(data))
    if values.can_be_met(want, found):
        made = values.value_to_write(want, found)
        assert values.satisfies(key, made, want)
        assert sysctl_names.canonical(made) == made


@fuzz(st.sampled_from(KEYS), VALUE)
@example("net.core.somaxconn", b"010")
@example("net.core.somaxconn", b"1# note")
def test_a_number_means_the_same_everywhere(key: str, data: bytes) -> None:
    said = text(data)
    taken = semantics.accepted_value(path(key), said)
    if taken is None:
        return
    assert semantics.accepted_value(path(key), taken) == taken
    number: Optional[int] = values.integer(sysctl_names.canonical(said))
    if number is not None and key in ("net.ipv4.ip_forward", "net.core.somaxconn", "kernel.modules_disabled"):
        assert int(taken) == number
        assert -(2**31) <= number < 2**31


@fuzz(VALUE, quick=30)
def test_a_number_is_read_as_it_is_printed(data: bytes) -> None:
    number = values.integer(text(data))
    if number is not None:
        assert values.integer(str(number)) == number
        assert values.satisfies("net.core.somaxconn", str(number), Within(number, number))


WRITES = st.lists(
    st.tuples(
        st.sampled_from([
            "net/ipv4/ip_forward", "net/ipv4/conf/all/forwarding", "net/ipv4/conf/default/forwarding",
            "net/ipv4/conf/eth0/forwarding", "net/ipv4/conf/default/rp_filter", "net/ipv4/conf/eth0/rp_filter",
            "net/x/y",
        ]),
        st.one_of(st.sampled_from(NUMBERS), st.text(max_size=5)),
        st.booleans(),
    ),
    max_size=10,
)  # fmt: skip


@fuzz(WRITES)
def test_the_stored_value_comes_from_a_write_that_was_not_refused(writes: list[tuple[str, str, bool]]) -> None:
    paths = ["net/ipv4/ip_forward", "net/ipv4/conf/eth0/forwarding", "net/ipv4/conf/eth0/rp_filter"]
    kernel = semantics.ProcSys(paths, {"net/ipv4/ip_forward": "0"})
    taken = [kernel.write(to, said, number, anew) for number, (to, said, anew) in enumerate(writes)]
    for asked in paths:
        held = kernel[asked]
        if held is not None and held.write_number != semantics.INITIAL:
            to, said, _ = writes[held.write_number]
            assert held.value == semantics.accepted_value(to, said)
            assert taken[held.write_number]
    # Both files of one variable contain the same value.
    assert kernel["net/ipv4/ip_forward"] == kernel["net/ipv4/conf/all/forwarding"]
