"""Test the packages on every platform, and document the results: `make test-matrix`.

`python3 -m tests.vm.matrix FILE` runs the tests of a platform on each Debian, prints a table, and writes it to
FILE.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree

from ipvsd import __version__
from tests.vm.kernels import SUITES

PROJECT = Path(__file__).parents[2]
DEB = ("tests/packaging/test_userland.py", "tests/vm/test_platform.py")
README = ("tests/packaging/test_readme.py",)
LINTIAN = ("tests/packaging/test_lintian.py",)
RPM = ("tests/packaging/test_rpm.py", "tests/packaging/test_unbundled.py", "tests/vm/test_rpm.py")
LEGACY = ("-o", "junit_family=xunit1")  # the form that contains the properties of a test
NEWEST = "trixie"  # the released Debian whose lintian is used
ONCE = "bookworm"  # where the .rpm is tested, with Debian's rpm, and README's image; the bench has no Fedora or EL


@dataclass(frozen=True)
class Platform:
    """The results on one suite: versions, and by file and name of each test whether it passed."""

    suite: str
    versions: Mapping[str, str]
    passed: Mapping[tuple[str, str], bool]
    seconds: float


def measure(suite: str) -> Platform:
    """Run the tests of one platform, and report the results to a waiting person."""
    more = {ONCE: (*README, *RPM), NEWEST: LINTIAN}
    files = (*DEB, *more.get(suite, ()))
    begun = time.monotonic()
    with tempfile.TemporaryDirectory() as place:
        junit = Path(place) / "junit.xml"
        command = [
            sys.executable, "-m", "pytest", "-q", "-m", "vm or packaging", f"--junitxml={junit}", *LEGACY, *files,
        ]  # fmt: skip
        environment = {**os.environ, "IPVSD_VM_SUITE": suite}
        done = subprocess.run(command, cwd=PROJECT, env=environment, capture_output=True, text=True, check=False)
        print(f"== {suite}\n{done.stdout}{done.stderr}", file=sys.stderr, flush=True)
        cases = list(ElementTree.parse(junit).iter("testcase"))
    passed: dict[tuple[str, str], bool] = {}
    for case in cases:
        test = case.get("classname", ""), re.sub(r"\[.*", "", case.get("name", ""))
        passed[test] = passed.get(test, True) and not case.findall("failure") and not case.findall("error")
    versions = {item.get("name", ""): item.get("value", "") for case in cases for item in case.iter("property")}
    return Platform(suite, versions, passed, time.monotonic() - begun)


def column(platform: Platform) -> dict[str, str]:
    """Return the cells of a platform's column, by the names of the rows."""
    cells = {"tested on": time.strftime("%Y-%m-%d", time.gmtime()), **platform.versions}
    for (file, name), passed in platform.passed.items():
        kind = ".rpm: " if any(file.endswith(Path(one).stem) for one in RPM) else ""
        cells[f"{kind}{name.replace('test_', '', 1).replace('_', ' ')}"] = "yes" if passed else "**no**"
    return cells


def columns(page: str) -> dict[str, dict[str, str]]:
    """Return the columns of a page, by suite."""
    rows = [[cell.strip() for cell in line.split("|")[1:-1]] for line in page.splitlines() if line.startswith("| ")]
    suites = rows[0][1:] if rows else []
    return {suite: {row[0]: row[number] for row in rows[1:]} for number, suite in enumerate(suites, 1)}


def table(found: Mapping[str, Mapping[str, str]]) -> Iterator[str]:
    """Yield the lines of a page in Markdown, with these columns."""
    yield "# Platforms"
    yield ""
    yield f"`make test-matrix` generates this page (here with ipvsd {__version__}). It tests the same package file on"
    yield "each Debian release, with its own kernel and its own libraries, in virtual machines."
    yield ""
    yield f"| | {' | '.join(found)} |"
    yield "|---|" + "---|" * len(found)
    for row in dict.fromkeys(row for cells in found.values() for row in cells):
        yield f"| {row} | {' | '.join(cells.get(row, 'not tried') for cells in found.values())} |"
    yield ""
    yield "The .rpm is tested with Debian's `rpm`, in a separate root directory and in a booted virtual machine. It is"
    yield "not tested on Fedora or EL."


def main() -> int:
    """Return 0 if all tests passed on all platforms, otherwise 1."""
    parser = argparse.ArgumentParser(prog="tests.vm.matrix", description=__doc__)
    parser.add_argument("file", type=Path)
    parser.add_argument("--suite", choices=SUITES, action="append", help="this one; FILE keeps what it says of others")
    parser.add_argument("--jobs", type=int, default=1, help="how many at a time")
    options = parser.parse_args()
    with ThreadPoolExecutor(options.jobs) as pool:
        platforms = list(pool.map(measure, options.suite or SUITES))
    # The former results of untested platforms stay on the page.
    before = columns(options.file.read_text()) if options.suite and options.file.exists() else {}
    now = {platform.suite: column(platform) for platform in platforms}
    text = "".join(f"{line}\n" for line in table({**before, **now}))
    print(text)
    options.file.write_text(text)
    return 0 if all(all(platform.passed.values()) for platform in platforms) else 1


if __name__ == "__main__":
    sys.exit(main())
