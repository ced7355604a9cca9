"""In the machine: disturb ipvsd on a node in many ways at the same time, and write a record to a file.

`soak.py SECONDS SEED INTERFACES RESULT TRACE`

The time is divided into rounds. Each has the same disturbances, in an order and at times that the seed determines.
It ends with a quiet time without disturbances, and then the daemon's memory and descriptors are measured. The
kernel's tracing records writes to sysctls, and loads and unloads of modules, independently of ipvsd.

Times are CLOCK_MONOTONIC, which does not advance while the machine is suspended.
"""

from __future__ import annotations

import http.client
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUND, LEAST = 60.0, 3  # seconds of a round, and rounds, at least
QUIET = 5.0  # seconds of quiet before memory and descriptors are measured
SAMPLES, BETWEEN = 10, 0.2  # measurements then, and seconds before each
TRACING = Path("/sys/kernel/tracing")
DROP_IN = Path("/etc/ipvsd/conf.d/soak.yaml")
STATUS = Path("/run/ipvsd/status.json")
HISTORY, KEPT = Path("/run/ipvsd/history.jsonl"), 200  # lines, at least
FULL = Path("/run/soak.full")
PORT = 14787
# The place of the power management registers, which QEMU's firmware does not restore after a suspend. The kernel
# would not suspend a second time (PMBASE and ACPI_CNTL of Intel's ICH9).
POWER, PLACE = Path("/sys/bus/pci/devices/0000:00:1f.0/config"), slice(0x40, 0x48)
# After a suspend, Linux cannot always start the second processor of an emulated machine, and then it can hang. So
# only a machine with one processor is suspended.
IS_SUSPENDED = os.cpu_count() == 1
AT_ONCE, GROUP = 50, "77"  # interfaces that are added together, and their group
SLOW = 60  # clients; ipvsd serves 64 from one address

# Sysctls of the default profile, with the lowest non-compliant value for each. Each value is written once, so it
# identifies the write that a repair is about. All are above 1, so ip_forward is always on.
FORWARD, DEFAULT = "net.ipv4.ip_forward", "net.ipv4.conf.default.forwarding"
CALM = {
    FORWARD: 2, DEFAULT: 2, "net.ipv4.vs.conntrack": 2, "net.ipv4.vs.expire_nodest_conn": 2,
    "net.ipv4.vs.expire_quiescent_template": 2, "net.netfilter.nf_conntrack_max": 60000,
}  # fmt: skip
FOUGHT, RIGHT = "net.core.somaxconn", "4096"
CHANGED = "net.core.netdev_budget"  # its desired value changes repeatedly
# Contention begins and ends soon enough to be observed.
CONFIG = """contention: {repairs: 12, quiet: 10s}
sysctls:
  net.core.somaxconn: 4096
  net.core.netdev_budget: %d
"""
MODULES = (
    "ip_vs_rr ip_vs_sh ip_vs_lc ip_vs_wlc ip_vs_sed ip_vs_nq ip_vs_dh "
    "xt_statistic xt_recent xt_sctp ip_set_bitmap_port br_netfilter"
).split()
# <linux/sysctl.h>: struct ctl_table_header has its parent at 56, and struct ctl_table begins with its name. The
# value is recorded as a number of its first eight characters, because a text would contain its line feed.
PROBES = """p:soak/write __cgroup_bpf_run_filter_sysctl write=$arg3:u32 dir=+0(+0(+0(+56($arg1)))):string \
name=+0(+0($arg2)):string value=+0(+0($arg4)):x64
r:soak/wrote proc_sys_write ret=$retval:s64
r:soak/told bpf_ringbuf_output ret=$retval:s64
r:soak/queued fsnotify_insert_event ret=$retval:s32
"""
# EAGAIN for a full ring buffer; 2 for a full queue (fs/notify/notification.c)
FILTERS = {"soak/write": "write == 1", "soak/wrote": "", "soak/told": "", "soak/queued": "ret == 2"}
ENABLED = (*FILTERS, "module/module_load", "module/module_free")
BUFFER = 32768  # KiB for each processor


def run(*arguments: str, text: str = "") -> bool:
    return subprocess.run(arguments, input=text.encode(), capture_output=True, check=False).returncode == 0


def status() -> dict[str, Any]:
    try:
        return dict(json.loads(STATUS.read_text()))
    except (OSError, ValueError):  # it is replaced atomically, but the daemon may be starting
        return {}


