"""Build the image of a bench machine: a stock Debian kernel, an initramfs and a disk.

All parts come from the distribution's packages. The build requires neither root nor KVM. A cache directory stores
the results under the hash of their inputs.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

from tests.vm import cache, emulator, initrd, kernels
from tests.vm import userland as debian
from tests.vm.kernels import Kernel

GUEST = Path(__file__).parent / "guest"
STUB = (GUEST / "stub" / "Makefile", GUEST / "stub" / "nf_conntrack_ipv4.c")

BUILD_STUB = """
set -eu
chroot "$1" make -C /usr/src/linux-headers-{release} M=/stub modules
cp "$1/stub/nf_conntrack_ipv4.ko" "{target}"
"""

# Runs with the tarball, the new root, the kernel's modules, release and configuration, the stub and the disk.
MAKE_DISK = """
set -eu
tar -xpf "$1" -C "$2" --numeric-owner --exclude='./dev/*'
mkdir -p "$2/usr/lib/modules" "$2/boot"
cp -R "$3" "$2/usr/lib/modules/"
cp "$5" "$2/boot/config-$4"
depmod -b "$2" "$4"
[ ! -e "$6" ] || cp "$6" "$2/usr/local/lib/bench/"
mke2fs -q -t ext4 -O ^has_journal -L bench -d "$2" "$7" 2G
"""


@dataclass(frozen=True)
class Image:
    """One bootable system. `disk` is never written; machines boot a temporary copy of it.

    `emulator` is the beginning of the QEMU command line that boots it.
    """

    kernel: Path
    initrd: Path
    disk: Path
    emulator: tuple[str, ...]


def say(text: str) -> None:
    """Tell a waiting person the current step of the build."""
    print(text, file=sys.stderr)


def chosen(say: Callable[[str], None] = say) -> Image:
    """Return the image that $IPVSD_VM_KERNEL and $IPVSD_VM_SUITE select, or the default one."""
    return image(kernels.chosen(), kernels.chosen_suite(), say)


def image(kernel: str, suite: str, say: Callable[[str], None]) -> Image:
    """Return the image of a Debian with one of KERNELS. Build it (100 s, 800 MB) unless it is in the cache."""

    def build(target: Path, work: Path) -> None:
        say(f"building the bench image with Linux {kernel} in {cache.directory()}, about a minute")
        stub = work / "stub"
        unpacked = kernels.unpack(kernel, work)
        if kernels.KERNELS[kernel].stub:
            _build_stub(suite, unpacked.modules.name, stub)
        _build(unpacked, archive, target, work)

    archive = debian.userland(say, suite)
    recipe = (kernel, archive.parent.name, Path(__file__), Path(initrd.__file__), *kernels.RECIPE, *STUB)
    return _image(kernel, cache.kept(f"image-{kernel}", recipe, build))


def baked(kernel: str, archive: Path, place: Path) -> Image:
    """Return an image of a given root directory, a tarball. Creating it in `place` takes about a minute."""
    work = place / "work"
    work.mkdir()
    _build(kernels.unpack(kernel, work), archive, place, work)
    return _image(kernel, place)


def _image(kernel: str, place: Path) -> Image:
    qemu = emulator.command()
    return Image(place / "vmlinuz", place / "initrd", place / "disk", qemu)


def _build(kernel: Kernel, archive: Path, target: Path, work: Path) -> None:
    root = work / "root"
    root.mkdir()
    _disk(archive, root, kernel, work / "stub/nf_conntrack_ipv4.ko", target / "disk")
    shutil.copy(kernel.vmlinuz, target / "vmlinuz")
    initrd.write(target / "initrd", root / "usr/bin/busybox", kernel.modules)
    _remove(root)


def _build_stub(suite: str, release: str, target: Path) -> None:
    target.mkdir()
    target.chmod(0o777)  # mmdebstrap's hooks write here, possibly as another user
    hooks = ("mkdir $1/stub", f"copy-in {STUB[0]} {STUB[1]} /stub", BUILD_STUB.format(release=release, target=target))
    options = (*(f"--customize-hook={hook}" for hook in hooks), "--format=null")
    debian.mmdebstrap(suite, (f"linux-headers-{release}", "gcc-12", "make"), options, Path("-"))


def _disk(archive: Path, root: Path, kernel: Kernel, stub: Path, disk: Path) -> None:
    arguments = (archive, root, kernel.modules, kernel.modules.name, kernel.config, stub, disk)
    prefix = [] if os.geteuid() == 0 else ["fakeroot", "--"]
    subprocess.run([*prefix, "sh", "-c", MAKE_DISK, "disk", *map(str, arguments)], check=True)


def _remove(root: Path) -> None:
    for directory, _, _ in os.walk(root):
        os.chmod(directory, 0o700)
    shutil.rmtree(root)


if __name__ == "__main__":
    print(chosen())
