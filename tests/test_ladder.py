"""Imports only point down one list, and what is heavy is imported late."""

from __future__ import annotations

import ast
import functools
import importlib.util
import re
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ipvsd"

# One list, the lowest first. A module may import what stands before it.
LADDER = """
    printable model report globs formats sysctls patterns difference procsys profiles backends vocabulary spelling
    values modprobe_d moduleindex install_command modprobe kconfig
    formernames packages remedies verdicts planner restraint contention health groups cgroups assembly hook evidence
    lookalikes resolution rooted stored document foreign settings keyhints config effective configfiles desire
    wake streams compression situation moduletree iptables kmod obstacles host advertisements
    bpf capabilities hugepages writers reconcile tally table journal instance configured narrate reflex
    watch targets descriptors watch.inotify watch.sysctls watch.uevents watch.units watch.ring
    watch.allowed watch.writes watch.files ipvs
    rivals defaults rivals.ini rivals.tree rivals.sysctl_d rivals.tuned rivals.networkd rivals.firewalld
    rivals.networkmanager rivals.modules rivals.modules_load rivals.ufw
    rivals.survey bootloader bootmodules nextboot drop_in persist preflight notices
    present ownfailures history lastseen books statusfile subjects explain metrics httprequest httpserver web notify
    daemon output
    commands commands.text commands.check commands.plan commands.apply commands.status
    commands.preflight commands.profile commands.config commands.explain commands.history arguments cli __main__
""".split()

HACKING = (PACKAGE.parent / "HACKING.md").read_text()
# The floors of HACKING.md: the modules of each row of its table, and the packages with all that is in them.
FLOORS = [
    re.findall(r"`([a-z_]+)/?`", row)
    for row in re.findall(r"^\| [a-z' ]+ \| ((?:`[a-z_]+/?`(?:, )?)+) \|", HACKING, re.MULTILINE)
]

PURE = """
    printable model report globs formats sysctls patterns difference procsys profiles backends vocabulary spelling
    values modprobe_d moduleindex install_command modprobe kconfig
    formernames packages remedies verdicts planner restraint contention
    health groups cgroups assembly hook evidence
    lookalikes rivals rivals.ini defaults httprequest
""".split()

ALLOWED_IN_PURE = {
    "__future__",
    "collections",
    "dataclasses",
    "enum",
    "errno",
    "difflib",
    "functools",
    "itertools",
    "json",
    "math",
    "re",
    "shlex",
    "struct",
    "types",
    "typing",
    "unicodedata",
    "ipvsd",
}

THIRD_PARTY = {
    "yaml": "document",
    "pyroute2": "ipvs",
    "watchdog": "watch.files",
    "prometheus_client": "metrics",
    "sdnotify": "notify",
}


def name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name(path): path for path in PACKAGE.rglob("*.py") if name(path)}


@functools.cache
def nodes(module: str) -> list[ast.AST]:
    """Return everything in the syntax tree of a module."""
    return list(ast.walk(ast.parse(MODULES[module].read_text())))


@functools.cache
def imports(module: str) -> frozenset[str]:
    """Return every name that a module imports, wherever in it."""
    found: set[str] = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


def own(module: str) -> set[str]:
    """Return the modules of this package that a module imports."""
    found: set[str] = set()
    for imported in imports(module):
        first, _, rest = imported.partition(".")
        while first == "ipvsd" and rest:
            if rest in MODULES:
                found.add(rest)
                break
            rest = rest.rpartition(".")[0]
    return found


def test_every_module_has_its_place() -> None:
    assert sorted(LADDER) == sorted(MODULES)


@pytest.mark.parametrize("module", LADDER)
def test_imports_only_point_down(module: str) -> None:
    assert own(module) <= set(LADDER[: LADDER.index(module)])


def test_the_floors_of_the_manual_hold_every_module_once() -> None:
    assert sorted(name for floor in FLOORS for name in floor) == sorted(
        {module.partition(".")[0] for module in MODULES} - {"__main__"}
    )


def test_no_floor_imports_from_one_below_it_in_the_manual() -> None:
    place = {name: number for number, floor in enumerate(FLOORS) for name in floor}
    place["__main__"] = len(FLOORS)
    imported = [(module, other) for module in MODULES for other in own(module)]
    assert [
        (module, other)
        for module, other in imported
        if place[other.partition(".")[0]] > place[module.partition(".")[0]]
    ] == []


@pytest.mark.parametrize("module", PURE)
def test_a_pure_module_can_not_touch_the_world(module: str) -> None:
    assert {imported.partition(".")[0] for imported in imports(module)} <= ALLOWED_IN_PURE


@pytest.mark.parametrize("library", THIRD_PARTY)
def test_a_library_has_one_user(library: str) -> None:
    users = [module for module in LADDER if any(found.partition(".")[0] == library for found in imports(module))]
    assert users == [THIRD_PARTY[library]]


def test_no_other_library_is_used() -> None:
    used = {found.partition(".")[0] for module in LADDER for found in imports(module)} - {"ipvsd"}
    installed = {name for name in used if "-packages" in str(getattr(importlib.util.find_spec(name), "origin", ""))}
    assert installed == set(THIRD_PARTY)


@functools.cache
def names(module: str) -> set[str]:
    """Return the names, with one dot or none, that a module uses."""
    tree = nodes(module)
    plain = {node.id for node in tree if isinstance(node, ast.Name)}
    dotted = {
        f"{node.value.id}.{node.attr}"
        for node in tree
        if isinstance(node, ast.Attribute) and isinstance(node.value, ast.Name)
    }
    return plain | dotted


@pytest.mark.parametrize(
    ("forbidden", "allowed"),
    [
        # What is printed is made printable, and cannot change an exit code.
        ("print", {"ipvs"}),  # a child's answer to its parent
        ("sys.stdout", {"output"}),
        ("sys.stderr", {"output", "journal"}),
        # JSON for others is valid, whatever is in it; these are for ipvsd itself.
        ("json.dump", set[str]()),
        ("json.dumps", {"printable", "ipvs", "configfiles", "effective", "commands.config"}),
    ],
)
def test_there_is_one_place_to_print(forbidden: str, allowed: set[str]) -> None:
    assert {module for module in LADDER if forbidden in names(module)} == allowed


def test_patterns_are_matched_in_one_place() -> None:
    others = {"fnmatch", "glob"}  # Python's, which differ from the C library's
    assert [module for module in LADDER if others & {found.partition(".")[0] for found in imports(module)}] == []


@pytest.mark.parametrize("path", ["__init__.py", "commands/__init__.py"])
def test_a_package_does_nothing_when_imported(path: str) -> None:
    body = ast.parse((PACKAGE / path).read_text()).body
    assert all(isinstance(node, (ast.Expr, ast.Assign)) for node in body)


def test_no_module_is_longer_than_400_lines() -> None:
    tests = Path(__file__).parent.glob("*.py")
    assert [path.name for path in (*MODULES.values(), *tests) if len(path.read_text().splitlines()) > 400] == []


def test_the_daemon_needs_nothing_heavy_before_it_is_ready() -> None:
    late = "pyroute2 watchdog prometheus_client http ssl asyncio logging hashlib dataclasses inspect argparse".split()
    code = f"import sys, ipvsd.cli, ipvsd.daemon; print(*(name for name in {late} if name in sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
