"""Every state of a module has its own verdict, evidence and remedy."""

from __future__ import annotations

import errno
from typing import Any, Optional

import pytest

from ipvsd.decide import remedies
from ipvsd.decide.verdicts import explain, judge_module, judge_parameter, judge_sysctl
from ipvsd.model.types import (
    MISSING,
    Cause,
    DesiredModule,
    Kernel,
    LoadBlocker,
    LoadModule,
    LoadRestrictions,
    ModuleState,
    Need,
    Outcome,
    Parameter,
    Policy,
)
from ipvsd.model.verdicts import ModuleVerdict as V
from ipvsd.model.verdicts import SysctlVerdict
from tests.samples import RELEASE, kernel, observed, wanted_module, wanted_sysctl

SHIPPED = kernel(loadable=("ip_vs",))
TREE = f"/lib/modules/{RELEASE}"
CONF = "/etc/modprobe.d/cis.conf"


def with_(seen: Kernel, **changes: Any) -> Kernel:
    return seen._replace(**changes)


def hindered(cause: Cause, text: str, origin: str = f"{CONF}:3", module: str = "ip_vs", detail: str = "") -> Kernel:
    return with_(SHIPPED, load_blockers={"ip_vs": LoadBlocker(cause, module, text, origin, detail)})


def run_for(text: str, module: str = "ip_vs") -> Kernel:
    return with_(SHIPPED, install_commands={"ip_vs": LoadBlocker(Cause.INSTALL, module, text, f"{CONF}:3")})


