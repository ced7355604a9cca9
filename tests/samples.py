"""Values of the model with all fields set, for tests that need one part of them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Optional

from ipvsd.config.desired_state import build_desired
from ipvsd.config.schema import Config
from ipvsd.decide.aggregate import by_pattern
from ipvsd.decide.planner import plan
from ipvsd.model.report import (
    Attribution,
    ConfigState,
    ContendedSysctl,
    Health,
    InstalledKernel,
    Ipvs,
    KubeProxyState,
    NoteKind,
    Repair,
    Report,
    SourceState,
    State,
    Writer,
)
from ipvsd.model.types import (
    Desired,
    DesiredModule,
    DesiredSysctl,
    Exactly,
    Finding,
    Iptables,
    Kernel,
    ModuleFinding,
    ModuleState,
    Need,
    Observed,
    Policy,
    Reading,
    SysctlFinding,
    Want,
)
from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict
from ipvsd.reporting.counters import EMPTY
from tests.fake_kernel import DEPENDS

RELEASE = "6.1.0-50-cloud-amd64"
NOW = 1_800_000_000.0
CERTAIN, LIKELY = Attribution.CERTAIN, Attribution.LIKELY
WRITER = Writer(4242, "sysctl", "cron.service")


def kernel(
    loadable: tuple[str, ...] = (),
    built_in: tuple[str, ...] = (),
    modular: bool = True,
    indexed: bool = True,
    distribution: str = "debian",
    release: str = RELEASE,
    cpus: int = 2,
) -> Kernel:
    return Kernel(release, distribution, cpus, modular, indexed, frozenset(loadable), frozenset(built_in))


def wanted_module(name: str = "ip_vs", need: Need = Need.REQUIRED) -> DesiredModule:
    return DesiredModule(name, need, "profile test")


def wanted_sysctl(
    key: str = "net.ipv4.ip_forward",
    want: Want = Exactly("1"),
    policy: Policy = Policy.ENFORCE,
    required: bool = True,
    provider: Optional[str] = None,
) -> DesiredSysctl:
    return DesiredSysctl(key, want, policy, required, "profile test", provider)


def desired(*wanted: DesiredModule | DesiredSysctl) -> Desired:
    return Desired(
        tuple(item for item in wanted if isinstance(item, DesiredModule)),
        tuple(item for item in wanted if isinstance(item, DesiredSysctl)),
    )


def observed(
    seen: Kernel, modules: Optional[Mapping[str, ModuleState]] = None, sysctls: Optional[Mapping[str, Reading]] = None
) -> Observed:
    return Observed(seen, modules or {}, sysctls or {})


def module(
    verdict: ModuleVerdict = ModuleVerdict.LIVE, name: str = "ip_vs", need: Need = Need.REQUIRED, remedy: str = ""
) -> ModuleFinding:
    return ModuleFinding(wanted_module(name, need), verdict, "seen so", remedy, name)


def sysctl(
    verdict: SysctlVerdict = SysctlVerdict.COMPLIANT,
    key: str = "net.ipv4.ip_forward",
    required: bool = True,
    found: Optional[str] = "1",
    remedy: str = "",
    policy: Policy = Policy.ENFORCE,
) -> SysctlFinding:
    wanted = wanted_sysctl(key, required=required, policy=policy)
    return SysctlFinding(wanted, found, verdict, "read so", remedy)


def report(*findings: Finding, state: State = State.READY, line: str = "ready: all of it") -> Report:
    """Return a report in which every part has a value."""
    return Report(
        time=NOW,
        boottime=4321.0,
        kernel=kernel(),
        modules=tuple(finding for finding in findings if isinstance(finding, ModuleFinding)),
        sysctls=tuple(finding for finding in findings if isinstance(finding, SysctlFinding)),
        health=Health(state, line, 1 if state is State.FAILED else 0),
        counters=EMPTY,
        repairs=(Repair("net.ipv4.ip_forward", "0", "1", NOW - 90, 0.0021, "1", str(WRITER), WRITER, CERTAIN),),
        backend="bpf",
        contended=(ContendedSysctl("net.ipv4.vs.conntrack", "agent[7]", yielded=False, attribution=LIKELY),),
        sources=(
            SourceState("uevents", True, "kernel uevents", 3),
            SourceState("config_files", False, "no inotify", None),
        ),
        ipvs=Ipvs(True, "1.2.1", 4096, "responded"),
        config=ConfigState("0123456789ab", ("kube-proxy-ipvs",), ("/etc/ipvsd/ipvsd.yaml",), 60.0),
    )


# A report that shows every metric, and every key of the status document.
PATTERN = "net.ipv4.conf.*.forwarding"
COMPLETE = report(
    module(),
    SysctlFinding(wanted_sysctl()._replace(guard=True), "1", SysctlVerdict.COMPLIANT, ""),
    SysctlFinding(wanted_sysctl(PATTERN)._replace(pattern=PATTERN), "1", SysctlVerdict.COMPLIANT, ""),
)._replace(
    parameters=(sysctl(key="ip_vs.conn_tab_bits"),),
    kernels=(InstalledKernel(RELEASE, running=True, boots_next=True, modules=()),),
    notes=("a note",),
    note_kinds=frozenset({NoteKind.ROUTES_IGNORED}),
    failures={"listen": "127.0.0.1:14787: Address already in use"},
    kube_proxy=KubeProxyState(True, "ipvs", "ipvs"),
    persisted_files_current=True,
    config_loaded_at=NOW - 3600,
    web_certificate_expiry=NOW + 30 * 86400,
)


# A report of a node on which every check fails.
_MISSING = module(ModuleVerdict.ABSENT)
BROKEN = COMPLETE._replace(
    health=Health(State.FAILED, "failed: all of it", 1),
    modules=(_MISSING,),
    sysctls=(sysctl(SysctlVerdict.WRITE_FAILED), *COMPLETE.sysctls[1:]),
    parameters=(sysctl(SysctlVerdict.NEEDS_MODULE_RELOAD, "ip_vs.conn_tab_bits"),),
    kernels=(InstalledKernel(RELEASE, running=True, boots_next=True, modules=(_MISSING,)),),
    ipvs=Ipvs(False, detail="the ip_vs module is not live"),
    config=ConfigState("ba9876543210", ("kube-proxy-ipvs",), (), 60.0, ("f:1: interval: invalid value",)),
    kube_proxy=KubeProxyState(False),
    persisted_files_current=False,
)


def default_profile(backend: str) -> Report:
    """Return a report with all series of the default profile, three kernels and this backend of iptables."""
    seen = kernel((*DEPENDS, "nft_counter"))._replace(iptables=Iptables(f"/usr/sbin/xtables-{backend}-multi", ()))
    pattern = {"net.ipv4.conf.*.forwarding": ("net.ipv4.conf.eth0.forwarding", "net.ipv4.conf.lo.forwarding")}
    planned = plan(build_desired(Config(), seen, {}, pattern), observed(seen))
    names = ("uevents", "sysctl_inotify", "sysctl_bpf", "config_files", "web")
    return report(*planned.modules, *by_pattern(planned.sysctls))._replace(
        sources=tuple(SourceState(name, up=True, detail="", events_lost=0) for name in names),
        kernels=tuple(InstalledKernel(f"6.{n}.0", n == 1, n == 2, planned.modules) for n in range(3)),
        note_kinds=frozenset(NoteKind),
        kube_proxy=KubeProxyState(True, "iptables", "ipvs"),
        persisted_files_current=False,
        config_loaded_at=NOW,
        web_certificate_expiry=NOW,
    )
