"""The inputs of libkmod: modprobe.d, modules.softdep, depmod's indexes, lists of modules, the kernel's command line."""

from __future__ import annotations

import re

from hypothesis import strategies as st
from hypothesis.strategies import SearchStrategy

from ipvsd.modprobe import kernel_names, load_steps, modprobe_d
from ipvsd.modprobe.modprobe_d import InstallEffect, install_effect
from ipvsd.modprobe.module_index import DamagedError, ModuleIndex
from ipvsd.sysctl import globs
from tests.fuzz.inputs import hostile, lines, text, words
from tests.fuzz.properties import fuzz
from tests.test_load_steps import Tree
from tests.trees import index

NAMES = ("ip_vs", "nf_conntrack", "ip_vs_rr", "libcrc32c")
COMMANDS = ("alias", "blacklist", "install", "options", "remove", "softdep", "include", "#")
WORDS = (
    *NAMES, "ip-vs", "ip*", "[a-z]*", "[z-a]", "[!a", "net-pf-10", "a=b", "x", "number", "hashsize=1", '"a', 'b"',
    "pre:", "post:",
    "/bin/true", "$CMDLINE_OPTS", "--ignore-install", "modprobe", "--", "\\", "\t", "",
)  # fmt: skip
LINE = st.tuples(st.sampled_from(COMMANDS), words(*WORDS)).map(" ".join)
MODPROBE_D = hostile(lines(LINE, LINE, words(*WORDS)))
CMDLINE = hostile(
    words(
        "quiet", "modprobe.blacklist=ip_vs,nf-conntrack", "module_blacklist=ip_vs", "ip_vs.conn_tab_bits=12",
        '"ip_vs.x=a b"',
        "ip_vs.x=1", "nf-conntrack.hashsize", "a.b.c=1", "=", ".", "modprobe.blacklist=", '"',
        "sysctl.net.ipv4.ip_forward=1",
        most=8,
    )
)  # fmt: skip
PATH = st.builds("kernel/net/{}.ko{}".format, st.sampled_from([*NAMES, "ip-vs"]), st.sampled_from(["", ".xz", ".x/y"]))
LISTS = hostile(lines(PATH, PATH.map("{}: kernel/lib/libcrc32c.ko".format), words("alias", *NAMES), words(*WORDS)))
KEYS = st.text("abc_*?[]!-0", min_size=1, max_size=6)
ENTRIES = st.dictionaries(
    KEYS, st.lists(st.sampled_from(["x", "kernel/a.ko: kernel/b.ko", ""]), min_size=1, max_size=3)
)
SHELL = hostile(
    words(*WORDS, "{", "}", ";", "&&", "||", "|", "if", "then", "fi", "exec", "#", "X=1", "echo", "`", "(", most=9)
)


INDEX: SearchStrategy[bytes] = hostile(ENTRIES.map(index))


@fuzz(MODPROBE_D, CMDLINE)
def test_every_directive_is_a_line_of_its_file(data: bytes, cmdline: bytes) -> None:
    said = text(data)
    last = said.count("\n") + 1
    for item in modprobe_d.directives([("a", said)]):
        place = re.match(r"a:([1-9][0-9]*)\Z", item.origin)
        assert place
        assert int(place[1]) <= last
        assert item.command in COMMANDS
        assert item.pattern
        assert not set("\0\n") & set(item.origin)
        assert "-" not in re.sub(r"\[[^\]]*\]", "", item.pattern)
    for item in modprobe_d.from_command_line(text(cmdline)):
        assert item.origin == modprobe_d.CMDLINE
        assert item.command in ("blacklist", "options")


@fuzz(MODPROBE_D, MODPROBE_D)
def test_files_are_read_one_after_the_other(one: bytes, other: bytes) -> None:
    files = [("a", text(one)), ("b", text(other))]
    apart = (*modprobe_d.directives(files[:1]), *modprobe_d.directives(files[1:]))
    assert modprobe_d.directives(files) == apart
    said = modprobe_d.settings(files)
    lists = (said.aliases, said.blacklists, said.installs, said.options, said.removes, said.softdeps)
    assert sorted(apart) == sorted(item for found in lists for item in found)


