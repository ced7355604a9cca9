"""Resolution of paths inside a directory: one contract for openat2 and its replacement."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from ipvsd.runtime import path_resolution
from tests.trees import image_beside_a_secret, put

Resolve = Callable[[int, str, int], int]


@pytest.fixture
def root(tmp_path: Path) -> Path:
    return image_beside_a_secret(tmp_path)


def _kernel_resolves() -> bool:
    top = os.open("/", os.O_PATH)
    try:
        os.close(path_resolution.open_by_openat2(top, ".", os.O_PATH))
    except OSError:
        return False
    finally:
        os.close(top)
    return True


needs_openat2 = pytest.mark.skipif(not _kernel_resolves(), reason="this kernel, or a filter of it, has no openat2")
both = pytest.mark.parametrize(
    "resolve",
    [
        pytest.param(path_resolution.open_by_openat2, marks=needs_openat2),
        path_resolution.open_by_steps,
        path_resolution.open_in_root,
    ],
)

LINKS = [
    *((path, "inside\n") for path in ("a", "./a", "/etc/a", "//etc//./a", "d/../a", "../../../../../etc/a")),
    *((path, "top\n") for path in ("../a", "/../../a")),
    *((path, errno.ENOENT) for path in ("../../outside/a", "/outside/a", "nowhere")),
    *((path, errno.ENOTDIR) for path in ("a/", "a/.", "a/..", "a/b")),
    ("link", errno.ELOOP),
    ("x" * 256, errno.ENAMETOOLONG),
]


def content(root: Path, path: str, resolve: Resolve) -> str | int | None:
    top = os.open(root, os.O_PATH)
    try:
        fd = resolve(top, path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError as error:
        return error.errno
    finally:
        os.close(top)
    with os.fdopen(fd) as file:
        return file.read()


@both
@pytest.mark.parametrize(("target", "found"), LINKS)
def test_a_path_or_a_link_with_its_text_leads_to_the_same_target_as_with_the_root_slash(
    root: Path, resolve: Resolve, target: str, found: str | int
) -> None:
    (root / "etc/link").symlink_to(target)
    assert content(root, "etc/link", resolve) == found
    assert content(root, target if target.startswith("/") else f"etc/{target}", resolve) == found


@both
@pytest.mark.parametrize("target", ["/etc", "etc", "../etc", "../../image/../etc", "/etc/d/.."])
def test_a_directory_in_the_middle_may_be_a_link(root: Path, resolve: Resolve, target: str) -> None:
    (root / "link").symlink_to(target)
    (root / "outer").symlink_to("link")
    assert content(root, "outer/a", resolve) == ("inside\n" if ".." not in target or "image" not in target else 2)


@both
@pytest.mark.parametrize("path", [".", "/", "..", "etc/..", "etc/../..", "//"])
def test_nothing_is_above_the_root(root: Path, resolve: Resolve, path: str) -> None:
    top = os.open(root, os.O_PATH)
    fd = resolve(top, path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    assert sorted(os.listdir(fd)) == ["a", "etc"]
    os.close(fd)
    os.close(top)


@both
@pytest.mark.parametrize(("links", "found"), [(40, "inside\n"), (41, errno.ELOOP)])
def test_as_many_links_are_followed_as_by_the_kernel(
    root: Path, resolve: Resolve, links: int, found: str | int
) -> None:
    (root / "link0").symlink_to("etc/a")
    for number in range(1, links):
        (root / f"link{number}").symlink_to(f"/link{number - 1}")
    assert content(root, f"link{links - 1}", resolve) == found


@both
def test_a_directory_is_no_file_and_a_file_no_directory(root: Path, resolve: Resolve) -> None:
    top = os.open(root, os.O_PATH)
    with pytest.raises(NotADirectoryError):
        resolve(top, "etc/a", os.O_RDONLY | os.O_DIRECTORY)
    with pytest.raises(IsADirectoryError):
        resolve(top, "etc/d", os.O_WRONLY)
    os.close(top)


@both
def test_names_that_are_not_text_are_valid(root: Path, resolve: Resolve) -> None:
    name = os.fsdecode(b"caf\xe9")
    put(root, name, "found\n")
    (root / "link").symlink_to(name)
    assert content(root, "link", resolve) == "found\n"


SECCOMP = """
import ctypes, os, struct, sys
from ipvsd.runtime import rootfs
# if nr == openat2: return the errno; else allow
code = b"".join(struct.pack("=HBBI", *line) for line in (
    (0x20, 0, 0, 0), (0x15, 0, 1, 437), (0x06, 0, 0, 0x00050000 | int(sys.argv[2])), (0x06, 0, 0, 0x7FFF0000)
))
buffer = ctypes.create_string_buffer(code)
program = struct.pack("@HP", 4, ctypes.addressof(buffer))
libc = ctypes.CDLL(None, use_errno=True)
assert libc.prctl(38, 1, 0, 0, 0) == 0
assert libc.prctl(22, 2, program, 0, 0) == 0
try:
    rootfs.path_resolution.open_by_openat2(os.open("/", os.O_PATH), ".", os.O_PATH)
except OSError as error:
    assert error.errno == int(sys.argv[2])
else:
    raise AssertionError("openat2 is not forbidden")
print(rootfs.text(sys.argv[1], "etc/link"), rootfs.text(sys.argv[1], "etc/out"))
"""


@pytest.mark.parametrize("number", [errno.ENOSYS, errno.EPERM])
def test_without_openat_2_the_other_implementation_is_used(root: Path, number: int) -> None:
    (root / "etc/link").symlink_to("/a")
    (root / "etc/out").symlink_to("../../outside/a")
    done = subprocess.run(
        [sys.executable, "-c", SECCOMP, str(root), str(number)], capture_output=True, text=True, check=False
    )
    assert (done.stdout, done.stderr) == ("top\n None\n", "")
