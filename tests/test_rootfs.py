"""Files below a root: the guarantees of reading and writing."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from ipvsd.runtime import rootfs
from tests.scarce import few_descriptors, full
from tests.trees import image_beside_a_secret, put


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return image_beside_a_secret(tmp_path)


# --- reading ----------------------------------------------------------------------------


@pytest.mark.parametrize("make", [os.mkfifo, Path.mkdir])
def test_a_file_that_is_not_regular_is_not_read_and_does_not_block(root: Path, make: Callable[[Path], None]) -> None:
    make(root / "etc/x")
    assert (rootfs.content(str(root), "etc/x"), rootfs.text(str(root), "etc/x")) == (None, None)
    assert (rootfs.exists(str(root), "etc/x"), rootfs.is_file(str(root), "etc/x")) == (True, False)
    with pytest.raises(rootfs.IrregularError, match="not a regular file"):
        rootfs.read(str(root), "etc/x")


def test_a_writer_that_waits_at_a_fifo_is_not_disturbed(root: Path) -> None:
    os.mkfifo(root / "etc/x")
    ours = os.open(root / "etc/x", os.O_RDWR | os.O_NONBLOCK)
    os.write(ours, b"for another reader")
    assert rootfs.content(str(root), "etc/x") is None
    assert os.read(ours, 100) == b"for another reader"
    os.close(ours)


def test_a_device_is_not_opened() -> None:
    with pytest.raises(rootfs.IrregularError):
        rootfs.read("/", "dev/zero")
    assert rootfs.content("/", "dev/null") is None


@pytest.mark.parametrize("size", [101, 3 << 30])
def test_no_more_is_read_than_allowed(root: Path, size: int) -> None:
    os.truncate(put(root, "etc/x", ""), size)
    with pytest.raises(OSError, match="is larger than 100 bytes"):
        rootfs.read(str(root), "etc/x", 100)
    assert rootfs.content(str(root), "etc/x", 100) is None


def test_a_file_without_a_size_is_read_to_its_end() -> None:
    with open("/proc/self/status", encoding="ascii") as file:
        lines = len(file.readlines())
    assert len((rootfs.text("/", "proc/self/status") or "").splitlines()) == lines
    with pytest.raises(OSError, match="is larger than 10 bytes"):
        rootfs.read("/", "proc/self/status", 10)


def test_as_much_as_allowed_is_read(root: Path) -> None:
    put(root, "etc/x", "x" * 200_000)
    assert rootfs.content(str(root), "etc/x", 200_000) == b"x" * 200_000


@pytest.mark.parametrize("path", ["etc/none", "etc/a/b", "etc/loop", "none/a", "x" * 300, "a\0b", "\ud800", ""])
def test_an_absent_file_is_not_an_error(root: Path, path: str) -> None:
    (root / "etc/loop").symlink_to("loop")
    here = str(root)
    target = "loop" if path == "etc/loop" else None
    assert (rootfs.text(here, path), rootfs.is_file(here, path), rootfs.read_link(here, path)) == (None, False, target)
    assert list(rootfs.names(here, f"{path}/x")) == []
    assert list(rootfs.walk(here, f"{path}/x")) == []
    assert rootfs.status("/", f"{here}/{path}/x") is None
    assert (rootfs.names("/", f"{here}/{path}/x"), rootfs.read_link("/", f"{here}/{path}/x")) == ((), None)


@pytest.mark.parametrize(
    "ask",
    [
        pytest.param(lambda root: rootfs.text(root, "etc/a"), id="text"),
        pytest.param(lambda root: rootfs.text_if_permitted(root, "etc/a"), id="permitted"),
        pytest.param(lambda root: rootfs.text(root, "etc/none"), id="absent"),
        pytest.param(lambda root: rootfs.text("/", f"{root}/etc/a"), id="below slash"),
        pytest.param(lambda root: rootfs.names(root, "etc"), id="names"),
        pytest.param(lambda root: rootfs.exists(root, "etc/a"), id="exists"),
        pytest.param(lambda root: rootfs.lexists(root, "etc/a"), id="lexists"),
        pytest.param(lambda root: rootfs.read_link(root, "etc/a"), id="link"),
        pytest.param(lambda root: list(rootfs.walk(root, "etc")), id="walk"),
    ],
)
def test_without_descriptors_nothing_is_absent(root: Path, ask: Callable[[str], object]) -> None:
    with few_descriptors(), pytest.raises(rootfs.UnreadableError, match=r"cannot read .*/etc.*: Too many open files"):
        ask(str(root))


UNPRIVILEGED = """
import os, sys
from ipvsd.runtime import rootfs
os.setgroups([]); os.setgid(65534); os.setuid(65534)
print(rootfs.text_if_permitted(sys.argv[1], "etc/secret"))
print(rootfs.text(sys.argv[1], "etc/secret"))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_file_that_this_user_may_not_read_is_unreadable_and_not_absent(root: Path) -> None:
    put(root, "etc/secret", "x").chmod(0)
    for above in (root, *list(root.parents)[:3]):
        above.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, str(root)], capture_output=True, text=True, check=False)
    told = f"ipvsd.runtime.rootfs.UnreadableError: cannot read {root}/etc/secret: Permission denied"
    assert (done.stdout, done.stderr.splitlines()[-1]) == ("None\n", told)