# Every module depends on the next ones.
TREE = Tree(
    {name: NAMES[number + 1 :] for number, name in enumerate(NAMES)}, {"net_pf_10": ["ip_vs"]},
    {"symbol:x": ["ip_vs"]}, ["libcrc32c"], {"x": ["libcrc32c"]},
)  # fmt: skip


@fuzz(MODPROBE_D, CMDLINE)
def test_loading_ends_and_names_the_line_that_stops_it(data: bytes, cmdline: bytes) -> None:
    said = modprobe_d.settings([("a", text(data))], text(cmdline))
    for name in (*NAMES, "net-pf-10", "symbol:x", "x"):
        for found in load_steps.probe(name, said, TREE):
            outcome = load_steps.simulate(found, TREE, said, ())
            if outcome.blocker is None:
                assert found.built_in or found.module in outcome.loaded or not found.steps
            else:
                assert outcome.blocker.origin.startswith(("a:", modprobe_d.CMDLINE)) or not outcome.blocker.origin
                assert "\n" not in str(outcome.blocker.text)


@fuzz(CMDLINE)
def test_a_command_line_refuses_what_it_names(data: bytes) -> None:
    said = text(data)
    for name, parameter in modprobe_d.kernel_blacklist(said).items():
        assert name in parameter
        assert re.match(r"module[-_]blacklist=", parameter)
        assert parameter in said


@fuzz(hostile(words("a=1", 'b="x y"', '"c=1 2"', "d", "--", "=", "e==", most=6)))
def test_parameters_that_are_written_again_are_the_same(data: bytes) -> None:
    said = list(modprobe_d.parameters(text(data)))
    plain = [(name, value) for name, value in said if '"' not in f"{name}{value}" and name != "--"]
    again = " ".join(f'"{name}={value}"' if value is not None else f'"{name}"' for name, value in plain)
    assert list(modprobe_d.parameters(again)) == plain


@fuzz(LISTS)
def test_only_modules_that_were_asked_about_are_listed(data: bytes) -> None:
    said = text(data)
    found = kernel_names.indexed_names(said, NAMES)
    assert found <= set(NAMES)
    assert kernel_names.indexed_names(f"{said}\nkernel/x.ko:\n", NAMES) == found
    assert kernel_names.indexed_names(f"{said}\nkernel/ip-vs.ko.zst:\n", NAMES) == found | {"ip_vs"}
    for word in said.split():
        name = kernel_names.module_name(word)
        assert name is None or re.fullmatch("[A-Za-z0-9_]{1,55}", name)


# A name with a wildcard takes two ways through an index, in libkmod as well. No module has such a name.
PLAIN = st.one_of(st.text("abc_-0", max_size=6), st.text(max_size=5)).filter(lambda name: not globs.has_wildcard(name))


@fuzz(ENTRIES, PLAIN, quick=60)
def test_an_index_has_what_was_put_there(entries: dict[str, list[str]], name: str) -> None:
    found = ModuleIndex(index(entries))
    assert found.value(name) == entries.get(name, [None])[0]
    # libkmod compares bytes.
    spelt = name.encode().decode("latin-1")
    fitting = [value for key, values in entries.items() if globs.matches(key, spelt) for value in values]
    assert sorted(found.matching(name)) == sorted(fitting)


@fuzz(INDEX, st.one_of(KEYS, st.text(max_size=5)))
def test_a_damaged_index_is_damaged_or_answers(data: bytes, name: str) -> None:
    try:
        found = ModuleIndex(data)
        values = [*found.matching(name), found.value(name)]
    except DamagedError:
        return
    assert ModuleIndex(data).matching(name) == values[:-1]


@fuzz(SHELL)
def test_a_command_that_names_the_module_to_a_loader_loads_it(data: bytes) -> None:
    said = text(data)
    found = install_effect(said, "ip_vs")
    assert found in InstallEffect
    if found is InstallEffect.LOADS:
        assert any(loader in said for loader in ("modprobe", "insmod", "kmod"))
    assert install_effect(f"{said}\n/sbin/modprobe --ignore-install ip_vs", "ip_vs") is InstallEffect.LOADS
