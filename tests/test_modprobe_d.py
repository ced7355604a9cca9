"""The lines of modprobe.d(5) and the kernel's command line, as libkmod reads them."""

from __future__ import annotations

import time

import pytest

from ipvsd.modprobe import modprobe_d
from ipvsd.modprobe.modprobe_d import Directive, directives, settings


def lines(text: str) -> list[str]:
    return [f"{item.origin}: {item}" for item in directives([("a", text)])]


@pytest.mark.parametrize(
    ("text", "line"),
    [
        pytest.param("blacklist ip_vs_sh", "a:1: blacklist ip_vs_sh", id="blacklist"),
        pytest.param("\n# why\nblacklist ip-vs-sh", "a:3: blacklist ip_vs_sh", id="dashes"),
        pytest.param("  blacklist\tip_vs_sh  ", "a:1: blacklist ip_vs_sh", id="blanks"),
        pytest.param("blacklist \\\n ip_vs_sh", "a:1: blacklist ip_vs_sh", id="a line that goes on"),
        pytest.param("blacklist ip_vs_\\\nsh", "a:1: blacklist ip_vs_sh", id="a name that goes on"),
        pytest.param("x\\\n\nblacklist a", "a:3: blacklist a", id="lines are counted"),
        pytest.param("install a echo \\\\x", "a:1: install a echo \\x", id="a backslash is taken away"),
        pytest.param("blacklist a\\", "a:1: blacklist a", id="a backslash at the end of the file"),
        pytest.param("blacklist a b c", "a:1: blacklist a", id="more words"),
        pytest.param("blacklist a\r\n", "a:1: blacklist a\r", id="a carriage return belongs to the name"),
        pytest.param("options a[1-2] x-y=1", "a:1: options a[1-2] x-y=1", id="a range keeps its dash"),
        pytest.param("softdep ip-vs pre: a-b", "a:1: softdep ip_vs pre: a-b", id="softdep"),
        pytest.param("alias a-b  c-d e", "a:1: alias a_b c_d", id="alias"),
        pytest.param("remove a b", "a:1: remove a b", id="remove"),
    ],
)
def test_a_line_that_counts(text: str, line: str) -> None:
    assert lines(text) == [line] or lines(text) == [line.rstrip("\r")]
    (found,) = directives([("a", text)])
    assert found.pattern.endswith("\r") is ("\r" in text)


@pytest.mark.parametrize(
    "text",
    [
        "", "#blacklist a", "blacklist", "install a", "install a ", "alias a", "options a", "softdep a",
        " # blacklist a", "# why \\\nblacklist a", "blacklist a]", "blacklist [a", "alias a b]", "Blacklist a",
        "include x", "\0blacklist a",
    ],
)  # fmt: skip
def test_a_line_that_is_passed_over(text: str) -> None:
    assert lines(text) == []


def test_blacklist_takes_names_and_install_takes_patterns() -> None:
    said = settings([("a", "blacklist ip_vs*\ninstall ip_vs_* one\ninstall ip_vs_rr two\nsoftdep ip_* pre: x")])
    assert said.blacklisted("ip_vs_rr") is None
    assert (str(said.install("ip_vs_rr")), str(said.softdep("ip_vs_rr"))) == (
        "install ip_vs_* one",
        "softdep ip_* pre: x",
    )
    assert said.install("ip_vs") is None


def test_an_alias_is_every_line_that_fits() -> None:
    said = settings([("a", "alias ip_conntrack nf_conntrack\nalias ip_* other")])
    assert [item.rest for item in said.aliased("ip_conntrack")] == ["nf_conntrack", "other"]
    assert said.aliased("nf") == ()


def test_options_of_an_alias_count_with_those_of_the_module() -> None:
    said = settings([("a", "options nf_conntrack  a=1\noptions ip_conntrack b=2\toptions\noptions nf_* c=3")])
    assert [item.rest for item in said.options_of("nf_conntrack", "ip_conntrack")] == [" a=1", "b=2 options"]
    assert [item.rest for item in said.options_of("nf_conntrack")] == [" a=1"]


@pytest.mark.parametrize(
    ("text", "names"),
    [
        ("pre: a b post: c", (("a", "b"), ("c",))),
        ("a pre: b", (("b",), ())),
        ("post: c pre: a post: d", (("a",), ("c", "d"))),
        (" pre: a", ((), ())),  # libkmod makes the blank a part of the word
        ("  pre: a ", (("a",), ())),
        ("pre:a", ((), ())),
    ],
)
def test_soft_dependencies(text: str, names: object) -> None:
    assert modprobe_d.soft_dependencies(Directive("softdep", "x", text, "a:1")) == names


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("BOOT=/a quiet modprobe.blacklist=ip_vs,a", ["modprobe.blacklist=ip_vs", "modprobe.blacklist=a"]),
        ("modprobe.blacklist=ip-vs", ["modprobe.blacklist=ip-vs"]),  # this matches no module
        ("not_modprobe.blacklist=ip_vs", ["options not_modprobe blacklist=ip_vs"]),
        ("quiet root=/dev/vda1 a.b", ["options a b"]),
        ('nf-conntrack.hashsize=1 x.y="a b"', ["options nf_conntrack hashsize=1", 'options x y="a b"']),
        ('"x.y=a b" z', ['options x y="a b"']),
        *((text, list[str]()) for text in ('x.y="a b', '"x.y"', "a.b.c=1", "a=b.c=1", "quiet")),
    ],
)
def test_the_command_line(text: str, found: list[str]) -> None:
    assert [str(item) for item in modprobe_d.from_command_line(text)] == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("quiet module_blacklist=ip_vs,a", {"ip_vs": "module_blacklist=ip_vs,a", "a": "module_blacklist=ip_vs,a"}),
        ("module_blacklist=a module-blacklist=b", {"b": "module-blacklist=b"}),  # the last one counts
        ("x.module_blacklist=a", {}),
    ],
)
def test_modules_that_the_kernel_itself_refuses(text: str, found: dict[str, str]) -> None:
    assert modprobe_d.kernel_blacklist(text) == found


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("a=1 b", [("a", "1"), ("b", None)]),
        ("hashsize = 262144", [("hashsize", None), ("=", None), ("262144", None)]),
        ("hashsize =1", [("hashsize", None), ("=1", None)]),
        ("hashsize= 1", [("hashsize", ""), ("1", None)]),
        ('a="b c" "d=e f"', [("a", "b c"), ("d", "e f")]),
        ("a=1 -- b", [("a", "1")]),
    ],
)
def test_the_kernel_splits_parameters_at_blanks(text: str, found: list[tuple[str, str]]) -> None:
    assert list(modprobe_d.parameters(text)) == found


def test_three_thousand_lines_and_a_hundred_modules_take_no_second() -> None:
    lines = (f"alias pci:v{n}*d* mod{n}\ninstall x{n}* /bin/true\nsoftdep y{n}? pre: z\n" for n in range(3000))
    said = settings([("f", "".join(lines))])
    begun = time.process_time()
    found = [bool(said.aliased(f"pci:v{n}ad") or said.install(f"ip_vs_{n}") or said.softdep("y7z")) for n in range(100)]
    assert time.process_time() - begun < 2.0
    assert all(found)