@pytest.mark.parametrize(
    ("seen", "state", "verdict", "evidence", "remedy"),
    [
        pytest.param(SHIPPED, "Live", V.LIVE, "/proc/modules: Live", "", id="live"),
        pytest.param(kernel(indexed=False), "Live", V.LIVE, "/proc/modules: Live", "", id="live, tree gone"),
        pytest.param(hindered(Cause.BLACKLIST, "blacklist ip_vs"), "Live", V.LIVE, "/proc/modules: Live", "",
                     id="live, blacklisted"),
        pytest.param(kernel(built_in=("ip_vs",)), "", V.BUILT_IN, f"{TREE}/modules.builtin", "", id="built in"),
        pytest.param(kernel(built_in=("ip_vs",), modular=False, indexed=False), "", V.BUILT_IN,
                     "built into a kernel without module support", "", id="built into a kernel without modules"),
        pytest.param(SHIPPED, "Loading", V.LOADING, "/proc/modules: Loading", "wait; if the load", id="on its way in"),
        pytest.param(SHIPPED, "Unloading", V.UNLOADING, "/proc/modules: Unloading", "wait; ipvsd", id="on its way out"),
        pytest.param(SHIPPED, "", V.LOADABLE, "not loaded; modules.dep lists the module", "run 'ipvsd apply'",
                     id="loadable"),
        pytest.param(kernel(modular=False), "", V.NO_MODULE_SUPPORT, "/proc/modules is missing",
                     "boot a kernel that supports loadable modules", id="no modules"),
        pytest.param(with_(kernel(indexed=False), has_own_modules=False), "", V.MODULE_TREE_MISSING,
                     f"no modules in {TREE}",
                     "reboot into an installed kernel, or run 'apt install --reinstall linux-image-", id="tree gone"),
        pytest.param(kernel(), "", V.ABSENT, f"{TREE}/modules.dep does not list the module",
                     f"run 'apt install --reinstall linux-image-{RELEASE}", id="absent on Debian"),
        pytest.param(kernel(release="7.2.13+deb14-cloud-amd64"), "", V.ABSENT, "/lib/modules/7.2.13",
                     "run 'apt install --reinstall linux-modules-7.2.13+deb14-cloud-amd64",
                     id="absent on Debian with split packages"),
        pytest.param(kernel(distribution="ubuntu", release="6.8.0-45-generic"), "", V.ABSENT,
                     "/lib/modules/6.8.0-45-generic", "run 'apt install linux-modules-extra-6.8.0-45-generic",
                     id="absent on Ubuntu"),
        pytest.param(kernel(distribution="ubuntu", release="5.15.0-1040-kvm"), "", V.ABSENT,
                     "/lib/modules/5.15.0-1040-kvm",
                     "run 'apt install linux-image-generic' to install the general kernel, and reboot",
                     id="absent from Ubuntu's kvm kernel"),
        pytest.param(kernel(distribution="rocky", release="5.14.0-427.13.1.el9_4.x86_64"), "", V.ABSENT,
                     "/lib/modules/5.14", "run 'dnf install kernel-modules-extra-5.14.0-427.13.1.el9_4.x86_64",
                     id="absent on Rocky"),
        pytest.param(kernel(distribution=""), "", V.ABSENT, TREE, "install the modules for kernel", id="absent"),
        pytest.param(with_(kernel(), kconfig_unset={"ip_vs": "contains '# CONFIG_IP_VS is not set'"}), "", V.NOT_BUILT,
                     f"the configuration of kernel {RELEASE} contains '# CONFIG_IP_VS is not set'",
                     "boot a kernel that was built with CONFIG_IP_VS", id="not built"),
        pytest.param(with_(kernel(), unindexed={"ip_vs": f"{TREE}/ip_vs.ko"}), "", V.INDEX_STALE,
                     f"{TREE}/modules.dep does not list {TREE}/ip_vs.ko", f"run 'depmod -a {RELEASE}'",
                     id="index stale"),
        pytest.param(hindered(Cause.BLACKLIST, "blacklist ip_vs"), "", V.BLACKLISTED, f"{CONF}:3: blacklist ip_vs",
                     f"remove 'blacklist ip_vs' from {CONF}, or set 'required: false'", id="blacklisted"),
        pytest.param(hindered(Cause.BLACKLIST, "modprobe.blacklist=ip_vs", "/proc/cmdline"), "", V.BLACKLISTED,
                     "/proc/cmdline: modprobe.blacklist=ip_vs",
                     "remove ip_vs from modprobe.blacklist= on the kernel command",
                     id="blacklisted by the command line"),
        pytest.param(hindered(Cause.COMMAND_LINE, "module_blacklist=a,nf_conntrack", "/proc/cmdline", "nf_conntrack"),
                     "", V.BLACKLISTED, "needs nf_conntrack: /proc/cmdline: module_blacklist=a,nf_conntrack",
                     "remove nf_conntrack from module_blacklist= on the kernel command line (boot loader",
                     id="a dependency refused by the kernel"),
        pytest.param(hindered(Cause.INSTALL, "install ip_vs /bin/true"), "", V.OVERRIDDEN,
                     f"{CONF}:3: install ip_vs /bin/true", f"remove 'install ip_vs /bin/true' from {CONF}",
                     id="overridden"),
        pytest.param(run_for("install ip_vs logger x; modprobe -i ip_vs"), "", V.LOADABLE, "not loaded",
                     "run 'ipvsd apply'", id="loaded by a command"),
        pytest.param(with_(SHIPPED, restrictions=LoadRestrictions(disabled=True)), "", V.MODULES_DISABLED,
                     "kernel.modules_disabled is 1", "run 'ipvsd apply --persist' and reboot", id="modules_disabled"),
        pytest.param(with_(SHIPPED, restrictions=LoadRestrictions(incapable=True)), "", V.CAPABILITY_MISSING,
                     "CAP_SYS_MODULE is not in this process's", "run 'modprobe ip_vs' on the host", id="no capability"),
        pytest.param(hindered(Cause.INSTALL, "install nf_defrag_ipv6 /bin/true", module="nf_defrag_ipv6"), "",
                     V.OVERRIDDEN, f"needs nf_defrag_ipv6: {CONF}:3: install nf_defrag_ipv6 /bin/true",
                     f"remove 'install nf_defrag_ipv6 /bin/true' from {CONF}", id="a dependency overridden"),
        pytest.param(hindered(Cause.FILE_MISSING, "kernel/x/nf_conntrack.ko", "", "nf_conntrack"), "", V.FILE_MISSING,
                     "needs nf_conntrack: modules.dep lists kernel/x/nf_conntrack.ko, which is missing",
                     "run 'apt install --reinstall", id="a dependency's file gone"),
        pytest.param(hindered(Cause.COMPRESSION, "kernel/ip_vs.ko.zst", "", detail="zstd"), "",
                     V.COMPRESSION_UNSUPPORTED,
                     "kernel/ip_vs.ko.zst is compressed with zstd, which this kmod does not support",
                     "install a kmod that supports zstd", id="listed, and packed in an unknown way"),
        pytest.param(with_(kernel(), unindexed={"ip_vs": f"{TREE}/ip_vs.ko.gz"}, compressed={"ip_vs": "gzip"}), "",
                     V.COMPRESSION_UNSUPPORTED, f"{TREE}/ip_vs.ko.gz is compressed with gzip",
                     "install a kmod that supports gzip", id="left out by depmod"),
        pytest.param(with_(kernel(indexed=False), unindexed={"ip_vs": f"{TREE}/ip_vs.ko"}), "", V.NO_INDEX,
                     f"{TREE}/modules.dep.bin is missing or damaged; {TREE}/ip_vs.ko exists",
                     f"run 'depmod -a {RELEASE}'", id="no index"),
        pytest.param(kernel(indexed=False), "", V.ABSENT, f"{TREE} contains neither the module nor a module index",
                     "run 'apt install --reinstall", id="no index, and no file"),
        pytest.param(
            hindered(Cause.OPTIONS, "options ip_vs conn_tab_bits = 20", detail="conn_tab_bits"), "", V.INVALID_OPTIONS,
            f"{CONF}:3: options ip_vs conn_tab_bits = 20: the kernel reads conn_tab_bits as a parameter without a",
            f"write conn_tab_bits=VALUE (without spaces) in {CONF}", id="options with blanks",
        ),
        pytest.param(hindered(Cause.ALIAS, "alias ip_vs off"), "", V.OVERRIDDEN, f"{CONF}:3: alias ip_vs off",
                     f"remove 'alias ip_vs off' from {CONF}", id="an alias of nothing"),
        pytest.param(with_(kernel(), in_other_kernels={"ip_vs": ("6.1.0-9-amd64",)}), "", V.ABSENT, TREE,
                     "reboot into 6.1.0-9-amd64, which has the module; or run 'apt install",
                     id="another kernel has it"),
        pytest.param(with_(kernel(indexed=False), has_own_modules=False, other_releases=("6.1.0-9-amd64",)), "",
                     V.MODULE_TREE_MISSING, f"no modules in {TREE}; other trees: 6.1.0-9-amd64",
                     "reboot into 6.1.0-9-amd64, which is installed, or run 'apt install",
                     id="tree gone, others there"),
        pytest.param(with_(kernel(indexed=False), has_own_modules=False, restrictions=LoadRestrictions(incapable=True)),
                     "", V.CAPABILITY_MISSING, "CAP_SYS_MODULE is not in this process's",
                     "run 'modprobe ip_vs' on the host", id="a container"),
        pytest.param(with_(SHIPPED, restrictions=LoadRestrictions(nested=True)), "", V.CAPABILITY_MISSING,
                     "a process in a user namespace cannot load", "run 'modprobe ip_vs' on the host",
                     id="a user namespace"),
        pytest.param(with_(SHIPPED, restrictions=LoadRestrictions(signed="lockdown=integrity")), "", V.LOADABLE,
                     "not loaded", "run 'ipvsd apply'", id="a kernel that demands signatures"),
    ],
)  # fmt: skip
def test_verdicts_before_an_action(seen: Kernel, state: str, verdict: V, evidence: str, remedy: str) -> None:
    found = judge_module(wanted_module(), observed(seen, {"ip_vs": ModuleState(state)} if state else {}))
    assert found.verdict is verdict
    assert found.evidence.startswith(evidence)
    assert found.remedy.startswith(remedy)
    assert bool(remedy) is bool(found.remedy)


