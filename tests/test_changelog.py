"""CHANGELOG.md in both kinds of packages, and the pinned versions of the bundling one."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

import changelog
import vendor
from ipvsd import __version__

ROOT = Path(__file__).parents[1]
TEXT = """# Changelog

What this is.

## [1.10.0] - unreleased

### Added

- A `thing` that is 100% new,
  told in [two lines](docs/x.md).

### Fixed

- One.
- Two.

## [1.9.0] - 2026-02-28

### Changed

- Everything.
"""
DAY = 1798761600  # 2027-01-01 00:00:00 UTC


def test_the_sections_are_read() -> None:
    newest, older = changelog.releases(TEXT)
    assert (newest.version, newest.date) == ("1.10.0", None)
    assert newest.changes == ("Added: A thing that is 100% new, told in two lines.", "Fixed: One.", "Fixed: Two.")
    assert (older.version, older.changes) == ("1.9.0", ("Changed: Everything.",))


@pytest.mark.parametrize("text", ["", "# Changelog\n", "\n## 1.0.0\n", "\n## [1.0.0] - soon\n"])
def test_a_text_that_is_not_a_changelog_is_rejected(text: str) -> None:
    with pytest.raises(ValueError, match="## "):
        changelog.releases(text)


def test_debian() -> None:
    assert changelog.debian(changelog.releases(TEXT), "Some One <one@example.org>", DAY) == (
        "ipvsd (1.10.0) unstable; urgency=medium\n\n"
        "  * Added: A thing that is 100% new, told in two lines.\n  * Fixed: One.\n  * Fixed: Two.\n"
        "\n -- Some One <one@example.org>  Fri, 01 Jan 2027 00:00:00 +0000\n\n"
        "ipvsd (1.9.0) unstable; urgency=medium\n\n  * Changed: Everything.\n"
        "\n -- Some One <one@example.org>  Sat, 28 Feb 2026 12:00:00 +0000\n"
    )


def test_rpm_takes_a_percent_sign_for_a_macro() -> None:
    assert changelog.rpm(changelog.releases(TEXT), "Some One <one@example.org>", DAY) == (
        "* Fri Jan 01 2027 Some One <one@example.org> - 1.10.0-1\n"
        "- Added: A thing that is 100%% new, told in two lines.\n- Fixed: One.\n- Fixed: Two.\n"
        "\n* Sat Feb 28 2026 Some One <one@example.org> - 1.9.0-1\n- Changed: Everything.\n"
    )


def test_a_long_change_is_wrapped() -> None:
    found = changelog.releases("\n## [1.0] - 2026-01-01\n\n### Added\n\n- " + "word " * 60)
    assert max(map(len, changelog.debian(found, "x <x@x>", DAY).splitlines())) <= 80


def test_the_projects_own_begins_with_this_version() -> None:
    newest = changelog.releases((ROOT / "CHANGELOG.md").read_text())[0]
    assert newest.version == __version__
    assert newest.changes


def test_the_pinned_packages_are_those_that_the_project_needs() -> None:
    pinned = {library.name for library in vendor.libraries(vendor.REQUIREMENTS.read_text())}
    (line,) = re.findall(r"^dependencies = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    assert pinned == {re.split("[<>=]", name)[0] for name in re.findall(r'"([^"]+)"', line)} - {"PyYAML"}


def test_every_package_demands_the_oldest_version_that_will_do() -> None:
    (line,) = re.findall(r"^dependencies = \[(.*)\]$", (ROOT / "pyproject.toml").read_text(), re.MULTILINE)
    floors = {name.lower(): version for name, version in re.findall(r'"([^">]+)>=([^"]+)"', line)}
    control = (ROOT / "packaging/debian/control").read_text()
    spec = (ROOT / "packaging/rpm/ipvsd.spec").read_text()
    debian = dict(re.findall(r"^ python3-(\S+) \(>= (\S+)\),$", control, re.MULTILINE))
    rpm = dict(re.findall(r"^Requires: +python3dist\((\S+)\) >= (\S+)$", spec, re.MULTILINE))
    yaml = floors.pop("pyyaml")
    assert debian == {**floors, "yaml": yaml}
    assert rpm == floors


@pytest.mark.parametrize("line", ["watchdog==6.0.0", "watchdog --hash=sha256:00", "watchdog>=6"])
def test_a_library_without_a_version_or_a_hash_is_refused(line: str) -> None:
    with pytest.raises(ValueError, match="has not the form"):
        vendor.libraries(f"# A comment.\n\n{line}\n")
