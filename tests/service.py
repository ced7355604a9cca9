"""The daemon as a process, with a socket in place of systemd."""

from __future__ import annotations

import contextlib
import json
import os
import select
import signal
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Optional

from ipvsd.runtime.resources import RESERVE

Until = Callable[[Callable[[], object], str], None]  # the fixture `until`
REPOSITORY = Path(__file__).parent.parent
STATUS = "run/ipvsd/status.json"
MAIN = "etc/ipvsd/ipvsd.yaml"
QUIET = "web: {listen: []}\n"  # a configuration without an open port


_reserved: list[socket.socket] = []


def free_port() -> int:
    """Return a port of 127.0.0.1 that no other test gets before `release_ports`.

    The kernel never chooses the port of a bound socket for another one. A server that names the port can use it,
    because both sockets have SO_REUSEADDR and the first does not listen (inet_csk_bind_conflict).
    """
    reserved = socket.socket()
    _reserved.append(reserved)
    reserved.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    reserved.bind(("127.0.0.1", 0))
    return int(reserved.getsockname()[1])


def release_ports() -> None:
    while _reserved:
        _reserved.pop().close()


@contextlib.contextmanager
def datagrams(place: Path) -> Iterator[socket.socket]:
    """A socket in place of one of systemd's."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listening:
        listening.bind(str(place))
        listening.settimeout(10)
        yield listening


def silent(listening: socket.socket) -> bool:
    listening.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        listening.recv(1)
        return False
    return True


class Service:
    """Starts the daemon, and receives its messages to systemd."""

    def __init__(self, tree: Path) -> None:
        self.tree = tree
        self._process: Optional[subprocess.Popen[bytes]] = None
        self._systemd = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self._systemd.bind(str(tree / "notify"))
        self._systemd.settimeout(20)
        self.said: list[str] = []

    def start(self, *options: str, program: Sequence[str] = (), **environment: str) -> None:
        """Start the daemon, or a program that runs it."""
        command = program or ("-m", "ipvsd", "run", "--root", str(self.tree), *options)
        with (self.tree / "log").open("w") as log:  # not a pipe, because nobody would read it meanwhile
            self._process = subprocess.Popen(
                [sys.executable, *command],
                cwd=REPOSITORY,
                env={"PATH": os.environ["PATH"], "NOTIFY_SOCKET": str(self.tree / "notify"), **environment},
                stderr=log,
            )

    @property
    def process(self) -> subprocess.Popen[bytes]:
        assert self._process is not None
        return self._process

    def open_files(self) -> list[str]:
        """Return the file of each descriptor of the daemon."""
        return [os.path.realpath(fd) for fd in Path(f"/proc/{self.process.pid}/fd").iterdir()]

    def hears(self, *what: str) -> str:
        """Wait for a message that contains all of these, and return it."""
        while True:
            message = self._systemd.recv(1 << 16).decode()
            self.said.append(message)
            if all(part in message for part in what):
                return message

    def ready(self, **environment: str) -> str:
        self.start(**environment)
        return self.hears("READY=1\n")

    def status(self) -> Any:
        # systemd would have read the messages; a full queue blocks the daemon.
        while select.select([self._systemd], [], [], 0)[0]:
            self.said.append(self._systemd.recv(1 << 16).decode())
        return json.loads((self.tree / STATUS).read_text())

    def seen(self) -> Any:
        """Return the status, or an empty one if there is none."""
        return self.status() if (self.tree / STATUS).exists() else {"sources": []}

    def source(self, name: str) -> Any:
        """Return the state of an event source, or None before it is reported."""
        return next((item for item in self.seen()["sources"] if item["name"] == name), None)

    def repairs(self) -> int:
        return len(self.seen().get("repairs", ()))

    def ends(self) -> tuple[int, list[str]]:
        """Wait for the end, and return the exit code and the log."""
        code = self.process.wait(timeout=20)
        return code, (self.tree / "log").read_text().splitlines()

    def stop(self) -> tuple[int, list[str]]:
        self.process.send_signal(signal.SIGTERM)
        return self.ends()

    def close(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            self._process.wait()
        self._systemd.close()


def holds_reserve(files: Sequence[str]) -> bool:
    """Return whether a daemon with these open files waits. It releases its reserve while it works."""
    return files.count(os.devnull) >= RESERVE
