"""The kube-proxy that runs on this node, asked over HTTP on the addresses of its configuration.

Every answer is bounded, and none is trusted: it is only displayed and compared.
"""

from __future__ import annotations

import ipaddress
import re
import socket
from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, Callable, Optional

from ipvsd.config import dump, yaml_tree
from ipvsd.discovery import processes
from ipvsd.discovery.processes import Kind, Process
from ipvsd.kernel import process_files
from ipvsd.kernel.virtual_services import Table
from ipvsd.kube_proxy import answers, known_values
from ipvsd.kube_proxy.answers import Healthz, Settings
from ipvsd.model import printable
from ipvsd.runtime.http_client import HttpError, Response

Get = Callable[[tuple[str, int], str, int, float], Response]

_SECONDS = 1.0  # for one answer
_MAX_ANSWER, _MAX_METRICS = 1 << 18, 1 << 23  # bytes; the metrics of large clusters have some megabytes


@dataclass(frozen=True)
class KubeProxy:
    """One running kube-proxy. Facts that are unknown are None or empty; `problems` are the reasons.

    `files` are the settings in its files and flags, and `effective` those that it has now, from /configz.
    """

    process: Process
    age: Optional[float]
    files: Settings
    effective: Optional[Settings] = None
    mode: Optional[str] = None  # of /proxyMode: the actual mode
    healthz: Optional[Healthz] = None
    version: Optional[tuple[int, int]] = None
    version_text: str = ""
    metrics_url: str = ""
    healthz_url: str = ""
    problems: tuple[str, ...] = ()
    others: int = 0  # further processes
    silent: bool = False  # it was asked for its mode, and did not answer with one

    @property
    def settings(self) -> Settings:
        """The settings that count: those that it has now, or else those of its files."""
        return self.effective or self.files

    @property
    def scheduler(self) -> Optional[str]:
        """The scheduler that it uses in IPVS mode, or None if its settings are unknown."""
        found = self.settings.scheduler
        if found is None and self.effective is None and not self.files.origin:
            return None
        return found or known_values.DEFAULT_SCHEDULER


def observe(
    root: str, get: Optional[Get], thorough: bool = False, listed: Optional[Sequence[tuple[int, str]]] = None
) -> Optional[KubeProxy]:
    """Return the running kube-proxy, or None if there is none. `listed` are the processes, if the caller knows them.

    Without `get`, it is not asked. `thorough` also asks for its health and its version, whose answer is large.
    """
    found = processes.find(root, tuple(process_files.names(root)) if listed is None else listed)
    if not found:
        return None
    process = found[0]
    problems: list[str] = []
    files = _read_files(root, process, problems)
    proxy = KubeProxy(process, process_files.age(root, process.pid), files, others=len(found) - 1)
    if get is not None and not process.other_network:
        proxy = _ask(proxy, get, thorough, problems)
    return replace(proxy, problems=tuple(problems))


def _read_files(root: str, process: Process, problems: list[str]) -> Settings:
    """Return the settings of a process in its configuration file, or else in its flags."""
    path = process.flags.get("config")
    if not path:
        given = {field: process.flags[flag] for flag, field in processes.SETTING_FLAGS.items() if flag in process.flags}
        known = bool(process.flags or process.kind is Kind.EMBEDDED or process_files.arguments(root, process.pid))
        if not known:
            problems.append(f"cannot read the command line of {process}")
            return Settings()
        return answers.from_values({"mode": "", **given}, f"the flags of {process}")
    try:
        data = process_files.read_in_mount_namespace(root, process.pid, path, processes.MAX_CONFIG)
        if data is None:
            problems.append(f"cannot read {path} of {process}: no such file")
            return Settings()
        return answers.parse_config(data)._replace(origin=printable.line(path))
    except OSError as error:
        problems.append(f"cannot read {path} of {process}: {error.strerror}")
    except yaml_tree.DocumentError as error:
        problems.append(f"{path}:{error.line}: the configuration of {process} is not valid YAML")
    return Settings()


def metrics_address(proxy: KubeProxy) -> Optional[tuple[str, int]]:
    """Return the address on which it answers /proxyMode according to its files and flags, or None if it is unknown.

    None also means that this process cannot connect to the address.
    """
    if proxy.process.other_network or not proxy.files.origin:
        return None
    address = _address(proxy.files.metrics_address, known_values.METRICS_ADDRESS)
    return None if isinstance(address, str) else (address[0], address[1])


# --- its answers ------------------------------------------------------------------------


# kube-proxy writes its services within a moment after it has created its interface. Before that, it has to read the
# objects of the cluster.
_STARTING, _WRITING = 60.0, 5.0  # seconds after its start


