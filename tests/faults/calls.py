"""System calls by name and kind of file, and the faults that each can have."""

from __future__ import annotations

import os
import re
import socket
from enum import Enum
from typing import NamedTuple

from tests.faults.intercept import FREE, Call, taken, text
from tests.service import REPOSITORY


class Row(NamedTuple):
    """Similar calls."""

    name: str
    on: str

    def __str__(self) -> str:
        return f"{self.name} {self.on}".rstrip()


class Fault(Enum):
    """One column of the table; the value is its heading."""

    EMFILE = "EMFILE"
    ENOMEM = "ENOMEM"
    EIO = "EIO"
    EINTR = "EINTR"
    ENOSPC = "ENOSPC"
    SHORT = "short"
    KILL = "kill"


# Faults that can last for a whole round: no file can be opened, or written.
LASTING = (Fault.EMFILE, Fault.ENOMEM, Fault.EIO, Fault.ENOSPC)

_OPENING = "open openat openat2".split()
_MAKING = [
    *_OPENING,
    *"socket accept accept4 pipe2 epoll_create1 inotify_init inotify_init1 eventfd2 timerfd_create pidfd_open".split(),
]
_MAKING += ["fcntl: duplicate"]
# Errors of these never mean a lack of memory or space (their pages in section 2 of the manual, and their source).
_NEVER = (
    "epoll_ctl: delete", "epoll_ctl: change", "epoll_wait", "inotify_rm_watch", "wait4", "fcntl: duplicate", "shutdown",
    "lseek",
)  # fmt: skip
_NEVER_OF = (("read", "a pipe"), ("read", "inotify"))
_STORED = (
    "read readv pread64 write writev pwrite64 stat lstat fstat newfstatat statx access faccessat faccessat2 readlink "
    "readlinkat getdents64 rename renameat renameat2 unlink unlinkat mkdir mkdirat fsync ftruncate fchmod fchmodat "
    "statfs execve mmap finit_module"
).split()
_WAITING = (
    "read readv pread64 write writev pwrite64 accept accept4 recvfrom recvmsg sendto sendmsg connect epoll_wait "
    "epoll_pwait poll ppoll select pselect6 flock fsync ftruncate wait4 waitid statfs"
).split()
_FILLING = "write writev pwrite64 rename renameat renameat2 mkdir mkdirat fsync inotify_add_watch".split()
_FILLING += ["epoll_ctl: add"]
_READS, _WRITES = ("read", "pread64", "recvfrom"), ("write", "pwrite64", "sendto")
# The kernel transfers these as a whole: a value, a datagram, an event.
WHOLE = ("/proc/sys", "/sys/module", "datagram", "netlink", "uevents", "inotify", "wake-up")

INTERPRETER = "Python's own files"

OTHERS = "the files of other programs"

# The kind of a path. The first match applies.
_PLACES = tuple(
    (re.compile(pattern), place)
    for pattern, place in (
        (r"/proc/sys/net/ipv4/conf$", "the directories of /proc/sys"),
        (r"/proc/sys/.*", "/proc/sys"),
        (r"/proc/(self|thread-self|\d+)/.*|/proc/loadavg", "/proc/PID"),
        (r"/run/kernel/(self|thread-self|\d+)(/.*)?|/run/kernel/loadavg", "/proc/PID"),
        (r"/(proc/modules|sys/module/[^/]*/(initstate|refcnt|holders|coresize).*)", "the state of modules"),
        (r"/sys/module(/.*)?", "/sys/module"),
        (r"/(proc|sys|run/kernel)/.*", "the rest of /proc and /sys"),
        (r"/(usr/)?lib/modules.*", "the module tree"),
        (r"/.*/modprobe\.d.*", "modprobe.d"),
        (r"/(etc|run|usr/lib)/ipvsd/conf\.d", "the directories of the configuration"),
        (r"/etc/ipvsd", "the directories of the configuration"),
        (r"/(etc|run|usr/lib)/ipvsd/.*\.yaml", "the configuration"),
        (r"/run/ipvsd/\.?status\.json.*", "the status"),
        (r"/run/ipvsd/\.?history\.jsonl.*", "the history"),
        (r"/run/ipvsd/daemon.lock", "the lock"),
        (r"/run/ipvsd", "/run/ipvsd"),
        (r"/var/lib/ipvsd/\.?last-good\.json.*", "the last good configuration"),
        (r"/var/lib/ipvsd", "/var/lib/ipvsd"),
        (r"/dev/null", "the reserve"),
        (r".*/log", "the log"),
        (rf"{re.escape(str(REPOSITORY))}(/.*)?", INTERPRETER),
        (r".*/(python[^/]*|lib(64|32)?(exec)?|site-packages|ipvsd|pycache)/.*|.*\.(pyc?|so(\.[\d.]+)?)", INTERPRETER),
        (r"/(etc|run|usr(/local)?/lib|lib)/(systemd|sysctl|modules|tuned|ufw|NetworkManager|firewalld).*", OTHERS),
        (r"/(boot|vmlinuz|etc/machine-id|etc/kernel).*", "the boot loader's files"),
        (r"/(usr/(local/)?)?s?bin(/.*)?", "programs"),
        (r"anon_inode:\[?([\w-]+)\]?", r"\1"),
    )
)
_KINDS = {"eventpoll": "epoll", "inotify": "inotify", "bpf-map": "the ring"}
# The arguments that contain a path, and the directory that it is relative to.
_PATHS = {
    "open": (None, 0), "stat": (None, 0), "lstat": (None, 0), "readlink": (None, 0), "unlink": (None, 0),
    "mkdir": (None, 0), "rename": (None, 0), "access": (None, 0), "statfs": (None, 0), "execve": (None, 0),
    "openat": (0, 1), "openat2": (0, 1), "newfstatat": (0, 1), "statx": (0, 1), "readlinkat": (0, 1),
    "unlinkat": (0, 1), "mkdirat": (0, 1), "renameat": (0, 1), "renameat2": (0, 1), "faccessat": (0, 1),
    "faccessat2": (0, 1), "fchmodat": (0, 1), "inotify_add_watch": (None, 1),
}  # fmt: skip
_WITHOUT = (
    "socket epoll_create1 inotify_init inotify_init1 pipe2 clone clone3 vfork fork wait4 waitid eventfd2 bpf kill "
    "set_mempolicy membarrier get_mempolicy pidfd_open memfd_create timerfd_create socketpair"
).split()
_AT_CWD = -100 & 0xFFFFFFFF


