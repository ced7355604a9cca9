"""A bench machine: boot an image under QEMU, run commands inside, and collect their output."""

from __future__ import annotations

import base64
import json
import os
import re
import shlex
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType
from typing import Any, Callable, Optional, TypeVar, Union

from tests.vm.image import Image

T = TypeVar("T")
BOOT_LIMIT = 240.0
# All features that QEMU emulates, as on nodes. Without SSE4.2, the kernel tries in vain to load the module for
# CRC32c with each netfilter module, which takes longer than the module itself. A fifth level of page tables costs
# time.
CPU = "max,la57=off"
COMMAND_LINE = "root=/dev/vda rw console=ttyS0 quiet panic=-1 systemd.show_status=0 net.ifnames=0"


class BenchError(Exception):
    """The machine failed an operation that must always work: boot, answer, end in time."""


@dataclass(frozen=True)
class Result:
    """The result of one command: exit code, standard output and standard error."""

    command: str
    code: int
    out: str
    err: str

    def __str__(self) -> str:
        return f"$ {self.command}\n{self.out}{self.err}[exit {self.code}]"


class Machine:
    """A context manager around a QEMU process, on a disk that is deleted at the end.

    Each boot has its own process, and the disk survives `reboot()`. Without KVM, the machine is emulated, and
    Python in it is some 10 to 15 times slower than outside. Compare times only within one boot. With `pinned`, each
    of its processors has a processor of this computer, as far as they suffice. Otherwise, a process that wakes up
    can wait some milliseconds for the end of another one's time slice.

    After an unanswered command, the machine answers none until it is booted again.
    """

    def __init__(
        self,
        image: Image,
        append: str = "",
        interactive: bool = False,
        cpus: int = 2,
        pinned: bool = False,
        disk: Optional[Path] = None,
    ) -> None:
        """`disk` is a second, read-only disk: /dev/vdb."""
        self._image = image
        self._append = append
        self._interactive = interactive
        self._cpus = cpus
        self._pinned = pinned
        self._disk = disk
        self._requests = 0
        self._lost = ""  # the reason why it does not answer any more
        self._rest = b""
        self._answers: dict[int, Mapping[str, Any]] = {}

    def __enter__(self) -> Machine:
        self._directory = Path(tempfile.mkdtemp(prefix="bench-", dir="/var/tmp"))
        self._console = self._directory / "console"
        try:
            copy = ["cp", "--reflink=auto", "--sparse=always", str(self._image.disk), str(self._directory / "disk")]
            subprocess.run(copy, check=True)
            self._boot()
        except BaseException:
            self._end()
            raise
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._end()

    def run(self, command: Union[str, Sequence[str]], timeout: float = 120, check: bool = True) -> Result:
        """Run a shell command (or an argument list) as root, and return its Result.

        Raises BenchError if it does not end in `timeout` seconds, or with `check` does not exit 0.
        """
        arguments = ["sh", "-c", command] if isinstance(command, str) else list(command)
        shown = command if isinstance(command, str) else shlex.join(command)
        reply = self._ask({"run": arguments, "timeout": timeout}, timeout + 60)
        result = Result(shown, reply["code"], reply["out"], reply["err"])
        if reply["code"] == -1 or (check and result.code):
            raise BenchError(str(result))
        return result

    def put(self, data: bytes, path: str, mode: int = 0o644) -> None:
        """Write a file in the machine, and create its directory."""
        self._ask({"put": path, "data": base64.b64encode(data).decode(), "mode": mode}, 120)

    def until(self, condition: Callable[[], Optional[T]], what: str, timeout: float = 60) -> T:
        """Poll until `condition` returns a true value, and return it. Raises BenchError after `timeout` seconds."""
        deadline = time.monotonic() + timeout
        while True:
            value = condition()
            if value:
                return value
            if time.monotonic() > deadline:
                raise BenchError(f"waited {timeout:.0f} s in vain for {what}; last: {value!r}")
            time.sleep(0.05)

    def reboot(self) -> None:
        """Reboot the machine through systemd, and wait until it can run commands again."""
        # Does not wait for an answer, because the agent can end before it sends one.
        self._send({"run": ["systemctl", "reboot"], "timeout": 60})
        try:
            self._process.wait(BOOT_LIMIT)
        except subprocess.TimeoutExpired:
            raise BenchError(f"no reboot in {BOOT_LIMIT:.0f} s; console:\n{self.console()[-3000:]}") from None
        self._boot()

    def booted(self) -> str:
        """Wait until all jobs of the boot have ended, and return the state of the system according to systemd."""
        return self.run("systemctl is-system-running --wait", timeout=BOOT_LIMIT, check=False).out.strip()

    def console(self) -> str:
        return self._console.read_text(errors="replace") if self._console.exists() else ""

    def registers(self) -> str:
        """Return the positions of the processors, twice, to distinguish a stuck kernel from a stuck emulator."""
        found = []
        try:
            with socket.socket(socket.AF_UNIX) as monitor:
                monitor.settimeout(2)
                monitor.connect(str(self._directory / "monitor"))
                for _ in range(2):
                    monitor.sendall(b"info registers -a\n")
                    time.sleep(1)
                    found += re.findall(rb"RIP=\w+|HLT=\w", monitor.recv(1 << 16))
        except OSError as error:
            return f"QEMU's monitor: {error}"
        return b" ".join(found).decode()

    def wait(self) -> int:
        """Wait until the person at the console has switched off the machine."""
        return self._process.wait()

    def _command(self) -> list[str]:
        accelerator = os.environ.get("IPVSD_VM_ACCEL", "tcg,thread=multi")
        append = [COMMAND_LINE, self._append]
        if not self._interactive:  # a login prompt would hang up the console
            append.append("systemd.mask=serial-getty@ttyS0.service")
        second = ("-drive", f"file={self._disk},if=virtio,format=raw,readonly=on") if self._disk else ()
        monitor = f"unix:{self._directory}/monitor,server=on,wait=off"
        serial = "mon:stdio" if self._interactive else f"file:{self._console}"
        return [
            *self._image.emulator, "-M", "q35", "-cpu", "max" if "kvm" in accelerator else CPU,
            "-accel", accelerator, "-smp", str(self._cpus), "-m", "1024",
            *(() if self._interactive else ("-no-reboot", "-monitor", monitor)), "-name", "bench,debug-threads=on",
            "-nodefaults", "-display", "none", "-nic", "none", "-serial", serial, "-device", "virtio-rng-pci",
            "-kernel", str(self._image.kernel), "-initrd", str(self._image.initrd), "-append", " ".join(append),
            "-drive", f"file={self._directory}/disk,if=virtio,format=raw,cache=unsafe", *second,
            "-device", "virtio-serial-pci", "-chardev", f"socket,id=agent,path={self._directory}/agent",
            "-device", "virtserialport,chardev=agent,name=bench",
        ]  # fmt: skip

    def _boot(self) -> None:
        """Start the process, and wait until it can run commands."""
        self._disconnect()
        (self._directory / "agent").unlink(missing_ok=True)
        self._rest, self._lost = b"", ""
        with socket.socket(socket.AF_UNIX) as listener:
            listener.bind(str(self._directory / "agent"))
            listener.listen(1)
            listener.settimeout(30)
            self._process = subprocess.Popen(self._command(), stdin=None if self._interactive else subprocess.DEVNULL)
            self._agent, _ = listener.accept()
        self._answer(0, BOOT_LIMIT)  # the agent's first message
        if self._pinned:
            self._pin()

    def _pin(self) -> None:
        ours = sorted(os.sched_getaffinity(0))
        for task in Path(f"/proc/{self._process.pid}/task").iterdir():
            named = re.match(r"CPU (\d+)/", (task / "comm").read_text())
            if named:
                os.sched_setaffinity(int(task.name), {ours[int(named[1]) % len(ours)]})

    def _ask(self, request: Mapping[str, Any], timeout: float) -> Mapping[str, Any]:
        return self._answer(self._send(request), timeout)

    def _send(self, request: Mapping[str, Any]) -> int:
        if self._lost:
            raise BenchError(self._lost)
        self._requests += 1
        self._agent.sendall(json.dumps({"id": self._requests, **request}).encode() + b"\n")
        return self._requests

    def _answer(self, number: int, timeout: float) -> Mapping[str, Any]:
        deadline = time.monotonic() + timeout
        while number not in self._answers:
            self._agent.settimeout(max(0.01, deadline - time.monotonic()))
            try:
                chunk = self._agent.recv(1 << 16)
            except ConnectionError:
                chunk = b""
            except socket.timeout:
                raise self._loss(f"no answer in {timeout:.0f} s; {self.registers()}") from None
            if not chunk:
                raise self._loss("the machine is gone")
            *lines, self._rest = (self._rest + chunk).split(b"\n")
            for line in filter(None, lines):
                reply = json.loads(line)
                self._answers[reply["id"]] = reply
        return self._answers.pop(number)

    def _loss(self, what: str) -> BenchError:
        self._lost = f"{what}; console:\n{self.console()[-3000:]}"
        return BenchError(self._lost)

    def _disconnect(self) -> None:
        if hasattr(self, "_agent"):
            self._agent.close()

    def _end(self) -> None:
        if hasattr(self, "_process"):
            self._process.kill()
            self._process.wait()
        self._disconnect()
        shutil.rmtree(self._directory)
