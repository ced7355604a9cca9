"""Files below a root, and files with sections."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from ipvsd.conflicts import ini_files
from ipvsd.conflicts.file_tree import FileTree
from ipvsd.runtime.rootfs import MAX_BYTES
from tests.trees import put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    (tmp_path / "etc").mkdir()
    return tmp_path


def test_an_unreadable_file_is_reported(root: Path) -> None:
    put(root, "etc/huge.conf", "x" * (MAX_BYTES + 1))
    (root / "etc/loop").symlink_to("loop")
    tree = FileTree(str(root))
    assert [tree.read(path) for path in ("etc/huge.conf", "etc/loop", "etc/none")] == [None, None, None]
    assert dict(tree.unreadable_files) == {
        str(root / "etc/huge.conf"): f"the file is larger than {MAX_BYTES} bytes",
        str(root / "etc/loop"): "Too many levels of symbolic links",
    }


def test_bytes_that_are_no_text_are_kept(root: Path) -> None:
    (root / "etc/latin1.conf").write_bytes(b"caf\xe9\n")
    text = FileTree(str(root)).read("etc/latin1.conf")
    assert text is not None
    assert os.fsencode(text) == b"caf\xe9\n"


def test_files_are_in_the_order_of_the_bytes_of_their_names(root: Path) -> None:
    names = [f"etc/x.d/{os.fsdecode(name)}" for name in (b"b.conf", "\U0001f600.conf".encode(), b"\xff.conf")]
    for name in reversed(names):
        put(root, name, "")
    assert FileTree(str(root)).merged(["etc/x.d"]) == names


def test_files_of_one_name_are_masked_by_the_first_directory(root: Path) -> None:
    for path in ("etc/x.d/50-b.conf", "run/x.d/50-b.conf", "run/x.d/10-a.conf", "run/x.d/.c.conf", "run/x.d/README"):
        put(root, path, "")
    assert FileTree(str(root)).merged(["etc/x.d", "run/x.d", "lib/x.d"]) == ["run/x.d/10-a.conf", "etc/x.d/50-b.conf"]


@pytest.mark.parametrize(
    ("path", "enabled"),
    [
        ("etc/systemd/system/multi-user.target.wants/x.service", True),
        ("usr/lib/systemd/system/sysinit.target.wants/x.service", True),
        ("run/systemd/system/y.service.requires/x.service", True),
        ("usr/lib/systemd/system/x.service", False),
        ("etc/systemd/system/multi-user.target.wants/y.service", False),
    ],
)
def test_a_unit_is_enabled_if_another_one_wants_it(root: Path, path: str, enabled: bool) -> None:
    put(root, path, "")
    assert FileTree(str(root)).enabled("x.service") is enabled


def test_a_masked_unit_is_not_enabled(root: Path) -> None:
    put(root, "etc/systemd/system/multi-user.target.wants/x.service", "")
    (root / "etc/systemd/system/x.service").symlink_to("/dev/null")
    assert not FileTree(str(root)).enabled("x.service")


def test_entries_have_their_lines() -> None:
    text = "before=1\n# no=1\n; no=1\n[a]\n\n key = some value \nno\n=no\n[b]\nkey=>=2\nkey=\n"
    found = [(item.section, item.key, item.value, item.origin) for item in ini_files.entries("f", text)]
    assert found == [
        ("", "before", "1", "f:1"),
        ("a", "key", "some value", "f:6"),
        ("b", "key", ">=2", "f:10"),
        ("b", "key", "", "f:11"),
    ]


def test_the_last_entry_of_a_key_counts() -> None:
    found = list(ini_files.entries("f", "[a]\nx=1\n[b]\nx=2\n[a]\nx=3\n"))
    assert str(ini_files.last(found, "a", "x")) == "x=3"
    assert ini_files.last(found, "c", "x") is None


@pytest.mark.parametrize(("text", "said"), [("Yes", True), ("1", True), ("off", False), ("maybe", None), ("", None)])
def test_booleans(text: str, said: bool | None) -> None:
    assert ini_files.parse_boolean(text) is said
