"""A mutation test: the share of small faults in the pure packages that their own tests detect. `make mutation` runs it.

cosmic-ray makes the faults. A hash of each line selects them, so that they are the same in every run, and a line that
does not change keeps its fault. The own tests of a module are the quick test files that import it. If there are none,
they are those that import a module that imports it, and so on.
"""

from __future__ import annotations

import argparse
import ast
import difflib
import hashlib
import importlib.util
import itertools
import re
import shutil
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from cosmic_ray.ast import ast_nodes, get_ast
from cosmic_ray.operators.provider import OperatorProvider
from importlinter.api import read_configuration

SEED = "ipvsd"
FAULTS = 10  # in a module, at most one in a line
_ROW = "{:40} {:>6} {:>8} {:>8}"
_PROVIDER = OperatorProvider()
_OPERATORS = {name: _PROVIDER[name]() for name in _PROVIDER if not _PROVIDER[name].arguments()}
# For enums and None, `is` and `==` are equal. For other values, ruff rejects `is`.
_CHANGES_NOTHING = re.compile(r"_(Eq_Is|Is_Eq|NotEq_IsNot|IsNot_NotEq)$")
# A fault can cause an endless loop, which can allocate memory. The time is CPU time, because the computer may be busy.
_LIMITS = ("prlimit", "--cpu=60", "--as=4000000000", "--core=0")
_PYTEST = ("-m", "pytest", "-q", "-x", "-p", "no:xdist", "-p", "no:cacheprovider")
_NOT_COPIED = shutil.ignore_patterns(".*", "build", "dist", "__pycache__")


class Fault(NamedTuple):
    """The change with the number `choice` that `operator` can make to the node with the number `node`."""

    line: int
    operator: str
    node: int
    choice: int

    def apply(self, source: str) -> str:
        """Return `source` with this fault."""
        tree = get_ast(source)
        node = next(itertools.islice(ast_nodes(tree), self.node, None))
        siblings, changed = node.parent.children, _OPERATORS[self.operator].mutate(node, self.choice)
        siblings[:] = [child for child in (changed if child is node else child for child in siblings) if child]
        return str(tree.get_code())

    def is_valid_in(self, source: str) -> bool:
        """Return whether the result is Python. cosmic-ray also changes the asterisks of `f(*a, **b)`."""
        try:
            ast.parse(self.apply(source))
        except SyntaxError:
            return False
        return True


def faults(source: str) -> Iterator[Fault]:
    """Yield every fault that cosmic-ray can add to a module."""
    for number, node in enumerate(ast_nodes(get_ast(source))):
        for name, operator in _OPERATORS.items():
            if not _CHANGES_NOTHING.search(name):
                for choice, (start, _) in enumerate(operator.mutation_positions(node)):
                    yield Fault(start[0], name, number, choice)


def sample(source: str) -> list[Fault]:
    """Return the faults of a module that are tried."""
    lines = source.splitlines()

    def rank(fault: Fault) -> bytes:
        text = f"{SEED} {fault.operator} {fault.choice} {lines[fault.line - 1].strip()}"
        return hashlib.sha256(text.encode()).digest()

    chosen: dict[int, Fault] = {}
    for fault in sorted(faults(source), key=rank):
        if fault.line not in chosen and fault.is_valid_in(source):
            chosen[fault.line] = fault
            if len(chosen) == FAULTS:
                break
    return sorted(chosen.values())


def imports(tree: Path) -> dict[str, set[str]]:
    """Return the dotted names that each file of the package and of the tests imports, by path."""
    found: dict[str, set[str]] = {}
    for path in itertools.chain(tree.glob("ipvsd/**/*.py"), tree.glob("tests/**/*.py")):
        names = found.setdefault(str(path.relative_to(tree)), set())
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.ImportFrom) and node.module:
                names |= {node.module, *(f"{node.module}.{alias.name}" for alias in node.names)}
    return found


def own_tests(module: str, imported: Mapping[str, set[str]], tests: set[str]) -> list[str]:
    """Return those of `tests` with the shortest chain of imports to a module."""
    seen, level = {module}, {module}
    while level:
        names = {path[: -len(".py")].replace("/", ".") for path in level}
        level = {path for path in imported if imported[path] & names} - seen
        seen |= level
        if level & tests:
            return sorted(level & tests)
    raise ValueError(f"no test imports {module}")


def pure_modules(tree: Path) -> Iterator[str]:
    """Yield the modules of the packages that the import contract of a tree declares as pure."""
    contracts = read_configuration(str(tree / "pyproject.toml"))["contracts_options"]
    for package in next(contract["source_modules"] for contract in contracts if contract["type"] == "forbidden"):
        yield from sorted(str(path.relative_to(tree)) for path in tree.glob(package.replace(".", "/") + "/*.py"))


def pytest(tree: Path, marks: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the tests of a tree that have these marks, until one fails."""
    command = [*_LIMITS, sys.executable, *_PYTEST, "-m", marks, *arguments]
    return subprocess.run(command, cwd=tree, capture_output=True, text=True, check=False)


def difference(before: str, after: str) -> str:
    """Return the lines that differ, indented."""
    lines = difflib.unified_diff(before.splitlines(), after.splitlines(), n=0, lineterm="")
    return "\n".join(f"    {line}" for line in itertools.islice(lines, 3, None))


def put(path: Path, source: str) -> None:
    """Replace a module. Remove its compiled file, which would be valid for a source of the same size and second."""
    path.write_text(source)
    Path(importlib.util.cache_from_source(str(path))).unlink(missing_ok=True)


def main() -> None:
    """Print how many faults the tests detect in each module, and the faults that they do not detect."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--tree", type=Path, default=Path(), help="a different working tree, to compare with")
    parser.add_argument("-m", dest="marks", default="", help="the marks of the tests, as for pytest")
    parser.add_argument("modules", nargs="*", help="paths in the tree; by default, the pure modules")
    asked = parser.parse_args()
    tried, survivors = 0, list[str]()
    print(_ROW.format("module", "faults", "detected", "survived"))
    with TemporaryDirectory() as directory:
        Path(directory).chmod(0o755)  # for tests that become another user
        tree = Path(shutil.copytree(asked.tree, Path(directory, "tree"), ignore=_NOT_COPIED))
        imported = imports(tree)
        collected = pytest(tree, asked.marks, "--collect-only", "-qq", "tests").stdout
        quick = set(re.findall(r"^(tests/\S+): \d+$", collected, re.MULTILINE))
        for module in asked.modules or pure_modules(tree):
            source, before = (tree / module).read_text(), len(survivors)
            chosen = sample(source)
            if not chosen:
                continue
            tests = own_tests(module, imported, quick)
            done = pytest(tree, asked.marks, *tests)
            if done.returncode:
                sys.exit(f"cannot measure {module}: its tests fail without a fault:\n{done.stdout}{done.stderr}")
            for fault in chosen:
                changed = fault.apply(source)
                put(tree / module, changed)
                if pytest(tree, asked.marks, *tests).returncode == 0:
                    survivors.append(f"{module}:{fault.line}: {fault.operator}\n{difference(source, changed)}")
            put(tree / module, source)
            tried, survived = tried + len(chosen), len(survivors) - before
            print(_ROW.format(module, len(chosen), len(chosen) - survived, survived), flush=True)
    print(_ROW.format("total", tried, tried - len(survivors), len(survivors)))
    print(f"{1 - len(survivors) / tried:.1%} detected\n", *survivors, sep="\n")


if __name__ == "__main__":
    main()
