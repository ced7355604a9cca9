"""A node with the real daemon at /, every system call of which can fail.

No module of the machine is affected. The test answers calls that would load one, and the tree shows the result.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Callable, Optional

from ipvsd.state import last_good_config, repair_history
from tests.faults.calls import Fault, Row, row
from tests.faults.intercept import Answer, Call, Interceptor, memory, put, taken
from tests.service import STATUS, Service
from tests.trees import put as put_file
from tests.trees import write_index

MODULES = ("ip_vs", "nf_conntrack", "ip_vs_rr")
DRIFTING = "ip_vs"
FORWARD = Path("/proc/sys/net/ipv4/ip_forward")
BACKLOG = Path("/proc/sys/net/core/somaxconn")
ARP = "net.ipv4.conf.*.arp_ignore"
INTERVAL = 1.0  # seconds between two resyncs
SHORT = 3  # bytes
PORT = 14787
MAIN = f"""
profiles: []
interval: {INTERVAL:g}s
contention: {{repairs: 100000}}
web: {{listen: ["127.0.0.1:{PORT}"]}}
modules:
  ip_vs: {{}}
  ip_vs_rr: {{}}
  nf_conntrack: {{parameters: {{hashsize: 32768}}}}
sysctls:
  net.ipv4.ip_forward: 1
  {ARP}: 1
