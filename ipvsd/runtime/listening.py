"""Listening sockets of the HTTP server."""

from __future__ import annotations

import contextlib
import errno
import os
import socket
from collections.abc import Mapping
from typing import Optional

from ipvsd.runtime.journal import log

_BACKLOG = 1024  # connections that wait in the kernel; net.core.somaxconn limits it further
# Bytes in the kernel for each connection, which the kernel doubles (socket(7)) and counts as the service's memory.
_RECEIVE_BUFFER, _SEND_BUFFER = 16 << 10, 32 << 10


def listen(host: str, port: int) -> socket.socket:
    """Return a socket that listens on an IP address, or for an empty text on all addresses. Raises OSError."""
    if not host:
        try:
            return _listen("::", port, only_ipv6=False)
        except OSError as error:
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):  # a kernel without IPv6
                raise
        host = "0.0.0.0"  # noqa: S104 -- the configuration requests all addresses
    return _listen(host, port, only_ipv6=True)


def _listen(host: str, port: int, only_ipv6: bool) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    opened = socket.socket(family, socket.SOCK_STREAM)
    try:
        if family == socket.AF_INET6:
            opened.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(only_ipv6))
        opened.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        prepare(opened)
        opened.bind((host, port))
        opened.listen(_BACKLOG)
    except OSError:
        opened.close()
        raise
    return opened


def prepare(opened: socket.socket) -> None:
    """Limit the memory of the connections that this socket accepts, which inherit all options. Raises OSError.

    Without TCP_NODELAY, the second record of TLS waits up to 40 ms for the acknowledgement of the first.
    """
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
    opened.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, _SEND_BUFFER)
    opened.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)


def plain_address(address: str) -> str:
    """Return an IPv4 address that a socket for both families shows as an IPv6 address, as IPv4 (RFC 4291, 2.5.5.2)."""
    return address.removeprefix("::ffff:") if "." in address else address


def peer_of(address: str) -> str:
    """Return the key by which connections are counted: the IPv4 address, or the /64 that an IPv6 client usually has."""
    address = plain_address(address)
    if ":" not in address:
        return address
    return socket.inet_pton(socket.AF_INET6, address.partition("%")[0])[:8].hex()


_FIRST_INHERITED = 3  # SD_LISTEN_FDS_START, sd_listen_fds(3)


def inherited() -> Mapping[tuple[str, int], socket.socket]:
    """Return the listening TCP sockets that systemd passed to this process (sd_listen_fds(3)), by address.

    Child processes do not inherit them. Other descriptors that systemd passed are closed.
    """
    count, pid = os.environ.get("LISTEN_FDS", ""), os.environ.get("LISTEN_PID", "")
    for name in ("LISTEN_FDS", "LISTEN_PID", "LISTEN_FDNAMES", "LISTEN_PIDFDID"):  # not for child processes
        os.environ.pop(name, None)
    if pid != str(os.getpid()) or not count.isdecimal():
        return {}
    numbers = range(_FIRST_INHERITED, _FIRST_INHERITED + int(count))
    return dict(found for found in map(_inherit, numbers) if found is not None)


def _inherit(fd: int) -> Optional[tuple[tuple[str, int], socket.socket]]:
    """Return a listening TCP socket with its address, or close the descriptor."""
    try:
        opened = socket.socket(fileno=fd)
    except OSError:  # it is not a socket
        with contextlib.suppress(OSError):  # or it is not open
            os.close(fd)
        return None
    try:
        if _accepts_tcp(opened):
            prepare(opened)
            opened.set_inheritable(False)
            return opened.getsockname()[:2], opened
    except OSError as error:
        log("warning", f"cannot use socket {fd} from systemd: {error.strerror}")
    opened.close()
    return None


def _accepts_tcp(opened: socket.socket) -> bool:
    accepts = opened.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN)
    return opened.family in (socket.AF_INET, socket.AF_INET6) and opened.type == socket.SOCK_STREAM and bool(accepts)