@pytest.mark.parametrize(
    ("seen", "number", "made_for", "verdict", "evidence", "remedy"),
    [
        pytest.param(SHIPPED, errno.EINVAL, "", V.LOAD_FAILED, "said so", "run 'journalctl -k'", id="failed"),
        pytest.param(SHIPPED, 0, "", V.LOAD_FAILED, "said so", "run 'journalctl -k'", id="without an errno"),
        *(
            pytest.param(
                SHIPPED, number, "", V.SIGNATURE_REFUSED, "said so", "use a file that is signed", id=f"errno {number}",
            )
            for number in (errno.EKEYREJECTED, errno.ENOKEY, errno.EBADMSG)
        ),
        pytest.param(with_(SHIPPED, restrictions=LoadRestrictions(signed="lockdown=integrity, Secure Boot")),
                     errno.EPERM, "", V.SIGNATURE_REFUSED, "said so (lockdown=integrity, Secure Boot)",
                     "use a file that is signed", id="lockdown"),
        pytest.param(SHIPPED, errno.EPERM, "", V.CAPABILITY_MISSING, "said so", "run 'modprobe ip_vs' on the host",
                     id="EPERM"),
        pytest.param(with_(SHIPPED, restrictions=LoadRestrictions(disabled=True)), errno.EPERM, "", V.MODULES_DISABLED,
                     "said so", "run 'ipvsd apply --pers", id="disabled since"),
        pytest.param(SHIPPED, errno.ENOEXEC, "6.9.0", V.VERMAGIC_MISMATCH,
                     f"said so: built for kernel 6.9.0, not {RELEASE}",
                     "replace the module file with one that was built for this kernel (run 'apt", id="another kernel"),
        pytest.param(SHIPPED, errno.ENOEXEC, RELEASE, V.LOAD_FAILED, "said so", "run 'journalctl -k'",
                     id="other flags"),
        pytest.param(SHIPPED, errno.ENOENT, "6.9.0", V.LOAD_FAILED, "said so", "run 'journalctl -k'",
                     id="a missing symbol"),
        pytest.param(run_for("install ip_vs false || x"), errno.EIO, "", V.OVERRIDDEN,
                     f"{CONF}:3: install ip_vs false || x: said so", "remove 'install ip_vs false || x' from",
                     id="a command that fails"),
    ],
)  # fmt: skip
def test_verdicts_after_a_failed_load(
    seen: Kernel, number: int, made_for: str, verdict: V, evidence: str, remedy: str
) -> None:
    failed = Outcome(LoadModule("ip_vs"), "said so", number, made_for)
    found = explain(judge_module(wanted_module(), observed(SHIPPED)), failed, seen)
    assert (found.verdict, found.evidence) == (verdict, evidence)
    assert found.remedy.startswith(remedy)


