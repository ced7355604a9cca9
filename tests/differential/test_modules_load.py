"""Generated directories of modules-load.d(5), judged by systemd-modules-load with a generated module tree."""

from __future__ import annotations

import os
import random
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from ipvsd.conflicts.file_tree import FileTree
from ipvsd.conflicts.modules_load import lines
from ipvsd.kernel.load_blockers import read_settings
from ipvsd.kernel.module_tree import ModuleTree
from ipvsd.model.types import Cause
from ipvsd.modprobe import load_steps
from ipvsd.modprobe.modprobe_d import Settings
from tests.differential import kernelmodules
from tests.differential.judge import fill
from tests.differential.sandbox import breadth, dice, judged

pytestmark = pytest.mark.differential

MODULES = {
    "nf_conntrack": [],
    "ip_vs": ["nf_conntrack"],
    "ip_vs_rr": ["ip_vs"],
    "br-netfilter": [],
    "tracker": ["alias:ip_conntrack", "alias:nf-proto-*", "nf_conntrack"],
    "two-a": ["alias:both"],
    "two-b": ["alias:both"],
    "forbidden": [],
    "commanded": [],
    "wrapped": ["forbidden"],
}
BUILT_IN = ["dummy", "ip-tables"]
SAID = [
    *MODULES,
    *BUILT_IN,
    *"ip-vs br_netfilter two_a ip_conntrack nf-proto-2 nf_proto_2 both nf_conntrack_ipv4 mine my-own gone".split(),
    *"ip_vs.ko IP_VS ../ip_vs ip_vs,dummy ip_vs* ip_tables kernel/ip_vs.ko - . overlay".split(),
]
RULES = """\
blacklist forbidden
install commanded /bin/true
alias mine ip_vs_rr
alias my-* dummy
alias gone nothing
"""
REMARKS = [""] * 8 + [" # why", " conn_tab_bits=12", "#", "\x0b", " ;", "\\", "é".encode().decode("latin-1")]
SPACE = ["", "", "", " ", "\t", "\x0b", "  "]
ENDS = ["\n"] * 12 + ["\r\n", "\n\n", "\r", "\0", "\n\r", "\r\r\n"]
PLACES = ["etc", "run", "usr/local/lib", "usr/lib"]
NAMES = ["modules", "k8s", "10-a", "é".encode().decode("latin-1"), "Z", "ipvsd"]
LINKED = ["->/dev/null", "->nowhere", "->../modules", "->/etc/modules", "->k8s.conf", "/"]
KEYS = ["modules_load", "modules-load", "rd.modules_load", "modules_loads", "module_load", "quiet"]
QUOTES = [("", ""), ("", ""), ('"', '"'), ("'", "'")]


def text(chance: random.Random) -> str:
    return "".join(line(chance) for _ in range(chance.randrange(6)))


def line(chance: random.Random) -> str:
    comment = chance.choice([""] * 8 + ["#", ";", "# "])
    name = chance.choice([*SAID, ""]) + chance.choice(REMARKS)
    return f"{chance.choice(SPACE)}{comment}{name}{chance.choice(SPACE)}{chance.choice(ENDS)}"


def word(chance: random.Random) -> str:
    value = ",".join(chance.choice([*SAID, "", "a b"]) for _ in range(chance.randrange(4)))
    key, (begin, end) = chance.choice(KEYS), chance.choice(QUOTES)
    value = value if begin else value.replace(" ", "_")
    return f"{begin}{key}={value}{end}" if chance.random() < 0.5 else f"{key}={begin}{value}{end}"


def case(number: int) -> Mapping[str, Any]:
    """Return the files of a case, which depend only on its number."""
    chance = dice(number)
    files: dict[str, str] = {"etc/modprobe.d/rules.conf": RULES}
    for _ in range(chance.randrange(4)):
        name = chance.choice(NAMES) + chance.choice([".conf"] * 10 + ["", ".conf.dpkg-old", "conf"])
        hidden = "." if chance.random() < 0.05 else ""
        content = chance.choice(LINKED) if chance.random() < 0.1 else text(chance)
        files[f"{chance.choice(PLACES)}/modules-load.d/{hidden}{name}"] = content
    if chance.random() < 0.5:
        files["etc/modules"] = text(chance)
        files["etc/modules-load.d/modules.conf"] = "->../modules"
    cmdline = " ".join(word(chance) for _ in range(chance.randrange(3)))
    return {"kind": "modules", "files": list(files.items()), "cmdline": cmdline}


def test_each_line_has_the_result_of_the_program(tmp_path: Path) -> None:
    cases = [case(number) for number in range(breadth())]
    tree = kernelmodules.make(tmp_path / "modules", os.uname().release, MODULES, BUILT_IN)
    modules, wrong = ModuleTree(str(tmp_path / "modules"), os.uname().release), []
    for number, (made, answer) in enumerate(zip(cases, judged(tmp_path, cases, str(tree)))):
        root = tmp_path / str(number)
        root.mkdir()
        fill(str(root), made["files"])
        found = predicted(root, made["cmdline"], modules)
        said = told(shown(answer["said"]))
        if found != said:
            wrong.append(f"case {number}: does {said}, which was said to be {found}")
    assert not wrong, f"{len(wrong)} differences, of which the first are\n" + "\n".join(wrong[:20])


def predicted(root: Path, cmdline: str, tree: ModuleTree) -> list[tuple[str, list[str]]]:
    """Return each line with its result, as the program would report it on a kernel that has loaded nothing."""
    settings = read_settings(str(root), tree)
    return [
        (shown(line.text), [outcome(found, tree, settings) for found in load_steps.probe(line.text, settings, tree)])
        for line in lines(FileTree(str(root)), cmdline)
    ]


def outcome(found: load_steps.Probe, tree: ModuleTree, settings: Settings) -> str:
    if found.built_in:
        return f"{found.module} built in"
    blocker = load_steps.simulate(found, tree, settings, ()).blocker
    if blocker is None:
        return f"{found.module} tried"
    return f"{found.module} {'forbidden' if blocker.cause is Cause.BLACKLIST else OTHERWISE[blocker.cause]}"


OTHERWISE = {Cause.INSTALL: "inserted", Cause.ALIAS: "missing", Cause.NOT_FOUND: "missing"}
# This kernel lacks all modules, so the program reports this for each that it would have loaded.
WORDS = [
    (r"Module '(.*)' is built in", "built in"),
    (r"Module '(.*)' is deny-listed", "forbidden"),
    (r"Inserted module '(.*)'", "inserted"),
    (r"Failed to insert module '(.*)': No such file or directory", "missing"),
    (r"Failed to insert module '(.*)': ", "tried"),
]


def told(text: str) -> list[tuple[str, list[str]]]:
    """Return the program's reports: each line of its files with its result."""
    found: list[tuple[str, list[str]]] = []
    for line in text.splitlines():
        if line.startswith("Loading module: "):
            found.append((line.partition(": ")[2], []))
        for pattern, word in WORDS:
            match = re.match(pattern, line)
            if match:
                found[-1][1].append(f"{match[1]} {word}")
                break
    return found


def shown(text: str) -> str:
    """Return a text without parts that a log can print in another form."""
    return re.sub(r"[^ -~\n]", "", text)
