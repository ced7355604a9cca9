"""Runs of commands in the process of a test: their output, and their verdicts on the modules of a tree."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from ipvsd.cli import main
from ipvsd.modprobe import kconfig
from tests.fake_kernel import DEPENDS, RELEASE
from tests.trees import make_tree, put, put_sysctl

MODULES = ("ip_vs", "ip_vs_rr", "ip_vs_wrr", "ip_vs_sh", "nf_conntrack")


Output = pytest.CaptureFixture[str]


class Found(NamedTuple):
    verdict: str
    evidence: str
    remedy: str


Ask = Callable[..., tuple[int, dict[str, Found]]]


def run(capsys: Output, *arguments: object) -> tuple[int, str, str]:
    """Return the exit code and the output of a command."""
    try:
        code = main([str(argument) for argument in arguments])
    except SystemExit as ended:
        code = ended.code if isinstance(ended.code, int) else 0
    out, err = capsys.readouterr()
    return code, out, err


def said(capsys: Output) -> list[str]:
    """Return the lines that were logged."""
    return [line.removeprefix("ipvsd: ") for line in capsys.readouterr().err.splitlines()]


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A Debian node on which no module is loaded, and all could be."""
    root = make_tree(tmp_path / "root", live=(), values={"net.ipv4.ip_forward": "1"})
    put(root, "proc/self/status", "CapBnd:\t000001ffffffffff\n")
    return root


@pytest.fixture
def ask(tree: Path, capsys: Output) -> Ask:
    """A function that runs a command, and returns its exit code and its verdict on each module."""

    def asked(command: str) -> tuple[int, dict[str, Found]]:
        code = main([*command.split(), "--root", str(tree), "--output", "json"])
        document: dict[str, Any] = json.loads(capsys.readouterr().out)
        if command.startswith("explain"):
            items = [document["finding"] or {"name": document["name"], **document, "verdict": document["actual"]}]
        else:
            items = document["kernels"][0]["modules"] if command.startswith("preflight") else document["modules"]
        return code, {item["name"]: Found(item["verdict"], item["evidence"], item.get("remedy", "")) for item in items}

    return asked


def running(tree: Path, release: str, distribution: str) -> None:
    """Let another kernel run that has no module tree."""
    put_sysctl(tree, "kernel.osrelease", release)
    put(tree, "etc/os-release", f"ID={distribution}\n")


def without_tree(tree: Path, release: str, distribution: str, modular: bool = True) -> None:
    """Let a kernel without a module tree run, like WSL's, whose build configuration describes it completely.

    Everything is built in.
    """
    running(tree, release, distribution)
    shutil.rmtree(tree / "lib/modules")
    (tree / "proc/config.gz").write_bytes(configuration(*(f"{kconfig.symbol(name)}=y" for name in DEPENDS)))
    (tree / "proc/sys/net/ipv4/vs").mkdir(parents=True)
    if not modular:
        (tree / "proc/modules").unlink()


def configuration(*lines: str) -> bytes:
    return gzip.compress("".join(f"{line}\n" for line in lines).encode())


def files(tree: Path, name: str = "") -> list[Path]:
    return sorted((tree / "lib/modules" / RELEASE).glob(f"kernel/net/{name}*.ko.xz"))
