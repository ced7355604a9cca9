"""The checks before a release is signed, and the bill of materials."""

from __future__ import annotations

import hashlib
import json
import re
from pathlib import Path

import pytest

import bom
import signcheck
import vendor

PINNED = vendor.libraries(vendor.REQUIREMENTS.read_text())
FILES = {"ipvsd-1.0.tar.gz": "source", "ipvsd_1.0_all.deb": "deb", "ipvsd-1.0-1.noarch.rpm": "rpm"}


@pytest.fixture
def dist(tmp_path: Path) -> Path:
    """A directory of finished files with their checksums."""
    place = tmp_path / "dist"
    place.mkdir()
    for name, text in FILES.items():
        (place / name).write_text(text)
    sums = (f"{hashlib.sha256(text.encode()).hexdigest()}  {name}\n" for name, text in FILES.items())
    (place / "SHA256SUMS").write_text("".join(sums))
    return place


def test_a_compliant_item_is_not_a_problem(dist: Path) -> None:
    assert list(signcheck.sums(dist)) == []
    assert list(signcheck.differences(dist, dist)) == []


def test_a_file_that_changed_after_its_sum_was_taken(dist: Path) -> None:
    (dist / "ipvsd_1.0_all.deb").write_text("another")
    assert list(signcheck.sums(dist)) == ["ipvsd_1.0_all.deb has not the sum that is in SHA256SUMS"]


def test_a_file_without_a_sum_and_a_sum_without_a_file(dist: Path) -> None:
    (dist / "ipvsd_1.0_all.deb").rename(dist / "ipvsd_1.1_all.deb")
    found = [problem.split(" is in ")[0] for problem in signcheck.sums(dist)]
    assert found == ["ipvsd_1.0_all.deb", "ipvsd_1.1_all.deb"]


def test_no_sums_at_all(tmp_path: Path) -> None:
    assert [problem.split(" ")[0] for problem in signcheck.sums(tmp_path)] == ["there"]


def test_one_byte_and_one_file_more_are_differences(dist: Path, tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.mkdir()
    for path in dist.iterdir():
        (other / path.name).write_bytes(path.read_bytes())
    (other / "ipvsd-1.0-1.noarch.rpm").write_text("rpM")
    (other / "more").touch()
    found = list(signcheck.differences(dist, other))
    assert [problem.split(" ")[0] for problem in found] == ["ipvsd-1.0-1.noarch.rpm", "more"]


def materials(dist: Path) -> str:
    return bom.document("1.0", 0, sorted(path for path in dist.iterdir() if path.name in FILES), PINNED)


def test_every_relation_of_the_bill_of_materials_is_between_what_is_in_it(dist: Path) -> None:
    found = json.loads(materials(dist))
    known = {package["SPDXID"] for package in found["packages"]}
    related = {relation[key] for relation in found["relationships"] for key in ("spdxElementId", "relatedSpdxElement")}
    assert len(known) == len(found["packages"])
    assert related == known | {bom.DOCUMENT}


def test_only_the_rpm_contains_what_is_bundled(dist: Path) -> None:
    contains = [line for line in json.loads(materials(dist))["relationships"] if line["relationshipType"] == "CONTAINS"]
    assert {line["spdxElementId"] for line in contains} == {"SPDXRef-ipvsd-1.0-1.noarch.rpm"}
    assert len(contains) == len(PINNED)


def test_the_bill_of_materials_depends_on_the_files(dist: Path) -> None:
    before = json.loads(materials(dist))["documentNamespace"]
    assert json.loads(materials(dist))["documentNamespace"] == before
    (dist / "ipvsd_1.0_all.deb").write_text("another")
    assert json.loads(materials(dist))["documentNamespace"] != before


def test_make_installs_only_packages_with_hashes() -> None:
    makefile = (Path(__file__).parent.parent / "Makefile").read_text()
    lines = [
        line.strip() for line in makefile.splitlines() if re.search(r"^\t.*(PIP_INSTALL\)|pip .*\binstall) ", line)
    ]
    assert [line for line in lines if "--require-hashes" not in line] == ["@$(PIP_INSTALL) -e ."]  # ipvsd itself
    assert any("build/uv" in line for line in lines)