"""
_NOTHING: Mapping[str, Any] = {"state": "", "reconciliations": -1, "summary": "nothing"}
_NUMBERS = {"EMFILE": 24, "ENOMEM": 12, "EIO": 5, "EINTR": 4, "ENOSPC": 28}


class Injection:
    """The fault to inject: into the call of this number, or into it and all later ones until it is removed."""

    def __init__(self, at: Row, fault: Fault, number: int = 1, lasting: bool = False) -> None:
        self.row, self.fault, self.number, self.lasting = at, fault, number, lasting
        self.seen = 0
        self.reached = threading.Event()

    def strikes(self, at: Row) -> bool:
        """Return whether the fault applies to this call."""
        if at != self.row:
            return False
        self.seen += 1
        if self.seen < self.number or (self.seen > self.number and not self.lasting):
            return False
        self.reached.set()
        return True


class Node:
    """The tree, the daemon, and the fault of its calls. `made` contains the recorded calls, if requested."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        _furnish(tree)
        self.service = Service(tree)
        self._number = 0
        self.injection: Optional[Injection] = None
        self.made: Optional[dict[Row, int]] = None
        self._interceptor: Optional[Interceptor] = None
        self._pid, self._pidfd = 0, -1
        self.up = set[str]()  # the event sources that work here
        self.calm: Counter[str] = Counter()  # the descriptors of the idle daemon
        self.broken = False  # it did not recover, and has to be restarted
        self._lock = threading.Lock()  # protects the modules
        self._due = False  # whether a signal is due
        self._ready = False  # whether the daemon has reported READY=1
        self._children = set[int]()
        self._own = dict[int, bool]()
        self._unlink = "bench1"

    # --- the daemon ---------------------------------------------------------------------

    def start(self, injection: Optional[Injection] = None) -> None:
        """Start the daemon like systemd, and wait until it is ready, which activates the injection."""
        self._ready, self._due, self.injection = False, False, injection
        program = (
            "-m", "tests.faults.confined", str(self.tree), sys.executable, "-m", "ipvsd", "run",
        )  # fmt: skip
        self._children.clear()
        self._own.clear()
        self._since = time.time()
        kept = self.tree / "pycache"
        again = {"PYTHONDONTWRITEBYTECODE": "1"} if kept.exists() else {}
        self.service.start(program=program, PYTHONPYCACHEPREFIX=str(kept), **again)
        self._pid = self.service.process.pid
        self._pidfd = os.pidfd_open(self._pid)
        self._interceptor = Interceptor(self._pid, self._answer)
        self.service.hears("READY=1\n")

    def restart(self, injection: Optional[Injection] = None) -> None:
        """Restart the daemon like systemd, and end it first if necessary."""
        self._end()
        self.start(injection)

    def running(self) -> bool:
        return self._interceptor is not None and self.service.process.poll() is None

    def ended(self) -> int:
        """Wait until the daemon has ended, and return its exit code."""
        code = self.service.process.wait(timeout=20)
        if self._interceptor is None:
            return code
        self._interceptor.close()
        self._interceptor = None
        os.close(self._pidfd)
        return code

    def close(self) -> None:
        self._end()
        self.service.close()

    def _end(self) -> None:
        if self.running():
            self.service.process.kill()
        if self._interceptor:
            self.ended()

    # --- calls of the daemon ------------------------------------------------------------

    def _answer(self, call: Call) -> Answer:
        if not self._is_own(call.pid):
            return self._of_child(call)
        if call.pid == self._pid and self._due:
            self._due = False
            os.kill(self._pid, signal.SIGHUP)
        struck = self._faulty(call)
        if struck is None and call.name in ("finit_module", "init_module"):
            return self._loaded(call)
        return struck

    def _faulty(self, call: Call) -> Answer:
        """Record a call, and return its fault if the injection applies."""
        if not self._ready:
            self._ready = call.name == "sendto" and memory(call.pid, call.arguments[1], 8) == b"READY=1\n"
            return None
        if self.made is None and self.injection is None:
            return None
        try:
            at = row(call, self._pidfd)
        except OSError:
            return None  # it ended meanwhile
        if self.made is not None:
            self.made[at] = self.made.get(at, 0) + 1
        injection = self.injection
        if injection is None or not injection.strikes(at):
            return None
        return self._struck(call, injection.fault)

    def _is_own(self, thread: int) -> bool:
        known = self._own.get(thread)
        if known is None:
            known = self._own[thread] = os.path.exists(f"/proc/{self._pid}/task/{thread}")
        return known

    def _of_child(self, call: Call) -> Answer:
        """Permit the calls of the child that queries IPVS until it executes a program, and then end it."""
        if call.name == "execve":
            self._children.add(call.pid)
        elif call.pid in self._children:
            os.kill(call.pid, signal.SIGKILL)
        return None

    def _struck(self, call: Call, fault: Fault) -> Answer:
        if fault is Fault.KILL:
            os.kill(self._pid, signal.SIGKILL)
            return 0  # the caller has ended
        if fault is Fault.SHORT:
            return self._shortened(call)
        return -_NUMBERS[fault.value]

    def _shortened(self, call: Call) -> Answer:
        descriptor, buffer, size, *others = call.arguments
        copy = taken(self._pidfd, descriptor)
        try:
            size = min(size, SHORT)
            if call.name in ("read", "recvfrom"):
                data = os.read(copy, size)
            elif call.name == "pread64":
                data = os.pread(copy, size, others[0])
            else:
                data = memory(call.pid, buffer, size)
                return os.pwrite(copy, data, others[0]) if call.name == "pwrite64" else os.write(copy, data)
            put(call.pid, buffer, data)
            return len(data)
        except OSError as error:
            return -(error.errno or 0)
        finally:
            os.close(copy)

    # --- the modules --------------------------------------------------------------------

    def _loaded(self, call: Call) -> Answer:
        with contextlib.suppress(FileNotFoundError):  # it ended meanwhile
            self.load(Path(os.readlink(f"/proc/{call.pid}/fd/{call.arguments[0]}")).stem)
        return 0

    def load(self, name: str) -> None:
        """Add a module. The interceptor's thread calls this."""
        with self._lock:
            self._load(name)

    def _load(self, name: str) -> None:
        put_file(self.tree, f"sys/module/{name}/initstate", "live\n")
        put_file(self.tree, f"sys/module/{name}/refcnt", "0\n")
        (self.tree / f"sys/module/{name}/holders").mkdir(exist_ok=True)
        if name == "nf_conntrack":
            put_file(self.tree, "sys/module/nf_conntrack/parameters/hashsize", "32768\n")
        self._list({*self.live(), name})

    def unload(self, name: str) -> None:
        with self._lock:
            self._list(self.live() - {name})
            shutil.rmtree(self.tree / "sys/module" / name)

    def live(self) -> set[str]:
        return {line.split()[0] for line in (self.tree / "proc/modules").read_text().splitlines()}

    def _list(self, names: set[str]) -> None:
        lines = [f"{name} 16384 0 - Live 0x0000000000000000\n" for name in sorted(names)]
        # Written in place and at once, because another file would not be visible through the mount.
        descriptor = os.open(self.tree / "proc/modules", os.O_RDWR)
        os.write(descriptor, "".join(lines).encode())
        os.ftruncate(descriptor, len("".join(lines)))
        os.close(descriptor)

    # --- disturbances -------------------------------------------------------------------

    def disturb(self) -> None:
        """Change managed items, desire another value, request the pages, and cause a reconciliation."""
        FORWARD.write_text("0\n")
        hashsize = self.tree / "sys/module/nf_conntrack/parameters/hashsize"
        hashsize.write_text("100\n")
        if DRIFTING in self.live():
            self.unload(DRIFTING)
        name, self._unlink = self._unlink, "bench2" if self._unlink == "bench1" else "bench1"
        subprocess.run(["ip", "link", "set", name, "name", self._unlink], check=True)
        Path(f"/proc/sys/net/ipv4/conf/{self._unlink}/arp_ignore").write_text("0\n")
        self._number = self._number % 1000 + 1
        put_file(self.tree, "etc/ipvsd/conf.d/10.yaml", f"sysctls: {{net.core.somaxconn: {2000 + self._number}}}\n")
        self.resync()
        for page in ("metrics", "status", "healthz"):
            self.page(page)

    def resync(self) -> None:
        """Let the daemon reconcile all items.

        The signal arrives while a call of the loop is stopped here. Otherwise, no kernel interrupts close(2), for
        example.
        """
        self._due = True
        FORWARD.write_text(FORWARD.read_text())  # wakes the loop

    def page(self, name: str) -> tuple[int, str]:
        """Return the code and the text of a page, or 0 without a response."""
        connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=1)
        try:
            connection.request("GET", f"/{name}")
            answer = connection.getresponse()
            return answer.status, answer.read().decode()
        except (OSError, http.client.HTTPException):
            return 0, ""
        finally:
            connection.close()

    # --- observations -------------------------------------------------------------------

    def wrong(self) -> list[str]:
        """Return the items that are not compliant."""
        wanted = {FORWARD: "1\n", BACKLOG: f"{2000 + self._number}\n" if self._number else BACKLOG.read_text()}
        wanted.update(dict.fromkeys(Path("/proc/sys/net/ipv4/conf").glob("*/arp_ignore"), "1\n"))
        hashsize = self.tree / "sys/module/nf_conntrack/parameters/hashsize"
        wanted[hashsize] = "32768\n"
        values = [f"{file}: {text(file)!r}" for file, value in wanted.items() if text(file) != value]
        return [*values, *(f"{name} is not loaded" for name in MODULES if name not in self.live())]

    def status(self) -> Mapping[str, Any]:
        """Return the status that this daemon has written, or a document without a state."""
        try:
            if (self.tree / STATUS).stat().st_mtime < self._since:
                return _NOTHING
            found: Mapping[str, Any] = self.service.status()
        except (OSError, ValueError):
            return _NOTHING
        return found

    def descriptors(self) -> Counter[str]:
        """Return the open descriptors of the daemon by kind, with their numbers."""
        found = []
        for number in os.listdir(f"/proc/{self._pid}/fd"):
            try:
                found.append(os.readlink(f"/proc/{self._pid}/fd/{number}"))
            except OSError:
                pass  # closed meanwhile
        return Counter("/proc/sys" if "/proc/sys" in link else link.partition(":")[0] for link in found)

    def left_over(self) -> list[str]:
        places = ("run/ipvsd", "var/lib/ipvsd", "etc/ipvsd")
        return [str(file) for place in places for file in (self.tree / place).rglob(".*.new")]

    def kept(self) -> bool:
        """Return whether the last good configuration is the current one."""
        found = last_good_config.read(str(self.tree))
        return found is not None and any(f"{2000 + self._number}".encode() in data for _, data in found)

    def said(self) -> str:
        """Return the daemon's log."""
        return (self.tree / "log").read_text()

    def stored(self) -> list[str]:
        """Return the problems of the daemon's stored files. Each reader raises an exception for an unusable file."""
        last_good_config.read(str(self.tree))
        found = repair_history.read(str(self.tree))
        status = self.tree / "run/ipvsd/status.json"
        if status.exists():
            json.loads(status.read_text())
        return [f"{found.damaged} lines of the history are damaged"] if found.damaged else []


