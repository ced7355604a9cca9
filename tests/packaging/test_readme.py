"""The images in the examples of README.md, built literally. Each downloads a whole Debian."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.packaging.built import PROJECT
from tests.vm import cache, packages

SECTION = (PROJECT / "README.md").read_text().partition("\n## Image builds\n")[2]
MAKE, LOOK = re.findall(r"```sh\n(.*?)```", SECTION, re.DOTALL)[:2]
(CONTENT, *_) = re.findall(r"```ini\n(.*?)```", SECTION, re.DOTALL)

# The settings that README.md leaves to users of mkosi: the system and its kernel.
MKOSI = """[Distribution]
Distribution=debian
Release=bookworm
[Output]
Format=directory
Output=image
[Content]
Bootable=no
Packages=systemd,systemd-sysv,udev,linux-image-cloud-amd64
"""
# Otherwise, it also requires the debug symbols, which not every mirror has.
SOURCES = f"""Types: deb
URIs: http://deb.debian.org/debian
Suites: bookworm
Components: main
Signed-By: {packages.KEYRING}
"""


def _run(command: str, image: Path) -> subprocess.CompletedProcess[str]:
    # The commands run in the working tree, because it is not installed here.
    command = re.sub(r"^ipvsd", f"{PROJECT}/.venv/bin/python -m ipvsd", command.replace("IMAGE", str(image)))
    return subprocess.run(command, shell=True, cwd=PROJECT, capture_output=True, text=True, check=False)


def _mmdebstrap(place: Path) -> subprocess.CompletedProcess[str]:
    return _run(MAKE, place / "image")


def _mkosi(place: Path) -> subprocess.CompletedProcess[str]:
    (place / "mkosi.conf").write_text(f"{MKOSI}{CONTENT.replace('=dist', f'={PROJECT}/dist')}")
    sources = place / "mkosi.sandbox/etc/apt/sources.list.d/mkosi.sources"
    sources.parent.mkdir(parents=True)
    sources.write_text(SOURCES)
    # The mkosi of Debian 12 is too old for PackageDirectories=.
    program = cache.kept("mkosi", (Path(__file__), Path(packages.__file__)), _unpack_mkosi)
    environment = {**os.environ, "PYTHONPATH": str(program / "usr/lib/python3/dist-packages")}
    command = ["/usr/bin/python3", "-m", "mkosi", "build"]
    return subprocess.run(command, cwd=place, env=environment, capture_output=True, text=True, check=False)


def _unpack_mkosi(target: Path, work: Path) -> None:
    packages.unpack("mkosi", "trixie", target, work, also="mkosi")


@pytest.fixture(scope="module", params=[_mmdebstrap, _mkosi], ids=lambda maker: maker.__name__[1:])
def image(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place = tmp_path_factory.mktemp("readme")
    place.parent.chmod(0o755)
    made = request.param(place)
    assert made.returncode == 0, made.stderr[-3000:]
    yield place / "image"
    shutil.rmtree(place / "image")


@pytest.mark.parametrize("line", LOOK.splitlines(), ids=lambda line: line.partition(" --")[0])
def test_each_command_accepts_the_image(image: Path, line: str) -> None:
    done = _run(line, image)
    assert done.returncode == 0, done.stdout + done.stderr


def test_the_image_has_the_service_enabled_and_the_persisted_files(image: Path) -> None:
    enabled = list((image / "etc/systemd/system").glob("*/ipvsd*"))
    assert enabled == [image / "etc/systemd/system/multi-user.target.wants/ipvsd.service"]
    assert "ip_vs_rr" in (image / "etc/modules-load.d/ipvsd.conf").read_text()
