"""Query kube-proxy for its mode, in a short thread after the start and at each resync.

The loop never waits for another program. A scrape only reads the last answer.
"""

from __future__ import annotations

import _thread
import contextlib
from collections.abc import Collection
from typing import Callable, Optional

from ipvsd.config.profiles import BY_MODE
from ipvsd.kube_proxy import answers, known_values
from ipvsd.model.report import KubeProxyState
from ipvsd.runtime import capabilities, http_client
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.runtime.http_client import HttpError, Response

Get = Callable[[tuple[str, int], str, int, float], Response]

# The default of metricsBindAddress, which is asked first. A different address is known if the flags of kube-proxy
# contain it, but not if it is in a file of a pod, which the daemon cannot read without permission to trace kube-proxy.
_HOST, _, _PORT = known_values.METRICS_ADDRESS.rpartition(":")
ADDRESS = (_HOST, int(_PORT))
_SECONDS = 1.0  # for one answer
_MAX_ANSWER = 1 << 18  # bytes


class KubeProxyQuery:
    """`state` is the last answer. Only the loop's thread calls the methods."""

    def __init__(self, loop: EventLoop, local: bool, get: Get = http_client.get, root: str = "/") -> None:
        """`local` means that the observed node is this one. `root` contains its /proc."""
        self._loop, self._local, self._get, self._root = loop, local, get, root
        self._enabled = self._due = False
        self._running = _thread.allocate_lock()  # locked while a query runs
        self._answer = KubeProxyState()  # the thread replaces it as a whole

    @property
    def state(self) -> KubeProxyState:
        return self._answer if self._enabled else KubeProxyState()

    def update(self, profiles: Collection[str], due: bool) -> None:
        """Query only with a profile of kube-proxy. `due` means that the next `start` starts a query."""
        self._enabled = self._local and not set(profiles).isdisjoint(BY_MODE.values())
        self._due = self._enabled and (self._due or due)

    def start(self) -> None:
        """Start a query that is due, unless one is running.

        Call this just before the loop waits. Otherwise, the thread and the loop wait for each other's interpreter
        lock, and every wait is one more wake-up of an idle daemon.
        """
        if not self._due or not self._running.acquire(blocking=False):
            return
        self._due = False
        try:
            _thread.start_new_thread(self._run, ())  # threading.Thread would wait for its start
        except RuntimeError:  # no thread can start; the next resync tries again
            self._running.release()

    def _run(self) -> None:
        try:
            with contextlib.suppress(OSError):
                capabilities.drop_all()  # the answer is not trusted
            answer = query(self._get, self._root)
            if answer != self._answer:
                self._answer = answer
                self._loop.post(ReasonKind.KUBE_PROXY, answer.mode)
        finally:
            self._running.release()

    def close(self) -> None:
        """Wait for the end of the query, which takes three answers at most."""
        with self._running:
            pass


def query(get: Get, root: str) -> KubeProxyState:
    """Return the answers of kube-proxy on this node.

    Without an answer, `up` is False only if no kube-proxy runs, or if its address is known. Otherwise it is None.
    """
    answer = _ask(get, ADDRESS)
    if answer.up:
        return answer
    # Imported only here, because most nodes have a kube-proxy that answers.
    from ipvsd.discovery import processes
    from ipvsd.kernel import process_files

    listed = tuple(process_files.names(root))
    if not listed or listed[0][0] != 1:  # /proc could not be read, or hides processes
        return KubeProxyState()
    if not processes.find(root, listed):
        return KubeProxyState(False)
    from ipvsd.discovery import running

    proxy = running.observe(root, None, listed=listed)
    address = running.metrics_address(proxy) if proxy else None
    if address is None:
        return KubeProxyState()
    return answer if address == ADDRESS else _ask(get, address)


def _ask(get: Get, address: tuple[str, int]) -> KubeProxyState:
    word = _request(get, address, "/proxyMode")
    mode = None if word is None else answers.parse_word(word)
    if mode is None:
        return KubeProxyState(False)
    document = _request(get, address, "/configz")
    settings = None if document is None else answers.parse_configz(document)
    return KubeProxyState(True, mode, (settings.requested_mode if settings else None) or "")


def _request(get: Get, address: tuple[str, int], path: str) -> Optional[bytes]:
    try:
        answer = get(address, path, _MAX_ANSWER, _SECONDS)
    except HttpError:
        return None
    return answer.body if answer.status == 200 and answer.complete else None
