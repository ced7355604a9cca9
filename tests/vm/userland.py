"""The bench's Debian without a kernel, as a tarball: systemd, Python, ipvsd's libraries and the bench's agent.

`mmdebstrap` builds it from the distribution's own packages, with or without root.
"""

from __future__ import annotations

import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Callable

from tests.vm import cache

AGENT = tuple(Path(__file__).parent / "guest" / name for name in ("agent.py", "bench-agent.service"))
PACKAGES = (
    "systemd systemd-sysv systemd-container udev dbus mount kmod procps iproute2 nftables ipvsadm iptables ipset "
    "conntrack nfacct keepalived tuned rpm busybox-static openssl python3 "
    "python3-pyroute2 python3-sdnotify python3-yaml python3-watchdog python3-prometheus-client "
    "python3-pytest python3-hypothesis"
).split()

SPECIAL = {
    # As in the installer of Debian 11. Later ones have a package for it.
    "bullseye": ("--setup-hook=/usr/share/mmdebstrap/hooks/merged-usr/setup00.sh",),
    # Valid for a week, by which a mirror can be late.
    "sid": ('--aptopt=Acquire::Check-Valid-Until "false"',),
}

SETTLE = """
set -eu
root=$1
echo bench > "$root/etc/hostname"
echo "127.0.0.1 localhost bench" > "$root/etc/hosts"
echo "/dev/vda / ext4 defaults 0 1" > "$root/etc/fstab"
: > "$root/etc/machine-id"
sed -i 's/^root:[^:]*:/root::/' "$root/etc/shadow"
chroot "$root" systemctl enable bench-agent.service
chroot "$root" systemctl disable tuned.service keepalived.service
chroot "$root" systemctl mask getty@tty1.service apt-daily.timer apt-daily-upgrade.timer \\
    dpkg-db-backup.timer e2scrub_all.timer fstrim.timer e2scrub_reap.service
mkdir -p "$root/var/log/journal"
"""


def userland(say: Callable[[str], None], suite: str) -> Path:
    """Return the tarball of a Debian. Build it (about a minute) unless it is in the cache."""

    def build(target: Path, _: Path) -> None:
        say(f"installing packages for the bench (Debian {suite}) in {cache.directory()}, about a minute")
        hooks = (
            "mkdir -p $1/usr/local/lib/bench",
            f"copy-in {AGENT[0]} /usr/local/lib/bench",
            f"copy-in {AGENT[1]} /etc/systemd/system",
            SETTLE,
        )
        mmdebstrap(suite, PACKAGES, [f"--customize-hook={hook}" for hook in hooks], target / "root.tar")

    return cache.kept(f"userland-{suite}", (suite, Path(__file__), *AGENT), build) / "root.tar"


def mmdebstrap(suite: str, packages: Sequence[str], options: Sequence[str], target: Path) -> None:
    """Create a root of a suite with these packages. Exits if three attempts fail."""
    command = [
        "mmdebstrap", "--quiet", "--variant=apt", f"--include={','.join(packages)}",
        "--aptopt=Acquire::Retries \"5\"", *SPECIAL.get(suite, ()), *options, suite, str(target),
    ]  # fmt: skip
    for attempt in range(3):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode == 0:
            return
        print(f"mmdebstrap failed (try {attempt + 1} of 3): {done.stderr[-2000:]}", file=sys.stderr)
        time.sleep(5 * attempt)
    sys.exit("cannot build the bench image: mmdebstrap failed three times (is the Debian mirror reachable?)")
