"""An image under construction, with the build machine's /proc and /sys mounted in it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from ipvsd.kernel.roots import normalise_root
from tests.boots import make_image
from tests.fake_kernel import RELEASE
from tests.trees import enable

PROJECT = Path(__file__).parents[2]


@pytest.fixture
def image(tmp_path: Path) -> Path:
    image = make_image(tmp_path / "image")
    enable(image)
    (image / "proc").mkdir()
    (image / "sys").mkdir()
    return image


def ask(image: Path, *command: str) -> Any:
    """Return the JSON of a command that exits 0 while both are mounted."""
    rooted = [] if os.geteuid() == 0 else ["--map-root-user"]
    script = 'mount --rbind /proc "$1/proc" && mount --rbind /sys "$1/sys" && shift && exec "$@"'
    ipvsd = [sys.executable, "-m", "ipvsd", *command, "--output", "json", "--root", str(image)]
    done = subprocess.run(
        ["unshare", *rooted, "--mount", "sh", "-c", script, "sh", str(image), *ipvsd],
        cwd=PROJECT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


def test_the_kernel_of_the_build_machine_is_not_that_of_the_image(image: Path) -> None:
    document = ask(image, "check")
    assert (document["root_kind"], document["kernel"], document["state"]) == ("first_boot", RELEASE, "ready")


@pytest.mark.parametrize("name", ["lo", "kernel.ostype"])
def test_neither_are_its_values_and_interfaces(image: Path, name: str) -> None:
    document = ask(image, "explain", name)
    assert (document["root_kind"], document["actual"]) == ("first_boot", None)


def test_the_root_of_another_mount_namespace_is_another_root() -> None:
    with subprocess.Popen(["unshare", "--mount", "cat"], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as other:
        assert other.stdin
        assert other.stdout
        other.stdin.write(b"\n")
        other.stdin.flush()
        other.stdout.read(1)  # its namespace exists now
        root = f"/proc/{other.pid}/root"
        assert (os.path.realpath(root), normalise_root(root)) == ("/", root)
        assert normalise_root(f"/proc/{os.getpid()}/root") == "/"
        other.stdin.close()
