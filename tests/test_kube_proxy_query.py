"""The daemon queries kube-proxy in a thread, at most once per resync, and never waits for the answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from ipvsd.config.schema import Config
from ipvsd.daemon.kube_proxy_query import ADDRESS, KubeProxyQuery, query
from ipvsd.daemon.services import OptionalServices
from ipvsd.kernel.host import LinuxHost
from ipvsd.model.report import KubeProxyState
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.runtime.http_client import HttpError, Response
from tests import samples
from tests.kube_proxy_server import Answers, answers
from tests.trees import put_process

PROFILES = ("kube-proxy-ipvs",)
IPVS = KubeProxyState(True, "ipvs", "ipvs")


class Proxy:
    """Answers requests at an address. Each answer waits until `released` is set."""

    def __init__(self, given: Answers, address: tuple[str, int] = ADDRESS) -> None:
        self.given, self.address = given, address
        self.requests, self.released = list[str](), threading.Event()
        self.released.set()

    def get(self, address: tuple[str, int], path: str, limit: int, seconds: float) -> Response:
        assert (limit <= 1 << 20, seconds) == (True, 1.0)
        self.requests.append(path)
        self.released.wait(10)
        if path not in self.given or address != self.address:
            raise HttpError("Connection refused")
        status, body = self.given[path]
        return Response(status, body[:limit], len(body) <= limit)


@pytest.fixture
def node(tmp_path: Path) -> str:
    """A tree without a process of kube-proxy."""
    put_process(tmp_path, 1, "systemd", ["/sbin/init"])
    return str(tmp_path)


@pytest.fixture
def loop() -> Iterator[EventLoop]:
    with EventLoop() as entered:
        yield entered


def test_the_default_address_is_that_of_kube_proxy() -> None:
    assert ADDRESS == ("127.0.0.1", 10249)


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        pytest.param(answers(), IPVS, id="ipvs"),
        pytest.param(answers("iptables", "ipvs"), KubeProxyState(True, "iptables", "ipvs"), id="fallback"),
        pytest.param(answers("iptables", ""), KubeProxyState(True, "iptables", "iptables"), id="default mode"),
        pytest.param({}, KubeProxyState(False), id="refused"),
        pytest.param({"/proxyMode": (200, b"ipvs")}, KubeProxyState(True, "ipvs", ""), id="no configz"),
        pytest.param({"/proxyMode": (500, b"ipvs")}, KubeProxyState(False), id="error"),
        pytest.param({"/proxyMode": (200, b"<html>\n")}, KubeProxyState(False), id="another program"),
        pytest.param({"/proxyMode": (200, b"i" * (1 << 20))}, KubeProxyState(False), id="endless"),
        pytest.param({**answers(), "/configz": (200, b"[" * 9999)}, KubeProxyState(True, "ipvs", ""), id="damaged"),
    ],
)
def test_the_answers_of_kube_proxy(given: Answers, expected: KubeProxyState, node: str) -> None:
    assert query(Proxy(given).get, node) == expected


@pytest.mark.parametrize(
    ("words", "address", "expected"),
    [
        pytest.param(["--metrics-bind-address=127.0.0.2:1234"], ("127.0.0.2", 1234), IPVS, id="another address"),
        pytest.param(["--metrics-bind-address", "0.0.0.0:9"], ("127.0.0.1", 9), IPVS, id="every address"),
        pytest.param(["--metrics-bind-address=127.0.0.2:1234"], ("127.0.0.2", 1), KubeProxyState(False), id="refused"),
        pytest.param(["--v=2"], ("127.0.0.2", 1), KubeProxyState(False), id="the default, refused"),
        pytest.param(["--config=/in/a/pod"], ("127.0.0.2", 1), KubeProxyState(), id="a file that cannot be read"),
        pytest.param(["--metrics-bind-address=192.0.2.1:9"], ("192.0.2.1", 9), KubeProxyState(), id="another node"),
    ],
)
def test_a_kube_proxy_is_down_only_if_its_address_is_known(
    words: list[str], address: tuple[str, int], expected: KubeProxyState, node: str
) -> None:
    put_process(Path(node), 700, "kube-proxy", ["kube-proxy", *words])
    assert query(Proxy(answers(), address).get, node) == expected


def test_without_processes_nothing_is_known(tmp_path: Path) -> None:
    assert query(Proxy({}).get, str(tmp_path)) == KubeProxyState()


def test_a_query_does_not_block_the_loop_and_reports_only_a_change(loop: EventLoop) -> None:
    proxy = Proxy(answers())
    asker = KubeProxyQuery(loop, local=True, get=proxy.get)
    proxy.released.clear()
    asker.update(PROFILES, due=True)
    asker.start()
    assert asker.state == KubeProxyState()
    asker.update(PROFILES, due=True)
    asker.start()  # while the first one runs
    proxy.released.set()
    assert [reason.kind for reason in loop.run_until_reason(10)] == [ReasonKind.KUBE_PROXY]
    assert (asker.state, proxy.requests) == (IPVS, ["/proxyMode", "/configz"])
    asker.close()
    asker.start()  # it is still due
    asker.close()
    assert (len(proxy.requests), loop.run_until_reason(0)) == (4, ())
    asker.start()  # nothing is due
    asker.close()
    assert len(proxy.requests) == 4


def test_kube_proxy_that_ends_is_down_and_its_modes_are_unknown(loop: EventLoop, node: str) -> None:
    proxy = Proxy(answers())
    asker = KubeProxyQuery(loop, local=True, get=proxy.get, root=node)
    for given, expected in ((answers(), IPVS), ({}, KubeProxyState(False))):
        proxy.given = given
        asker.update(PROFILES, due=True)
        asker.start()
        asker.close()
        assert asker.state == expected


@pytest.mark.parametrize(("local", "profiles"), [(False, PROFILES), (True, ()), (True, ("lvs-full",))])
def test_without_kube_proxy_nothing_is_queried(loop: EventLoop, local: bool, profiles: tuple[str, ...]) -> None:
    proxy = Proxy(answers())
    asker = KubeProxyQuery(loop, local, proxy.get)
    asker.update(profiles, due=True)
    asker.start()
    asker.close()
    assert (asker.state, proxy.requests) == (KubeProxyState(), [])


def test_a_profile_that_is_removed_makes_the_answer_unknown(loop: EventLoop) -> None:
    asker = KubeProxyQuery(loop, local=True, get=Proxy(answers()).get)
    asker.update(PROFILES, due=True)
    asker.start()
    asker.close()
    assert asker.state == IPVS
    asker.update((), due=False)
    assert asker.state == KubeProxyState()


def test_the_report_contains_the_answer_of_a_query_after_the_start(loop: EventLoop) -> None:
    config = Config(listen=())
    services = OptionalServices("/", loop, LinuxHost("/"), OperationFailures(), lambda: None)
    services.start(config, ())
    assert services.complete(samples.report()).kube_proxy.up is None
    services.start_query()
    assert ReasonKind.KUBE_PROXY in {reason.kind for reason in loop.run_until_reason(10)}
    # Whether a kube-proxy runs on the machine of the test does not matter.
    assert services.complete(samples.report()).kube_proxy.up is not None
    services.close()
