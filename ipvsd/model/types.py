"""Types for the desired state, the actual state, findings, and actions with their outcomes. All values are frozen."""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

import enum
import errno
from collections.abc import Mapping
from types import MappingProxyType
from typing import Any, NamedTuple, Optional, Union

from ipvsd.model.verdicts import ModuleVerdict, SysctlVerdict

NOTHING: Mapping[str, Any] = MappingProxyType({})  # the default of a mapping

# --- desired state --------------------------------------------------------------------


class Need(enum.Enum):
    REQUIRED = "required"  # the node is failed without it
    OPTIONAL = "optional"  # the node is degraded without it
    IF_SHIPPED = "if_shipped"  # desired only where this kernel has it


class Policy(enum.Enum):
    ENFORCE = "enforce"
    OBSERVE = "observe"  # report, never write
    YIELD = "yield"  # enforce, but leave a contended sysctl to the other program


class Exactly(NamedTuple):
    value: str  # with normalised white space

    def __str__(self) -> str:
        return self.value


class Within(NamedTuple):
    """Any integer from `floor` to `ceiling`; None is no bound."""

    floor: Optional[int] = None
    ceiling: Optional[int] = None

    def __str__(self) -> str:
        low = "" if self.floor is None else f">= {self.floor}"
        high = "" if self.ceiling is None else f"<= {self.ceiling}"
        return " and ".join(filter(None, (low, high)))


class OneOf(NamedTuple):
    """Any of these values. ipvsd writes the first one."""

    values: tuple[str, ...]

    def __str__(self) -> str:
        return f"one of {', '.join(self.values)}"


Want = Union[Exactly, Within, OneOf]


class DesiredModule(NamedTuple):
    """A module of the desired state. `origin` is a profile, or FILE:LINE. One module of `any_of` suffices."""

    name: str
    need: Need
    origin: str
    any_of: tuple[str, ...] = ()
    options: tuple[str, ...] = ()  # PARAMETER=VALUE, used when it is loaded
    kernel_since: tuple[int, int] = (0, 0)  # an older kernel is not supported
    reason: str = ""  # the reason for this one if the profile had a choice


class DesiredSysctl(NamedTuple):
    """A sysctl, or a parameter of a module. `provider` is the module that brings it into being, if one does.

    `pattern` is the pattern that it matches, unless it is named directly, or the key itself if nothing matches it.
    """

    key: str
    want: Want
    policy: Policy
    required: bool  # the node is failed without it, even if it does not exist
    origin: str
    provider: Optional[str] = None
    pattern: str = ""
    guard: bool = False  # the kernel refuses writes of other programs


class Desired(NamedTuple):
    """`parameters` are those of modules, named MODULE.PARAMETER."""

    modules: tuple[DesiredModule, ...]
    sysctls: tuple[DesiredSysctl, ...]
    parameters: tuple[DesiredSysctl, ...] = ()


# --- actual state ---------------------------------------------------------------------


class ModuleState(enum.Enum):
    """The state column of /proc/modules."""

    LIVE = "Live"
    COMING = "Loading"
    GOING = "Unloading"


class Cause(enum.Enum):
    """The reason why a module cannot be loaded, from the rules of modprobe and the kernel."""

    NOT_FOUND = "not_found"  # the name is unknown
    ALIAS = "alias"  # a line of modprobe.d(5) makes its name an alias of a module that does not exist
    FILE_MISSING = "file_missing"  # modules.dep lists a file that does not exist
    COMPRESSION = "compression"  # this libkmod cannot decompress the file
    BLACKLIST = "blacklist"  # a line of modprobe.d(5), or modprobe.blacklist=
    INSTALL = "install"  # a line of modprobe.d(5) runs a command in its place
    COMMAND_LINE = "command_line"  # module_blacklist=: the kernel itself refuses it
    OPTIONS = "options"  # a line of modprobe.d(5) gives it a parameter that the kernel refuses


