"""The meaning of numbers in a configuration, and the combination of a person's bound with that of a profile."""

from __future__ import annotations

from typing import Optional

import pytest

from ipvsd.config.desired_state import build_desired
from ipvsd.model.types import Within
from ipvsd.sysctl.semantics import accepted_value
from ipvsd.sysctl.values import integer
from tests.configured import config, errors
from tests.samples import kernel

MAX = "net.netfilter.nf_conntrack_max"


# --- 010 --------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (f"0x00{'f' * 16}", (1 << 64) - 1), (f"-0x0{'f' * 16}", 1 - (1 << 64)), (f"0x01{'0' * 16}", None),
        (f"0x{'f' * 17}", None), (f"0x000{'f' * 16}", None), ("18446744073709551615", (1 << 64) - 1),
        ("18446744073709551616", None),
        (f"0{'0' * 18}1", 1), (f"0{'0' * 19}1", None), ("01777777777777777777777", None),
    ],
)  # fmt: skip
def test_a_number_has_at_most_20_characters_and_64_bits(text: str, number: Optional[int]) -> None:
    """See proc_get_long() in kernel/sysctl.c, which refuses longer texts and larger numbers."""
    assert integer(text) == number


@pytest.mark.parametrize(("text", "number"), [("010", 8), ("0x1f", 31), ("-010", -8), ("0", 0), ("00", 0), ("10", 10)])
def test_a_number_has_the_meaning_of_the_kernel_everywhere(text: str, number: int) -> None:
    made = config(f"sysctls: {{net.a.b: {{atLeast: {text}, atMost: {text}}}}}")
    assert made.sysctls["net.a.b"].want == Within(number, number)
    assert integer(text) == number
    assert accepted_value("net/core/somaxconn", text) == (str(number) if number >= 0 else None)
    if number > 0:
        assert config(f"contention: {{repairs: {text}}}").contention_repairs == number


@pytest.mark.parametrize("text", ["08", "1_000", "1.0", "1e3", "0o17", "0b1"])
def test_a_text_that_the_kernel_does_not_read_as_a_number_is_not_one(text: str) -> None:
    (found,) = errors(f"sysctls: {{net.a.b: {{atLeast: {text}}}}}")
    assert found.startswith("0.yaml:1: sysctls.net.a.b.atLeast: must be an integer, not ")


@pytest.mark.parametrize("text", ["010", "010s", "00", "08m", "0o17"])
def test_a_time_has_no_zero_in_front(text: str) -> None:
    (found,) = errors(f"interval: {text}")
    assert found.startswith("0.yaml:1: interval: must be a duration, not ")


# --- one bound of a range ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("said", "cpus", "floor", "ceiling"),
    [
        ("{atMost: 1048576}", 2, 131072, 1048576), ("{atMost: 1048576}", 8, 262144, 1048576),
        ("{atMost: 200000}", 32, 200000, 200000), ("{atMost: 131072}", 2, 131072, 131072), ("{atLeast: 5}", 2, 5, None),
        ("{atLeast: 5, atMost: 7}", 2, 5, 7), ("{policy: observe}", 2, 131072, None),
    ],
)  # fmt: skip
def test_one_bound_leaves_the_other_one_to_the_profile(
    said: str, cpus: int, floor: int, ceiling: Optional[int]
) -> None:
    wanted = build_desired(config(f"sysctls: {{{MAX}: {said}}}"), kernel(cpus=cpus), {}, {})
    (found,) = (sysctl for sysctl in wanted.sysctls if sysctl.key == MAX)
    assert found.want == Within(floor, ceiling)


def test_a_bound_that_leaves_nothing_of_the_profile_is_refused() -> None:
    assert errors(f"sysctls: {{{MAX}: {{atMost: 131071}}}}") == (
        f"0.yaml:1: sysctls.{MAX}: 'atMost' is below 131072, the minimum of profile kube-proxy-ipvs (add 'atLeast')",
    )
    assert config(f"profiles: []\nsysctls: {{{MAX}: {{atMost: 5}}}}").sysctls[MAX].want == Within(None, 5)
