"""Read the facts that the findings need, from the files of a root and from programs of the running node."""

from __future__ import annotations

import os
import re
import time
from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Optional

from ipvsd.config.profiles import IPTABLES_LEGACY, IPTABLES_NFT, SCHEDULERS
from ipvsd.conflicts.external_setting import Program
from ipvsd.discovery import log_reader, running
from ipvsd.discovery.processes import Kind
from ipvsd.discovery.running import Get, KubeProxy
from ipvsd.discovery.unit_log import Run
from ipvsd.doctor import denials, interfaces, kube_proxy_log, remains, rule_sets
from ipvsd.doctor.conntrack import ConntrackFacts
from ipvsd.doctor.containment import PlaceFacts
from ipvsd.doctor.daemon import DaemonFacts
from ipvsd.doctor.denials import Denial
from ipvsd.doctor.interfaces import InterfaceFacts
from ipvsd.doctor.kube_proxy import ProxyFacts
from ipvsd.doctor.programs import ProgramFacts
from ipvsd.doctor.remains import RemainsFacts
from ipvsd.doctor.rule_sets import RuleSets
from ipvsd.kernel import iptables, process_files, virtual_services
from ipvsd.kernel.host import LinuxHost
from ipvsd.kube_proxy import known_values, log_errors
from ipvsd.kube_proxy.known_values import INTERFACE as KUBE_IPVS
from ipvsd.model import printable
from ipvsd.model.types import Kernel
from ipvsd.runtime import rootfs
from ipvsd.state import status_file, stored_json
from ipvsd.sysctl.values import integer

_AUDIT_LOG = "var/log/audit/audit.log"
_FIREWALLD_CONF, _ZONES = "etc/firewalld/firewalld.conf", "etc/firewalld/zones"
_CONNECTIONS, _IFCFG = "etc/NetworkManager/system-connections", "etc/sysconfig/network-scripts"
_MAX_LOG = 1 << 20  # bytes
_MAX_LINES = 4000
_SECONDS = 10.0
_KERNEL_LOG = ("journalctl", "-q", "-k", "-b", "-o", "cat", "--no-pager", "-n", str(_MAX_LINES))
_TABLE_FULL = re.compile(r"nf_conntrack: table full, dropping packet")
_SCHEDULER = re.compile(r"IPVS: Scheduler module ip_vs_\S{1,40} not found")


@dataclass(frozen=True)
class Facts:
    """All facts about a node and its kube-proxy. `unchecked` are the reasons why some are unknown.

    `missing` are those for which this node has no program: a healthy node does not need it.
    """

    place: PlaceFacts
    programs: ProgramFacts
    known_modules: frozenset[str]
    conntrack: ConntrackFacts
    denials: Sequence[Denial]
    interface: InterfaceFacts
    proxy: ProxyFacts
    remains: RemainsFacts
    daemon: DaemonFacts
    processes: frozenset[str] = frozenset()  # their names
    kernel_log: Sequence[str] = ()
    unchecked: Sequence[str] = ()
    missing: Sequence[str] = ()


def observe(root: str, kernel: Kernel, get: Optional[Get], run: Optional[Run]) -> Facts:
    """Read all facts. Without `get` and `run`, kube-proxy is not asked, and no program is run."""
    return _Observer(root, kernel, get, run).facts()


