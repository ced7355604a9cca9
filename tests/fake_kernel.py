"""A kernel that obeys the rules of the real one, as far as the contract suite knows them, and can misbehave."""

from __future__ import annotations

import errno
import functools
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Optional

from ipvsd.kernel.module_loader import BlacklistedError, LoadError
from ipvsd.model.types import (
    MISSING,
    TRANSIENT_ERRNOS,
    Cause,
    Kernel,
    LoadBlocker,
    LoadRestrictions,
    ModuleState,
    Parameter,
    Reading,
    Unreadable,
)
from ipvsd.sysctl import sysctl_names, values
from ipvsd.sysctl.patterns import Matches, Patterns, merge

RELEASE = "6.1.0-50-cloud-amd64"
CONF_FILE = "/etc/modprobe.d/mine.conf:1"

SCHEDULERS = ("rr", "wrr", "lc", "wlc", "sh", "dh", "mh", "sed", "nq", "fo", "ovf", "lblc", "lblcr", "twos")

SETS = tuple(f"ip_set_{name}" for name in ("hash_ip", "hash_ipport", "hash_ipportip", "hash_ipportnet", "bitmap_port"))
EXTENSIONS = """
    xt_set xt_comment xt_mark xt_conntrack xt_addrtype xt_physdev xt_ipvs xt_MASQUERADE ipt_REJECT ip6t_REJECT
    xt_nat xt_tcpudp xt_statistic xt_recent xt_sctp xt_nfacct
""".split()
LEGACY_TABLES = ("iptable_nat", "iptable_filter", "iptable_mangle")
LEGACY_TABLES6 = ("ip6table_nat", "ip6table_filter", "ip6table_mangle")

DEPENDS: Mapping[str, tuple[str, ...]] = {
    "nf_conntrack": (), "ip_vs": ("nf_conntrack",), "ip_vs_ftp": ("ip_vs",),
    **{f"ip_vs_{name}": ("ip_vs",) for name in SCHEDULERS}, "br_netfilter": (), "dummy": (),
    "nf_conntrack_netlink": ("nf_conntrack",), "ip_set": (), **dict.fromkeys(SETS, ("ip_set",)),
    **dict.fromkeys(EXTENSIONS, ()), "xt_ipvs": ("ip_vs",), "nf_tables": (), "nft_compat": ("nf_tables",),
    "nft_chain_nat": ("nf_tables",), "ip_tables": (), **dict.fromkeys(LEGACY_TABLES, ("ip_tables",)), "ip6_tables": (),
    **dict.fromkeys(LEGACY_TABLES6, ("ip6_tables",)),
}  # fmt: skip
# The modules of a compliant node whose iptables uses nf_tables.
NODE = tuple(
    name
    for name in DEPENDS
    if name != "ip_vs_ftp" and not name.startswith(("ip_tables", "iptable_", "ip6_t", "ip6table_"))
)

VS = {
    "net.ipv4.vs.am_droprate": "10", "net.ipv4.vs.conntrack": "0", "net.ipv4.vs.conn_reuse_mode": "1",
    "net.ipv4.vs.expire_nodest_conn": "0", "net.ipv4.vs.expire_quiescent_template": "0", "net.ipv4.vs.sloppy_tcp": "0",
}  # fmt: skip

BROUGHT: Mapping[str, Mapping[str, str]] = {
    "ip_vs": VS,
    "nf_conntrack": {"net.netfilter.nf_conntrack_max": "65536", "net.nf_conntrack_max": "65536"},
    "br_netfilter": {"net.bridge.bridge-nf-call-iptables": "1", "net.bridge.bridge-nf-call-ip6tables": "1"},
}

FORWARD = "net.ipv4.ip_forward"

READS = ("kernel", "explain", "modules", "module_state", "read_sysctl", "expand", "read_parameter")

# Documentation/networking/ip-sysctl.rst: a change of ip_forward resets the sysctls below net.ipv4.conf.
CONF = {
    f"net.ipv4.conf.{interface}.{name}": "0"
    for interface in ("all", "default", "lo")
    for name in ("arp_ignore", "arp_announce")
}

# net/ipv4/devinet.c: a change of ip_forward is copied to these of every interface.
FORWARDING = {f"net.ipv4.conf.{interface}.forwarding": "0" for interface in ("default", "lo", "eth0")}

CORE = {FORWARD: "0", **CONF, **FORWARDING, "net.ipv4.tcp_rmem": "4096\t131072\t6291456"}


# Values of parameters as modules print them, and whether they are writable while the module is live.
PARAMETERS: Mapping[str, Mapping[str, str]] = {
    "ip_vs": {"conn_tab_bits": "12"},
    "nf_conntrack": {"hashsize": "16384", "expect_hashsize": "256"},
}
WRITABLE = {"nf_conntrack.hashsize"}