def test_a_walk_follows_no_links_and_yields_paths_below_the_root(root: Path) -> None:
    put(root, "etc/d/e/f", "")
    (root / "etc/d/up").symlink_to("..")
    (root / "start").symlink_to("/etc")
    found = {directory: sorted(names) for directory, names in rootfs.walk(str(root), "start")}
    assert found == {"start": ["a"], "start/d": ["up"], "start/d/e": ["f"]}
    below = {os.path.relpath(directory, root) for directory, _ in rootfs.walk("/", f"{root}/etc")}
    assert below == {"etc", "etc/d", "etc/d/e"}


def test_a_broken_link_exists_and_has_its_target(root: Path) -> None:
    (root / "etc/link").symlink_to("/nowhere")
    (root / "out").symlink_to("../outside")
    here = str(root)
    for top, prefix in ((here, ""), ("/", f"{here}/")):
        assert rootfs.read_link(top, f"{prefix}etc/link") == "/nowhere"
        assert rootfs.read_link(top, f"{prefix}etc/a") is None
        assert (rootfs.lexists(top, f"{prefix}etc/link"), rootfs.exists(top, f"{prefix}etc/link")) == (True, False)
    assert rootfs.lexists(here, "out/a") is False
    assert rootfs.read_link(here, "..") is None


# --- writing ----------------------------------------------------------------------------


@contextmanager
def private() -> Iterator[None]:
    """Let new files be readable only by their owner unless ipvsd changes that."""
    before = os.umask(0o077)
    yield
    os.umask(before)


def test_a_file_is_replaced_and_readable_by_everyone(root: Path) -> None:
    with private():
        rootfs.write(str(root), "etc/a", b"new\n", durable=True)
    assert ((root / "etc/a").read_text(), (root / "etc/a").stat().st_mode & 0o777) == ("new\n", 0o644)
    assert sorted(os.listdir(root / "etc")) == ["a", "d"]


def test_a_link_is_replaced_and_not_written_through(root: Path) -> None:
    (root / "etc/a").unlink()
    (root / "etc/a").symlink_to(root.parent / "outside/a")
    rootfs.write(str(root), "etc/a", b"new\n")
    assert ((root / "etc/a").is_symlink(), (root.parent / "outside/a").read_text()) == (False, "outside\n")


@pytest.mark.parametrize("target", ["../outside", "/outside"])
@pytest.mark.parametrize(
    "act",
    [
        pytest.param(lambda root: rootfs.write(root, "out/a", b"new\n"), id="write"),
        pytest.param(lambda root: rootfs.append(root, "out/a", b"new\n"), id="append"),
        pytest.param(lambda root: rootfs.remove(root, "out/a"), id="remove"),
        pytest.param(lambda root: rootfs.make_directory(root, "out/x/y"), id="make_directory"),
    ],
)
def test_a_directory_outside_is_not_written_to(root: Path, target: str, act: Callable[[str], None]) -> None:
    (root / "out").symlink_to(target)
    with pytest.raises(FileNotFoundError) as caught:
        act(str(root))
    assert str(caught.value.filename).startswith(f"{root}/out")
    assert [path.read_text() for path in (root.parent / "outside").iterdir()] == ["outside\n"]


