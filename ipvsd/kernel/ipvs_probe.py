"""Query the kernel's IPVS over generic netlink, in a short-lived child. This is the only user of pyroute2.

pyroute2 takes longer to import than a repair takes, and more memory than the daemon has. Its own IPVS classes exist
only since 0.8.1, so the message is defined here.
"""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Callable, Optional

from ipvsd.model.report import Ipvs
from ipvsd.model.types import TRANSIENT_ERRNOS, ModuleFinding
from ipvsd.runtime import stdio
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind

IP_VS = "ip_vs"

# <linux/ip_vs.h>
_GENL_NAME = "IPVS"
_GENL_VERSION = 1
_CMD_GET_INFO = 15
_VERSION, _TABLE_SIZE = "IPVS_INFO_ATTR_VERSION", "IPVS_INFO_ATTR_CONN_TAB_SIZE"
TIMEOUT = 60.0  # seconds

# A program that ships its modules in its own directory has added that to sys.path, and -I would remove it. -B,
# because as root Python could write bytecode there that no package owns.
_CODE = "import sys; sys.path = sys.argv[1:]; from ipvsd.kernel.ipvs_probe import main; main()"
_CHILD = (sys.executable, "-IB", "-c", _CODE)


class ProbeProcess:
    """A running child. Call `read` whenever `fd` is readable, and `finish` after the end of its output or a timeout."""

    def __init__(self, command: Sequence[str] = (*_CHILD, *sys.path)) -> None:
        """Start the child. Raises OSError."""
        with stdio.open_devnull() as devnull:
            self._child = subprocess.Popen(command, stdin=devnull, stdout=subprocess.PIPE, stderr=devnull)
        assert self._child.stdout is not None
        self._pipe = self._child.stdout
        self.fd = self._pipe.fileno()
        self._output = b""

    def read(self) -> bool:
        """Read available output, and return whether it has ended."""
        chunk = os.read(self.fd, 1 << 12)
        self._output += chunk
        return not chunk

    def finish(self) -> Ipvs:
        """End the child and return its result. This takes at most a second."""
        self._child.kill()
        self._pipe.close()
        with contextlib.suppress(subprocess.TimeoutExpired):  # stuck in the kernel: init reaps it later
            self._child.wait(1.0)
        return _parse(self._output)


class IpvsProbe:
    """Queries IPVS whenever `ip_vs` may have been reloaded, without blocking the loop. `answer` is the last result."""

    def __init__(self, loop: EventLoop, local: bool) -> None:
        """`local` means that the observed kernel is the running one."""
        self._loop, self._local = loop, local
        self._process: Optional[ProbeProcess] = None
        self._started_at = 0.0
        self._due = True
        self.answer = Ipvs(detail="not queried yet")

    def update(self, modules: Sequence[ModuleFinding], reasons: Sequence[Reason]) -> None:
        """Start a query if a reconciliation with these findings and reasons may have changed the result."""
        found = [finding for finding in modules if finding.name == IP_VS]
        kinds = {reason.kind for reason in reasons}
        reloaded = any(reason.kind is ReasonKind.MODULE and reason.detail.split()[-1] == IP_VS for reason in reasons)
        if reloaded or (self.answer.up is None and ReasonKind.RESYNC in kinds):
            self._due = True
        if self._process and time.monotonic() > self._started_at + TIMEOUT:
            self._finish()
        if not found:
            self.answer = Ipvs(detail="not queried, because the ip_vs module is not managed")
        elif not found[0].compliant:
            self.answer, self._due = Ipvs(False, detail="the ip_vs module is not live"), True
        elif not self._local:
            self.answer = Ipvs(detail="not queried, because the tree belongs to a different kernel")
        elif self._due and not self._process:
            self._start()

    def _start(self) -> None:
        self._due = False
        try:
            self._process = ProbeProcess()
        except OSError as error:
            self.answer = Ipvs(detail=f"cannot start the query: {error.strerror}")
            return
        self._started_at = time.monotonic()
        try:
            self._loop.add_reader(self._process.fd, self._on_readable)
        except OSError as error:
            self._process.finish()
            self._process = None
            self.answer = Ipvs(detail=f"cannot wait for the query: {error.strerror}")

    def _on_readable(self) -> None:
        if self._process and self._process.read():
            self._finish()

    def _finish(self) -> None:
        process, self._process = self._process, None
        if process:
            self._loop.remove_reader(process.fd)
            self.answer = process.finish()
            self._loop.post(ReasonKind.IPVS, self.answer.detail)

    def close(self) -> None:
        if self._process:
            self._loop.remove_reader(self._process.fd)
            self._process.finish()
            self._process = None