@functools.lru_cache(maxsize=256)
def _matching(patterns: tuple[str, ...], keys: tuple[str, ...]) -> Mapping[str, Collection[str]]:
    """Return the sysctls that match each pattern. Most calls repeat an earlier one."""
    index = Patterns(sysctl_names.globs(pattern) or () for pattern in patterns)
    names = dict.fromkeys(sysctl_names.normalised(key) or key for key in keys)
    found = ((name, index.matching_mask(path)) for name in names for path in sysctl_names.paths(name))
    return Matches(patterns, merge(found))


@dataclass
class FakeKernel:
    """Implements ipvsd.kernel.host.Host. The fields make it misbehave, by module or by sysctl."""

    release: str = RELEASE
    distribution: str = "debian"
    cpus: int = 2
    modular: bool = True
    indexed: bool = True
    depends: dict[str, tuple[str, ...]] = field(default_factory=lambda: dict(DEPENDS))
    built_in: set[str] = field(default_factory=set)
    states: dict[str, ModuleState] = field(default_factory=dict)
    values: dict[str, str] = field(default_factory=lambda: dict(CORE))
    parameters: dict[str, str] = field(default_factory=dict)

    blacklisted: set[str] = field(default_factory=set)
    broken: dict[str, int] = field(default_factory=dict)  # module: the errno with which the kernel rejects it
    made_for: dict[str, str] = field(default_factory=dict)  # module: the release of its file, if it differs
    strays: dict[str, str] = field(default_factory=dict)  # module: a file that the index does not list
    unset: dict[str, str] = field(default_factory=dict)  # module: the line of the build configuration
    aliases: dict[str, str] = field(default_factory=dict)
    lock: LoadRestrictions = field(default_factory=LoadRestrictions)
    vanishing: set[str] = field(default_factory=set)  # modules that load without an error but stay absent
    refused: dict[str, int] = field(default_factory=dict)  # sysctl: errno of a write
    unreadable: dict[str, int] = field(default_factory=dict)  # sysctl: errno of a read
    clamps: dict[str, Callable[[str], str]] = field(default_factory=dict)
    clobbers: set[str] = field(default_factory=set)  # sysctls whose value a refused write changes in part
    contested: dict[str, str] = field(default_factory=dict)  # sysctl: the value of another program after every write
    rival_writes: float = float("inf")  # the number of such writes
    failing: dict[str, int] = field(default_factory=dict)  # the failing call (READS, "write"): errno
    looks_until_gone: dict[str, int] = field(default_factory=dict)
    looks_until_live: dict[str, int] = field(default_factory=dict)

    # --- Host ---------------------------------------------------------------------------

    def kernel(self, names: Collection[str]) -> Kernel:
        self._ask("kernel")
        shipped = frozenset(names) & frozenset(self.depends) if self.indexed else frozenset[str]()
        built_in = frozenset(names) & frozenset(self.built_in)
        return Kernel(
            self.release, self.distribution, self.cpus, self.modular, self.indexed, shipped - built_in, built_in
        )

    def explain(self, kernel: Kernel, names: Collection[str]) -> Kernel:
        self._ask("explain")
        lines = {
            name: LoadBlocker(Cause.BLACKLIST, name, f"blacklist {name}", CONF_FILE)
            for name in self.blacklisted
            if name in names
        }
        aliases = {name: self.aliases[name] for name in names if name in self.aliases}
        return kernel._replace(
            loadable=kernel.loadable | (frozenset(aliases.values()) & frozenset(self.depends)),
            aliases=aliases,
            unindexed={name: self.strays[name] for name in names if name in self.strays},
            kconfig_unset={name: self.unset[name] for name in names if name in self.unset},
            has_own_modules=bool(self.strays),
            load_blockers=lines,
            restrictions=self.lock,
        )

    def module_state(self, name: str) -> Optional[ModuleState]:
        self._ask("module_state")
        return self.states.get(name)

    def modules(self, names: Collection[str]) -> Mapping[str, ModuleState]:
        self._ask("modules")
        seen = {name: state for name, state in self.states.items() if name in names and self.modular}
        self._time_passes()
        return seen

    def read_sysctl(self, key: str) -> Reading:
        number = self.unreadable.get(key) or self.failing.get("read_sysctl")
        if number:
            return Unreadable(os.strerror(number), number in TRANSIENT_ERRNOS)
        if key in self.values:
            return sysctl_names.canonical(self.values[key])
        if any(name.startswith(f"{key}.") for name in self.values):
            return Unreadable(os.strerror(errno.EISDIR))
        return MISSING

    def write_sysctl(self, key: str, value: str) -> None:
        self._ask("write")
        if key not in self.values:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if key in self.refused:
            raise OSError(self.refused[key], os.strerror(self.refused[key]))
        first, *rest = self.values[key].split() or [""]
        if key in self.clobbers and first != value.split(maxsplit=1)[0]:
            self.values[key] = "\t".join([value.split(maxsplit=1)[0], *rest])
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        if any(values.integer(word) is None for word in value.split()):
            raise OSError(errno.EINVAL, os.strerror(errno.EINVAL))
        self._store(key, self.clamps.get(key, str)("\t".join(value.split())))
        if key in self.contested and self.rival_writes > 0:
            self.rival_writes -= 1
            self._store(key, self.contested[key])

    def expand(self, patterns: Collection[str]) -> Mapping[str, Collection[str]]:
        if patterns:
            self._ask("expand")
        return _matching(tuple(patterns), tuple(self.values))

    def read_parameter(self, name: str) -> Parameter:
        number = self.failing.get("read_parameter")
        if number:
            return Parameter(Unreadable(os.strerror(number), number in TRANSIENT_ERRNOS))
        module = name.partition(".")[0]
        users = sum(module in self.depends[user] for user in self.states)
        return Parameter(self.parameters.get(name, MISSING), name in WRITABLE, users)

    def write_parameter(self, name: str, value: str) -> None:
        self._ask("write")
        if name not in self.parameters:
            raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT))
        if name not in WRITABLE:
            raise PermissionError(errno.EACCES, os.strerror(errno.EACCES))
        self.parameters[name] = self.clamps.get(name, str)(value)

    def load_module(self, name: str, options: Sequence[str] = ()) -> None:
        if name in self.built_in or self.states.get(name) in (ModuleState.LIVE, ModuleState.COMING):
            return
        if not self.modular or not self.indexed or name not in self.depends:
            raise LoadError("unknown module: not in the kernel's module index")
        if name in self.blacklisted:
            raise BlacklistedError
        if self.states.get(name) is ModuleState.GOING:
            raise LoadError(os.strerror(errno.EBUSY), errno.EBUSY)
        for needed in self.depends[name]:
            self.load_module(needed)
        if self.lock.disabled or self.lock.incapable:
            raise LoadError(os.strerror(errno.EPERM), errno.EPERM)
        if name in self.broken:
            raise LoadError(os.strerror(self.broken[name]), self.broken[name], self.made_for.get(name, self.release))
        if name not in self.vanishing:
            self._insert(name, options)

    # --- operations of other programs ---------------------------------------------------

    def unload(self, name: str, looks: int = 0) -> None:
        """Remove a module with its sysctls, like rmmod. During the first `looks` reads it is still unloading."""
        if any(name in self.depends[user] for user in self.states):
            raise OSError(errno.EBUSY, f"module {name} is in use")
        self._remove_sysctls(name)
        if looks:
            self.states[name] = ModuleState.GOING
            self.looks_until_gone[name] = looks
        else:
            del self.states[name]

    def unload_users(self, name: str) -> list[str]:
        """Remove the modules that depend on this one, and then this one. Return the names in this order."""
        gone = [user for user in self.states if name in self.depends[user]]
        for module in (*gone, name):
            self.unload(module)
        return [*gone, name]

    def unload_all(self) -> None:
        """Remove every module, users first."""
        while self.states:
            used = {needed for user in self.states for needed in self.depends[user]}
            self.unload(next(name for name in self.states if name not in used))

    def _ask(self, what: str) -> None:
        number = self.failing.get(what)
        if number:
            raise OSError(number, os.strerror(number), f"/fake/{what}")

    # --- internals ----------------------------------------------------------------------

    def _insert(self, name: str, options: Sequence[str]) -> None:
        known = PARAMETERS.get(name, {})
        said = dict(option.split("=", 1) for option in options)
        self.parameters.update({f"{name}.{key}": said.get(key, value) for key, value in known.items()})
        slow = name in self.looks_until_live
        self.states[name] = ModuleState.COMING if slow else ModuleState.LIVE
        self.values.update(BROUGHT.get(name, {}))

    def _remove_sysctls(self, name: str) -> None:
        for key in BROUGHT.get(name, {}):
            del self.values[key]
        for parameter in PARAMETERS.get(name, {}):
            del self.parameters[f"{name}.{parameter}"]

    def _store(self, key: str, value: str) -> None:
        changed = self.values[key] != value
        self.values[key] = value
        if key == FORWARD and changed:
            self.values.update(CONF)
            self.values.update((name, value) for name in self.values if name.endswith(".forwarding"))

    def _time_passes(self) -> None:
        for name in list(self.looks_until_gone):
            self.looks_until_gone[name] -= 1
            if not self.looks_until_gone[name]:
                del self.looks_until_gone[name]
                del self.states[name]
        for name in [name for name in self.looks_until_live if name in self.states]:
            self.looks_until_live[name] -= 1
            if not self.looks_until_live[name]:
                del self.looks_until_live[name]
                self.states[name] = ModuleState.LIVE
