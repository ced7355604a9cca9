"""The nouns: what is wanted, what was seen, what is to be done, what came of it.

Everything here is frozen: a Report handed to another thread is never changed, only replaced.
"""

from __future__ import annotations

import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Optional, Union

NOTHING: Mapping[str, Any] = MappingProxyType({})  # what a mapping is by default

# --- wanted ---------------------------------------------------------------------------


class Need(enum.Enum):
    """How much a wanted module matters."""

    REQUIRED = "required"  # its absence fails the node
    WANTED = "wanted"  # its absence degrades the node
    IF_SHIPPED = "if shipped"  # wanted only where this kernel has it


class Policy(enum.Enum):
    """What to do about a sysctl that differs."""

    ENFORCE = "enforce"
    OBSERVE = "observe"  # tell, never write
    YIELD = "yield"  # enforce, but leave it to another writer who fights for it


class Exactly(NamedTuple):
    """The value itself, white space normalised."""

    value: str

    def __str__(self) -> str:
        return self.value


class Within(NamedTuple):
    """Any integer not below `floor` and not above `ceiling`; None is no bound."""

    floor: Optional[int] = None
    ceiling: Optional[int] = None

    def __str__(self) -> str:
        low = "" if self.floor is None else f">= {self.floor}"
        high = "" if self.ceiling is None else f"<= {self.ceiling}"
        return " and ".join(filter(None, (low, high)))


class OneOf(NamedTuple):
    """Any of these values; the first one is what is written."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


Want = Union[Exactly, Within, OneOf]


class WantedModule(NamedTuple):
    """`origin` says who wants it: a profile, or FILE:LINE. Of `any_of`, one module suffices."""

    name: str
    need: Need
    origin: str
    any_of: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # PARAMETER=VALUE, for its loading
    kernel_since: tuple[int, int] = (0, 0)  # an older kernel will not do
    reason: str = ""  # the reason to want this one, where the profile had a choice


class WantedSysctl(NamedTuple):
    """A sysctl, or a parameter of a module. `provider` is the module that brings it into being, if one does.

    `pattern` is the pattern that fits it, if it is not wanted by its own name; where nothing fits a
    pattern, the pattern stands here as the key, too.
    """

    key: str
    want: Want
    policy: Policy
    required: bool  # its absence, too, fails the node
    origin: str
    provider: Optional[str] = None
    pattern: str = ""
    guard: bool = False  # the kernel is to refuse the writes of others


class Desired(NamedTuple):
    """`parameters` are those of modules, by the name MODULE.PARAMETER."""

    modules: tuple[WantedModule, ...]
    sysctls: tuple[WantedSysctl, ...]
    parameters: tuple[WantedSysctl, ...] = ()


# --- seen -----------------------------------------------------------------------------


class ModuleState(enum.Enum):
    """The state column of /proc/modules."""

    LIVE = "Live"
    COMING = "Loading"
    GOING = "Unloading"


class Cause(enum.Enum):
    """Why a module cannot be loaded, by what modprobe and the kernel do with what they find."""

    NOT_FOUND = "not found"  # it is named, and there is no such module
    ALIAS = "alias"  # a line of modprobe.d(5) makes its name that of a module that there is not
    FILE_GONE = "file gone"  # modules.dep lists it
    COMPRESSION = "compression"  # this libkmod cannot unpack the file
    BLACKLIST = "blacklist"  # a line of modprobe.d(5), or modprobe.blacklist=
    INSTALL = "install"  # a line of modprobe.d(5) runs a command in its place
    COMMAND_LINE = "command line"  # module_blacklist=: the kernel itself refuses it
    OPTIONS = "options"  # a line of modprobe.d(5) gives it a parameter that the kernel refuses


class LoadBlocker(NamedTuple):
    """What keeps a module out. `module` is the one that is kept out: what was asked for, or a dependency of it.

    `text` is the line or the file, `origin` FILE:LINE or /proc/cmdline where there is a line, and `detail` what in
    it is the trouble: the compression, or the parameter.
    """

    cause: Cause
    module: str
    text: str = ""
    origin: str = ""
    detail: str = ""


class LoadRestrictions(NamedTuple):
    """Why this kernel takes no module from us, or not every one."""

    disabled: bool = False  # kernel.modules_disabled is 1: none until the next boot
    incapable: bool = False  # CAP_SYS_MODULE is not in our bounding set: a container
    nested: bool = False  # we are in a user namespace, whose capabilities do not count for modules: a container
    signed: str = ""  # what demands a signature: lockdown, module.sig_enforce, Secure Boot


class Iptables(NamedTuple):
    """What the node's files tell of its iptables. Neither is known where there is nothing to read."""

    program: str = ""  # the program to which the name iptables leads: /usr/sbin/xtables-nft-multi
    tables: tuple[str, ...] = ()  # the tables of the legacy kind that exist: /proc/net/ip_tables_names