def prepare() -> None:
    for command in ("link set lo up", "link add bench1 type veth peer name peer1"):
        subprocess.run(["ip", *command.split()], check=True)
    Path("/proc/sys/net/unix/max_dgram_qlen").write_text("512")  # as on a system with systemd


def text(file: Path) -> str:
    try:
        return file.read_text()
    except OSError:
        return ""


def wait(condition: Callable[[], object], seconds: float) -> bool:
    """Wait until a condition holds, and return whether it did in time."""
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(0.005)
    return True


def _furnish(tree: Path) -> None:
    for place in (
        "etc/ipvsd/conf.d", "etc/modprobe.d", "run/ipvsd/conf.d", "run/kernel", "var/lib/ipvsd", "proc/sys", "lib",
        "sys/module",
    ):  # fmt: skip
        (tree / place).mkdir(parents=True)
    put_file(tree, "etc/ipvsd/ipvsd.yaml", MAIN)
    put_file(tree, "etc/os-release", "ID=debian\n")
    for name in ("thread-self", "loadavg", "net", "1"):
        (tree / "proc" / name).symlink_to(f"/run/kernel/{name}")
    (tree / "proc/self").mkdir()
    for name in os.listdir("/proc/self"):
        (tree / "proc/self" / name).symlink_to(f"/run/kernel/self/{name}")
    # In a user namespace, ipvsd would know that no module can be loaded.
    (tree / "proc/self/uid_map").unlink()
    put_file(tree, "proc/self/uid_map", "0 0 4294967295\n")
    _ship(tree / "lib/modules" / os.uname().release)
    put_file(tree, "proc/modules", "")
    (tree / "var/lib").chmod(0o755)


def _ship(directory: Path) -> None:
    """Create a module tree. No kernel has to accept its files, because calls that load them are answered here."""
    needed = {"nf_conntrack": "", "ip_vs": " nf_conntrack.ko", "ip_vs_rr": " ip_vs.ko nf_conntrack.ko"}
    lines = {name: [f"{name}.ko:{others}"] for name, others in needed.items()}
    for name in needed:
        put_file(directory, f"{name}.ko", "\x7fELF, as far as anyone asks\n")
    put_file(directory, "modules.builtin", "")
    for index in ("dep", "alias", "symbols", "builtin", "builtin.alias"):
        write_index(directory / f"modules.{index}.bin", lines if index == "dep" else {})
