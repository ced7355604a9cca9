"""The persisted file has the same meaning for systemd-sysctl as the configuration for the daemon."""

from __future__ import annotations

import ctypes
import json
import time
from collections.abc import Mapping, Sequence
from typing import Any, Optional

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.boot import drop_in_files, sysctl_drop_in
from ipvsd.config.parser import parse
from ipvsd.config.schema import Config
from ipvsd.conflicts.sysctl_d import assignments, simulate_systemd_sysctl
from ipvsd.model.types import Policy, SysctlFinding
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.sysctl import sysctl_names
from ipvsd.sysctl.values import satisfies
from tests.fake_kernel import FakeKernel

pytestmark = pytest.mark.system

LINKS = ("all", "default", "lo", "eth0", "eth0.1", "veth1", ".x", "a*b", "axb", "br[0]", "back\\s", "\xc3\xa9", "\xff")
LATER = ("eth7", "veth9", "vet", "lx", "lxc77", "a*c", "br[1]", "\xe9", "abcdefghijklmno")
LEAVES = ("rp_filter", "forwarding", "arp_ignore")


def path(link: str, leaf: str) -> sysctl_names.Path:
    return ("net", "ipv4", "conf", link, leaf)


def kernel(links: Sequence[str]) -> FakeKernel:
    """Return a kernel with these interfaces, one character for a byte."""
    names = dict.fromkeys(sysctl_names.name(path(link, leaf)) for link in links for leaf in LEAVES)
    return FakeKernel(values={**dict.fromkeys(names, "0"), "net.netfilter.nf_conntrack_max": "65536"})


def config(settings: Mapping[str, Any], profiles: Any = "none") -> Config:
    return parse([("f", json.dumps({"profiles": profiles, "sysctls": settings}).encode())])


def held(links: Sequence[str], made: Config) -> Mapping[sysctl_names.Path, SysctlFinding]:
    """Return the daemon's findings, by every path of a sysctl."""
    _, plan = observe_and_plan(kernel(links), made)
    findings = (finding for finding in plan.sysctls if finding.desired.policy is not Policy.OBSERVE)
    return {path: finding for finding in findings for path in sysctl_names.paths(finding.name)}


def body(links: Sequence[str], made: Config) -> str:
    return drop_in_files.build(made, *observe_and_plan(kernel(links), made))[drop_in_files.SYSCTL]


_FNMATCH = ctypes.CDLL(None).fnmatch
_PERIOD = 4  # FNM_PERIOD: like glob(3) for each part


def _is_wild(key: str) -> bool:
    return any(sign in key for sign in "*?[")


def _fits(key: str, own: str) -> bool:
    """Return whether glob(3) returns a path for a key."""
    parts = zip(key.split("/"), own.split("/"))
    judged = all(_FNMATCH(glob.encode("latin-1"), part.encode("latin-1"), _PERIOD) == 0 for glob, part in parts)
    return judged and key.count("/") == own.count("/")


def written(text: str, paths: Sequence[sysctl_names.Path]) -> Mapping[sysctl_names.Path, str]:
    """Return the values that systemd-sysctl writes by its two rules, without those that the kernel copies."""
    kept: dict[str, Optional[str]] = {}
    for line in assignments("f", text):
        kept.pop(line.path, None)
        kept[line.path] = line.value
    found: dict[sysctl_names.Path, str] = {}
    for key, value in kept.items():
        for path in paths:
            own = "/".join(path)
            if value is not None and (key == own or (_is_wild(key) and own not in kept and _fits(key, own))):
                found[path] = value
    return found


def universe(links: Sequence[str]) -> list[sysctl_names.Path]:
    others = (*sysctl_names.paths("net.ipv4.ip_forward")[:1], *sysctl_names.paths("net.netfilter.nf_conntrack_max"))
    return [*(path(link, leaf) for link in links for leaf in LEAVES), *others]


def differences(text: str, links: Sequence[str], made: Config) -> list[str]:
    """Return the differences between the file and the daemon."""
    wanted, paths = held(links, made), universe(links)
    found = written(text, paths)
    told = [f"{path} is written" for path in paths if path in found and path not in wanted]
    asked = {"/".join(path): finding for path, finding in wanted.items() if path in paths}
    left = simulate_systemd_sysctl(list(assignments("f", text)), asked, dict.fromkeys(asked, "0")).values
    return told + [
        f"{path} is {left.get(path)}, not {finding.desired.want}"
        for path, finding in asked.items()
        if not satisfies(finding.name, left.get(path, ""), finding.desired.want)
    ]


