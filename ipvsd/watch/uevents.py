"""Report modules and network interfaces that appear or disappear, from the kernel's uevents over netlink.

The kernel sends `add@/module/NAME` when a module is live, and `remove@/module/NAME` before its removal has ended.
Multicast group 1 belongs to the kernel, and messages from a port other than 0 to processes. ENOBUFS means that
messages were lost.
"""

from __future__ import annotations

import errno
import socket
import time
from collections.abc import Sequence
from typing import Callable, Optional

from ipvsd.kernel.processes import ProcessResolver
from ipvsd.model.events import Write
from ipvsd.model.report import SourceState, Writer
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.watch.event_source import EventSink, Targets

_NETLINK_KOBJECT_UEVENT = 15
_KERNEL_GROUP = 1
_BUFFER = 1 << 20
_AT_ONCE = 1000
_SO_RCVBUFFORCE = 33  # <asm-generic/socket.h>; Python does not define it


def module_event(message: bytes) -> Optional[tuple[str, str]]:
    """Return (action, module name) for a uevent of a module, otherwise None."""
    head, *fields = message.split(b"\0")
    if b"SUBSYSTEM=module" not in fields:
        return None
    action, separator, path = head.decode("utf-8", "replace").partition("@/module/")
    return (action, path) if separator and action in ("add", "remove") else None


def link_event(message: bytes) -> Optional[tuple[str, str]]:
    """Return (action, interface name) for a uevent of a network interface, otherwise None."""
    head, *fields = message.split(b"\0")
    if b"SUBSYSTEM=net" not in fields:
        return None
    action, _, path = head.decode("utf-8", "replace").partition("@")
    return (action, path.rpartition("/")[2]) if action in ("add", "remove", "move") else None


class Uevents:
    """Wakes the loop for managed modules and targeted interfaces, and delivers an event for a removed module."""

    def __init__(self, loop: EventLoop, sink: EventSink, processes: ProcessResolver) -> None:
        self._loop, self._sink, self._processes = loop, sink, processes
        self._socket: Optional[socket.socket] = None
        self._modules: frozenset[str] = frozenset()
        self._links = False
        self._removed: list[str] = []
        self._lost = 0
        self._detail = "not started"

    def arm(self, targets: Targets) -> None:
        self._modules, self._links = targets.modules, targets.links
        if self._socket is None:
            self._start()

    def _start(self) -> None:
        try:
            opened = socket.socket(socket.AF_NETLINK, socket.SOCK_RAW | socket.SOCK_NONBLOCK, _NETLINK_KOBJECT_UEVENT)
        except OSError as error:
            self._detail = f"cannot open a uevent socket: {error.strerror}"
            return
        try:
            _enlarge(opened)
            opened.bind((0, _KERNEL_GROUP))
            self._loop.add_reader(opened.fileno(), self._receive)
        except OSError as error:
            opened.close()
            self._detail = f"cannot receive uevents: {error.strerror}"
            return
        self._socket, self._detail = opened, "kernel uevents"

    def _receive(self) -> None:
        self._drain()
        self._deliver()

    def _drain(self) -> None:
        for _ in range(_AT_ONCE):  # a storm must not keep the loop from other work
            if self._socket is None:
                return
            try:
                message, (port, _) = self._socket.recvfrom(1 << 16)
            except BlockingIOError:
                return
            except OSError as error:
                self._lost += 1
                self._loop.post(ReasonKind.LOST, "uevents")
                if error.errno == errno.ENOBUFS:
                    continue
                self._detail = f"cannot receive uevents: {error.strerror}"
                self.close()
                return
            if port == 0:
                self._handle(message)

    def _handle(self, message: bytes) -> None:
        event = module_event(message)
        if event and event[1] in self._modules:
            self._loop.post(ReasonKind.MODULE, " ".join(event))
            if event[0] == "remove":
                self._removed.append(event[1])
        event = link_event(message) if self._links else None
        if event:
            self._loop.post(ReasonKind.LINK, " ".join(event))

    def _deliver(self) -> None:
        # The kernel removes a module after its users, and it has to return before them. So the order is reversed,
        # and each event leads to its own repair.
        removed, self._removed = self._removed[::-1], []
        unloader = self._processes.find_unloader() if removed else None
        for name in removed:
            now = time.monotonic()
            self._sink.on_event(name, now, writes=_unloading(unloader, now) if unloader else None)

    def state(self) -> SourceState:
        return SourceState("uevents", self._socket is not None, self._detail, self._lost)

    def close(self) -> None:
        if self._socket is not None:
            self._loop.remove_reader(self._socket.fileno())
            self._socket.close()
            self._socket = None


def _unloading(unloader: Writer, at: float) -> Callable[[], Sequence[Write]]:
    return lambda: [Write(None, lambda: unloader, "", at)]


def _enlarge(opened: socket.socket) -> None:
    try:
        opened.setsockopt(socket.SOL_SOCKET, _SO_RCVBUFFORCE, _BUFFER)
    except OSError:  # without CAP_NET_ADMIN, net.core.rmem_max limits the size
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _BUFFER)
