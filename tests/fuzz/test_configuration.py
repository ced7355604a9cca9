"""ipvsd.yaml and its drop-ins."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from typing import Union

from hypothesis import example
from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ipvsd.config.desired_state import build_desired, candidates, patterns
from ipvsd.config.dump import as_mapping, fingerprint
from ipvsd.config.parser import ConfigError, parse
from ipvsd.config.profiles import PROFILES, SCHEDULERS
from ipvsd.config.schema import Config
from ipvsd.config.yaml_tree import DocumentError, Mapping, Node, Scalar
from ipvsd.config.yaml_tree import parse as parse_document
from ipvsd.model.types import Kernel, Within
from ipvsd.modprobe.kernel_names import module_name
from ipvsd.sysctl import sysctl_names
from ipvsd.sysctl.values import can_be_met, satisfies, value_to_write
from tests.fuzz.inputs import hostile
from tests.fuzz.properties import fuzz

MOST_VALUES = 20_000
SLOW = 5.0  # seconds that PyYAML may use for the largest input here

WORDS = """
true false yes no on off True ~ null 0 1 -1 010 0x10 0b1 1_000 1.5 1e3 .nan -.inf 12:30:45 2001-01-01
18446744073709551616
60s 500ms 5m 1h 0s 1.30 v1.29.3 1.3 rr wlc sh maglev ip_vs_lc strict lenient observe enforce once kube-proxy-ipvs
lvs-full
none "" '' "\\e[31m" "\\u202e" "\\0" "a b" 'it''s' !x !!binary !!int !<tag:x> !<%1b%0a> *a &a *b &b << - ? | > |+
%YAML @ ` #
127.0.0.1:80 "[::1]:80" 0.0.0.0:0 [::]:99999 kubelet.service x.slice all "veth*" default >= a=b a;b a#b é
""".split()
SYSCTLS = """
net.ipv4.ip_forward net/ipv4/ip_forward net.ipv4.conf.all.forwarding net.ipv4.conf.*.rp_filter
net.ipv4.conf.eth0/1.rp_filter
net.ipv6.conf.[a-z]*.accept_ra net.nf_conntrack_max net.netfilter.nf_conntrack_max net.core.somaxconn vm.swappiness
-net.ipv4.conf.*.rp_filter net.ipv4.ip_foward net.ipv4.a=b net.ipv4.#a net.ipv4.;a net/../x
net.ipv4.conf.[z-a].rp_filter
""".split()
MODULES = "ip_vs ip-vs ip_vs_wlc nf_conntrack br_netfilter ip_vsx x nf_conntrack_ipv4 a/b a.ko".split()
SYSCTL_KEYS = "value atLeast atMost oneOf policy required exclude guard values atleast".split()
TOP = """
profiles kubeProxyVersion scheduler strictARP bridgeNetfilter interval startup contention guard web modules sysctls
ipvs mode kind apiVersion data Scheduler x
""".split()

Tree = Union[str, list["Tree"], dict[str, "Tree"]]

TAGGED = st.builds(
    "{} {}".format, st.sampled_from(["!!int", "!!bool", "!!null", "!x%0a%1b", "!<y%e2%80%ae>"]), st.sampled_from(WORDS)
)
SCALAR: SearchStrategy[str] = st.one_of(st.sampled_from(WORDS), st.sampled_from(WORDS), TAGGED, st.text(max_size=6))
VALUE: SearchStrategy[Tree] = st.recursive(
    SCALAR,
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(SCALAR, inner, max_size=3)),
    max_leaves=5,
)


def maps(keys: list[str], values: SearchStrategy[Tree]) -> SearchStrategy[Tree]:
    return st.dictionaries(st.one_of(st.sampled_from(keys), st.sampled_from(keys), SCALAR), values, max_size=4)


# Mostly valid input, to test the invariants of valid configurations.
GOOD: SearchStrategy[Tree] = st.fixed_dictionaries(
    {},
    optional={
        "profiles": st.lists(st.sampled_from(sorted(PROFILES)), max_size=3),
        "kubeProxyVersion": st.sampled_from(["1.11", "1.30", "v1.29.3", "~"]),
        "scheduler": st.sampled_from(sorted(SCHEDULERS)),
        "strictARP": st.sampled_from(["true", "false", "True"]),
        "interval": st.sampled_from(["1s", "60s", "1500ms", "0.5h", "86400", "1.000001s", "7.1m"]),
        "startup": st.fixed_dictionaries({}, optional={"mode": st.just("strict"), "limit": st.just("5.25m")}),
        "contention": st.fixed_dictionaries({}, optional={"repairs": st.just("7"), "quiet": st.just("1.1h")}),
        "guard": st.just({"allow": ["kubelet.service", '"a\\\\x2db.slice"']}),
        "web": st.fixed_dictionaries(
            {"listen": st.lists(st.sampled_from(['":80"', '"[::1]:1"', '"[0:0::1]:9"', "0.0.0.0:65535"]))},
            optional={"configFile": st.just("/a/web.yml"), "textfile": st.just("/a/b.prom")},
        ),
        "modules": st.dictionaries(
            st.sampled_from([*MODULES[:6], "any"]),
            st.sampled_from([
                "false", "true", "~", {}, {"required": "false"}, {"anyOf": ["ip_vs_lc", "ip-vs-nq"]},
                {"parameters": {"hashsize": "010", "x": "true"}}, {"parameters": {"y": '"a,b"'}, "required": "true"},
            ]),
            max_size=4,
        ),
        "sysctls": st.dictionaries(
            st.sampled_from(SYSCTLS[:10]),
            st.sampled_from([
                "0", "1", "010", "0x1f", "-1", "false", '"1  2\\t3"', "1.5", "~", {"value": "0"}, {"atLeast": "3"},
                {"atMost": "1048576"}, {"atLeast": "1", "atMost": "1"}, {"oneOf": ["0", "2"]}, {"policy": "observe"},
                {"value": "1", "required": "true", "guard": "true"}, {"value": "2", "exclude": ["all", '"veth*"']},
                {"value": "2", "policy": "once", "required": "false"}, {"value": "0", "exclude": ['"[z-a]"', '"[!a]"']},
            ]),
            max_size=5,
        ),
    },
)  # fmt: skip

ANY: SearchStrategy[Tree] = st.one_of(
    st.dictionaries(st.sampled_from(TOP), VALUE, max_size=5),
    st.fixed_dictionaries(
        {},
        optional={
            "sysctls": maps(SYSCTLS, st.one_of(SCALAR, maps(SYSCTL_KEYS, VALUE))),
            "modules": maps(MODULES, st.one_of(SCALAR, maps(["required", "anyOf", "parameters"], VALUE))),
            "web": maps(["listen", "configFile", "textfile"], VALUE),
            "guard": maps(["allow"], VALUE),
            "startup": maps(["mode", "limit"], VALUE),
        },
    ),
    VALUE,
)


def written(tree: Tree, flow: bool, indent: int = 0) -> str:
    """Return a tree as YAML in flow or block style, with unchanged scalars."""
    margin = "\n" + "  " * indent
    if isinstance(tree, dict):
        if flow or not tree:
            return "{" + ", ".join(f"{key}: {written(item, True)}" for key, item in tree.items()) + "}"
        return "".join(f"{margin}{key}: {written(item, False, indent + 1)}" for key, item in tree.items())
    if isinstance(tree, list):
        if flow or not tree:
            return "[" + ", ".join(written(item, True) for item in tree) + "]"
        return "".join(f"{margin}- {written(item, False, indent + 1)}" for item in tree)
    return tree


def yaml(trees: SearchStrategy[Tree]) -> SearchStrategy[str]:
    return st.builds(lambda tree, flow, mark: mark + written(tree, flow) + "\n", trees, st.booleans(),
                     st.sampled_from(["", "# note\n", "---\n", "%YAML 1.1\n---\n"]))  # fmt: skip


FILE = st.one_of(hostile(yaml(GOOD)), hostile(yaml(ANY)))
TAKEN = yaml(GOOD).map(str.encode)


def count(data: bytes) -> int:
    return len(re.split(r"\r\n|[\n\r\x85\u2028\u2029]", data.decode("utf-8", "replace")))


def nodes(node: Node) -> Iterator[Node]:
    yield node
    if isinstance(node, Mapping):
        for key, item in node.items:
            yield key
            yield from nodes(item)
    elif not isinstance(node, Scalar):
        for item in node.items:
            yield from nodes(item)


def plain(config: Config) -> Config:
    """Return a configuration without its origins."""
    return config._replace(
        origins={},
        modules={name: setting._replace(origin="") for name, setting in config.modules.items()},
        sysctls={key: setting._replace(origin="") for key, setting in config.sysctls.items()},
    )


def told(*files: tuple[str, bytes]) -> Union[Config, tuple[str, ...]]:
    """Return the configuration, or its errors."""
    try:
        return parse(files)
    except ConfigError as error:
        return error.errors


@fuzz(FILE, kept="yaml", seconds=SLOW)
def test_a_document_has_its_lines_and_no_more_values_than_are_allowed(data: bytes) -> None:
    try:
        root = parse_document(data)
    except DocumentError as refused:
        error = refused
    else:
        found = list(nodes(root)) if root else []
        assert len(found) <= MOST_VALUES
        lines = count(data)
        assert all(1 <= node.line <= lines for node in found)
        assert parse_document(data) == root
        return
    assert 0 <= error.line <= count(data)
    assert str(error)
    assert "\n" not in str(error)


@fuzz(FILE, kept="yaml", seconds=SLOW)
def test_every_error_is_one_line_with_its_place(data: bytes) -> None:
    errors = told(("a.yaml", data), ("b.yaml", data))
    if isinstance(errors, Config):
        return
    assert errors
    lines = count(data)
    for line in errors:
        place = re.match(r"(?:[ab]\.yaml|default)(?::([0-9]+))?: .", line)
        assert place, line
        assert not place[1] or 1 <= int(place[1]) <= lines
        assert "\n" not in line


@fuzz(FILE, kept="yaml", seconds=SLOW)
def test_every_error_can_be_printed_and_is_short(data: bytes) -> None:
    errors = told(("a.yaml", data))
    for line in () if isinstance(errors, Config) else errors:
        assert line.isprintable()
        assert len(line) < 2000


@fuzz(st.one_of(TAKEN, FILE), seconds=SLOW, quick=15)
def test_a_valid_configuration_can_be_applied(data: bytes) -> None:
    config = told(("a.yaml", data))
    if not isinstance(config, Config):
        return
    assert set(config.profiles) <= set(PROFILES)
    assert config.scheduler in SCHEDULERS or f"ip_vs_{config.scheduler}" in config.modules
    assert 1 <= config.interval <= 86400
    assert all(1 <= port <= 65535 for _, port in config.listen)
    assert all(re.match(r"a\.yaml:[1-9][0-9]*\Z", origin) for origin in config.origins.values())
    for name, module in config.modules.items():
        assert module.any_of or module_name(name) == name
        assert all(module_name(other) == other for other in module.any_of)
        assert all(re.match(r"[!-~]+\Z", f"{key}={value}") for key, value in module.parameters.items())
        assert re.match(r"a\.yaml:[1-9][0-9]*\Z", module.origin)
    for key, setting in config.sysctls.items():
        assert key == sysctl_names.normalised(key)
        assert re.match(r"a\.yaml:[1-9][0-9]*\Z", setting.origin)
        if isinstance(setting.want, Within):
            bounds = [bound for bound in (setting.want.floor, setting.want.ceiling) if bound is not None]
            assert bounds == sorted(bounds)
        assert setting.want is None or str(setting.want).isprintable()


@fuzz(st.one_of(TAKEN, FILE), seconds=SLOW, quick=15)
def test_an_item_is_desired_once_and_a_write_would_make_it_compliant(data: bytes) -> None:
    config = told(("a.yaml", data))
    if not isinstance(config, Config):
        return
    kernel = Kernel("6.1.0-1-amd64", "debian", 4, True, True, candidates(config), frozenset())
    wanted = build_desired(config, kernel, {}, dict.fromkeys(patterns(config), ()))
    for items in ([item.name for item in wanted.modules], [item.key for item in wanted.sysctls]):
        assert len(set(items)) == len(items)
    for item in (*wanted.sysctls, *wanted.parameters):
        for found in ("0", "-1", "4096 131072 6291456"):
            if can_be_met(item.want, found):
                assert satisfies(item.key, value_to_write(item.want, found), item.want)


@fuzz(st.one_of(TAKEN, FILE), seconds=SLOW, quick=15)
@example(b"interval: 1.000001s\n")
def test_the_effective_configuration_configures_the_same(data: bytes) -> None:
    config = told(("a.yaml", data))
    if isinstance(config, Config):
        again = told(("a.yaml", json.dumps(as_mapping(config)).encode()))
        assert isinstance(again, Config), again
        assert plain(again)._replace(origins={}) == plain(config)
        assert fingerprint(again) == fingerprint(config)


@fuzz(st.one_of(TAKEN, FILE), seconds=SLOW, quick=15)
def test_a_drop_in_that_repeats_a_setting_changes_nothing(data: bytes) -> None:
    config = told(("a.yaml", data))
    if isinstance(config, Config):
        again = told(("a.yaml", data), ("b.yaml", data), ("c.yaml", b""))
        assert isinstance(again, Config), again
        assert plain(again) == plain(config)


@fuzz(TAKEN, TAKEN, seconds=SLOW)
@example(b"sysctls: {net.ipv4.ip_forward: 1}", b"sysctls: {net/ipv4/conf/all/forwarding: 0}")
def test_the_later_of_two_files_overrides_the_earlier(first: bytes, second: bytes) -> None:
    config, later = told(("a.yaml", first), ("b.yaml", second)), told(("b.yaml", second))
    if not isinstance(config, Config) or not isinstance(later, Config):
        return
    for field, origin in later.origins.items():
        assert getattr(config, field) == getattr(later, field)
        assert config.origins[field] == origin
    for key, setting in later.sysctls.items():
        assert config.sysctls[key].origin == setting.origin
        assert config.sysctls[key].dropped is setting.dropped
