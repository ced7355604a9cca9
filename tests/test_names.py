"""Names: one for each sysctl and module, for every spelling and any bytes."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ipvsd.bpf import sysctl_program
from ipvsd.decide.aggregate import by_pattern
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.types import MISSING
from ipvsd.model.verdicts import SysctlVerdict
from ipvsd.reconcile.observation import observe_and_plan
from ipvsd.reconcile.rounds import reconcile
from ipvsd.sysctl import sysctl_names
from tests.configured import config, error
from tests.trees import put

# --- canonical names --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("net.ipv4.ip_forward", "net/ipv4/ip_forward"), ("net.ipv4.ip_forward", "net.ipv4.conf.all.forwarding"),
        ("net.ipv4.ip_forward", "net/ipv4/conf/all/forwarding"),
        ("net.nf_conntrack_max", "net.netfilter.nf_conntrack_max"),
        ("net.ipv4.conf.eth0/1.x", "net/ipv4/conf/eth0.1/x"), ("net.ipv4.conf.*.x", "net/ipv4/conf/*/x"),
        ("a.b/c", "a/b.c"), (r"net.ipv4.conf.a\x2ab.x", r"net/ipv4/conf/a\x2Ab/x"),
        (r"net.ipv4.conf.\x65th0.x", "net.ipv4.conf.eth0.x"), (r"net.ipv4.conf.eth0\x2e1.x", "net.ipv4.conf.eth0/1.x"),
    ],
)  # fmt: skip
def test_two_spellings_of_a_sysctl_are_a_duplicate_in_a_file_and_one_key_in_two(one: str, other: str) -> None:
    text = f"sysctls: {{'{one}': 1, '{other}': 0}}"
    name = sysctl_names.normalised(one)
    assert error(text) == f"0.yaml:1: sysctls.{other}: duplicate of '{name}' (first on line 1)"
    made = config(f"sysctls: {{'{one}': 1}}", f"sysctls: {{'{other}': 0}}")
    assert {key: str(setting.want) for key, setting in made.sysctls.items()} == {name: "0"}


def test_two_spellings_of_a_module_are_a_duplicate() -> None:
    assert error("modules: {ip-vs: {}, ip_vs: {}}") == "0.yaml:1: modules.ip_vs: duplicate of 'ip_vs' (first on line 1)"
    assert "duplicate module 'ip_vs'" in error("modules: {x: {anyOf: [ip_vs, ip-vs]}}")
    assert list(config("modules: {ip-vs: {}}", "modules: {ip_vs: {required: false}}").modules) == ["ip_vs"]


def test_two_spellings_of_alternatives_are_one_in_two_files() -> None:
    first = "modules: {some-of: {anyOf: [dummy]}}"
    made = config(first, "modules: {some_of: {required: false}}")
    assert {name: setting.any_of for name, setting in made.modules.items()} == {"some-of": ("dummy",)}
    made = config(first, "modules: {some_of: false}")
    assert {name: setting.dropped for name, setting in made.modules.items()} == {"some_of": True}


def test_alternatives_by_the_name_of_a_module_take_its_place() -> None:
    made = config("modules: {ip_vs: {required: false}}", "modules: {ip-vs: {anyOf: [dummy]}}")
    assert {name: setting.any_of for name, setting in made.modules.items()} == {"ip-vs": ("dummy",)}


@given(st.lists(st.binary(min_size=1, max_size=6).map(lambda data: data.decode("latin-1")), min_size=2, max_size=4))
def test_every_path_has_one_name_in_printable_ascii(parts: list[str]) -> None:
    path = tuple(parts)
    if any(part in (".", "..") or set(part) & set("/\0") for part in path) or "." in path[0]:
        return  # not file names, or names that sysctl.d(5) cannot express
    name = sysctl_names.join_parts(tuple(map(sysctl_names.escape_part, path)))
    assert name.isascii()
    assert name.isprintable()
    assert not set(name) & set(" =*?[")
    assert sysctl_names.parts(name) == path
    assert sysctl_names.normalised(name) == name
    assert not sysctl_names.is_pattern(name)
    assert sysctl_names.paths(name)[0] == path


# --- names in other formats -------------------------------------------------------------


@pytest.mark.parametrize(
    ("key", "told"),
    [
        ("-net.ipv4.conf.*.rp_filter", "sysctl.d(5) cannot express this name (write net.ipv4.conf.*.rp_filter: VALUE)"),
        ("#net.ipv4.ip_forward", "sysctl.d(5) cannot express this name (write net.ipv4.ip_forward: VALUE)"),
        (";net.ipv4.ip_forward", "sysctl.d(5) cannot express this name (write net.ipv4.ip_forward: VALUE)"),
        ("net.ipv4.ip_forward=1", "sysctl.d(5) cannot express this name (write net.ipv4.ip_forward: VALUE)"),
        ("net.ipv4.conf.a=b.rp_filter", "sysctl.d(5) cannot express this name"),
        (r"net.ipv4.conf.a\x3db.rp_filter", "sysctl.d(5) cannot express this name"),
        (r"net.ipv4.conf.a\x0ab.rp_filter", "sysctl.d(5) cannot express this name"),
        (r"net.ipv4.conf.a\x20b.rp_filter", "sysctl.d(5) cannot express this name"),
        ("net.ipv4.tcp_fastopen_key", "the sysctl is a secret, and all users can read the status (set the sysctl in"),
        ("net/ipv6/conf/eth0.1/stable_secret", "the sysctl is a secret, and all users can read the status ("),
        ("net.ipv6.conf.*.stable_secret", "the sysctl is a secret, and all users can read the status ("),
        (r"net.ipv4.conf.a\x00b.rp_filter", "invalid sysctl name ("),
        (r"net.ipv4.conf.a\x2fb.rp_filter", "invalid sysctl name ("),
        (r"net.ipv4.conf.\x2e\x2e.rp_filter", "invalid sysctl name ("),
        (r"net.ipv4.conf.a\b.rp_filter", "invalid sysctl name ("),
        ("net.ipv4.ip_forward ", "invalid sysctl name ("),
        ("net.ipv4.conf.é.rp_filter", "invalid sysctl name (write the bytes of non-ASCII letters as net.ipv4.conf."),
    ],
)
def test_a_name_that_cannot_be_written_is_refused(key: str, told: str) -> None:
    assert error(f"sysctls: {{'{key}': 1}}").startswith(f"0.yaml:1: sysctls.{key}: {told}")


@pytest.mark.parametrize(
    "exclude", ["a=b", r"a\x3db", r"a\x0ab", "a b", "eth0/1", '""', r"a\b", "null", "true", "[a]", "é", ".."]
)
def test_an_exclusion_that_cannot_be_written_is_refused(exclude: str) -> None:
    found = error(f"sysctls: {{net.ipv4.conf.*.rp_filter: {{value: 1, exclude: [{exclude}]}}}}")
    assert found.startswith("0.yaml:1: sysctls.net.ipv4.conf.*.rp_filter.exclude: ")


def test_an_exclusion_has_one_form() -> None:
    made = config(r"sysctls: {net.ipv4.conf.*.x: {value: 1, exclude: [eth0.1, 'a\x2Ab', '\x65*', 802, -x]}}")
    assert made.sysctls["net.ipv4.conf.*.x"].exclude == ("eth0.1", r"a\x2ab", "e*", "802", "-x")


@pytest.mark.parametrize("key", ["null", "true", "off", "~"])
def test_a_module_is_named_by_a_text(key: str) -> None:
    told = "invalid module name" if key == "~" else "must be a module name, not "
    assert told in error(f"modules: {{{key}: {{}}}}")


# --- interfaces of any name -------------------------------------------------------------

LINKS = [b"a*b", b"br[0]", b"back\\s", "é".encode(), b"\xff", b"eth0.100", b"a=b", b"x?", b"\x01"]


def place(tree: Path, link: bytes) -> Path:
    return tree / "proc/sys/net/ipv4/conf" / os.fsdecode(link) / "rp_filter"


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    put(tmp_path, "proc/sys/kernel/osrelease", "6.1.0\n")
    for link in LINKS:
        place(tmp_path, link).parent.mkdir(parents=True)
        place(tmp_path, link).write_text("0\n")
    return tmp_path


def test_a_pattern_counts_and_repairs_interfaces_of_any_name(tree: Path) -> None:
    made = config("profiles: []\nsysctls: {net.ipv4.conf.*.rp_filter: {value: 1, required: true}}")
    host = LinuxHost(str(tree))
    _, plan = observe_and_plan(host, made)
    (found,) = by_pattern(plan.sysctls)
    assert (found.verdict, found.members) == (SysctlVerdict.NONCOMPLIANT, (0, len(LINKS)))
    done = reconcile(host, made, {}, lambda: 0.0)
    (found,) = by_pattern(done.after.sysctls)
    assert (found.verdict, found.members) == (SysctlVerdict.COMPLIANT, (len(LINKS), len(LINKS)))
    assert {place(tree, link).read_text() for link in LINKS} == {"1\n"}


@pytest.mark.parametrize(
    ("name", "link"),
    [(r"a\x2ab", b"a*b"), (r"br\x5b0]", b"br[0]"), (r"back\x5cs", b"back\\s"), (r"\xc3\xa9", "é".encode()),
     (r"\xff", b"\xff"), ("eth0/100", b"eth0.100"), (r"\x01", b"\x01")],
)  # fmt: skip
def test_an_interface_of_any_name_is_named_in_printable_ascii(tree: Path, name: str, link: bytes) -> None:
    host, key = LinuxHost(str(tree)), f"net.ipv4.conf.{name}.rp_filter"
    assert key in host.expand(["net.ipv4.conf.*.rp_filter"])["net.ipv4.conf.*.rp_filter"]
    assert os.fsencode(host.sysctl_path(key)).endswith(b"/conf/" + link + b"/rp_filter")
    assert host.read_sysctl(key) == "0"
    assert host.is_interface(name.replace("/", "."))
    record = sysctl_program.name_in_record("/".join(sysctl_names.parts(key) or ()).encode("latin-1"))
    assert record.rstrip(b"\0").split(b"/")[3] == link


def test_a_name_that_resembles_a_pattern_matches_only_itself(tree: Path) -> None:
    host = LinuxHost(str(tree))
    assert host.read_sysctl(r"net.ipv4.conf.x\x3f.rp_filter") == "0"
    assert host.read_sysctl(r"net.ipv4.conf.\x2a.rp_filter") is MISSING
    assert host.expand(["net.ipv4.conf.x?.*"]) == {"net.ipv4.conf.x?.*": [r"net.ipv4.conf.x\x3f.rp_filter"]}