def history() -> list[str]:
    """Return the complete lines of the history."""
    return HISTORY.read_text().split("\n")[:-1] if HISTORY.exists() else []


def wait(condition: Callable[[], object], seconds: float, between: float = 0.2) -> bool:
    deadline = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(between)
    return True


# --- the kernel's trace -----------------------------------------------------------------


def trace() -> None:
    """Let the kernel record every write to a sysctl, and the loads and unloads of modules."""
    (TRACING / "trace_clock").write_text("mono")
    (TRACING / "buffer_size_kb").write_text(str(BUFFER))
    (TRACING / "kprobe_events").write_text(PROBES)
    for name, wanted in FILTERS.items():
        if wanted:
            (TRACING / "events" / name / "filter").write_text(wanted)
    for name in ENABLED:
        (TRACING / "events" / name / "enable").write_text("1")


def untrace(path: str) -> int:
    """End the recording, write its text to a file, and return the number of records that were lost.

    The text is not parsed here, because that would take longer than a round: it has half a million lines in an hour.
    """
    for name in ENABLED:
        (TRACING / "events" / name / "enable").write_text("0")
    shutil.copyfile(TRACING / "trace", path)
    lost = 0
    for stats in TRACING.glob("per_cpu/cpu*/stats"):
        counts = dict(line.split(": ") for line in stats.read_text().splitlines())
        lost += sum(int(counts[kind]) for kind in ("overrun", "commit overrun", "dropped events"))
    (TRACING / "kprobe_events").write_text("")
    (TRACING / "trace").write_text("")
    return lost


def drops(pid: int) -> int:
    """Return the messages that netlink dropped on the daemon's sockets, by the kernel's count."""
    inodes = set()
    for link in Path(f"/proc/{pid}/fd").iterdir():
        inodes.add(os.readlink(link).removeprefix("socket:[").rstrip("]"))
    rows = [line.split() for line in Path("/proc/net/netlink").read_text().splitlines()]
    at, inode = rows[0].index("Drops"), rows[0].index("Inode")
    return sum(int(row[at]) for row in rows[1:] if row[inode] in inodes)


# --- the soak ---------------------------------------------------------------------------