class LoadBlocker(NamedTuple):
    """An obstacle to loading a module. `module` is the requested module, or one of its dependencies.

    `text` is the line or the file. `origin` is FILE:LINE or /proc/cmdline if there is a line. `detail` is the part
    that causes the problem: the compression, or the parameter.
    """

    cause: Cause
    module: str
    text: str = ""
    origin: str = ""
    detail: str = ""


class LoadRestrictions(NamedTuple):
    """The reasons why this kernel accepts no modules from ipvsd, or only some."""

    disabled: bool = False  # kernel.modules_disabled is 1: none until the next boot
    incapable: bool = False  # CAP_SYS_MODULE is not in the bounding set: a container
    nested: bool = False  # ipvsd is in a user namespace, whose capabilities do not permit loading modules: a container
    signed: str = ""  # the cause that requires a signature: lockdown, module.sig_enforce, Secure Boot


class Iptables(NamedTuple):
    """The node's iptables, according to its files. Fields without a readable file are empty."""

    program: str = ""  # the program that the name iptables leads to: /usr/sbin/xtables-nft-multi
    tables: tuple[str, ...] = ()  # the existing legacy tables: /proc/net/ip_tables_names


class RootKind(enum.Enum):
    """The kernel that applies to a root. Verdicts of different kinds are never mixed."""

    RUNNING_KERNEL = "running_kernel"  # the kernel of this machine, and its files
    OTHER_TREE = "other_tree"  # the /proc, /sys and files of another machine, under a directory
    FIRST_BOOT = "first_boot"  # an image without a running kernel: the state after its first boot


class Kernel(NamedTuple):
    """Facts about a kernel that change only when someone installs or blocks modules, for the queried names only."""

    release: str
    distribution: str  # ID of os-release(5), or ""
    cpus: int
    modular: bool  # /proc/modules exists
    indexed: bool  # libkmod's index of modules (modules.dep.bin) is readable
    loadable: frozenset[str]
    built_in: frozenset[str]
    read_only: frozenset[str] = frozenset()  # "net" if /proc/sys/net is mounted read-only, "" if /proc/sys is
    aliases: Mapping[str, str] = NOTHING  # the module of a name that is an alias
    has_own_modules: bool = True  # the tree contains a module file of the kernel itself, listed or not
    unindexed: Mapping[str, str] = NOTHING  # the file that modules.dep does not list
    compressed: Mapping[str, str] = NOTHING  # the compression of that file, if this system's kmod cannot read it
    kconfig_unset: Mapping[str, str] = NOTHING  # the reason why the build configuration excludes it
    built_in_evidence: Mapping[str, str] = NOTHING  # the evidence that it is built in, if not modules.builtin
    in_other_kernels: Mapping[str, tuple[str, ...]] = NOTHING  # the other installed kernels that have it
    other_releases: tuple[str, ...] = ()  # the releases with module trees
    load_blockers: Mapping[str, LoadBlocker] = NOTHING  # by the name of the module
    install_commands: Mapping[str, LoadBlocker] = NOTHING  # an install line that runs for it, and may load it
    pulled_in_by: Mapping[str, str] = NOTHING  # if blacklisted: the desired module that needs and loads it
    restrictions: LoadRestrictions = LoadRestrictions()
    iptables: Iptables = Iptables()
    ipv6: bool = True  # neither left out of the build nor disabled
    unreadable: str = ""  # FILE: REASON of a failed read

    def module(self, name: str) -> str:
        """Return the module that a name resolves to."""
        return self.aliases.get(name, name)

    def writable(self, key: str) -> bool:
        return ("net" if key.startswith("net.") else "") not in self.read_only


class Missing:
    """The sysctl has no file. MISSING is the only instance."""


MISSING = Missing()


# Errors because the machine or the process lacks a resource. They are independent of the item.
TRANSIENT_ERRNOS = frozenset((errno.EMFILE, errno.ENFILE, errno.ENOMEM, errno.EINTR, errno.EAGAIN))