class Kernel(NamedTuple):
    """What changes under a running kernel only when someone installs modules or forbids them.

    The collections answer only for the names that were asked about, and under these names.
    """

    release: str
    distribution: str  # ID of os-release(5), or ""
    cpus: int
    modular: bool  # there is a /proc/modules
    indexed: bool  # the index in which libkmod finds modules (modules.dep.bin) can be read
    loadable: frozenset[str]
    built_in: frozenset[str]
    read_only: frozenset[str] = frozenset()  # "net" if /proc/sys/net is mounted read-only, "" if /proc/sys is
    aliases: Mapping[str, str] = NOTHING  # of a name that is no module's: the module
    has_own_modules: bool = True  # there is a module's file in the tree, listed or not, that came with the kernel
    unindexed: Mapping[str, str] = NOTHING  # the file that modules.dep does not list
    compressed: Mapping[str, str] = NOTHING  # how that file is compressed, if this system's kmod cannot read it
    kconfig_unset: Mapping[str, str] = NOTHING  # how the build configuration leaves it out
    built_in_evidence: Mapping[str, str] = NOTHING  # of what is built in: what says so, if it is not modules.builtin
    in_other_kernels: Mapping[str, tuple[str, ...]] = NOTHING  # the other installed kernels that have it
    other_releases: tuple[str, ...] = ()  # the releases of which there are module trees
    load_blockers: Mapping[str, LoadBlocker] = NOTHING  # by the name of the module
    install_commands: Mapping[str, LoadBlocker] = NOTHING  # an install line that is run for it, and may load it
    pulled_in_by: Mapping[str, str] = NOTHING  # of what is blacklisted: the wanted module that needs it and loads it
    restrictions: LoadRestrictions = LoadRestrictions()
    iptables: Iptables = Iptables()
    ipv6: bool = True  # neither left out nor switched off
    unreadable: str = ""  # FILE: REASON of what could not be read just now

    def module(self, name: str) -> str:
        """Return the module that a name stands for: itself, unless it is an alias."""
        return self.aliases.get(name, name)

    def writable(self, key: str) -> bool:
        """Tell whether a sysctl can be written as far as the mount of /proc/sys goes."""
        return ("net" if key.startswith("net.") else "") not in self.read_only


class Missing:
    """The sysctl has no file; the only one is MISSING."""


MISSING = Missing()


# Errors of a machine or a process that is short of something, whatever the item is.
TRANSIENT_ERRNOS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN))


class Unreadable(NamedTuple):
    """`transient` says that the machine or this process is short of something for a moment, or for longer."""

    reason: str
    transient: bool = False


Reading = Union[str, Missing, Unreadable]


class Parameter(NamedTuple):
    """A parameter of a module as it is now. `users` counts what keeps the module from being unloaded."""

    reading: Reading
    writable: bool = False
    users: int = 0


class Observed(NamedTuple):
    kernel: Kernel
    modules: Mapping[str, ModuleState]
    sysctls: Mapping[str, Reading]
    parameters: Mapping[str, Parameter] = NOTHING
    failed: Mapping[str, str] = NOTHING  # by what was wanted: the module tried in vain


# --- found ----------------------------------------------------------------------------


