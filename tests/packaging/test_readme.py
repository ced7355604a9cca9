"""The image that README.md has an example for, made as it stands there; it downloads a whole Debian."""

from __future__ import annotations

import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.built import PROJECT

BLOCKS = re.findall(
    r"```sh\n(.*?)```", (PROJECT / "README.md").read_text().partition("**Into an image.**")[2], re.DOTALL
)
MAKE, LOOK = BLOCKS[:2]


def _run(command: str, image: Path) -> subprocess.CompletedProcess[str]:
    # The commands are those of the working tree, which is not installed here.
    command = re.sub(r"^ipvsd", f"{PROJECT}/.venv/bin/python -m ipvsd", command.replace("IMAGE", str(image)))
    return subprocess.run(command, shell=True, cwd=PROJECT, capture_output=True, text=True, check=False)


@pytest.fixture(scope="module")
def image(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("readme")
    place.parent.chmod(0o755)
    made = _run(MAKE, place / "image")
    assert made.returncode == 0, made.stderr[-3000:]
    yield place / "image"
    shutil.rmtree(place / "image")


@pytest.mark.parametrize("line", LOOK.splitlines(), ids=lambda line: line.partition(" --")[0])
def test_each_command_says_that_the_image_is_good(image: Path, line: str) -> None:
    done = _run(line, image)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_service_is_enabled_in_it_and_what_lasts_is_written(image: Path) -> None:
    assert (image / "etc/systemd/system/multi-user.target.wants/ipvsd.service").is_symlink()
    assert "ip_vs_rr" in (image / "etc/modules-load.d/ipvsd.conf").read_text()
