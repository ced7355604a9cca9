"""Inside the machine: how fast what drifted is compliant again, beside what it is compared with. Prints JSON; seconds.

Compared operations alternate in one loop, so the machine is equally idle for each: a processor that has slept is
slower for everyone. Nothing here spins, because that would take the processor from the daemon.
"""

from __future__ import annotations

import ctypes
import errno
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

LIMIT = 30.0
IN_MODIFY = 0x2
NETLINK_KOBJECT_UEVENT = 15
FINIT_MODULE, COMPRESSED_FILE = 313, 4  # on x86-64; MODULE_INIT_COMPRESSED_FILE
ECHO = "import os\nwhile os.read(0, 1): os.write(1, b'x')"
IMPORTS = "import yaml, dataclasses, argparse, socket"
INDEX = Path(f"/lib/modules/{os.uname().release}/modules.dep")
NOTIFY = "/run/measure.notify"
FILE = "/run/measure.conf"
# A pair of processes stays fast or slow as long as it runs, depending on its processors.
OF_A_PAIR = 20

libc = ctypes.CDLL(None, use_errno=True)


def proc(key: str) -> str:
    return f"/proc/sys/{key.replace('.', '/')}"


def command(*arguments: str) -> str:
    return subprocess.run(arguments, check=True, capture_output=True, text=True).stdout.strip()


def timed(*arguments: str) -> float:
    """Return the time of a program, without the cost of Python's way to start it."""
    begun = time.perf_counter()
    _, status = os.waitpid(os.posix_spawn(arguments[0], arguments, dict(os.environ)), 0)
    took = time.perf_counter() - begun
    if status:
        sys.exit(f"{' '.join(arguments)} failed")
    return took


# --- sysctls ----------------------------------------------------------------------------


class Watched:
    """A sysctl whose compliant value is `1`, and inotify on its file."""

    def __init__(self, path: str) -> None:
        self.file = os.open(path, os.O_RDWR | os.O_CLOEXEC)
        self.inotify = libc.inotify_init1(os.O_NONBLOCK | os.O_CLOEXEC)
        libc.inotify_add_watch(self.inotify, path.encode(), IN_MODIFY)

    def right(self) -> bool:
        # Two consecutive equal events are merged, so the value is read after each.
        if select.select([self.inotify], [], [], 0)[0]:
            os.read(self.inotify, 4096)
        return os.pread(self.file, 16, 0) == b"1\n"

    def wait(self) -> None:
        while not self.right():
            if not select.select([self.inotify], [], [], LIMIT)[0]:
                sys.exit("a sysctl was not restored")

    def drift(self) -> float:
        """Return the time from the return of a write until the value is compliant again."""
        os.pwrite(self.file, b"0\n", 0)
        begun = time.perf_counter()
        self.wait()
        return time.perf_counter() - begun

    def close(self) -> None:
        os.close(self.file)
        os.close(self.inotify)


def await_right(path: str) -> None:
    """Wait until a sysctl is compliant. If it already is, this only reads it."""
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    value = os.read(file, 16)
    os.close(file)
    if value != b"1\n":
        watched = Watched(path)
        watched.wait()
        watched.close()


class Partner:
    """Another Python process that returns each byte."""

    def __enter__(self) -> Partner:
        self.process = subprocess.Popen(
            [sys.executable, "-I", "-c", ECHO], stdin=subprocess.PIPE, stdout=subprocess.PIPE, bufsize=0
        )
        assert self.process.stdin
        assert self.process.stdout
        self.there, self.back = self.process.stdin.fileno(), self.process.stdout.fileno()
        self.round_trip()
        return self

    def round_trip(self) -> float:
        begun = time.perf_counter()
        os.write(self.there, b"x")
        os.read(self.back, 1)
        return time.perf_counter() - begun

    def __exit__(self, *raised: object) -> None:
        self.process.kill()
        self.process.wait()


def sysctl(times: str, key: str = "net.ipv4.ip_forward") -> dict[str, list[float]]:
    watched, tries = Watched(proc(key)), range(int(times))
    found: dict[str, list[float]] = {"round trip": [], "repair": []}
    for first in tries[::OF_A_PAIR]:
        with Partner() as partner:
            for _ in tries[first : first + OF_A_PAIR]:
                time.sleep(random.uniform(0.005, 0.03))
                found["round trip"].append(partner.round_trip())
                time.sleep(random.uniform(0.005, 0.03))
                found["repair"].append(watched.drift())
    watched.close()
    return found


