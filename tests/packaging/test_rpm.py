"""The .rpm in a separate root: installed, upgraded, erased, and its leftovers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd import __version__
from ipvsd.boot import drop_in_files
from tests.packaging.built import PROJECT, QUICK
from tests.packaging.root import LIBRARIES, Root
from tests.trees import make_tree, put

WANTS = "./etc/systemd/system/multi-user.target.wants"
# A program that uses every event source and every page, and ends by itself.
LOOK = """
import json, os, subprocess, sys, time, urllib.request
daemon = subprocess.Popen(["/usr/bin/ipvsd", "run", "--root", "/tmp/tree"], stderr=subprocess.PIPE)
for _ in range(200):
    time.sleep(0.1)
    try:
        page = urllib.request.urlopen("http://127.0.0.1:%d/metrics", timeout=5).read().decode()
        break
    except OSError:
        pass
daemon.terminate()
print(daemon.communicate()[1].decode(), file=sys.stderr)
print(page)
sys.exit(daemon.returncode)
"""
PORT = 14788


@pytest.fixture(scope="module")
def bare(root: Root) -> Iterator[Root]:
    """The root without the libraries that the package contains."""
    place, names = "/usr/lib/python3/dist-packages", " ".join(LIBRARIES)
    root.run(f"cd {place} && mkdir /tmp/aside && mv {names} /tmp/aside")
    yield root
    root.run(f"cd /tmp/aside && mv {names} {place} && rmdir /tmp/aside")


@pytest.fixture
def installed(bare: Root, clean: Root, packages: dict[str, Path]) -> Root:
    """The bare root with the bundling package."""
    done = clean.rpm("-i", str(packages["bundled"]))
    assert (done.stdout, done.stderr) == ("", "")
    return clean


def test_the_service_is_enabled_but_not_started(installed: Root) -> None:
    paths = installed.paths()
    assert f"{WANTS}/ipvsd.service" in paths
    assert f"{WANTS}/ipvsd-apply.service" not in paths
    assert not [path for path in paths if path.endswith(".wants/ipvsd.socket")]
    assert not [path for path in paths if path.startswith(("./var/lib/ipvsd/", "./run/ipvsd"))]
    assert installed.rpm("-V", "ipvsd", "--nodeps").stdout == ""


def test_the_commands_work_with_the_bundled_libraries(installed: Root) -> None:
    assert not [library for library in LIBRARIES if installed.imports(library)]
    make_tree(installed.directory / "tmp/tree")
    assert installed.run("ipvsd --version").stdout == f"ipvsd {__version__}\n"
    assert installed.run("ipvsd config validate").stdout == "valid: /etc/ipvsd/ipvsd.yaml\n"
    checked = json.loads(installed.run("ipvsd check --root /tmp/tree --output json").stdout)
    assert checked["state"] == "ready"


def test_the_daemon_works_with_the_bundled_libraries(installed: Root) -> None:
    tree = make_tree(installed.directory / "tmp/running")
    put(tree, "etc/ipvsd/ipvsd.yaml", f'web: {{listen: ["127.0.0.1:{PORT}"]}}\n')
    installed.put("tmp/look.py", LOOK.replace("/tmp/tree", "/tmp/running") % PORT)
    done = installed.run("python3 /tmp/look.py")
    assert 'ipvsd_source_up{source="config_files"} 1.0' in done.stdout  # prometheus-client reports it, about watchdog
    assert installed.imports("pyroute2.netlink.generic", "/usr/share/ipvsd/vendor")


def test_an_upgrade_keeps_the_configuration_and_the_choices_of_the_administrator(installed: Root, newer: Path) -> None:
    installed.put("etc/ipvsd/ipvsd.yaml", "interval: 59s\n")
    installed.run("systemctl disable ipvsd.service")
    done = installed.rpm("-U", str(newer))
    assert (done.stdout, done.stderr) == ("", "")
    assert installed.run("ipvsd --version").stdout == "ipvsd 99.0\n"
    assert "interval: 59s" in installed.run("cat /etc/ipvsd/ipvsd.yaml").stdout
    assert f"{WANTS}/ipvsd.service" not in installed.paths()
    assert "- Added: 5% of something." in installed.rpm("-q", "--changelog", "ipvsd").stdout
    installed.run("rm /etc/ipvsd/ipvsd.yaml")


def test_erasing_the_package_removes_only_files_that_ipvsd_created(bare: Root, packages: dict[str, Path]) -> None:
    before = bare.paths()
    bare.rpm("-i", str(packages["bundled"]))
    bare.put("var/lib/ipvsd/last-good.json", "{}")
    bare.put(drop_in_files.SYSCTL, drop_in_files._HEADER)
    bare.put(drop_in_files.MODULES_LOAD, drop_in_files._HEADER)
    bare.put(drop_in_files.MODPROBE, "options ip_vs conn_tab_bits=16\n")
    bare.put("etc/ipvsd/ipvsd.yaml", "interval: 59s\n")
    bare.put("etc/ipvsd/conf.d/20-site.yaml", "strictARP: true\n")
    bare.rpm("-e", "ipvsd")
    left = {f"./{drop_in_files.MODPROBE}", "./etc/ipvsd/ipvsd.yaml.rpmsave", "./etc/ipvsd/conf.d/20-site.yaml"}
    assert bare.paths() ^ before == left | {"./etc/ipvsd", "./etc/ipvsd/conf.d"}
    bare.run(f"rm -r /etc/ipvsd /{drop_in_files.MODPROBE}")


def test_the_unbundled_package_declares_its_dependencies(packages: dict[str, Path], tmp_path: Path) -> None:
    def told(what: str, name: str) -> set[str]:
        command = ["rpm", "--dbpath", str(tmp_path), "-qp", what, str(packages[name])]
        return set(subprocess.run(command, capture_output=True, text=True, check=True).stdout.splitlines())

    needed = {line.split(" ")[0] for line in told("--requires", "unbundled") - told("--requires", "bundled")}
    brought = {line.split(" ")[0] for line in told("--provides", "bundled")}
    names = {name.replace("_", "-") for name in LIBRARIES}
    assert needed - {"config(ipvsd)"} == {f"python3dist({name})" for name in names}
    assert brought == {"ipvsd", "config(ipvsd)", *(f"bundled(python3dist({name}))" for name in names)}


def test_the_quick_tests_pass_with_the_bundled_libraries(installed: Root, tmp_path: Path) -> None:
    # A test identifies libraries by the name of their directory.
    vendor = tmp_path / "bundled-packages"
    vendor.symlink_to(installed.directory / "usr/share/ipvsd/vendor")
    options = ["-q", "-n", "2", "-p", "no:cacheprovider", "-m", QUICK, "tests"]
    shown = "import watchdog.version, sys; print(watchdog.version.VERSION_STRING)"
    environment = {**os.environ, "PYTHONPATH": str(vendor), "PYTHONDONTWRITEBYTECODE": "1"}
    done = subprocess.run(
        [sys.executable, "-m", "pytest", *options],
        cwd=PROJECT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    used = subprocess.run([sys.executable, "-c", shown], env=environment, capture_output=True, text=True, check=True)
    assert used.stdout == "6.0.0\n"
    assert done.returncode == 0, done.stdout
