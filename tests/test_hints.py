"""No hint of a configuration error suggests a value that is refused in its place."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.config.profiles import SCHEDULERS
from ipvsd.config.spelling import known_sysctls
from tests.configured import errors

pytestmark = pytest.mark.system

KEYS = ("net.ipv4.ip_forward", "kernel.modules_disabled", "net.core.somaxconn", "net.a.b", "net.ipv4.conf.*.rp_filter")
PLACES = (
    "interval: HERE", "startup: {mode: HERE}", "startup: {limit: HERE}", "contention: {repairs: HERE}",
    "contention: {window: HERE}", "kubeProxyVersion: HERE", "scheduler: HERE", "profiles: HERE", "profiles: [HERE]",
    "strictARP: HERE", "web: {listen: HERE}", "web: {listen: [HERE]}",
    "guard: {allow: HERE}", "guard: {allow: [HERE]}",
    "modules: {x: {anyOf: HERE}}", "modules: {x: {anyOf: [HERE]}}", "modules: {dummy: HERE}",
    "modules: {dummy: {required: HERE}}", "modules: {dummy: {parameters: {a: HERE}}}", "modules: {HERE: {}}",
    "sysctls: {net.ipv4.conf.*.rp_filter: {value: 1, exclude: HERE}}",
    "sysctls: {net.ipv4.conf.*.rp_filter: {value: 1, exclude: [HERE]}}",
    "sysctls: {net.a.b: {value: 1, policy: HERE}}", "sysctls: {net.a.b: {value: 1, guard: HERE}}",
    "sysctls: {net.a.b: {atLeast: HERE}}",
    *(text for key in KEYS for text in (
        f"sysctls: {{{key}: HERE}}", f"sysctls: {{{key}: {{value: HERE}}}}", f"sysctls: {{{key}: {{oneOf: HERE}}}}",
        f"sysctls: {{{key}: {{oneOf: [HERE]}}}}",
    )),
)  # fmt: skip
VALUES = (
    "true", "false", "yes", "no", "on", "off", "NO", "null", "~", '""', "1", "010", "08", "1.5", "-1", "0x10", "1e3",
    "1_000", "text", "[1, 2]", "[a, b]", "[]", "{a: b}", "2026-01-01", "12:30:00", "rr", "ip_vs_lc", "RR", "99", "1.05",
    "30", "130", "1.99", "lvs-full", "'a b'", "'true'", "'off'", "eth0/1", "a=b", "'*'", "500ms", "5m", "010s",
    "127.0.0.1:0", "kubelet", "ip_vs.ko", "ip-vs", "br_netfiler", '"a\\"b"', '["a\\"b", "\\\\"]', "!!binary aGk=",
)  # fmt: skip


def suggested(error: str) -> Iterator[str]:
    """Yield the values that an error suggests."""
    what, _, hint = error.rpartition(" (")
    hint = hint.rstrip(")")
    known = re.search(r"must be one of (.*)", what)
    if known:
        yield from known[1].split(", ")
    if "use false if ipvsd must not manage the sysctl" in hint:
        yield "false"
    for pattern in (
        r"the kernel expects a number: (\w+)",
        r"quote the (?:value|name): (\".*\")(?:;|\Z)",
        r"\Awrite (?!the value|the bytes|KEY: VALUE)([^ ,;]+)",
        r"remove the prefix: (.*)",
    ):
        yield from re.findall(pattern, hint)
    examples = re.match(r"(?:such as|did you mean) (.*?)\??\Z", hint.partition("? If ")[0])
    if examples and examples[1].startswith("["):
        yield from re.findall(r"\[.*?\]", examples[1])
    elif examples:
        yield from re.split(", | or ", examples[1])


def refused(place: str, value: str) -> bool:
    """Return whether a value is invalid in a place, also as the only item of a list."""
    if value.startswith("[") and value.endswith("]"):  # it replaces the list that contains it
        return bool(errors(place.replace("[HERE]", "HERE").replace("HERE", value)))
    value = f"'{value}'" if value.startswith("[") else value
    return bool(errors(place.replace("HERE", value)) and errors(place.replace("HERE", f"[{value}]")))


@pytest.mark.parametrize("value", VALUES)
def test_a_suggested_value_is_accepted(value: str) -> None:
    wrong = [
        f"{hint}: {error}"
        for place in PLACES
        for error in errors(place.replace("HERE", value))
        for hint in suggested(error)
        if refused(place, hint)
    ]
    assert wrong == []


def test_hints_are_found() -> None:
    told = {
        place: list(suggested(error))
        for place in PLACES
        for value in ("off", "text", "[1, 2]", "99")
        for error in errors(place.replace("HERE", value))
    }
    assert len([place for place, found in told.items() if found]) > len(PLACES) // 2


NAMES = [f"{place.replace('*', 'eth0')}.{leaf}" for place, leaves in known_sysctls().items() for leaf in leaves]
NAMES += [f"/proc/sys/{name.replace('.', '/')}" for name in NAMES[::7]]
MODULES = [f"ip_vs_{name}" for name in SCHEDULERS] + ["nf_conntrack", "br_netfilter", "iptable_nat", "xt_MASQUERADE"]


@st.composite
def misspelt(draw: Any, names: list[str]) -> str:
    """Return a name with a letter omitted, added, swapped or in the other case."""
    name: str = draw(st.sampled_from(names))
    at = draw(st.integers(0, len(name) - 1))
    letter = draw(st.sampled_from(["", name[at] * 2, name[at].swapcase(), "x", "_", "-", ".", "/", "=", "#", "\u00e9"]))
    return f"{name[:at]}{letter}{name[at + 1 :]}"


@given(misspelt(NAMES))
def test_the_name_of_a_sysctl_that_a_hint_names_is_taken(name: str) -> None:
    for error in errors(f"sysctls: {{'{name}': {{value: 1, required: true}}}}"):
        for hint in suggested(error):
            again = errors(f"sysctls: {{'{hint.partition(':')[0]}': {{value: 1, required: true}}}}")
            assert [told for told in again if "a number for it" not in told] == [], error


@given(misspelt(MODULES))
def test_the_name_of_a_module_that_a_hint_names_is_taken(name: str) -> None:
    for error in errors(f"modules: {{'{name}': {{}}}}"):
        for hint in suggested(error):
            assert errors(f"modules: {{{hint}: {{}}}}") == (), error