def probe() -> Ipvs:
    try:
        process = ProbeProcess()
    except OSError as error:
        return Ipvs(detail=f"cannot start the query: {error.strerror}")
    deadline = time.monotonic() + TIMEOUT
    while stdio.wait(process.fd, deadline - time.monotonic()):
        if process.read():
            break
    return process.finish()


def _parse(out: bytes) -> Ipvs:
    try:
        answer = json.loads(out)
        up, version, size, detail = (answer[key] for key in ("up", "version", "table_size", "detail"))
    except (ValueError, KeyError, TypeError, RecursionError):
        up = version = size = detail = None
    texts = isinstance(version, str) and isinstance(detail, str)
    if texts and type(size) is int and isinstance(up, (bool, type(None))):  # a bool is an int, too
        return Ipvs(up, version, size, detail)
    return Ipvs(None, detail="the query returned no response")


def _get_info() -> Ipvs:
    import logging

    logging.disable(logging.CRITICAL)  # pyroute2 up to 0.8 logs a missing family, which is an expected result
    from pyroute2.netlink import NLM_F_REQUEST
    from pyroute2.netlink.exceptions import NetlinkError
    from pyroute2.netlink.generic import GenericNetlinkSocket

    info_message = _info_message()
    message = info_message()
    message["cmd"], message["version"] = _CMD_GET_INFO, _GENL_VERSION
    bound = False
    try:
        with GenericNetlinkSocket() as netlink:
            netlink.bind(_GENL_NAME, info_message)
            bound = True
            replies = tuple(netlink.nlm_request(message, msg_type=netlink.prid, msg_flags=NLM_F_REQUEST))
    except NetlinkError as error:
        return _describe_error(error.code, bound)
    return _parse_reply(replies)


def _info_message() -> Any:
    from pyroute2.netlink import genlmsg

    class InfoMessage(genlmsg):  # type: ignore[misc]
        nla_map = (("IPVS_INFO_ATTR_UNSPEC", "none"), (_VERSION, "uint32"), (_TABLE_SIZE, "uint32"))

    return InfoMessage


def _parse_reply(replies: Sequence[Any]) -> Ipvs:
    version, size = (replies[0].get_attr(name) if replies else None for name in (_VERSION, _TABLE_SIZE))
    if not isinstance(version, int) or not isinstance(size, int):
        return Ipvs(None, detail="invalid response from the kernel")
    return Ipvs(True, f"{version >> 16 & 0xFF}.{version >> 8 & 0xFF}.{version & 0xFF}", size, "responded")


def _describe_error(code: int, bound: bool) -> Ipvs:
    if not bound and code == errno.ENOENT:
        return Ipvs(False, detail="the kernel has no IPVS generic-netlink family")
    if not bound or code in TRANSIENT_ERRNOS:
        return Ipvs(None, detail=f"cannot query: {os.strerror(code)}")
    if code == 1:  # EPERM: the family exists, and GET_INFO requires CAP_NET_ADMIN
        return Ipvs(None, detail="not queried, because the query requires root")
    return Ipvs(False, detail=os.strerror(code))


def main(write: Optional[Callable[[str], object]] = None) -> None:
    (write or print)(json.dumps(_get_info()._asdict()))
