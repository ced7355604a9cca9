"""The .deb in the build of a container image: no running systemd, no /proc, and a policy that starts nothing."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from ipvsd import __version__
from tests.packaging.built import debian
from tests.packaging.root import Root

# Image builds often have no /dev/pts, and apt then complains about its own log.
INSTALL = "DEBIAN_FRONTEND=noninteractive apt-get -qq -o Dpkg::Use-Pty=0 install --no-install-recommends /tmp/ipvsd.deb"
WANTS = "/etc/systemd/system/multi-user.target.wants"
# Files that dpkg, and Python for its bytecode, keep for themselves.
KEPT = ("./var/lib/dpkg/", "./var/log/", "./var/lib/apt/", "./var/lib/systemd/deb-systemd-helper-")


@pytest.fixture
def image(root: Root) -> Iterator[Root]:
    """A root during an image build. The test restores it."""
    before = _paths(root)
    root.put("usr/sbin/policy-rc.d", "#!/bin/sh\nexit 101\n")
    root.run("chmod +x /usr/sbin/policy-rc.d")
    root.copy(debian(), "tmp/ipvsd.deb")
    yield root
    root.run("dpkg --purge ipvsd; rm /usr/sbin/policy-rc.d")
    assert _paths(root) == before


def _paths(root: Root) -> set[str]:
    return {path for path in root.paths() if not path.startswith(KEPT)}


def test_it_installs_without_noise_and_its_commands_work(image: Root) -> None:
    done = image.run(INSTALL)
    said = [line for line in done.stderr.splitlines() if not line.startswith("debconf: ")]  # apt's own messages
    assert said == [f"Created symlink {WANTS}/ipvsd.service → /lib/systemd/system/ipvsd.service."]  # by the preset
    assert image.run("ipvsd --version").stdout == f"ipvsd {__version__}\n"
    assert image.run("ipvsd config validate").stdout == "valid: /etc/ipvsd/ipvsd.yaml\n"


def test_a_pipeline_is_stopped_by_exit_codes(image: Root) -> None:
    image.run(INSTALL)
    image.put("etc/ipvsd/conf.d/bad.yaml", "scheduler: [rr]\n")
    bad = image.run("ipvsd config validate", check=False)
    assert (bad.returncode, bad.stderr.count("/etc/ipvsd/conf.d/bad.yaml:1: scheduler: ")) == (78, 1)
    image.run("rm /etc/ipvsd/conf.d/bad.yaml")
    without_kernel = image.run("ipvsd preflight", check=False)
    assert (without_kernel.returncode, without_kernel.stdout) == (2, "")
    assert without_kernel.stderr.startswith("ipvsd: cannot check the kernels: missing kernel in /lib/modules (")


def test_what_a_pipeline_enables_by_preset_is_what_the_package_enables(image: Root) -> None:
    image.run(INSTALL)
    image.run("systemctl preset ipvsd.service ipvsd-apply.service")
    enabled = [path for path in image.paths() if path.startswith("./etc/systemd/system/") and "ipvsd" in path]
    assert enabled == [f".{WANTS}/ipvsd.service"]