LINK = st.sampled_from([sysctl_names.escape_part(link).replace(".", "/") for link in LINKS])
WILD = st.sampled_from(["*", "*", "*", "eth*", "?*", "[!l]*", "l?", "*o", "a*", r"a\x2a*", r"*\xff", "[a-e]*", "al[l]"])
LEAF = st.sampled_from([*LEAVES, "*", "r*"])
KEYS = st.one_of(
    st.sampled_from("net.ipv4.ip_forward net.ipv4.conf.all.forwarding net.ipv4.*_forward net.nf_conntrack_*".split()),
    st.builds("net.ipv4.conf.{}.{}".format, LINK, st.sampled_from(LEAVES)),
    st.builds("net.ipv4.conf.{}.{}".format, WILD, LEAF),
    st.builds("net.*.conf.{}.{}".format, WILD, st.sampled_from(LEAVES)),
)
EXCLUDE = st.sampled_from(r"all default lo eth0.1 veth* v* *1 e*0* a\x2ab a\x2a* [ad]* ? conf *".split())
EXCLUDES = st.lists(EXCLUDE, max_size=3)
VALUES = st.sampled_from([
    {"value": 0}, {"value": 1}, {"value": 1}, {"value": 2}, {"atLeast": 1}, {"atMost": 1}, {"oneOf": [1, 2]},
])  # fmt: skip
POLICIES = st.sampled_from([{}, {}, {}, {"policy": "observe"}, {"policy": "yield"}])
SETTINGS = st.one_of(
    st.just(False),
    st.builds(lambda value, policy, exclude: {**value, **policy, "exclude": exclude}, VALUES, POLICIES, EXCLUDES),
)


def valid(settings: Mapping[str, Any]) -> Mapping[str, Any]:
    """Return the settings with each sysctl once, and with exclusions only for patterns."""
    once: dict[str, Any] = {}
    for key, said in settings.items():
        name = sysctl_names.normalised(key) or ""
        plain = {field: value for field, value in (said or {}).items() if field != "exclude"}
        once[name] = said if not said or sysctl_names.is_pattern(name) else plain
    return once


CONFIGS = st.dictionaries(KEYS, SETTINGS, min_size=1, max_size=5).map(valid)


@given(CONFIGS, st.sampled_from(["none", "none", ["kube-proxy-ipvs"]]))
def test_it_has_the_effect_of_the_daemon_at_boot(settings: Mapping[str, Any], profiles: Any) -> None:
    made = config(settings, profiles)
    assert differences(body(LINKS, made), LINKS, made) == []


@given(CONFIGS)
def test_it_has_the_effect_for_later_sysctls(settings: Mapping[str, Any]) -> None:
    made = config(settings)
    text = body(LINKS, made)
    observed = any(said.policy is Policy.OBSERVE for said in made.sysctls.values())
    if not observed and sysctl_drop_in.NOT_FOR_ALL not in text:  # ipvsd.yaml(5) documents these
        assert differences(text, (*LINKS, *LATER), made) == []


@pytest.mark.parametrize(
    ("exclude", "lines"),
    [
        (["ve*"], [f"net.ipv4.conf.{name}.rp_filter = 1" for name in ("default", "[!v]*", "[v]", "v[!e]*")]),
        (["*", "all"], []),
        (["veth?*", "lo", "*.5"], None),
    ],
)
def test_an_exclusion_by_a_pattern_is_left_out_of_the_pattern(exclude: list[str], lines: Optional[list[str]]) -> None:
    made = config({"net.ipv4.conf.*.rp_filter": {"value": 1, "exclude": exclude}})
    text = body([], made)
    found = [line for line in text.splitlines() if line and line[0] not in "#-"]
    assert lines is None or sorted(found) == sorted(lines)
    assert sysctl_drop_in.NOT_FOR_ALL not in text
    assert differences(text, ["all", "lo", "veth1", "veth", "eth0", "eth0.5", "v.5", "ve", "x"], made) == []


@pytest.mark.full
def test_three_thousand_patterns_and_ten_thousand_keys_take_no_second() -> None:
    kinds = ("eth{}*", "*h{}", "[e]th{}?", "?th{}", "e*h{}")
    settings = {f"net.ipv4.conf.{kinds[n % 5].format(n)}.rp_filter": 1 for n in range(3000)}
    settings.update((f"net.ipv4.conf.eth{n}.arp_ignore", 1) for n in range(3000))
    made, node = config(settings), kernel([f"eth{n}" for n in range(3333)])
    begun = time.process_time()
    seen, plan = observe_and_plan(node, made)
    text = drop_in_files.build(made, seen, plan)[drop_in_files.SYSCTL]
    assert time.process_time() - begun < 4.0  # a second on an idle computer
    assert len(text.splitlines()) > 6000
