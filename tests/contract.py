"""The test bench of a Host implementation: the same operations for a fake, for a tree and for a real kernel.

The real kernel is used only inside a machine of the bench, with IPVSD_CONTRACT_HOST=real. The suite uses the
modules ip_vs, ip_vs_sh and br_netfilter, and sysctls below net.ipv4.vs and net.ipv4.conf.lo, and restores all of
them.
"""

from __future__ import annotations

import errno
import os
import subprocess
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Protocol

from ipvsd.kernel.host import Host, LinuxHost
from tests.fake_kernel import CORE, READS, FakeKernel
from tests.scarce import few_descriptors
from tests.trees import TreeLoader, make_tree, put

REAL = os.environ.get("IPVSD_CONTRACT_HOST") == "real"


class Bench(Protocol):
    """A Host on which initially no IPVS module and no br_netfilter is loaded, and the operations of other programs."""

    @property
    def host(self) -> Host:
        """The host."""

    def unload(self, name: str) -> None:
        """Unload a module like rmmod. Raises OSError if the module is in use."""

    def blacklist(self, name: str) -> None:
        """Forbid a module in modprobe.d."""

    def starved(self) -> AbstractContextManager[None]:
        """Leave no free file descriptor to this process."""


class FakeBench:
    def __init__(self) -> None:
        self.host = FakeKernel()

    def unload(self, name: str) -> None:
        self.host.unload(name)

    def blacklist(self, name: str) -> None:
        self.host.blacklisted.add(name)

    @contextmanager
    def starved(self) -> Iterator[None]:
        self.host.failing = dict.fromkeys((*READS, "write"), errno.EMFILE)
        yield
        self.host.failing = {}


class TreeBench:
    def __init__(self, root: Path) -> None:
        self._root = root
        self._loader = TreeLoader(make_tree(root, live=(), values=CORE))
        self.host = LinuxHost(str(root), self._loader)

    def unload(self, name: str) -> None:
        self._loader.unload(name)

    def blacklist(self, name: str) -> None:
        self._loader.blacklisted.add(name)
        put(self._root, "etc/modprobe.d/mine.conf", f"blacklist {name}\n")

    def starved(self) -> AbstractContextManager[None]:
        return few_descriptors()


class RealBench:
    """The running kernel. It fails if other users hold these modules."""

    CONF = Path("/run/modprobe.d/ipvsd-contract.conf")

    def __init__(self) -> None:
        self.host = LinuxHost("/")

    def unload(self, name: str) -> None:
        done = subprocess.run(["rmmod", name], capture_output=True, text=True, check=False)
        if done.returncode:
            raise OSError(done.stderr.strip())

    def blacklist(self, name: str) -> None:
        self.CONF.parent.mkdir(exist_ok=True)
        with self.CONF.open("a") as file:
            file.write(f"blacklist {name}\n")

    def starved(self) -> AbstractContextManager[None]:
        return few_descriptors()


def touched() -> list[str]:
    """Return the live modules that the suite uses, users before their dependencies."""
    lines = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
    names = [fields[0] for fields in lines if fields[0].startswith("ip_vs") or fields[0] == "br_netfilter"]
    return sorted(names, key=lambda name: name == "ip_vs")


def values() -> dict[Path, str]:
    """Return the values of the sysctls that the suite changes."""
    found: dict[Path, str] = {}
    for directory in ("/proc/sys/net/ipv4/vs", "/proc/sys/net/ipv4/conf/lo", "/proc/sys/net/bridge"):
        for file in Path(directory).glob("*"):
            try:
                found[file] = file.read_text()
            except OSError:
                pass  # some are write-only
    return found


@contextmanager
def real_bench() -> Iterator[RealBench]:
    """Yield the real kernel without the modules that the suite loads, and restore everything afterwards."""
    bench = RealBench()
    modules, before = touched(), values()
    try:
        for name in modules:
            bench.unload(name)
        yield bench
    finally:
        bench.CONF.unlink(missing_ok=True)
        for name in touched():
            bench.unload(name)
        for name in reversed(modules):
            subprocess.run(["modprobe", name], check=True)
        for file, value in before.items():
            if file.exists() and file.read_text() != value:
                file.write_text(value)
