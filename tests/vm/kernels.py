"""The Debian kernels that the bench can boot."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from tests.vm import packages


@dataclass(frozen=True)
class Origin:
    """The source of a kernel, and whether the stub is compiled for it."""

    suite: str
    stub: bool = False


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel. `modules` is its tree, named after the release."""

    vmlinuz: Path
    config: Path
    modules: Path


KERNELS: Mapping[str, Origin] = {
    "5.10": Origin("bullseye"), "6.1": Origin("bookworm", stub=True), "6.12": Origin("trixie"), "7.2": Origin("sid"),
}  # fmt: skip
DEFAULT = "6.1"
SUITES = tuple(origin.suite for origin in KERNELS.values())
RECIPE = (Path(__file__), Path(packages.__file__))


def chosen() -> str:
    """Return the kernel that $IPVSD_VM_KERNEL selects, or that of the chosen suite. Exits if it is unknown."""
    name = os.environ.get("IPVSD_VM_KERNEL") or of_suite(chosen_suite())
    if name not in KERNELS:
        sys.exit(f"cannot boot kernel {name}: not one of {', '.join(KERNELS)} (see IPVSD_VM_KERNEL)")
    return name


def chosen_suite() -> str:
    """Return the Debian that $IPVSD_VM_SUITE selects, or the default one. Exits if it is unknown."""
    name = os.environ.get("IPVSD_VM_SUITE") or KERNELS[DEFAULT].suite
    if name not in SUITES:
        sys.exit(f"cannot boot Debian {name}: not one of {', '.join(SUITES)} (see IPVSD_VM_SUITE)")
    return name


def of_suite(suite: str) -> str:
    return next(name for name, origin in KERNELS.items() if origin.suite == suite)


def unpack(name: str, work: Path) -> Kernel:
    """Download the newest version of a kernel, and unpack it below `work`."""
    root = work / "kernel"
    # In sid, the package is split, and all its files are in the module tree.
    parts = r"linux-(image|base|binary|modules)-\d.*"
    packages.unpack("linux-image-cloud-amd64", KERNELS[name].suite, root, work, parts)
    (modules,) = (*root.glob("lib/modules/*"), *root.glob("usr/lib/modules/*"))
    (vmlinuz,) = (*root.glob("boot/vmlinuz-*"), *modules.glob("vmlinuz"))
    (config,) = (*root.glob("boot/config-*"), *modules.glob("config"))
    return Kernel(vmlinuz, config, modules)
