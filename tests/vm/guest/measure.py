"""Inside the machine: how fast ipvsd repairs, beside what people use, in one boot. Prints JSON; seconds."""

from __future__ import annotations

import ctypes
import json
import os
import statistics
import subprocess
import sys
import time
from pathlib import Path
from typing import Callable

KEY = "/proc/sys/net/ipv4/ip_forward"
MODULE = "ip_vs_sh"
STATE = f"/sys/module/{MODULE}/initstate"
LIMIT = 30.0

libc = ctypes.CDLL(None, use_errno=True)


def read(path: str) -> str:
    try:
        return Path(path).read_text()
    except OSError:
        return ""


def wait(condition: Callable[[], bool]) -> None:
    end = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > end:
            sys.exit("it was not repaired")


def timed(action: Callable[[], object]) -> float:
    begun = time.perf_counter()
    action()
    return time.perf_counter() - begun


def rest() -> None:
    """Let the daemon finish what follows a repair, so that each try finds it asleep."""
    subprocess.run(["sleep", "0.3"], check=True)


def sysctl_repair() -> float:
    rest()
    fd = os.open(KEY, os.O_WRONLY)
    os.write(fd, b"0\n")
    begun = time.perf_counter()
    os.close(fd)
    wait(lambda: read(KEY) == "1\n")
    return time.perf_counter() - begun


def unload() -> None:
    if libc.delete_module(MODULE.encode(), os.O_NONBLOCK):
        sys.exit(f"cannot unload {MODULE}: {os.strerror(ctypes.get_errno())}")


def module_repair() -> float:
    rest()
    unload()
    begun = time.perf_counter()
    wait(lambda: read(STATE) == "live\n")
    return time.perf_counter() - begun


def bare_modprobe() -> float:
    unload()
    return timed(lambda: subprocess.run(["/usr/sbin/modprobe", MODULE], check=True))


def sysctl_process() -> float:
    return timed(lambda: subprocess.run(["/usr/sbin/sysctl", "-qw", "net.ipv4.ip_forward=1"], check=True))


def series(measure: Callable[[], float], times: int) -> dict[str, float]:
    values = sorted(measure() for _ in range(times))
    return {"p50": statistics.median(values), "max": values[-1]}


def main() -> None:
    times = int(sys.argv[1])
    results = {
        "sysctl: write to restored": series(sysctl_repair, times),
        "sysctl -w, as a process": series(sysctl_process, times),
        "module: unloaded to live": series(module_repair, times),
    }
    subprocess.run(["systemctl", "stop", "ipvsd"], check=True)
    results["modprobe, as a process"] = series(bare_modprobe, times)
    subprocess.run(["systemctl", "start", "ipvsd"], check=True)
    print(json.dumps(results))


main()