@pytest.mark.parametrize(("loadable", "verdict"), [((), V.MERGED), (("nf_conntrack_ipv4",), V.LOADABLE)])
def test_a_former_name_is_merged_unless_the_kernel_has_the_module(loadable: tuple[str, ...], verdict: V) -> None:
    assert judge_module(wanted_module("nf_conntrack_ipv4"), observed(kernel(loadable))).verdict is verdict


def test_a_loader_that_reports_success_is_verified() -> None:
    found = explain(judge_module(wanted_module(), observed(SHIPPED)), Outcome(LoadModule("ip_vs")), SHIPPED)
    assert found.evidence == "the loader reported success, but the module is not live"


def test_an_alias_is_judged_by_what_stands_behind_it() -> None:
    seen = with_(kernel(loadable=("nf_conntrack",)), aliases={"ip_conntrack": "nf_conntrack"})
    found = judge_module(wanted_module("ip_conntrack"), observed(seen, {"nf_conntrack": ModuleState.LIVE}))
    assert (found.name, found.module, found.verdict) == ("ip_conntrack", "nf_conntrack", V.LIVE)
    assert found.evidence == "alias of nf_conntrack: /proc/modules: Live"


@pytest.mark.parametrize(
    ("states", "shipped", "module", "verdict", "evidence"),
    [
        pytest.param({"ip_tables": "Live"}, "nf_tables", "ip_tables", V.LIVE, "ip_tables: /proc", id="the other"),
        pytest.param({}, "nf_tables ip_tables", "nf_tables", V.LOADABLE, "nf_tables: not loaded", id="the first"),
        pytest.param({}, "ip_tables", "ip_tables", V.LOADABLE, "ip_tables: not loaded", id="what there is"),
        pytest.param({"ip_tables": "Loading"}, "nf_tables", "ip_tables", V.LOADING, "ip_tables: ", id="on its way"),
        pytest.param({}, "", "nf_tables", V.ABSENT,
                     f"nf_tables: {TREE}/modules.dep does not list the module; ip_tables absent", id="none"),
    ],
)  # fmt: skip
def test_one_alternative_suffices(
    states: dict[str, str], shipped: str, module: Optional[str], verdict: V, evidence: str
) -> None:
    wanted = DesiredModule("iptable-backend", Need.REQUIRED, "mine.yaml:3", ("nf_tables", "ip_tables"))
    seen = observed(
        kernel(loadable=tuple(shipped.split())), {name: ModuleState(state) for name, state in states.items()}
    )
    found = judge_module(wanted, seen)
    assert (found.name, found.module, found.verdict) == ("iptable-backend", module, verdict)
    assert found.evidence.startswith(evidence)