def is_table_lost(proxy: KubeProxy, table: Optional[Table], interface: bool) -> bool:
    """Return whether the table is empty although kube-proxy must have written it. `interface` is kube-ipvs0."""
    empty = proxy.mode == known_values.IPVS and table is not None and table.services == 0
    return empty and (proxy.age is None or proxy.age >= (_WRITING if interface else _STARTING))


def is_unanswering(proxy: KubeProxy) -> bool:
    """Return whether a process does not answer although it has had the time to start."""
    return proxy.silent and (proxy.age is None or proxy.age >= _STARTING)


def _ask(proxy: KubeProxy, get: Get, thorough: bool, problems: list[str]) -> KubeProxy:
    metrics = _address(proxy.files.metrics_address, known_values.METRICS_ADDRESS)
    if isinstance(metrics, str):
        problems.append(f"cannot ask for the mode: {metrics}")
    else:
        url = _url(metrics)
        mode = _request(get, metrics, "/proxyMode", _MAX_ANSWER, problems)
        proxy = replace(proxy, silent=mode is None or answers.parse_word(mode) is None)
        if mode is not None:
            proxy = replace(proxy, metrics_url=url, mode=answers.parse_word(mode))
            if proxy.mode is None:
                problems.append(f"{url}/proxyMode: invalid answer")
            configuration = _request(get, metrics, "/configz", _MAX_ANSWER, problems)
            if configuration is not None:
                effective = answers.parse_configz(configuration)
                proxy = replace(proxy, effective=effective and effective._replace(origin=f"{url}/configz"))
            if thorough:
                text = _request(get, metrics, "/metrics", _MAX_METRICS, problems, whole=False, seconds=_SECONDS * 3)
                version_text, version = answers.parse_version(text or b"")
                proxy = replace(proxy, version_text=version_text, version=version)
    return _ask_health(proxy, get, problems) if thorough else proxy


def _ask_health(proxy: KubeProxy, get: Get, problems: list[str]) -> KubeProxy:
    address = _address(proxy.settings.healthz_address or proxy.files.healthz_address, known_values.HEALTHZ_ADDRESS)
    if isinstance(address, str):
        problems.append(f"cannot ask for the health: {address}")
        return proxy
    url = f"{_url(address)}/healthz"
    try:
        answer = get(address, "/healthz", _MAX_ANSWER, _SECONDS)
    except HttpError as error:
        problems.append(f"{url}: {error}")
        return proxy
    if answer.status not in (200, 503):
        problems.append(f"{url}: status {answer.status}")
        return proxy
    return replace(proxy, healthz=answers.parse_healthz(answer.status, answer.body), healthz_url=url)


def _request(
    get: Get,
    address: tuple[str, int],
    path: str,
    limit: int,
    problems: list[str],
    whole: bool = True,
    seconds: float = _SECONDS,
) -> Optional[bytes]:
    try:
        answer = get(address, path, limit, seconds)
    except HttpError as error:
        problems.append(f"{_url(address)}{path}: {error}")
        return None
    if answer.status != 200:
        problems.append(f"{_url(address)}{path}: status {answer.status}")
        return None
    if whole and not answer.complete:
        problems.append(f"{_url(address)}{path}: the answer is larger than {limit} bytes")
        return None
    return answer.body


def _address(given: Optional[str], default: str) -> Any:
    """Return the address to connect to, or the reason why there is none, as a text.

    Only addresses of this node are contacted. An unspecified address means every one, so loopback is used.
    """
    text = given or default  # the default of the type applies to an empty value
    host, colon, port = text.rpartition(":")
    try:
        ipaddress.ip_address(text.removeprefix("[").removesuffix("]"))
        host, port = text, default.rpartition(":")[2]  # without a port (AppendPortIfNeeded)
    except ValueError:
        if not colon:
            return f"invalid address {text}"
    try:
        address = ipaddress.ip_address(host.removeprefix("[").removesuffix("]") or "0.0.0.0")  # noqa: S104 -- any
    except ValueError:
        return f"invalid address {text}"
    if not re.fullmatch("[0-9]{1,5}", port) or not 0 < int(port) < 1 << 16:
        return f"invalid address {text}"
    if address.is_unspecified:
        return ("127.0.0.1" if address.version == 4 else "::1", int(port))
    if not address.is_loopback and not _is_own(str(address), address.version):
        return f"{text} is not an address of this node"
    return (str(address), int(port))


def _is_own(address: str, version: int) -> bool:
    """Return whether an address belongs to this node: the kernel binds only such a one."""
    try:
        with socket.socket(socket.AF_INET if version == 4 else socket.AF_INET6, socket.SOCK_DGRAM) as probe:
            probe.bind((address, 0))
    except OSError:
        return False
    return True


def _url(address: tuple[str, int]) -> str:
    return f"http://{dump.address(*address)}"