class ModuleVerdict(enum.Enum):
    LIVE = "live"
    BUILT_IN = "built in"
    LOADING = "loading"
    UNLOADING = "unloading"
    LOADABLE = "loadable"
    UNREADABLE = "unreadable"
    ABSENT = "absent"
    NOT_BUILT = "not built"
    MERGED = "merged"
    INDEX_STALE = "index stale"
    NO_INDEX = "no index"
    FILE_GONE = "file gone"
    COMPRESSION = "unreadable compression"
    KERNEL_TOO_OLD = "kernel too old"
    TREE_GONE = "module tree gone"
    NO_SUPPORT = "no module support"
    OTHER_KERNEL = "made for another kernel"
    BLACKLISTED = "blacklisted"
    OVERRIDDEN = "overridden"
    OPTIONS = "bad options"
    SIGNATURE = "refused: signature"
    DISABLED = "refused: modules_disabled"
    INCAPABLE = "refused: no capability"
    FAILED = "failed"


class SysctlVerdict(enum.Enum):
    RIGHT = "right"
    WRONG = "wrong"
    NOT_KEPT = "not kept"
    CONTENDED = "contended"
    YIELDED = "yielded"
    NEEDS_RELOAD = "needs a reload"
    REFUSED = "refused"
    UNREADABLE = "unreadable"
    PENDING = "pending"
    UNSUPPORTED = "unsupported"


class LastVerdict(NamedTuple):
    """The last verdict on what cannot be read any more, and its time, in seconds since the epoch.

    `valid` says that it was right, and is not too old to be believed.
    """

    verdict: Union[ModuleVerdict, SysctlVerdict]
    time: float
    valid: bool


class ModuleFinding(NamedTuple):
    """`module` is the one that the verdict is about, where `wanted` names an alias or alternatives."""

    wanted: WantedModule
    verdict: ModuleVerdict
    evidence: str
    remedy: str = ""
    module: str = ""
    last: Optional[LastVerdict] = None

    @property
    def name(self) -> str:
        return self.wanted.name

    @property
    def compliant(self) -> bool:
        return self.verdict in (ModuleVerdict.LIVE, ModuleVerdict.BUILT_IN)


class SysctlFinding(NamedTuple):
    """`members` is how many are right, and how many there are, where all that a pattern fits are told of as one."""

    wanted: WantedSysctl
    found: Optional[str]
    verdict: SysctlVerdict
    evidence: str
    remedy: str = ""
    members: tuple[int, int] = (0, 0)
    last: Optional[LastVerdict] = None

    @property
    def name(self) -> str:
        return self.wanted.key

    @property
    def compliant(self) -> bool:
        return self.verdict is SysctlVerdict.RIGHT

    @property
    def missing(self) -> bool:
        return self.verdict in (SysctlVerdict.PENDING, SysctlVerdict.UNSUPPORTED)


Finding = Union[ModuleFinding, SysctlFinding]


# --- done -----------------------------------------------------------------------------


class LoadModule(NamedTuple):
    """Load `module`, or where that is empty `name`, which is the wanted one's."""

    name: str
    module: str = ""
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"load module {self.module} for {self.name}" if self.module else f"load module {self.name}"


class WriteSysctl(NamedTuple):
    """Turn `found` into `value`; keeping `found` lets a repair explain itself."""

    name: str
    found: str
    value: str

    def __str__(self) -> str:
        return f"set {self.name} from {self.found!r} to {self.value!r}"


class WriteParameter(WriteSysctl):
    """The same for a parameter of a live module; the name is MODULE.PARAMETER."""


Action = Union[LoadModule, WriteSysctl]


class Plan(NamedTuple):
    """Everything that was judged, and the smallest set of actions that makes it right."""

    actions: tuple[Action, ...]
    modules: tuple[ModuleFinding, ...]
    sysctls: tuple[SysctlFinding, ...]
    parameters: tuple[SysctlFinding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (*self.modules, *self.parameters, *self.sysctls)


class Outcome(NamedTuple):
    """What the kernel said to one action; no error is not yet proof (see Report).

    `errno` is 0 where there is none; `built_for` is the kernel release of a module that was refused.
    `kept` says of a write that it was read back at once: if it is wrong later on, another one wrote.
    """

    action: Action
    error: str = ""
    errno: int = 0
    built_for: str = ""
    kept: bool = False