class Soak:
    """`injected` are the non-compliant values that were written, [sysctl, value, time] each."""

    def __init__(self, seconds: float, seed: int, links: int) -> None:
        self.rounds = max(LEAST, min(20, int(seconds / ROUND)))
        self.round = seconds / self.rounds
        self.links = links
        self.random = random.Random(seed)
        self.pid = int(subprocess.check_output(["systemctl", "show", "--value", "-p", "MainPID", "ipvsd"]))
        self.numbers = {key: itertools.count(least) for key, least in CALM.items()}
        self.numbers[FOUGHT] = itertools.count(10000)
        self.numbers[DEFAULT] = self.numbers[FORWARD]  # the kernel copies it
        self.injected: list[Any] = []
        self.gone: list[Any] = []
        self.samples: list[dict[str, Any]] = []
        self.quiet: list[dict[str, Any]] = []
        self.before = frozenset(history())
        self.history: dict[str, None] = {}
        self.newest, self.read = "", time.monotonic()  # the last line of the history, and the time of its read
        self.unread: list[tuple[float, float]] = []
        self.counts = dict.fromkeys(
            "interfaces modules configurations scrapes unanswered slow full jumps sleeps".split(), 0
        )
        self.slept = self.slowest = 0.0
        self.notes: list[str] = []
        self.ending = threading.Event()  # of the round
        self.ended = threading.Event()  # of all rounds
        self.wanted = 300  # of CHANGED
        self.configuring = threading.Lock()

    def run(self) -> None:
        self.configure()
        trace()
        for task in (self.keep_history, self.sample_all):
            threading.Thread(target=task, daemon=True).start()
        for number in range(self.rounds):
            self.one_round(time.monotonic() + self.round)
            print(f"round {number + 1} of {self.rounds}: {self.quiet[-1]}", flush=True)
        self.ended.set()

    def one_round(self, deadline: float) -> None:
        """Disturb until only the quiet time remains."""
        self.ending.clear()
        tasks = (
            self.write_calmly, self.write_with_programs, self.write_in_turns, self.fight, self.add_interfaces,
            self.unload, self.change_configuration, self.scrape, self.be_slow, self.disturb,
        )  # fmt: skip
        threads = [threading.Thread(target=self.guarded, args=(task,)) for task in tasks]
        for thread in threads:
            thread.start()
        time.sleep(max(0.0, deadline - time.monotonic() - QUIET - self.round / 10))
        self.ending.set()
        for thread in threads:
            thread.join()
        self.configure()
        if not wait(self.right, 90):
            self.notes.append(f"not right after the round: {status().get('summary')}")
        time.sleep(QUIET)
        self.quiet.append(self.sample_quiet())

    def guarded(self, task: Callable[[], None]) -> None:
        try:
            task()
        except Exception as error:  # noqa: BLE001 -- every error belongs in the account
            self.notes.append(f"{task.__name__}: {error!r}")

    def pause(self, least: float, most: float) -> bool:
        """Wait, and return whether the round continues."""
        return not self.ending.wait(self.random.uniform(least, most))

    def right(self) -> bool:
        """Return whether all managed items are compliant, and all disturbances have ended."""
        found = status()
        items = [*found.get("modules", ()), *found.get("sysctls", ())]
        hashed = found.get("config", {}).get("errors") == []
        there = Path(f"/proc/sys/{CHANGED.replace('.', '/')}").read_text().strip() == str(self.wanted)
        return bool(items) and all(item["compliant"] or item["tolerated"] for item in items) and hashed and there

    # --- sysctls ------------------------------------------------------------------------

    def write(self, key: str, how: str = "") -> None:
        """Write the next non-compliant value."""
        value = str(next(self.numbers[key]))
        path = f"/proc/sys/{key.replace('.', '/')}"
        row = [key, value, time.monotonic()]
        if how == "sysctl":
            done = run("sysctl", "-qw", f"{key}={value}")
        elif how == "tee":
            done = run("tee", path, text=f"{value}\n")
        else:
            done = put(path, value)
        if done:
            self.injected.append(row)
        else:
            self.notes.append(f"cannot write {key}")

    def write_calmly(self) -> None:
        while self.pause(1.0, 3.0):
            self.write(self.random.choice(list(CALM)))

    def write_with_programs(self) -> None:
        while self.pause(1.0, 3.0):
            self.write(self.random.choice(list(CALM)), self.random.choice(("sysctl", "tee")))

    def write_in_turns(self) -> None:
        """Let two writers write to one sysctl at the same time."""
        while self.pause(self.round / 8, self.round / 4):
            key = self.random.choice(list(CALM))
            both = [threading.Thread(target=self.write_thrice, args=(key,)) for _ in range(2)]
            for thread in both:
                thread.start()
            for thread in both:
                thread.join()

    def write_thrice(self, key: str) -> None:
        for _ in range(3):
            self.write(key)

    def fight(self) -> None:
        """Write after each of ipvsd's writes until it stops; then far more often; then stop."""
        path = Path(f"/proc/sys/{FOUGHT.replace('.', '/')}")
        if not self.pause(0.0, self.round / 10):
            return
        with self.configuring:  # a new active configuration ends every contention
            ends = time.monotonic() + self.round / 2
            while time.monotonic() < ends and not self.ending.is_set() and not status().get("contended"):
                self.write(FOUGHT)
                wait(lambda: path.read_text().strip() == RIGHT or self.ending.is_set(), 2, 0.02)
        ends = time.monotonic() + self.round / 10
        while time.monotonic() < ends and self.pause(0.0, 0.1):
            self.write(FOUGHT)
        put(str(path), RIGHT)

    # --- interfaces and modules ---------------------------------------------------------

    def add_interfaces(self) -> None:
        while self.pause(0.0, 2.0):
            names = [f"soak{number}" for number in range(self.links)]
            kinds = [self.random.choice(("dummy", "dummy", f"veth peer name p{name}")) for name in names]
            for few in range(0, len(names), AT_ONCE):
                new = list(zip(names, kinds))[few : few + AT_ONCE]
                run(
                    "ip",
                    "-batch",
                    "-",
                    text="".join(f"link add {name} group {GROUP} type {kind}\n" for name, kind in new),
                )
                self.pause(0.1, 1.0)
            there = [path.name for path in Path("/sys/class/net").iterdir()]
            self.counts["interfaces"] += len([name for name in there if name.startswith(("soak", "psoak"))])
            # A change of an interface that the daemon has not seen yet is not a drift.
            if self.wait_for_members(len(there)):
                for name in self.random.sample(names, 5):
                    key = f"net.ipv4.conf.{name}.forwarding"
                    self.numbers[key] = self.numbers[FORWARD]
                    self.write(key)
                self.pause(0.5, 3.0)
            now = time.monotonic()
            self.gone += [[f"net.ipv4.conf.{name}.forwarding", now] for name in names]
            run("ip", "link", "del", "group", GROUP)

    def wait_for_members(self, least: int) -> bool:
        """Wait until the daemon knows so many interfaces."""

        def known() -> bool:
            found = [item for item in status().get("sysctls", ()) if item["members"]]
            return bool(found) and found[0]["members"]["total"] >= least

        return wait(lambda: known() or self.ending.is_set(), 30) and known()

    def unload(self) -> None:
        while self.pause(0.5, 3.0):
            name = self.random.choice(MODULES)
            command = self.random.choice((["rmmod"], ["modprobe", "-r"]))
            self.counts["modules"] += run(*command, name)
            if self.random.random() < 0.3:
                run("modprobe", name)

    # --- the configuration --------------------------------------------------------------

    def configure(self) -> None:
        """Replace the configuration atomically by a valid one with another value, and have it read."""
        self.wanted = 300 + (self.wanted + 1) % 50
        new = DROP_IN.with_suffix(".new")
        DROP_IN.parent.mkdir(parents=True, exist_ok=True)
        new.write_text(CONFIG % self.wanted)
        new.replace(DROP_IN)
        os.kill(self.pid, signal.SIGHUP)
        self.counts["configurations"] += 1

    def change_configuration(self) -> None:
        ways = [self.configure, self.configure_wrongly, self.configure_slowly, self.be_without]
        while True:
            self.random.shuffle(ways)
            for way in ways:
                if not self.pause(1.0, 4.0):
                    return
                with self.configuring:
                    way()

    def configure_wrongly(self) -> None:
        DROP_IN.write_text(f"{CONFIG % self.wanted}sysctls: [\n")
        os.kill(self.pid, signal.SIGHUP)
        self.counts["configurations"] += 1
        self.pause(0.5, 2.0)
        self.configure()

    def configure_slowly(self) -> None:
        """Write a file in two halves. The first half alone is a valid configuration without somaxconn."""
        self.wanted = 300 + (self.wanted + 1) % 50
        first, separator, rest = (CONFIG % self.wanted).partition("sysctls:\n")
        with DROP_IN.open("w") as file:
            file.write(first)
            file.flush()
            self.pause(1.0, 3.0)
            file.write(separator + rest)
        self.counts["configurations"] += 1
        self.pause(1.0, 2.0)

    def be_without(self) -> None:
        """Remove the file for less time than ipvsd waits for it."""
        text = DROP_IN.read_text()
        DROP_IN.unlink()
        self.pause(0.5, 3.0)
        DROP_IN.write_text(text)
        self.counts["configurations"] += 1

    # --- clients ------------------------------------------------------------------------

    def scrape(self) -> None:
        while self.pause(0.5, 1.0):
            for path in ("/metrics", "/status", "/healthz"):
                begun = time.monotonic()
                self.counts["scrapes"] += 1
                try:
                    ask(path)
                except (OSError, http.client.HTTPException) as error:
                    self.counts["unanswered"] += 1
                    self.notes.append(f"{path}: {error!r}")
                self.slowest = max(self.slowest, time.monotonic() - begun)

    def be_slow(self) -> None:
        """Open many connections that send one byte a second."""
        clients: list[socket.socket] = []
        while self.pause(1.0, 1.0):
            for client in list(clients):
                try:
                    client.send(b"a")
                except OSError:
                    clients.remove(client)
                    client.close()
            while len(clients) < SLOW:
                client = socket.create_connection(("127.0.0.1", PORT), timeout=30)
                client.send(b"GET /metrics HTTP/1.1\r\nHost: localhost\r\nX-Slow: ")
                client.settimeout(0)
                clients.append(client)
                self.counts["slow"] += 1
        for client in clients:
            client.close()

    # --- the machine --------------------------------------------------------------------

    def disturb(self) -> None:
        """Fill /run, set the clock, and suspend, one after the other."""
        away = 0.0  # seconds by which the clock is wrong
        ways = ["full", "jumps", "jumps", *(["sleeps"] if IS_SUSPENDED else [])]
        while True:
            self.random.shuffle(ways)
            for way in ways:
                if not self.pause(self.round / 20, self.round / 10):
                    jump(-away)
                    return
                self.counts[way] += 1
                if way == "full":
                    self.fill()
                elif way == "sleeps":
                    self.sleep()
                else:
                    by = self.random.choice((-86400.0, -3600.0, -1.5, 1.5, 3600.0, 86400.0)) - away
                    jump(by)
                    away += by

    def fill(self) -> None:
        """Leave no space in /run for some seconds."""
        with FULL.open("wb", buffering=0) as file:
            for size in (1 << 20, 4096, 1):
                try:
                    while True:
                        file.write(b"\0" * size)
                except OSError:
                    pass
            self.pause(2.0, 6.0)
        FULL.unlink()

    def sleep(self) -> None:
        """Suspend the machine to memory, and let its clock wake it."""
        place = POWER.read_bytes()[PLACE]
        before = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic()
        run("rtcwake", "-m", "mem", "-s", "4")
        with POWER.open("r+b", buffering=0) as file:
            file.seek(PLACE.start)
            file.write(place)
        slept = time.clock_gettime(time.CLOCK_BOOTTIME) - time.monotonic() - before
        self.slept += slept
        if slept < 1:
            self.notes.append("the machine did not sleep")

    # --- the daemon ---------------------------------------------------------------------

    def keep_history(self) -> None:
        while not self.ended.wait(1.0):
            self.take_history()

    def take_history(self) -> None:
        """Read new lines of the history, of which the file keeps only the last ones.

        Some may be missing if the last known line is gone, or if there are as many new lines as ipvsd keeps.
        """
        lines, now = history(), time.monotonic()
        new = [line for line in lines if line not in self.before and line not in self.history]
        if len(new) >= KEPT or self.newest not in ("", *lines):
            self.unread.append((self.read, now))
        self.newest, self.read = lines[-1] if lines else "", now
        self.history.update(dict.fromkeys(new))

    def sample_all(self) -> None:
        while not self.ended.wait(max(1.0, self.round / 20)):
            self.samples.append(self.sample())

    def sample_quiet(self) -> dict[str, Any]:
        """Return the sample with the most descriptors: ipvsd lends its reserve to each running reconciliation."""
        found = []
        for _ in range(SAMPLES):
            time.sleep(BETWEEN)
            found.append(self.sample())
        return max(found, key=lambda sample: int(sample["descriptors"]))

    def sample(self) -> dict[str, Any]:
        text = Path(f"/proc/{self.pid}/status").read_text()
        found = dict(line.split(":", 1) for line in text.splitlines())
        return {
            "at": time.monotonic(), "resident": int(found["VmRSS"].split()[0]) * 1024, "threads": int(found["Threads"]),
            "descriptors": len(os.listdir(f"/proc/{self.pid}/fd")), "interfaces": len(os.listdir("/sys/class/net")),
        }  # fmt: skip

    def result(self, trace: str) -> dict[str, Any]:
        """Return the record, and write the kernel's trace to this file."""
        self.take_history()
        lost = untrace(trace)
        return {
            "pid": self.pid, "injected": self.injected, "gone": self.gone, "untraced": lost,
            "history": [json.loads(line) for line in self.history], "samples": self.samples, "quiet": self.quiet,
            "counts": self.counts, "slept": self.slept, "slowest": self.slowest, "notes": self.notes,
            "drops": drops(self.pid), "sysctls": [*CALM, FOUGHT, CHANGED], "changed": CHANGED,
            "unread": self.unread,
        }  # fmt: skip


def put(path: str, value: str) -> bool:
    try:
        with open(path, "w") as file:
            file.write(f"{value}\n")
    except OSError:
        return False
    return True


def ask(path: str) -> None:
    connection = http.client.HTTPConnection("127.0.0.1", PORT, timeout=20)
    try:
        connection.request("GET", path)
        answer = connection.getresponse()
        answer.read()
        if path != "/healthz" and answer.status != 200:
            raise http.client.HTTPException(f"status {answer.status}")
    finally:
        connection.close()


def jump(by: float) -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.time() + by)


if __name__ == "__main__":
    soak = Soak(float(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]))
    soak.run()
    Path(sys.argv[4]).write_text(json.dumps(soak.result(sys.argv[5])))