@pytest.mark.parametrize("verdict", V, ids=lambda verdict: verdict.value)
def test_every_verdict_except_the_compliant_ones_has_a_remedy(verdict: V) -> None:
    assert bool(remedies.for_module(verdict, SHIPPED, "ip_vs")) is (verdict not in (V.LIVE, V.BUILT_IN))


@pytest.mark.parametrize(
    ("policy", "read_only", "verdict", "remedy"),
    [
        pytest.param(Policy.ENFORCE, "", SysctlVerdict.NONCOMPLIANT, remedies.APPLY, id="enforced"),
        pytest.param(Policy.YIELD, "", SysctlVerdict.NONCOMPLIANT, remedies.APPLY, id="yielding"),
        pytest.param(Policy.OBSERVE, "", SysctlVerdict.NONCOMPLIANT, remedies.OBSERVED, id="observed"),
        pytest.param(
            Policy.ENFORCE, "net", SysctlVerdict.WRITE_FAILED,
            remedies.READ_ONLY.format("net.ipv4.ip_forward=1"), id="enforced, read-only",
        ),
        pytest.param(Policy.OBSERVE, "net", SysctlVerdict.NONCOMPLIANT, remedies.OBSERVED, id="observed, read-only"),
    ],
)  # fmt: skip
def test_a_sysctl_that_is_not_compliant(policy: Policy, read_only: str, verdict: SysctlVerdict, remedy: str) -> None:
    seen = observed(with_(kernel(), read_only=frozenset({read_only})))
    found = judge_sysctl(wanted_sysctl(policy=policy), "0", seen)
    assert (found.verdict, found.remedy) == (verdict, remedy)
    assert found.evidence.startswith("actual value '0', desired value 1")
    assert ("read-only" in found.evidence) is (verdict is SysctlVerdict.WRITE_FAILED)


@pytest.mark.parametrize(
    ("seen", "state", "verdict"),
    [
        pytest.param(SHIPPED, "", SysctlVerdict.PENDING, id="not loaded"),
        pytest.param(SHIPPED, "Loading", SysctlVerdict.PENDING, id="on its way in"),
        pytest.param(SHIPPED, "Unloading", SysctlVerdict.PENDING, id="on its way out"),
        pytest.param(kernel(), "", SysctlVerdict.PENDING, id="not shipped"),
        pytest.param(SHIPPED, "Live", SysctlVerdict.UNSUPPORTED, id="live"),
        pytest.param(kernel(built_in=("ip_vs",)), "", SysctlVerdict.UNSUPPORTED, id="built in"),
    ],
)
def test_a_sysctl_without_a_file_waits_for_its_module(seen: Kernel, state: str, verdict: SysctlVerdict) -> None:
    states = {"ip_vs": ModuleState(state)} if state else {}
    wanted = wanted_sysctl("net.ipv4.vs.conntrack", provider="ip_vs")
    assert judge_sysctl(wanted, MISSING, observed(seen, states)).verdict is verdict


@pytest.mark.parametrize(
    ("value", "writable", "built_in", "verdict", "remedy"),
    [
        pytest.param("1", False, (), SysctlVerdict.COMPLIANT, "", id="compliant"),
        pytest.param("0", True, (), SysctlVerdict.NONCOMPLIANT, remedies.APPLY, id="writable"),
        pytest.param("0", False, (), SysctlVerdict.NEEDS_MODULE_RELOAD, remedies.NEEDS_RELOAD, id="at the load alone"),
        pytest.param(
            "0", False, ("ip_vs",), SysctlVerdict.NEEDS_MODULE_RELOAD,
            remedies.COMMAND_LINE.format("ip_vs.conn_tab_bits=1"), id="built in",
        ),
    ],
)  # fmt: skip
def test_a_parameter(
    value: str, writable: bool, built_in: tuple[str, ...], verdict: SysctlVerdict, remedy: str
) -> None:
    wanted = wanted_sysctl("ip_vs.conn_tab_bits", provider="ip_vs")
    seen = observed(kernel(built_in=built_in))._replace(parameters={wanted.key: Parameter(value, writable)})
    found = judge_parameter(wanted, seen)
    assert (found.verdict, found.remedy) == (verdict, remedy)
