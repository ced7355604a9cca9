"""Answer the system calls of a process from another one: seccomp_unotify(2).

A filter lets the kernel stop a call and notify the holder of the listener. The holder permits the call, or returns
another result. So it sees every call, including those inside libc and libkmod, and nothing has to be compiled.
"""

from __future__ import annotations

import ctypes
import fcntl
import functools
import os
import platform
import re
import select
import struct
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Callable, NamedTuple, Optional

# <linux/seccomp.h>, <linux/prctl.h>, <linux/bpf_common.h>
_SET_MODE_FILTER = 1
# A signal does not interrupt a call that waits for its answer (Linux 5.19).
_NEW_LISTENER, _WAIT_KILLABLE = 1 << 3, 1 << 5
_ALLOW, _ASK = 0x7FFF0000, 0x7FC00000
_RECEIVE, _SEND = 0xC0502100, 0xC0182101
_SET_FLAGS, _SYNC_WAKE_UP = 0x40082104, 1  # Linux 6.6
_GO_ON = 1
_NO_NEW_PRIVS = 38
_LOAD, _IF_EQUAL, _RETURN = 0x20, 0x15, 0x06
LISTENER = 200  # the descriptor in the intercepted process
_NUMBER, _FIFTH = 0, 16 + 8 * 4  # offsets in struct seccomp_data
_CALL = struct.Struct("=QIIiIQ6Q")  # struct seccomp_notif
_ANSWER = struct.Struct("=QqiI")  # struct seccomp_notif_resp

# Calls that never fail for lack of a resource, or that belong to the interpreter's memory, such as mmap without a
# file, its threads and its signals. `install` uses dup2 and dup3.
FREE = (
    "futex rt_sigaction rt_sigprocmask rt_sigreturn sigaltstack rt_sigtimedwait restart_syscall tgkill brk munmap "
    "mremap mprotect madvise set_robust_list set_tid_address rseq arch_prctl sched_yield sched_getaffinity "
    "clock_gettime clock_nanosleep gettimeofday getpid gettid getppid getuid geteuid getgid getegid exit exit_group "
    "uname umask getcwd sysinfo prctl prlimit64 capget capset getrandom dup2 dup3"
).split()


class Call(NamedTuple):
    """One call, with its name and its arguments as numbers. `pid` is the ID of the thread."""

    name: str
    pid: int
    arguments: tuple[int, ...]


# None permits the call. A negative number is an error, and any other one the result of the call.
Answer = Optional[int]


@functools.lru_cache(maxsize=1)
def _numbers() -> Mapping[str, int]:
    """Return the numbers of system calls on this machine, from the kernel's headers (linux-libc-dev)."""
    places = [Path("/usr/include", f"{platform.machine()}-linux-gnu"), Path("/usr/include")]
    names = ("asm/unistd_64.h", "asm-generic/unistd.h")
    found = next(place / name for place in places for name in names if (place / name).exists())
    defined = re.findall(r"#define __NR(?:3264)?_(\w+)\s+(\d+)", found.read_text())
    return {name: int(number) for name, number in defined}


def _filter() -> bytes:
    """Return a filter for every call except those of FREE, and mmap of memory without a file."""
    numbers = _numbers()
    free = [numbers[name] for name in FREE if name in numbers]
    code = [(_LOAD, 0, 0, _NUMBER)]
    code += [(_IF_EQUAL, len(free) + 3 - index, 0, number) for index, number in enumerate(free)]
    code += [
        (_IF_EQUAL, 0, 2, numbers["mmap"]),
        (_LOAD, 0, 0, _FIFTH),
        (_IF_EQUAL, 1, 0, 0xFFFFFFFF),
        (_RETURN, 0, 0, _ASK),
        (_RETURN, 0, 0, _ALLOW),
    ]
    return b"".join(struct.pack("=HBBI", *line) for line in code)


