"""The model of /proc/sys. tests/differential compares it with the kernel."""

from __future__ import annotations

from typing import Optional

import pytest

from ipvsd.conflicts import sysctl_d
from ipvsd.sysctl import semantics, values
from ipvsd.sysctl.semantics import INITIAL, ProcSys, StoredValue, accepted_value, matching

FORWARD = "net/ipv4/ip_forward"
ALL, DEFAULT, ETH = (f"net/ipv4/conf/{interface}/forwarding" for interface in ("all", "default", "eth0"))


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("1", "1"), ("1 # kubelet", "1"), ("1\t#", "1"), ("1 0", "1"), ("0x1", "1"), ("010", "8"), ("-1", "-1"),
        (" 1 ", "1"), ("-2147483648", "-2147483648"),
        *((text, None) for text in ("1# kubelet", "1;", "1,2", '"1"', "+1", "yes", "08", "", "# 1")),
        ("2147483648", None), ("-2147483649", None), ("0" * 21, None),
    ],
)  # fmt: skip
def test_a_sysctl_of_one_integer_takes_a_number_up_to_the_first_blank(text: str, value: str | None) -> None:
    assert accepted_value(FORWARD, text) == value


@pytest.mark.parametrize(("text", "value"), [("1", "1"), ("1 # for CIS", "1"), ("0", None), ("2", None)])
def test_a_value_out_of_bounds_is_refused(text: str, value: str | None) -> None:
    assert accepted_value("kernel/modules_disabled", text) == value


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("4096	131072  6291456", "4096 131072 6291456"), ("4096 131072 6291456 # wide", "4096 131072 6291456"),
        ("4096 131072 6291456 #wide", "4096 131072 6291456"),
        *((text, text) for text in ("|/bin/sh -c # x", "bbr # best", "# x")),
    ],
)  # fmt: skip
def test_a_comment_after_numbers_is_left_out_for_other_sysctls(text: str, value: str) -> None:
    assert accepted_value("net/ipv4/tcp_rmem", text) == value


def test_a_change_of_forwarding_goes_to_all_interfaces() -> None:
    kernel = ProcSys([ETH, DEFAULT], {FORWARD: "0", ETH: "0"})
    assert kernel.write(ETH, "0", 0)
    assert kernel.write(ALL, "1", 1)
    assert [kernel[path] for path in (FORWARD, ALL, DEFAULT, ETH)] == [StoredValue("1", 1)] * 4
    assert kernel.write(FORWARD, "1", 2)  # no change, so it is not copied
    assert kernel[ETH] == StoredValue("1", 1)


def test_the_default_is_copied_to_interfaces_without_a_setting() -> None:
    one, other = (f"net/ipv4/conf/{link}/rp_filter" for link in ("eth0", "eth1"))
    kernel = ProcSys([one, other], {})
    kernel.write(one, "bad", 0)  # refused, but it marks the sysctl as set
    kernel.write("net/ipv4/conf/default/rp_filter", "2", 1)
    assert (kernel[one], kernel[other]) == (None, StoredValue("2", 1))


def test_a_writer_that_reads_an_equal_value_first_sets_nothing() -> None:
    one = "net/ipv4/conf/eth0/rp_filter"
    kernel = ProcSys([one], {one: "0"})
    kernel.write(one, "0", 0, anew=False)
    kernel.write("net/ipv4/conf/default/rp_filter", "2", 1)
    assert kernel[one] == StoredValue("2", 1)


def test_a_refused_text_changes_nothing() -> None:
    kernel = ProcSys([FORWARD], {FORWARD: "0"})
    assert not kernel.write(FORWARD, "yes", 0)
    assert kernel[FORWARD] == StoredValue("0", INITIAL)


def test_a_pattern_matches_paths_part_by_part_and_no_leading_period() -> None:
    paths = [f"net/ipv4/conf/{link}/rp_filter" for link in ("lo", "eth0", ".x", "all")]
    found = matching(["net/ipv4/conf/*/rp_filter", "net/ipv4/conf/e*/rp_filter", "net/*/rp_filter"], paths)
    assert list(found.values()) == [[paths[3], paths[1], paths[0]], [paths[1]], []]


def test_the_text_of_a_pattern_is_judged_once_for_all_interfaces(monkeypatch: pytest.MonkeyPatch) -> None:
    judged: list[str] = []
    integer = values.integer

    def counted(text: str) -> Optional[int]:
        judged.append(text)
        return integer(text)

    monkeypatch.setattr(values, "integer", counted)
    patterns = [f"net/ipv4/conf/*{'?' * count}/rp_filter = 90{count}" for count in range(9)]
    lines = list(sysctl_d.assignments("x.conf", "\n".join(patterns)))
    counts = []
    for size in (10, 100):
        semantics._accepted.cache_clear()
        judged.clear()
        paths = [f"net/ipv4/conf/interface{number}/rp_filter" for number in range(size)]
        sysctl_d.simulate_systemd_sysctl(lines, paths)
        counts.append(len(judged))
    assert counts[0] == counts[1] == len(patterns)
