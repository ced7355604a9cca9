"""The development environment: `make` installs into .venv exactly the packages in packaging/lock."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from importlib.metadata import distributions
from typing import cast

import pytest
from packaging.markers import default_environment
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

import ipvsd
from tests.packaging.built import PROJECT
from tests.packaging.locked import LOCK, entries

DASHBOARD, UV = "dashboard.txt", "uv.txt"  # for environments of their own
INTERPRETERS = ("3.9", "3.11", "3.13", "3.14")  # those of bullseye, bookworm, trixie and sid


def locked(python: str) -> Iterator[tuple[str, str]]:
    """Yield (name, version) of each requirement that applies to an interpreter."""
    environment: dict[str, str] = {**cast("dict[str, str]", default_environment()), "python_version": python}
    environment["python_full_version"] = f"{python}.0"
    for path in sorted(LOCK.glob("*.txt")):
        if path.name in (DASHBOARD, UV):
            continue
        for entry in entries(path):
            requirement = Requirement(entry.partition(" --hash=")[0])
            if requirement.marker is None or requirement.marker.evaluate(environment):
                assert re.fullmatch(r"==[^*,]+", str(requirement.specifier)), f"{path.name} does not pin {entry}"
                yield canonicalize_name(requirement.name), str(requirement.specifier)[2:]


def by_name(python: str) -> Mapping[str, str]:
    """Return the version of each locked package. A package in several files has one version."""
    found: dict[str, str] = {}
    for name, version in locked(python):
        assert found.setdefault(name, version) == version, f"{name} is locked as {found[name]} and as {version}"
    return found


def test_the_environment_holds_exactly_the_locked_packages_and_ipvsd() -> None:
    (place,) = (PROJECT / ".venv" / "lib").glob("python3.*/site-packages")
    found = distributions(path=[str(place)])
    installed = {str(canonicalize_name(item.metadata["Name"])): item.version for item in found}
    expected = by_name(place.parent.name.removeprefix("python"))
    assert installed == {**expected, "ipvsd": ipvsd.__version__}


@pytest.mark.parametrize("python", INTERPRETERS)
def test_the_lock_serves_every_interpreter_on_which_the_tests_run(python: str) -> None:
    found = by_name(python)
    assert {"pytest", "hypothesis", "mypy", "ruff", "setuptools", "pyyaml", "watchdog"} <= found.keys()


@pytest.mark.parametrize("name", ["build.txt", "dev.txt", "mutation.txt", DASHBOARD, UV])
def test_every_locked_package_has_its_hashes(name: str) -> None:
    found = entries(LOCK / name)
    assert found
    assert [entry for entry in found if not re.search(r"--hash=sha256:[0-9a-f]{64}", entry)] == []