def install() -> None:
    """Intercept every later call of this process and its children. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    libc.prctl(_NO_NEW_PRIVS, 1, 0, 0, 0)  # as in the unit
    code = ctypes.create_string_buffer(program := _filter(), len(program))
    whole = struct.pack("@HP", len(program) // 8, ctypes.addressof(code))
    number = ctypes.c_long(_numbers()["seccomp"])
    found = libc.syscall(number, _SET_MODE_FILTER, _NEW_LISTENER | _WAIT_KILLABLE, whole)
    if found < 0:
        raise OSError(ctypes.get_errno(), "cannot install the filter")
    os.dup2(found, LISTENER, inheritable=False)


class Interceptor:
    """Answers the calls of a process and its children in a separate thread, until all have ended."""

    def __init__(self, pid: int, answer: Callable[[Call], Answer]) -> None:
        """`pid` is a process that calls `install`. `answer` decides each call."""
        self._answer = answer
        self._names = {number: name for name, number in _numbers().items()}
        self._process = os.pidfd_open(pid)
        while True:  # the filter is installed first, and the next call waits for the listener
            try:
                self._listener = taken(self._process, LISTENER)
                break
            except OSError:
                if select.select([self._process], [], [], 0.001)[0]:
                    raise
        flags = ctypes.c_uint64(_SYNC_WAKE_UP)
        ctypes.CDLL(None).ioctl(self._listener, ctypes.c_ulong(_SET_FLAGS), flags)
        self.failed: Optional[BaseException] = None
        self._thread = threading.Thread(target=self._run, name="interceptor")
        self._thread.start()

    def _run(self) -> None:
        poller = select.poll()
        poller.register(self._listener, select.POLLIN)
        try:
            while poller.poll()[0][1] & select.POLLIN:  # POLLHUP: no process is left
                self._one()
        except BaseException as error:  # noqa: BLE001 -- reported by `close`
            self.failed = error

    def _one(self) -> None:
        buffer = bytearray(_CALL.size)
        try:
            fcntl.ioctl(self._listener, _RECEIVE, buffer)
        except OSError:
            return  # it ended, or received a signal, meanwhile
        identity, pid, _, number, _, _, *arguments = _CALL.unpack(buffer)
        said = self._answer(Call(self._names.get(number, str(number)), pid, tuple(arguments)))
        if said is None:
            answer = _ANSWER.pack(identity, 0, 0, _GO_ON)
        else:
            answer = _ANSWER.pack(identity, max(said, 0), min(said, 0), 0)
        try:
            fcntl.ioctl(self._listener, _SEND, answer)
        except OSError:
            pass  # it ended meanwhile

    def close(self) -> None:
        """Wait for the thread. All processes with the filter must have ended."""
        self._thread.join()
        os.close(self._listener)
        os.close(self._process)
        if self.failed:
            raise self.failed


def taken(process: int, descriptor: int) -> int:
    """Return a copy of a descriptor of another process, which is given as a pidfd. Raises OSError."""
    libc = ctypes.CDLL(None, use_errno=True)
    found = libc.syscall(ctypes.c_long(_numbers()["pidfd_getfd"]), process, descriptor, 0)
    if found < 0:
        raise OSError(ctypes.get_errno(), "cannot take the descriptor")
    return int(found)


def memory(pid: int, address: int, size: int) -> bytes:
    """Return memory of another process, possibly truncated at the end of a mapping. Raises OSError."""
    with open(f"/proc/{pid}/mem", "rb", buffering=0) as file:
        first = os.pread(file.fileno(), min(size, 4096 - address % 4096), address)
        return first if len(first) == size else first + _more(file.fileno(), address + len(first), size - len(first))


def _more(fd: int, address: int, size: int) -> bytes:
    try:
        return os.pread(fd, size, address)
    except OSError:
        return b""


def text(pid: int, address: int) -> str:
    """Return a NUL-terminated text of another process."""
    return os.fsdecode(memory(pid, address, 4096).partition(b"\0")[0])


def put(pid: int, address: int, data: bytes) -> None:
    """Change memory of another process. Raises OSError."""
    with open(f"/proc/{pid}/mem", "r+b", buffering=0) as file:
        os.pwrite(file.fileno(), data, address)
