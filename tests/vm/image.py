"""Build what a bench machine boots: a stock Debian kernel, an initramfs and a disk image.

Everything is made by `mmdebstrap` and `mke2fs` from the distribution's own packages, needs
neither root nor KVM, and is kept in a cache directory under the hash of what it is made of.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import stat
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Callable

GUEST = Path(__file__).parent / "guest"
AGENT = (GUEST / "agent.py", GUEST / "bench-agent.service")
STUB = (GUEST / "stub" / "Makefile", GUEST / "stub" / "nf_conntrack_ipv4.c")
SUITE = "bookworm"
PACKAGES = (
    "systemd systemd-sysv udev dbus kmod procps iproute2 busybox-static python3 python3-pyroute2 "
    "python3-sdnotify python3-yaml python3-watchdog python3-prometheus-client python3-pytest"
).split()
HEADERS = "linux-headers-cloud-amd64 gcc-12 make".split()

# The cloud kernel has ext4 built in and virtio-blk as modules; insmod needs them in this order.
VIRTIO = "virtio_ring virtio virtio_pci_legacy_dev virtio_pci_modern_dev virtio_pci virtio_blk".split()

INIT = """#!/bin/busybox sh
/bin/busybox mount -t devtmpfs dev /dev
for module in {modules}; do /bin/busybox insmod /modules/$module.ko; done
while [ ! -b /dev/vda ]; do /bin/busybox usleep 10000; done
/bin/busybox mount -t ext4 /dev/vda /root
/bin/busybox mount --move /dev /root/dev
exec /bin/busybox switch_root /root /sbin/init
"""

# Runs with $1, the new root; apt answers for it through $MMDEBSTRAP_APT_CONFIG.
ADD_KERNEL = """
set -eu
root=$1
export APT_CONFIG="$MMDEBSTRAP_APT_CONFIG"
work=$(mktemp -d)
cd "$work"
package=$(apt-cache depends linux-image-cloud-amd64 | sed -n 's/^ *Depends: *\\(linux-image-.*\\)/\\1/p')
apt-get -o APT::Sandbox::User=root -o Acquire::Retries=5 -qq download "$package"
dpkg-deb -x linux-image-*.deb unpacked
mkdir -p "$root/usr/lib/modules" "$root/boot"
mv unpacked/lib/modules/* "$root/usr/lib/modules/"
mv unpacked/boot/vmlinuz-* unpacked/boot/config-* "$root/boot/"
depmod -b "$root" "${package#linux-image-}"
rm -rf "$work"
"""

SETTLE = """
set -eu
root=$1
echo bench > "$root/etc/hostname"
echo "127.0.0.1 localhost bench" > "$root/etc/hosts"
echo "/dev/vda / ext4 defaults 0 1" > "$root/etc/fstab"
: > "$root/etc/machine-id"
chroot "$root" passwd -d root
chroot "$root" systemctl enable bench-agent.service
chroot "$root" systemctl mask getty@tty1.service apt-daily.timer apt-daily-upgrade.timer \\
    dpkg-db-backup.timer e2scrub_all.timer fstrim.timer e2scrub_reap.service
mkdir -p "$root/var/log/journal"
"""

BUILD_STUB = """
set -eu
release=$(basename "$1"/usr/src/linux-headers-*-cloud-amd64 | sed s/linux-headers-//)
chroot "$1" make -C "/usr/src/linux-headers-$release" M=/stub modules
cp "$1/stub/nf_conntrack_ipv4.ko" "{target}/nf_conntrack_ipv4.ko"
echo "$release" > "{target}/release"
"""


@dataclass(frozen=True)
class Image:
    """One bootable system. `disk` is never written to: machines boot a throw-away copy of it."""

    kernel: Path
    initrd: Path
    disk: Path


def cache_directory() -> Path:
    """Return where images are kept: $IPVSD_VM_CACHE, or a directory below the user's own cache."""
    chosen = os.environ.get("IPVSD_VM_CACHE")
    if chosen:
        return Path(chosen)
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "ipvsd-vm"


def _recipe() -> str:
    digest = hashlib.sha256(Path(__file__).read_bytes())
    for path in (*AGENT, *STUB):
        digest.update(path.read_bytes())
    return digest.hexdigest()[:16]


def image(say: Callable[[str], None] = lambda text: print(text, file=sys.stderr)) -> Image:
    """Return the bench's image, building it (some 100 s and 1 GB of disk) unless it is in the cache."""
    place = cache_directory() / _recipe()
    if not place.is_dir():
        place.parent.mkdir(parents=True, exist_ok=True)
        say(f"building the bench image in {place.parent} (Debian {SUITE}, about two minutes)")
        with tempfile.TemporaryDirectory(prefix="building-", dir=place.parent) as work:
            # mmdebstrap's helpers run as other users when it was not started as root.
            os.chmod(work, 0o755)
            built = Path(work) / "image"
            built.mkdir()
            _build(Path(work), built, say)
            try:
                built.rename(place)
            except OSError:
                if not place.is_dir():  # else another build was quicker, and is as good
                    raise
    return Image(place / "vmlinuz", place / "initrd", place / "disk")


def _build(work: Path, target: Path, say: Callable[[str], None]) -> None:
    stub = work / "stub"
    stub.mkdir()
    os.chmod(stub, 0o777)
    say("  compiling the stub module")
    _mmdebstrap(
        HEADERS,
        [
            "--customize-hook=mkdir $1/stub",
            f"--customize-hook=copy-in {STUB[0]} {STUB[1]} /stub",
            f"--customize-hook={BUILD_STUB.format(target=stub)}",
            "--format=null",
        ],
        Path("-"),
    )
    say("  installing the distribution's packages")
    archive = work / "root.tar"
    _mmdebstrap(
        PACKAGES,
        [
            f"--customize-hook={ADD_KERNEL}",
            "--customize-hook=mkdir -p $1/usr/local/lib/bench",
            f"--customize-hook=copy-in {AGENT[0]} {stub}/nf_conntrack_ipv4.ko /usr/local/lib/bench",
            f"--customize-hook=copy-in {AGENT[1]} /etc/systemd/system",
            f"--customize-hook={SETTLE}",
        ],
        archive,
    )
    say("  making the disk")
    root = work / "root"
    root.mkdir()
    _disk(archive, root, target / "disk")
    (release,) = (path.name for path in (root / "usr/lib/modules").iterdir())
    if release != (stub / "release").read_text().strip():
        sys.exit(f"cannot build the bench image: kernel {release} and its headers are of two versions (try again)")
    shutil.copy(root / "boot" / f"vmlinuz-{release}", target / "vmlinuz")
    _initrd(root, release, target / "initrd")
    _remove(root)


def _mmdebstrap(packages: Sequence[str], options: Sequence[str], target: Path) -> None:
    command = [
        "mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(packages)}",
        "--aptopt=Acquire::Retries \"5\"", *options, SUITE, str(target),
    ]  # fmt: skip
    for attempt in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        print(f"mmdebstrap failed (try {attempt + 1} of 3): {done.stderr[-2000:]}", file=sys.stderr)
        time.sleep(5 * attempt)
    sys.exit("cannot build the bench image: mmdebstrap failed three times (is the Debian mirror reachable?)")


def _disk(archive: Path, root: Path, disk: Path) -> None:
    script = (
        f"tar -xpf '{archive}' -C '{root}' --numeric-owner --exclude='./dev/*' && "
        f"mke2fs -q -t ext4 -O ^has_journal -L bench -d '{root}' '{disk}' 2G"
    )
    prefix = [] if os.geteuid() == 0 else ["fakeroot", "--"]
    subprocess.run([*prefix, "sh", "-c", script], check=True)


def _initrd(root: Path, release: str, target: Path) -> None:
    tree = root / "usr/lib/modules" / release
    modules = {path.stem: path for path in tree.rglob("*.ko")}
    present = [name for name in VIRTIO if name in modules]
    with target.open("wb") as out:
        for name in ("bin", "dev", "modules", "root"):
            out.writelines(_cpio(name, stat.S_IFDIR | 0o755, b""))
        out.writelines(_cpio("bin/busybox", stat.S_IFREG | 0o755, (root / "usr/bin/busybox").read_bytes()))
        out.writelines(_cpio("init", stat.S_IFREG | 0o755, INIT.format(modules=" ".join(present)).encode()))
        for name in present:
            out.writelines(_cpio(f"modules/{name}.ko", stat.S_IFREG | 0o644, modules[name].read_bytes()))
        out.writelines(_cpio("TRAILER!!!", 0, b""))


def _cpio(name: str, mode: int, data: bytes) -> Iterator[bytes]:
    """Yield one member in the "newc" format (Documentation/driver-api/early-userspace/buffer-format.rst)."""
    fields = (0, mode, 0, 0, 1, 0, len(data), 0, 0, 0, 0, len(name) + 1, 0)
    head = b"070701" + b"".join(b"%08x" % field for field in fields) + name.encode() + b"\0"
    yield head + b"\0" * (-len(head) % 4)
    yield data + b"\0" * (-len(data) % 4)


def _remove(root: Path) -> None:
    for directory, _, _ in os.walk(root):
        os.chmod(directory, 0o700)
    shutil.rmtree(root)


if __name__ == "__main__":
    print(image())
