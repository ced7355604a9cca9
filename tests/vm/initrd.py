"""The initial RAM disk of a bench machine: busybox, and the modules for its disk and for the agent's port."""

from __future__ import annotations

import lzma
import stat
from collections.abc import Iterator
from pathlib import Path

# The cloud kernel has ext4 built in and virtio-blk as modules, fewer in newer versions. insmod needs this order.
# udev could load virtio_console too late: after a boot has set kernel.modules_disabled.
VIRTIO = "virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk virtio_console".split()

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module.ko; done
while [ ! -b /dev/vda ]; do /bin/busybox usleep 10000; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""


def write(target: Path, busybox: Path, tree: Path) -> None:
    """Write the archive for the kernel with the modules in `tree`."""
    modules = dict(_modules(tree))
    with target.open("wb") as out:
        for name in ("bin", "dev", "modules", "root"):
            out.writelines(_cpio(name, stat.S_IFDIR | 0o755, b""))
        out.writelines(_cpio("bin/busybox", stat.S_IFREG | 0o755, busybox.read_bytes()))
        out.writelines(_cpio("init", stat.S_IFREG | 0o755, INIT.format(modules=" ".join(modules)).encode()))
        for name, data in modules.items():
            out.writelines(_cpio(f"modules/{name}.ko", stat.S_IFREG | 0o644, data))
        out.writelines(_cpio("TRAILER!!!", 0, b""))


def _modules(tree: Path) -> Iterator[tuple[str, bytes]]:
    paths = {path.name.partition(".")[0]: path for path in tree.rglob("virtio*.ko*")}
    for name in filter(paths.get, VIRTIO):
        data = paths[name].read_bytes()
        # Debian compresses modules since trixie, and not every busybox can decompress them.
        yield name, lzma.decompress(data) if paths[name].suffix == ".xz" else data


def _cpio(name: str, mode: int, data: bytes) -> Iterator[bytes]:
    """Yield one member in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    yield head + b"\0" * (-len(head) % 4)
    yield data + b"\0" * (-len(data) % 4)
