"""The kind of tree that a root is."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from ipvsd.kernel.host import normalise_root
from ipvsd.runtime.rootfs import UnreadableError
from tests.scarce import few_descriptors


@pytest.mark.parametrize("root", ["//", "/usr/..", "/./", "/proc/self/root", "/proc/self/root/usr/.."])
def test_every_name_of_the_root_directory_is_slash(root: str) -> None:
    assert normalise_root(root) == "/"


def test_without_a_descriptor_the_root_is_unreadable() -> None:
    for left in range(2):
        with few_descriptors(left), pytest.raises(UnreadableError, match="Too many open files"):
            normalise_root("//")


@pytest.mark.parametrize("root", ["/usr", "/proc", "."])
def test_any_other_root_keeps_its_name(root: str) -> None:
    assert normalise_root(root) == root


UNPRIVILEGED = """
import os, sys
from ipvsd.cli import main
os.setgroups([]); os.setgid(65534); os.setuid(65534)
sys.exit(main(["check", "--root", sys.argv[1]]))
"""


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_a_root_that_this_user_cannot_read_is_not_absent(tmp_path: Path) -> None:
    root = tmp_path / "closed/root"
    root.mkdir(parents=True)
    root.parent.chmod(0o700)
    for above in (tmp_path, *tmp_path.parents[:2]):
        above.chmod(0o755)
    done = subprocess.run([sys.executable, "-c", UNPRIVILEGED, str(root)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (2, f"ipvsd: cannot read {root}/: Permission denied\n")