class Unreadable(NamedTuple):
    """`transient` means that the machine or this process lacks a resource."""

    reason: str
    transient: bool = False


Reading = Union[str, Missing, Unreadable]


class Parameter(NamedTuple):
    """The current state of a module's parameter. `users` is the number of references that block an unload."""

    reading: Reading
    writable: bool = False
    users: int = 0


class Observed(NamedTuple):
    kernel: Kernel
    modules: Mapping[str, ModuleState]
    sysctls: Mapping[str, Reading]
    parameters: Mapping[str, Parameter] = NOTHING
    failed: Mapping[str, str] = NOTHING  # by name of the desired item: the module that failed to load


# --- findings -------------------------------------------------------------------------


class LastVerdict(NamedTuple):
    """The last verdict on an unreadable item. `time` is in seconds since the epoch."""

    verdict: Union[ModuleVerdict, SysctlVerdict]
    time: float
    valid: bool  # the item was compliant, and recently enough


class ModuleFinding(NamedTuple):
    """`module` is the one that the verdict is about, where `desired` names an alias or alternatives."""

    desired: DesiredModule
    verdict: ModuleVerdict
    evidence: str
    remedy: str = ""
    module: str = ""
    last_verdict: Optional[LastVerdict] = None

    @property
    def name(self) -> str:
        return self.desired.name

    @property
    def compliant(self) -> bool:
        return self.verdict in (ModuleVerdict.LIVE, ModuleVerdict.BUILT_IN)


class SysctlFinding(NamedTuple):
    """`members` are the compliant and all sysctls that match a pattern, if their findings are combined.

    It is `transient` if a shortage of this machine is the cause, and not the item itself.
    """

    desired: DesiredSysctl
    actual: Optional[str]
    verdict: SysctlVerdict
    evidence: str
    remedy: str = ""
    members: tuple[int, int] = (0, 0)
    last_verdict: Optional[LastVerdict] = None
    transient: bool = False

    @property
    def name(self) -> str:
        return self.desired.key

    @property
    def compliant(self) -> bool:
        return self.verdict is SysctlVerdict.COMPLIANT

    @property
    def missing(self) -> bool:
        return self.verdict in (SysctlVerdict.PENDING, SysctlVerdict.UNSUPPORTED)


Finding = Union[ModuleFinding, SysctlFinding]


# --- actions --------------------------------------------------------------------------


class LoadModule(NamedTuple):
    """Load `module`, or `name` if that is empty. `name` is the desired module."""

    name: str
    module: str = ""
    options: tuple[str, ...] = ()

    def __str__(self) -> str:
        return f"load module {self.module} for {self.name}" if self.module else f"load module {self.name}"


class WriteSysctl(NamedTuple):
    name: str
    actual: str
    value: str

    def __str__(self) -> str:
        return f"set {self.name} from {self.actual!r} to {self.value!r}"


class WriteParameter(WriteSysctl):
    """Write the parameter of a live module. The name is MODULE.PARAMETER."""


Action = Union[LoadModule, WriteSysctl]


class Plan(NamedTuple):
    """All findings, and the smallest set of actions that makes the items compliant."""

    actions: tuple[Action, ...]
    modules: tuple[ModuleFinding, ...]
    sysctls: tuple[SysctlFinding, ...]
    parameters: tuple[SysctlFinding, ...] = ()

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (*self.modules, *self.parameters, *self.sysctls)


class Outcome(NamedTuple):
    """The result of one action. The absence of an error is no proof.

    `built_for` is the kernel release of a rejected module. `kept` is True if a written value was read back at once; if
    it differs later, another program wrote it. It is False if another value was read, and None if there was none: the
    sysctl disappeared with its interface or is unreadable.
    """

    action: Action
    error: str = ""
    errno: int = 0
    built_for: str = ""
    kept: Optional[bool] = None

    @property
    def clamped(self) -> bool:
        """Whether the kernel did not keep a written value. The value of a parameter is not read back at once."""
        return self.kept is False or (isinstance(self.action, WriteParameter) and not self.error)