# Purposes of calls that have several; <linux/fcntl.h>, <linux/eventpoll.h>.
_PURPOSES = {
    "epoll_ctl": (1, {1: "add", 2: "delete", 3: "change"}),
    "fcntl": (1, {0: "duplicate", 3: "flags of", 10: "set the signal of", 1024: "lease", 1030: "duplicate"}),
}


def row(call: Call, pidfd: int) -> Row:
    """Return the row of a call. `pidfd` is that of its process."""
    name, on = _named(call, pidfd)
    if name in _PURPOSES:
        at, purposes = _PURPOSES[name]
        name = f"{name}: {purposes.get(call.arguments[at], str(call.arguments[at]))}"
    return Row(name, on)


def _named(call: Call, pidfd: int) -> Row:
    name, arguments = call.name, call.arguments
    if name in _WITHOUT:
        return Row(name, _families.get(arguments[0], "") if name == "socket" else "")
    if name in _PATHS:
        directory, at = _PATHS[name]
        path = text(call.pid, arguments[at])
        if path or name not in ("newfstatat", "statx", "readlinkat"):
            if not path.startswith("/") and directory is not None:
                start = arguments[directory] & 0xFFFFFFFF
                path = os.path.join(_link(call.pid, "cwd" if start == _AT_CWD else f"fd/{start}"), path)
            flags = arguments[at + 1] if name in _OPENING else 0
            return Row(name, place(os.path.normpath(path)) + (" (to write)" if flags & 3 and name != "openat2" else ""))
    descriptor = arguments[{"epoll_ctl": 2, "mmap": 4}.get(name, 0)] & 0xFFFFFFFF
    if name in ("poll", "ppoll", "select", "pselect6"):
        return Row(name, "")
    return Row(name, _described(call.pid, pidfd, descriptor))


_families = {1: "AF_UNIX", 2: "AF_INET", 10: "AF_INET6", 16: "AF_NETLINK"}


def _described(pid: int, pidfd: int, descriptor: int) -> str:
    link = _link(pid, f"fd/{descriptor}")
    if link.startswith("socket:"):
        return _socket(pidfd, descriptor)
    if link.startswith("pipe:"):
        return "a pipe"
    kind = place(link)
    return _KINDS.get(kind, kind)


def _socket(pidfd: int, descriptor: int) -> str:
    try:
        copy = socket.socket(fileno=taken(pidfd, descriptor))
    except OSError:
        return "a socket"
    with copy:
        if copy.family == socket.AF_NETLINK:
            return "uevents"
        if copy.type == socket.SOCK_DGRAM:
            return "a datagram socket"
        return "an HTTP listener" if copy.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN) else "an HTTP client"


def _link(pid: int, name: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/{name}")
    except OSError:
        return f"no {name.partition('/')[0]}"


def place(path: str) -> str:
    for pattern, found in _PLACES:
        fits = pattern.fullmatch(path)
        if fits:
            return fits.expand(found)
    return re.sub(r"\d+", "N", path)


def faults(row: Row) -> dict[Fault, str]:
    """Return the faults, each with a letter of LEGEND if these calls cannot have it, or an empty text if they can."""
    name = row.name
    close = "r" if name == "close" else ""
    short = "" if name in (*_READS, *_WRITES) else "t"
    if not short and any(whole in row.on for whole in WHOLE):
        short = "w"
    stored = name in _STORED and not row.on.startswith(("epoll", "inotify", "a pipe", "uevents", "a datagram"))
    return {
        Fault.EMFILE: close or ("" if name in _MAKING else "d"),
        Fault.ENOMEM: close or ("m" if name in _NEVER or tuple(row) in _NEVER_OF else ""),
        Fault.EIO: close or ("" if stored or name in _OPENING else "s"),
        Fault.EINTR: close or ("" if name in _WAITING or name in _OPENING else "i"),
        Fault.ENOSPC: close
        or ("" if (name in _FILLING and row.on != "a pipe") or (name in _OPENING and "write" in row.on) else "n"),
        Fault.SHORT: close or short,
        Fault.KILL: "",
    }


LEGEND = {
    "d": "the call makes no descriptor",
    "s": "no file system or device is behind it",
    "i": "the call does not wait",
    "n": "the call takes no room",
    "m": "the call takes no memory",
    "t": "the call transfers no bytes",
    "w": "the kernel gives or takes a value, an event or a datagram as a whole",
    "r": "Linux releases the descriptor whatever close(2) returns",
}

NOT_LISTED = f"Not listed: memory without a file, and {' '.join(FREE)}."


def is_interpreter(row: Row) -> bool:
    """Return whether a call is the interpreter's own, and may therefore end it."""
    return row.on.startswith(INTERPRETER)
