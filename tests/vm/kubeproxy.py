"""A real kube-proxy, built from Debian's own source: 1.20.2 of bookworm, the last that Debian has.

Its go.mod is of no use there: Debian's package holds all that it needs below vendor/, as a GOPATH.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from tests.vm import cache, packages

SUITE = "bookworm"
COMPILER = "/usr/lib/go-1.19/bin/go"
PACKAGE = "k8s.io/kubernetes"
RECIPE = (Path(__file__), Path(packages.__file__))


def disk() -> Path:
    """Return a disk with kube-proxy, building it (two minutes) unless it is in the cache.

    A disk, since 50 MB would take longer than a boot on the channel of the machine's agent.
    """
    return cache.kept("kube-proxy", RECIPE, _build) / "disk"


def _build(target: Path, work: Path) -> None:
    print(f"building kube-proxy in {cache.directory()}, about two minutes", file=sys.stderr)
    tree = work / "go/src" / PACKAGE
    tree.parent.mkdir(parents=True)
    packages.source("kubernetes", SUITE, tree, work)
    # What the machine sets for Go (a proxy, a cache, flags) does not matter; nothing is downloaded.
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(work),
        "GOPATH": str(work / "go"),
        "GOCACHE": str(work / "cache"),
        "GO111MODULE": "off",
        "GOFLAGS": "",
        "CGO_ENABLED": "0",
    }
    command = [
        COMPILER,
        "build",
        "-trimpath",
        "-ldflags=-s -w",
        "-o",
        str(work / "root/kube-proxy"),
        f"{PACKAGE}/cmd/kube-proxy",
    ]
    done = subprocess.run(command, cwd=tree, env=environment, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.exit(f"cannot build kube-proxy: {done.stderr[-2000:]}")
    command = [
        "mke2fs",
        "-q",
        "-t",
        "ext4",
        "-O",
        "^has_journal",
        "-d",
        str(work / "root"),
        str(target / "disk"),
        "96M",
    ]
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)


if __name__ == "__main__":
    print(disk())