class _Observer:
    """One observation. Reads that fail become entries of `unchecked`."""

    def __init__(self, root: str, kernel: Kernel, get: Optional[Get], run: Optional[Run]) -> None:
        self._root, self._kernel, self._get, self._run = root, kernel, get, run
        self._host = LinuxHost(root)
        self._unchecked: list[str] = []
        self._listed = tuple(process_files.names(root))
        self._processes = frozenset(comm for _, comm in self._listed)

    def facts(self) -> Facts:
        proxy = running.observe(self._root, self._get, thorough=True, listed=self._listed)
        modules = self._known_modules()
        log = self._kernel_log()
        table = self._table()
        interface = self._host.is_interface(KUBE_IPVS)
        mode = proxy.mode if proxy and not proxy.process.other_network else None
        rules = self._rule_sets(mode)
        return Facts(
            self._place(),
            self._programs(proxy, modules),
            modules,
            self._conntrack(log),
            [*self._audit(), *filter(None, map(denials.parse, log))],
            self._interface(),
            self._proxy(proxy, table, interface, modules),
            RemainsFacts(
                mode,
                table,
                interface,
                rules.chains,
                rules.tables,
                sorted(self._processes & set(remains.DIRECTORS)),
            ),
            self._daemon(),
            self._processes,
            log,
            (*self._unchecked, *(proxy.problems if proxy else ())),
            rules.missing,
        )

    # --- the kernel ---------------------------------------------------------------------

    def _known_modules(self) -> frozenset[str]:
        """Return those of the modules that findings name which this kernel has, loaded or not."""
        names = [f"ip_vs_{name}" for name in SCHEDULERS]
        for back_end in (IPTABLES_NFT, IPTABLES_LEGACY):
            names += [entry.name for entry in back_end.modules]
            names += [name for choice in back_end.alternatives for name in choice.names]
        names += ["ip_set"]
        kernel = self._host.kernel(names)
        return frozenset((*kernel.loadable, *kernel.built_in, *self._host.modules(names)))

    def _kernel_log(self) -> Sequence[str]:
        if self._run is None:
            return ()
        try:
            output = self._run(_KERNEL_LOG, _MAX_LOG, _SECONDS)
        except OSError as error:
            return self._missed(f"the kernel's log: cannot run journalctl: {error.strerror}")
        if output.code:
            return self._missed(f"the kernel's log: journalctl exited {output.code}")
        return output.text.decode("utf-8", "replace").splitlines()

    def _missed(self, reason: str) -> tuple[str, ...]:
        self._unchecked.append(reason)
        return ()

    def _table(self) -> Optional[virtual_services.Table]:
        try:
            return virtual_services.read_table(self._root)
        except OSError as error:
            self._missed(f"the table of virtual services: {error.strerror}")
            return None

    def _conntrack(self, log: Sequence[str]) -> ConntrackFacts:
        values = [self._host.read_sysctl(f"net.netfilter.nf_conntrack_{name}") for name in ("count", "max")]
        count, maximum = (integer(value) if isinstance(value, str) else None for value in values)
        messages = [printable.line(line) for line in log if _TABLE_FULL.search(line)]
        return ConntrackFacts(count, maximum, messages)

    # --- the node -----------------------------------------------------------------------

    def _place(self) -> PlaceFacts:
        evidence = ""
        kind = (self._text("run/systemd/container") or "").strip()
        if kind:
            evidence = f"/run/systemd/container: {printable.line(kind, 60)}"
        elif any(rootfs.exists(self._root, path) for path in (".dockerenv", "run/.containerenv")):
            evidence = "/.dockerenv or /run/.containerenv exists"
        own = process_files.own_network_namespace() if self._root == "/" else None
        init = process_files.network_namespace("/", 1) if self._root == "/" else None
        status = rootfs.status(self._root, "proc/sys/net/netfilter/nf_conntrack_max") if self._root == "/" else None
        return PlaceFacts(evidence, own or "", init or "", status is not None and not status.st_mode & 0o222)

    def _programs(self, proxy: Optional[KubeProxy], modules: Collection[str]) -> ProgramFacts:
        ipset = iptables.find_program(self._root, "ipset")
        needed = (
            proxy is not None
            and proxy.process.kind is Kind.PROCESS
            and known_values.IPVS in (proxy.mode, proxy.settings.requested_mode)
        )
        error = ""
        # Without its module, the program would make the kernel load it.
        if ipset and self._run is not None and "ip_set" in modules and self._host.modules(["ip_set"]):
            error = self._ipset_error(ipset)
        return ProgramFacts(needed, ipset, self._kernel.iptables.program, error)

    def _ipset_error(self, program: str) -> str:
        assert self._run is not None
        try:
            output = self._run((program, "version"), _MAX_LOG, _SECONDS)
        except OSError as error:
            return error.strerror or str(error)
        lines = output.text.decode("utf-8", "replace").splitlines()
        return "" if not output.code else printable.line(lines[-1] if lines else f"exit code {output.code}", 200)

    def _audit(self) -> Iterator[Denial]:
        try:
            with rootfs.open_file(self._root, _AUDIT_LOG) as fd:
                os.lseek(fd, max(0, os.fstat(fd).st_size - _MAX_LOG), os.SEEK_SET)
                text = rootfs.read_at_most(fd, _MAX_LOG).decode("utf-8", "replace")
        except (FileNotFoundError, NotADirectoryError, rootfs.IrregularError):
            return
        except OSError as error:
            self._missed(f"/{_AUDIT_LOG}: {error.strerror}")
            return
        since = _boot_time() if self._root == "/" else 0.0
        for line in text.splitlines():
            at = re.search(r"\bmsg=audit\((\d{1,12})\.", line)
            if at and float(at[1]) >= since:
                denial = denials.parse(line)
                if denial:
                    yield denial

    def _interface(self) -> InterfaceFacts:
        firewalld = "firewalld" in self._processes and self._firewalld_distrusts()
        index = (self._text(f"sys/class/net/{KUBE_IPVS}/ifindex") or "").strip()
        if not re.fullmatch("[0-9]{1,9}", index):
            return InterfaceFacts(firewalld_distrusts=firewalld)
        places = (
            (Program.NETWORKD, f"run/systemd/netif/links/{index}", interfaces.networkd_manages),
            (Program.NETWORK_MANAGER, f"run/NetworkManager/devices/{index}", interfaces.networkmanager_manages),
        )
        managers = []
        for program, path, manages in places:
            line = manages(self._text(path) or "")
            if line:
                managers.append((program, f"/{path}: {printable.line(line, 100)}"))
        return InterfaceFacts(managers, firewalld)

    def _firewalld_distrusts(self) -> bool:
        """Return whether no zone of firewalld trusts anything. Without permission to read a file, that is unknown."""
        try:
            zones = self._texts(_ZONES, suffix=".xml")
            connections = (self._texts(_CONNECTIONS, suffix=".nmconnection"), self._texts(_IFCFG, prefix="ifcfg-"))
            configuration = rootfs.text(self._root, _FIREWALLD_CONF) or ""
        except rootfs.UnreadableError as error:
            self._missed(f"the zones of firewalld: {error}")
            return False
        except OSError as error:
            self._missed(f"the zones of firewalld: {error.strerror}")
            return False
        return not interfaces.firewalld_trusts(
            configuration, zones, (text for texts in connections for text in texts.values())
        )

    def _texts(self, directory: str, prefix: str = "", suffix: str = "") -> Mapping[str, str]:
        """Return the files in a directory by their names. Raises OSError and UnreadableError."""
        try:
            names = sorted(rootfs.listing(self._root, directory))
        except (FileNotFoundError, NotADirectoryError):
            return {}
        names = [name for name in names if name.startswith(prefix) and name.endswith(suffix)]
        return {name: rootfs.text(self._root, f"{directory}/{name}") or "" for name in names}

    def _daemon(self) -> DaemonFacts:
        try:
            status = status_file.read(self._root)
        except (stored_json.UnusableError, rootfs.UnreadableError) as error:
            return DaemonFacts(unusable=str(error))
        age = time.clock_gettime(time.CLOCK_BOOTTIME) - status["boottime"] if status else 0.0
        return DaemonFacts(status, max(0.0, age), time.time())

    def _text(self, path: str) -> Optional[str]:
        try:
            return rootfs.text(self._root, path)
        except rootfs.UnreadableError as error:
            self._missed(str(error))
            return None

    # --- kube-proxy ---------------------------------------------------------------------

    def _proxy(
        self,
        proxy: Optional[KubeProxy],
        table: Optional[virtual_services.Table],
        interface: bool,
        modules: Collection[str],
    ) -> ProxyFacts:
        silent = proxy is not None and proxy.silent
        log = log_reader.read(self._root, proxy.process if proxy else None, self._run, silent)
        if log.problem:
            self._missed(f"the log of kube-proxy: {log.problem}")
        return ProxyFacts(
            proxy,
            table,
            frozenset(name for name in modules if name.startswith("ip_vs_")),
            interface,
            log,
            log_errors.last_known(log.start, fatal_only=True, recent=len(log.start)) if proxy else None,
            kube_proxy_log.explained(log, proxy is None),
            kube_proxy_log.last_error(log, proxy is None),
        )

    def _rule_sets(self, mode: Optional[str]) -> RuleSets:
        """Return what remains of modes other than this one."""
        found = RuleSets()
        if self._run is None or mode is None:
            return found
        try:
            if mode == known_values.IPVS:
                found = rule_sets.read_chains(self._root, self._kernel, self._run)
            if mode != known_values.NFTABLES:
                listed = rule_sets.read_tables(self._root, self._run)
                found = listed._replace(
                    chains=found.chains,
                    unchecked=(*found.unchecked, *listed.unchecked),
                    missing=(*found.missing, *listed.missing),
                )
        except OSError as error:
            self._missed(f"the rules of other proxy modes: {error.strerror}")
        self._unchecked += found.unchecked
        return found


def _boot_time() -> float:
    """Return the time of the boot in seconds since the epoch."""
    return time.time() - time.clock_gettime(time.CLOCK_BOOTTIME) - 1.0
