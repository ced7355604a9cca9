"""Expensive modules are imported late, and restricted ones have one user. pyproject.toml declares the layers."""

from __future__ import annotations

import ast
import functools
import importlib.util
import subprocess
import sys
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parent.parent / "ipvsd"


THIRD_PARTY = {
    "yaml": "config.yaml_library", "pyroute2": "kernel.ipvs_probe", "watchdog": "watch.config_watcher",
    "prometheus_client": "reporting.prometheus_library", "sdnotify": "runtime.sd_notify",
}  # fmt: skip


def name(path: Path) -> str:
    parts = path.relative_to(PACKAGE).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


MODULES = {name(path): path for path in PACKAGE.rglob("*.py") if name(path)}


@functools.cache
def nodes(module: str) -> list[ast.AST]:
    return list(ast.walk(ast.parse(MODULES[module].read_text())))


@functools.cache
def imports(module: str) -> frozenset[str]:
    found: set[str] = set()
    for node in nodes(module):
        if isinstance(node, ast.Import):
            found.update(alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module}: relative import"
            found.update(f"{node.module}.{alias.name}" for alias in node.names)
    return frozenset(found)


@pytest.mark.parametrize("library", THIRD_PARTY)
def test_a_library_has_one_user(library: str) -> None:
    users = [module for module in MODULES if any(found.partition(".")[0] == library for found in imports(module))]
    assert users == [THIRD_PARTY[library]]


def test_no_other_library_is_used() -> None:
    used = {found.partition(".")[0] for module in MODULES for found in imports(module)} - {"ipvsd"}
    installed = {name for name in used if "-packages" in str(getattr(importlib.util.find_spec(name), "origin", ""))}
    assert installed == set(THIRD_PARTY)


@functools.cache
def names(module: str) -> set[str]:
    """Return the names with at most one dot that a module uses."""
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
        # Printed text is made printable, and cannot change an exit code.
        ("print", {"kernel.ipvs_probe"}),  # the reply of a child to its parent
        ("sys.stdout", {"commands.output"}),
        ("sys.stderr", {"commands.output", "runtime.journal"}),
        # JSON for other programs is valid for any content. These are for ipvsd itself.
        ("json.dump", set[str]()),
        (
            "json.dumps",
            {"model.printable", "kernel.ipvs_probe", "state.last_good_config", "config.dump", "commands.config"},
        ),
    ],
)
def test_there_is_one_place_to_print(forbidden: str, allowed: set[str]) -> None:
    assert {module for module in MODULES if forbidden in names(module)} == allowed


def test_descriptors_of_any_number_can_be_waited_for() -> None:
    assert [module for module in MODULES if "select.select" in names(module)] == []


def test_patterns_are_matched_in_one_place() -> None:
    others = {"fnmatch", "glob"}  # Python's versions, which differ from those of the C library
    assert [module for module in MODULES if others & {found.partition(".")[0] for found in imports(module)}] == []


PACKAGES = sorted(path.parent.name for path in PACKAGE.glob("*/__init__.py"))


@pytest.mark.parametrize("package", PACKAGES)
def test_a_package_is_one_sentence(package: str) -> None:
    (sentence,) = ast.parse((PACKAGE / package / "__init__.py").read_text()).body
    assert isinstance(sentence, ast.Expr)
    assert isinstance(sentence.value, ast.Constant)


EARLY = "socket ctypes.util ipvsd.model.report ipvsd.runtime.event_loop ipvsd.watch ipvsd.reporting".split()
LATE = """
pyroute2 watchdog prometheus_client http ssl asyncio logging hashlib json dataclasses inspect argparse
ipvsd.boot ipvsd.conflicts ipvsd.kube_proxy ipvsd.config.document_reader ipvsd.config.value_readers
ipvsd.config.yaml_library ipvsd.kernel.roots
""".split()


@pytest.mark.parametrize(("module", "unneeded"), [("main", EARLY + LATE), ("main_loop", LATE)])
def test_the_daemon_imports_nothing_early_that_it_needs_later(module: str, unneeded: list[str]) -> None:
    """`main` begins to load modules. A configuration with values needs yaml; the shipped one has only comments."""
    code = f"""
import sys, ipvsd.cli, ipvsd.daemon.{module}
from ipvsd.config.parser import parse
from ipvsd.kernel.host import LinuxHost
LinuxHost('/')
parse([("ipvsd.yaml", open("packaging/ipvsd.yaml", "rb").read())])
print(*(name for name in {unneeded} if name in sys.modules))
"""
    done = subprocess.run([sys.executable, "-c", code], cwd=PACKAGE.parent, capture_output=True, text=True, check=True)
    assert done.stdout.split() == []
