"""Interfaces with any name that the kernel accepts: they are counted, repaired, and written to the persisted file."""

from __future__ import annotations

import os
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.boot import drop_in_files
from ipvsd.config.parser import parse
from ipvsd.kernel.host import LinuxHost
from ipvsd.reconcile.observation import observe_and_plan
from tests.service import STATUS, Service, Until
from tests.trees import put

CONF = b"/proc/sys/net/ipv4/conf"
NAMES = (b"a*b", b"br[0]", b"back\\s", "é".encode(), b"\xff", b"eth0.100", b"a=b", b"\x01", b"-x", b"#y", b"aab")
# Without `default`, which the kernel copies to interfaces that nobody has written.
PATTERN = "net.ipv4.conf.*.rp_filter"


def add(name: bytes) -> None:
    peer = b"p" + os.urandom(5).hex().encode()
    subprocess.run([b"ip", b"link", b"add", b"name", name, b"type", b"veth", b"peer", b"name", peer], check=True)


def value(name: bytes, leaf: bytes = b"rp_filter") -> str:
    return Path(os.fsdecode(os.path.join(CONF, name, leaf))).read_text().strip()


def write(name: bytes, text: str) -> None:
    """Write in another process."""
    place = os.path.join(CONF, name, b"rp_filter")
    subprocess.run([b"sh", b"-c", b'echo "$1" > "$2"', b"sh", text.encode(), place], check=True)


@pytest.fixture
def links() -> Iterator[tuple[bytes, ...]]:
    write(b"default", "0")  # new interfaces inherit it, and an earlier test can have left another value
    for name in NAMES:
        add(name)
    yield NAMES
    for name in (*NAMES, b"late*"):
        if name in os.listdir(CONF):
            subprocess.run([b"ip", b"link", b"del", b"dev", name], check=True)


def test_a_required_pattern_manages_all_interfaces(
    service: Service, tree: Path, until: Until, links: tuple[bytes, ...]
) -> None:
    setting = "{value: 2, required: true, exclude: [default, '?']}"
    put(tree, "etc/ipvsd/ipvsd.yaml", f"profiles: []\nweb: {{listen: []}}\nsysctls: {{{PATTERN}: {setting}}}\n")
    service.ready()
    short = [name for name in os.listdir(CONF) if len(name) == 1 or name == b"default"]
    until(lambda: {value(name) for name in os.listdir(CONF) if name not in short} == {"2"}, "each has its value")
    assert {value(name) for name in short} == {"0"}
    until((tree / STATUS).exists, "it is told")
    members = service.status()["sysctls"][0]["members"]
    assert members["compliant"] == members["total"] == len(os.listdir(CONF)) - len(short)
    for name in set(links) - set(short):
        write(name, "0")
        until(lambda name=name: value(name) == "2", f"{name!r} is repaired")  # type: ignore[misc]
    add(b"late*")
    until(lambda: value(b"late*") == "2", "a new one gets its value")
    assert service.stop()[0] == 0


@pytest.mark.parametrize(
    ("setting", "left"),
    [
        ("{value: 1, exclude: [default, 'a\\x2ab', '\\xff', 'br*', -x]}", {b"a*b", b"\xff", b"br[0]", b"-x"}),
        ("{value: 1, exclude: [default, '*\\x5c*', '\\xc3*', '??y', lo]}", {b"back\\s", "é".encode()}),
    ],
)
def test_the_persisted_file_does_as_the_daemon_does(
    tree: Path, links: tuple[bytes, ...], setting: str, left: set[bytes]
) -> None:
    named = "'net.ipv4.conf.a\\x2ab.arp_ignore': 2, net.ipv4.conf.*.arp_ignore: 1"
    config = parse([("f", f"profiles: []\nsysctls: {{{PATTERN}: {setting}, {named}}}".encode())])
    texts = drop_in_files.build(config, *observe_and_plan(LinuxHost(str(tree)), config))
    place = tree / "etc/sysctl.d/90-ipvsd.conf"
    drop_in_files.write(str(tree), texts)
    subprocess.run(["/usr/lib/systemd/systemd-sysctl", place], check=True)
    assert {name for name in links if value(name) == "0"} == left
    text = place.read_bytes()
    assert b"-net.ipv4.conf.a*b.rp_filter" in text or left == {b"back\\s", "é".encode()}
    assert {name: value(name, b"arp_ignore") for name in links} == {**dict.fromkeys(links, "1"), b"a*b": "2"}