def sysctl_program(times: str) -> list[float]:
    found = []
    for _ in range(int(times)):
        time.sleep(0.1)
        found.append(timed("/usr/sbin/sysctl", "-qw", "net.ipv4.ip_forward=1"))
    return found


# --- modules ----------------------------------------------------------------------------


class Uevents:
    """The kernel's uevents, which report a module when it is live."""

    def __init__(self) -> None:
        self.socket = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_CLOEXEC, NETLINK_KOBJECT_UEVENT)
        self.socket.bind((0, 1))

    def drain(self) -> None:
        while select.select([self.socket], [], [], 0)[0]:
            self.socket.recv(1 << 16)

    def live(self, module: str) -> None:
        self.socket.settimeout(LIMIT)
        while not self.socket.recv(1 << 16).startswith(f"add@/module/{module}\0".encode()):
            pass
        if Path(f"/sys/module/{module}/initstate").read_text() != "live\n":
            sys.exit(f"{module} is not live")


@contextmanager
def before_others() -> Iterator[None]:
    """Wait with a real-time priority. Otherwise udev, which the same uevents wake, can delay the observation."""
    os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))
    try:
        yield
    finally:
        os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))


def unload(module: str) -> None:
    deadline = time.monotonic() + LIMIT
    while libc.delete_module(module.encode(), os.O_NONBLOCK):
        if ctypes.get_errno() != 11 or time.monotonic() > deadline:  # EAGAIN: another program is using it
            sys.exit(f"cannot unload {module}: {os.strerror(ctypes.get_errno())}")
        time.sleep(0.01)


def freeze(process: int) -> None:
    """Stop every thread of a process, and wait until none runs, because the signal can reach some late."""
    os.kill(process, signal.SIGSTOP)
    deadline = time.monotonic() + LIMIT
    tasks = Path(f"/proc/{process}/task")
    while any(" T " not in (task / "stat").read_text() for task in tasks.iterdir()):
        if time.monotonic() > deadline:
            sys.exit("the daemon does not stop")
        time.sleep(0.01)


def insert(path: str) -> list[float]:
    """Return the kernel's own time for a module with loaded dependencies, in one system call.

    Return nothing if another process was faster. It is unknown which one.
    """
    file = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    begun = time.perf_counter()
    failed = libc.syscall(FINIT_MODULE, file, b"", 0 if path.endswith(".ko") else COMPRESSED_FILE)
    took = time.perf_counter() - begun
    os.close(file)
    if failed and ctypes.get_errno() == errno.EEXIST:
        return []
    if failed:
        sys.exit(f"cannot insert {path}: {os.strerror(ctypes.get_errno())}")
    return [took]


def module(times: str, name: str, *keys: str) -> dict[str, list[float]]:
    """Unload a module, which the daemon reloads with its sysctls.

    While the daemon is stopped, modprobe or the kernel does.
    """
    daemon = int(command("systemctl", "show", "--value", "-p", "MainPID", "ipvsd"))
    uevents, path = Uevents(), command("modinfo", "-n", name)
    found: dict[str, list[float]] = {"repair": [], "modprobe": [], "kernel": []}
    for _ in range(int(times)):
        time.sleep(1)
        uevents.drain()
        unload(name)
        begun = time.perf_counter()
        with before_others():
            uevents.live(name)
            for file in map(proc, keys):
                await_right(file)
            found["repair"].append(time.perf_counter() - begun)
        time.sleep(1)
        freeze(daemon)
        try:
            unload(name)
            found["modprobe"].append(timed("/usr/sbin/modprobe", name))
            unload(name)
            found["kernel"] += insert(path)
            for key in keys:
                Path(proc(key)).write_text("1\n")
        finally:
            os.kill(daemon, signal.SIGCONT)
    return found


# --- the start --------------------------------------------------------------------------


def unload_all(names: str) -> None:
    """Unload these modules and all their dependencies, except for those with other users."""
    needed = dict(line.rstrip().split(":", 1) for line in INDEX.read_text().splitlines())
    paths = {Path(path).name.split(".")[0].replace("-", "_"): path for path in needed}
    wanted = {name for name in names.split(",") if name in paths}
    wanted |= {
        Path(path).name.split(".")[0].replace("-", "_") for name in wanted for path in needed[paths[name]].split()
    }
    progress = True
    while progress:
        loaded = [line.split() for line in Path("/proc/modules").read_text().splitlines()]
        unused = [fields[0] for fields in loaded if fields[0] in wanted and fields[2] == "0"]
        progress = 0 in [libc.delete_module(name.encode(), os.O_NONBLOCK) for name in unused]