def test_any_number_of_writers_leave_one_whole_file(root: Path) -> None:
    texts = [str(number).encode() * 5000 for number in range(8)]
    with ThreadPoolExecutor(len(texts)) as pool:
        for _ in range(20):
            list(pool.map(lambda text: rootfs.write(str(root), "etc/a", text), texts))
    assert (root / "etc/a").read_bytes() in texts
    assert sorted(os.listdir(root / "etc")) == ["a", "d"]


def test_old_temporary_files_of_a_killed_writer_are_removed(root: Path) -> None:
    old, new = (put(root, f"etc/.a.{number:012}.new", "half") for number in range(2))
    os.utime(old, (1.0, 1.0))
    rootfs.remove_temporary_files(str(root), "etc", "a.", rootfs.TEMPORARY_FILE_AGE)
    assert (old.exists(), new.exists()) == (False, True)
    other = put(root, "etc/.b.000000000000.new", "half")
    rootfs.remove_temporary_files(str(root), "etc", "a.")
    assert (new.exists(), other.exists()) == (False, True)
    rootfs.remove_temporary_files(str(root), "etc")
    assert sorted(os.listdir(root / "etc")) == ["a", "d"]


def test_a_short_write_leaves_the_former_file_and_nothing_beside_it(root: Path) -> None:
    with full(100), pytest.raises(OSError, match="File too large") as caught:
        rootfs.write(str(root), "etc/a", b"x" * 1000)
    assert caught.value.filename == str(root / "etc/a")
    assert (root / "etc/a").read_text() == "inside\n"
    assert sorted(os.listdir(root / "etc")) == ["a", "d"]


def test_a_short_addition_is_taken_back(root: Path) -> None:
    with full(100), pytest.raises(OSError, match="File too large"):
        rootfs.append(str(root), "etc/a", b"x" * 1000)
    assert (root / "etc/a").read_text() == "inside\n"
    rootfs.append(str(root), "etc/a", b"more\n")
    assert (root / "etc/a").read_text() == "inside\nmore\n"


def test_nothing_is_appended_to_a_link_or_a_file_that_is_not_regular(root: Path) -> None:
    (root / "etc/link").symlink_to("a")
    os.mkfifo(root / "etc/fifo")
    for name in ("link", "fifo"):
        with pytest.raises(rootfs.IrregularError):
            rootfs.append(str(root), f"etc/{name}", b"x")
    assert (root / "etc/a").read_text() == "inside\n"


def test_a_private_file_is_made_once_for_its_user_alone_and_is_no_link(root: Path) -> None:
    for _ in range(2):
        fd = rootfs.open_private(str(root), "etc/lock")
        assert (os.pread(fd, 9, 0), os.fstat(fd).st_mode & 0o777) in [(b"", 0o600), (b"1", 0o600)]
        os.pwrite(fd, b"1", 0)
        os.close(fd)
    (root / "etc/link").symlink_to("nowhere")
    os.mkfifo(root / "etc/fifo")
    for name in ("link", "fifo", "d"):
        with pytest.raises(rootfs.IrregularError):
            rootfs.open_private(str(root), f"etc/{name}")
    assert not (root / "etc/nowhere").exists()


def test_directories_are_made_inside_and_can_be_looked_into(root: Path) -> None:
    (root / "link").symlink_to("/etc")
    with private():
        rootfs.make_directory(str(root), "link/x/y")
    assert (root / "etc/x/y").stat().st_mode & 0o777 == 0o755
    rootfs.make_directory(str(root), "link/x/y")


@pytest.mark.parametrize("path", ["", "etc/", "etc/..", "..", "."])
def test_a_path_without_a_last_name_is_not_written(root: Path, path: str) -> None:
    with pytest.raises(OSError, match="Invalid argument"):
        rootfs.write(str(root), path, b"")
