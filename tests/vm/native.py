"""Outside emulation: the repair of a sysctl, and the start, on this machine in separate namespaces.

`figures()` starts this module again below unshare(1). The daemon has its own network, and so /proc/sys/net, a
private /run, and one managed sysctl. Nothing else on the machine is affected. Modules and the BPF program on the
root cgroup are left out, because no network namespace confines them. inotify reports the writes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.vm.figures import MEASURE, PEACE, Spread, spread

PROJECT = Path(__file__).parents[2]
KEY = "net.ipv4.ip_forward"
CONFIG = f"profiles: []\nweb: {{listen: []}}\n{PEACE}sysctls: {{{KEY}: 1}}\n"
IMPORTS = "import yaml, dataclasses, argparse, socket"


@dataclass(frozen=True)
class Native:
    """Seconds and bytes. `backend` is the mechanism that reported the writes."""

    backend: str
    repair: Spread
    round_trip: Spread
    ready: Spread
    python: Spread
    resident: int


def figures(tries: int, starts: int) -> Native:
    """Measure in separate namespaces. Raises CalledProcessError if they are not available."""
    user = [] if os.geteuid() == 0 else ["--map-root-user"]
    command = ["unshare", "--net", "--mount", *user, sys.executable, "-m", "tests.vm.native", str(tries), str(starts)]
    done = subprocess.run(command, cwd=PROJECT, stdout=subprocess.PIPE, text=True, check=True)
    found = json.loads(done.stdout)
    spreads = {name: spread(found[name]) for name in ("repair", "round_trip", "ready", "python")}
    return Native(backend=found["backend"], resident=found["resident"], **spreads)


@contextmanager
def _daemon() -> Iterator[tuple[float, int]]:
    """Yield the seconds from exec to READY=1, and the process."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind("/run/notify")
        systemd.settimeout(30)
        environment = {**os.environ, "NOTIFY_SOCKET": "/run/notify", "PYTHONPATH": str(PROJECT)}
        command = [sys.executable, "-m", "ipvsd", "run", "--config", "/run/ipvsd.yaml"]
        Path(f"/proc/sys/{KEY.replace('.', '/')}").write_text("0\n")
        begun = time.perf_counter()
        with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as process:
            try:
                while b"READY=1" not in systemd.recv(1 << 16):
                    pass
                took = time.perf_counter() - begun
                time.sleep(1)
                yield took, process.pid
            finally:
                process.terminate()
    Path("/run/notify").unlink()


def _inside(tries: str, starts: int) -> dict[str, object]:
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", "/run"], check=True)
    # If it sees no cgroups, the daemon attaches no program to them.
    subprocess.run(["umount", "-R", "-l", "/sys/fs/cgroup"], check=False, stderr=subprocess.DEVNULL)
    Path("/run/ipvsd").mkdir()
    Path("/run/ipvsd.yaml").write_text(CONFIG)
    ready, python = [], []
    for _ in range(starts):
        with _daemon() as (took, _):
            ready.append(took)
        begun = time.perf_counter()
        subprocess.run([sys.executable, "-I", "-c", IMPORTS], check=True)
        python.append(time.perf_counter() - begun)
    with _daemon() as (_, process):
        command = [sys.executable, str(MEASURE), "sysctl", tries]
        done = subprocess.run(command, stdout=subprocess.PIPE, check=True)
        found = json.loads(done.stdout)
        time.sleep(12)
        backend = json.loads(Path("/run/ipvsd/status.json").read_text())["backend"]
        pages = int(Path(f"/proc/{process}/statm").read_text().split()[1])
    return {
        "repair": found["repair"], "round_trip": found["round trip"], "ready": ready, "python": python,
        "backend": backend, "resident": pages * os.sysconf("SC_PAGE_SIZE"),
    }  # fmt: skip


if __name__ == "__main__":
    print(json.dumps(_inside(sys.argv[1], int(sys.argv[2]))))