def undo(modules: str, wanted: dict[str, str]) -> None:
    unload_all(modules)
    for key in wanted:
        if Path(proc(key)).exists():
            Path(proc(key)).write_text("0\n")


def start(times: str, modules: str, **wanted: str) -> dict[str, list[float]]:
    """Measure the daemon from exec to READY=1, and a Python program and a shell with the same work."""
    Path(FILE).write_text("".join(f"{key} = {value}\n" for key, value in wanted.items()))
    work = f"modprobe -a {modules.replace(',', ' ')}; sysctl -q -p {FILE}"
    found: dict[str, list[float]] = {"ready": [], "python": [], "shell": []}
    for _ in range(int(times)):
        undo(modules, wanted)
        time.sleep(1)
        found["ready"].append(ready())
        for key, value in wanted.items():
            if int(Path(proc(key)).read_text()) < int(value):
                sys.exit(f"{key} was not written before READY=1")
        undo(modules, wanted)
        time.sleep(1)
        found["python"].append(timed(sys.executable, "-I", "-c", IMPORTS))
        found["shell"].append(timed("/bin/sh", "-c", work))
    return found


def ready() -> float:
    Path(NOTIFY).unlink(missing_ok=True)
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as systemd:
        systemd.bind(NOTIFY)
        systemd.settimeout(60)
        begun = time.perf_counter()
        process = os.posix_spawn("/usr/bin/ipvsd", ["ipvsd", "run"], {**os.environ, "NOTIFY_SOCKET": NOTIFY})
        while b"READY=1" not in systemd.recv(1 << 16):
            pass
        took = time.perf_counter() - begun
        time.sleep(2)  # its next work is not interrupted
        os.kill(process, signal.SIGTERM)
        os.waitpid(process, 0)
    return took


# --- many events ------------------------------------------------------------------------


def repairs(times: str, *keys: str) -> None:
    """Cause so many repairs of sysctls, one after the other."""
    watched = [Watched(proc(key)) for key in keys]
    for number in range(int(times)):
        watched[number % len(watched)].drift()
        time.sleep(0.005)  # or a reconciliation with repairs could find the next one non-compliant three times in a row


def spent() -> float:
    """Return the processor time of the daemon and its children."""
    lines = Path("/sys/fs/cgroup/system.slice/ipvsd.service/cpu.stat").read_text().splitlines()
    return int(dict(line.split() for line in lines)["usage_usec"]) / 1e6


def storm(seconds: str, rate: str, limit: str, *keys: str) -> dict[str, float]:
    """Write non-compliant values at this rate, and then measure the time until everything is compliant."""
    files = [os.open(proc(key), os.O_RDWR) for key in keys]
    before, begun, done = spent(), time.monotonic(), 0
    while time.monotonic() < begun + float(seconds):
        due = int((time.monotonic() - begun) * int(rate))
        for number in range(done, due):
            os.pwrite(files[number % len(files)], b"0\n", 0)
        done = due
        time.sleep(0.005)
    lasted, during = time.monotonic() - begun, spent() - before
    while any(os.pread(file, 16, 0) != b"1\n" for file in files):
        if time.monotonic() > begun + lasted + float(limit):
            sys.exit("not everything was right after the storm")
        time.sleep(0.1)
    after = time.monotonic() - begun - lasted
    return {"writes": done, "seconds": lasted, "processor": during, "until_right": after}


def drift(pause: str, limit: str, name: str, key: str) -> dict[str, float]:
    """After a pause, unload a module and change a sysctl; return when each is compliant again, if within the limit."""
    state, value = Path(f"/sys/module/{name}/initstate"), Path(proc(key))
    time.sleep(float(pause))
    unload(name)
    value.write_text("0\n")
    begun = time.monotonic()
    found: dict[str, float] = {}
    while len(found) < 2 and time.monotonic() < begun + float(limit):
        time.sleep(0.01)
        now = time.monotonic() - begun
        if "module" not in found and state.exists() and state.read_text() == "live\n":
            found["module"] = now
        if "sysctl" not in found and value.read_text() == "1\n":
            found["sysctl"] = now
    return found


if __name__ == "__main__":
    kinds = (sysctl, sysctl_program, module, unload_all, start, repairs, storm, drift)
    measure = {kind.__name__: kind for kind in kinds}[sys.argv[1]]
    options = dict(argument.split("=", 1) for argument in sys.argv[2:] if "=" in argument)
    result = measure(*(argument for argument in sys.argv[2:] if "=" not in argument), **options)
    print(json.dumps(result))
