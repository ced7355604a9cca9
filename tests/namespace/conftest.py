"""Tests in a separate network namespace, with the kernel's real /proc/sys/net and uevents, without a virtual machine.

`make test` runs them under unshare(1), which sets IPVSD_NAMESPACE, also in a mount namespace. A tree that resembles
/ gets the real /proc/sys of the network namespace.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.runtime.event_loop import EventLoop
from ipvsd.watch.sysctl_bpf import find_cgroup_root
from tests.namespace.attached import Node, missing
from tests.service import Service
from tests.trees import make_tree, put


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    for item in items:
        if "tests/namespace/" in item.nodeid:
            item.add_marker("namespace")


@pytest.fixture(scope="session", autouse=True)
def _inside() -> Iterator[None]:
    if not os.environ.get("IPVSD_NAMESPACE"):
        pytest.exit("these tests change /proc/sys/net (run: make test)", 1)
    Path("/proc/sys/net/unix/max_dgram_qlen").write_text("512")  # as on a system with systemd
    # The BPF program sees the writes of every namespace, so two concurrent runs would count each other's.
    everybody = os.open(find_cgroup_root("/") or "/", os.O_RDONLY | os.O_DIRECTORY)
    fcntl.flock(everybody, fcntl.LOCK_EX)
    yield
    os.close(everybody)


@pytest.fixture
def tree(tmp_path: Path) -> Iterator[Path]:
    root = make_tree(tmp_path, values={})
    shutil.rmtree(root / "proc/sys")
    (root / "proc/sys").mkdir()  # a link would lead out of the tree, and is not followed
    subprocess.run(["mount", "--bind", "/proc/sys", str(root / "proc/sys")], check=True)
    yield root
    subprocess.run(["umount", str(root / "proc/sys")], check=True)


@pytest.fixture
def service(tree: Path) -> Iterator[Service]:
    """The daemon, which manages only ip_forward."""
    service = Service(tree)
    held = "profiles: []\nweb: {listen: []}\ncontention: {repairs: 1000}\nsysctls: {net.ipv4.ip_forward: 1}\n"
    put(tree, "etc/ipvsd/ipvsd.yaml", held)
    yield service
    service.close()


@pytest.fixture
def private() -> Iterator[tuple[str, Path]]:
    """A sysctl that only this test uses, because the program reports and guards in every network namespace."""
    link = f"test{os.getpid()}"
    subprocess.run(["ip", "link", "add", link, "type", "veth", "peer", "name", f"{link}x"], check=True)
    yield f"net.ipv4.conf.{link}.rp_filter", Path(f"/proc/sys/net/ipv4/conf/{link}/rp_filter")
    subprocess.run(["ip", "link", "del", link], check=True)


@pytest.fixture
def node() -> Iterator[Node]:
    """A node with the program attached."""
    if missing():
        pytest.skip(f"bpf cannot be tried: {missing()}")
    with EventLoop() as loop:
        node = Node(loop)
        node.attach()
        yield node
        node.writes.close()
