"""In a unit's sandbox: try the operations that it should forbid, and print the results as JSON.

Each result is `done`, or the name of the error. A harmful operation has a form that changes nothing.
"""

from __future__ import annotations

import ctypes
import errno
import json
import mmap
import os
import socket
import stat
import sys
import time
from pathlib import Path
from typing import Callable

CLONE_NEWNS, CLONE_NEWUSER = 0x20000, 0x10000000
PTRACE_SEIZE, SYSLOG_SIZE_BUFFER, PER_LINUX32, BAD_REBOOT = 0x4206, 10, 0x0008, 0
SYS_DELETE_MODULE, SYS_SYSLOG, SYS_REBOOT, SYS_SWAPOFF, SYS_KEXEC, SYS_IOPL = 176, 103, 169, 168, 246, 172  # on x86-64
NOBODY = "no_such_module"

libc = ctypes.CDLL(None, use_errno=True)


def call(result: int) -> None:
    if result < 0:
        raise OSError(ctypes.get_errno(), "")


def write(path: str) -> None:
    file = Path(path, "ipvsd-probe")
    file.write_text("")
    file.unlink()


def raw_socket(family: int, kind: int) -> None:
    socket.socket(family, kind, socket.IPPROTO_ICMP).close()


def set_clock() -> None:
    time.clock_settime(time.CLOCK_REALTIME, time.clock_gettime(time.CLOCK_REALTIME))


def write_and_execute() -> None:
    mmap.mmap(-1, mmap.PAGESIZE, prot=mmap.PROT_READ | mmap.PROT_WRITE | mmap.PROT_EXEC).close()


def make_group() -> None:
    os.mkdir("/sys/fs/cgroup/ipvsd-probe")
    os.rmdir("/sys/fs/cgroup/ipvsd-probe")


def make_device() -> None:
    os.mknod("/tmp/ipvsd-null", stat.S_IFCHR, os.makedev(1, 3))
    os.unlink("/tmp/ipvsd-null")


def set_uid_bit() -> None:
    file = Path("/tmp/ipvsd-probe")
    file.write_text("")
    try:
        file.chmod(0o755 | stat.S_ISUID)
    finally:
        file.unlink()


def in_a_child(work: Callable[[], None]) -> None:
    """Perform an operation that cannot be undone but ends with its process."""
    child = os.fork()
    if child == 0:
        try:
            work()
            os._exit(0)
        except OSError as error:
            os._exit(error.errno or 255)
    code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code:
        raise OSError(code, "")


def attach() -> None:
    child = os.fork()
    if child == 0:
        time.sleep(60)
        os._exit(0)
    try:
        call(libc.ptrace(PTRACE_SEIZE, child, 0, 0))
    finally:
        os.kill(child, 9)
        os.waitpid(child, 0)


TRIES: dict[str, Callable[[], object]] = {
    "write /etc": lambda: write("/etc"),
    "write /usr": lambda: write("/usr"),
    "write /var/lib": lambda: write("/var/lib"),
    "write /run": lambda: write("/run"),
    "write /sys/fs/cgroup": make_group,
    "write /var/lib/ipvsd": lambda: write("/var/lib/ipvsd"),
    "write /run/ipvsd": lambda: write("/run/ipvsd"),
    "list /home": lambda: os.listdir("/home"),
    "list /root": lambda: os.listdir("/root"),
    "see the machine's /tmp": lambda: os.stat("/tmp/ipvsd-outside"),
    "open the disk": lambda: os.close(os.open("/dev/vda", os.O_RDONLY)),
    "open /dev/kmsg": lambda: os.close(os.open("/dev/kmsg", os.O_RDONLY)),
    "make a device": make_device,
    "give a file away": lambda: in_a_child(lambda: os.chown(os.memfd_create("probe"), 1, 1)),
    "open a raw socket": lambda: raw_socket(socket.AF_INET, socket.SOCK_RAW),
    "open a packet socket": lambda: raw_socket(socket.AF_PACKET, socket.SOCK_DGRAM),
    "trace a process": attach,
    "make a user namespace": lambda: in_a_child(lambda: call(libc.unshare(CLONE_NEWUSER))),
    "make a mount namespace": lambda: in_a_child(lambda: call(libc.unshare(CLONE_NEWNS))),
    "mount": lambda: in_a_child(lambda: call(libc.mount(b"none", b"/tmp", b"tmpfs", 0, None))),
    "set the clock": set_clock,
    "set the host's name": lambda: socket.sethostname(socket.gethostname()),
    "read the kernel's log": lambda: call(libc.syscall(SYS_SYSLOG, SYSLOG_SIZE_BUFFER, None, 0)),
    "write and execute memory": write_and_execute,
    "make a program set-uid": set_uid_bit,
    "run in real time": lambda: in_a_child(lambda: os.sched_setscheduler(0, os.SCHED_FIFO, os.sched_param(1))),
    "be another personality": lambda: in_a_child(lambda: call(libc.personality(PER_LINUX32))),
    "raise its priority": lambda: in_a_child(lambda: os.setpriority(os.PRIO_PROCESS, 0, -5)),
    "unload a module": lambda: call(libc.syscall(SYS_DELETE_MODULE, NOBODY.encode(), os.O_NONBLOCK)),
    "reboot": lambda: call(libc.syscall(SYS_REBOOT, BAD_REBOOT, 0, 0, 0)),
    "end swapping": lambda: call(libc.syscall(SYS_SWAPOFF, b"/ipvsd-probe")),
    "load another kernel": lambda: call(libc.syscall(SYS_KEXEC, 0, 0, None, 0xFFFF)),
    "use ports of the hardware": lambda: in_a_child(lambda: call(libc.syscall(SYS_IOPL, 3))),
    "make files for others": lambda: call(-1 if os.umask(0o077) == 0o077 else 0),
}


def outcome(attempt: Callable[[], object]) -> str:
    try:
        attempt()
    except OSError as error:
        return errno.errorcode.get(error.errno or 0, str(error))
    return "done"


if __name__ == "__main__":
    Path(sys.argv[1]).write_text(json.dumps({name: outcome(attempt) for name, attempt in TRIES.items()}))
