"""The QEMU that boots the machines: that of the system, or one from backports, unpacked beside it."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path

from tests.vm import cache, packages

PROGRAM = "qemu-system-x86_64"
# Bookworm's QEMU 7.2 sometimes hangs in or after a reset, or fails an own assertion (msix_table_mmio_write) while a
# kernel boots. Kernels 6.12 and later crash under it.
LEAST = 10
SUITE = "bookworm-backports"
RECIPE = (Path(__file__), Path(packages.__file__))


def command() -> tuple[str, ...]:
    """Return the beginning of a QEMU command line that boots every kernel."""
    if _version() >= LEAST:
        return (PROGRAM,)
    usr = cache.kept("qemu", RECIPE, _unpack) / "usr"
    libraries = f"LD_LIBRARY_PATH={usr}/lib/x86_64-linux-gnu"
    # Its default place of the firmware is that of the system, which has another version.
    firmware = ("-L", f"{usr}/share/qemu", "-L", f"{usr}/share/seabios")
    return ("env", libraries, f"{usr}/bin/{PROGRAM}", *firmware)


def _version() -> int:
    said = subprocess.run([PROGRAM, "--version"], capture_output=True, text=True, check=True).stdout
    return int(re.findall(r"version (\d+)", said)[0])


def _unpack(target: Path, work: Path) -> None:
    # Only packages that the system lacks, or has in an older version.
    packages.unpack("qemu-system-x86", SUITE, target, work, also=r".*", status=packages.INSTALLED)
