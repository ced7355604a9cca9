"""What is told of a look: the node's health, what has happened so far, and the Report that holds all of it.

Everything here is frozen: a Report handed to another thread is never changed, only replaced.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from typing import NamedTuple, Optional

from ipvsd.model.types import NOTHING, Finding, Kernel, ModuleFinding, SysctlFinding


class Writer(NamedTuple):
    """A process that wrote a sysctl or unloaded a module. Unknown fields are empty, and `pid` is 0.

    It has no arguments: hidepid= (proc(5)) keeps those of others from everybody but root, and everybody reads this.
    """

    pid: int
    comm: str
    unit: str = ""
    container: str = ""  # the container's id
    pod: str = ""  # the pod's UID

    def __str__(self) -> str:
        process = f"{self.comm or 'a process'}[{self.pid}]" if self.pid else "a process"
        origin = f"pod {self.pod}" if self.pod else f"container {self.container[:12]}" if self.container else self.unit
        return f"{process} of {origin}" if origin else process


UNKNOWN = "unknown"  # whoever made a drift


class Attribution(enum.Enum):
    """How sure it is who made a drift.

    Certain: this process wrote the value that was found, to this sysctl of this network namespace, and no other
    process did. Likely: all that is known speaks for it.
    """

    CERTAIN = "certain"
    LIKELY = "likely"
    UNKNOWN = "unknown"

    def describe(self, who: str) -> str:
        """Return the words for a sentence."""
        return f"probably by {who}" if self is Attribution.LIKELY else f"by {who}"


class Repair(NamedTuple):
    """One action that the look after it proved. `seconds` runs from the event to that look.

    `who` names whoever made the drift: the writer if there is one, "the kernel" or "unknown".
    """

    name: str
    found: str
    wanted: str
    time: float  # seconds since the epoch
    seconds: float
    before: str = ""  # the value that the writer found, where it was seen
    who: str = UNKNOWN
    writer: Optional[Writer] = None
    attribution: Attribution = Attribution.UNKNOWN

    @property
    def attribution_text(self) -> str:
        """Whoever made the drift, in the words of a sentence."""
        return self.attribution.describe(self.who)

    def __str__(self) -> str:
        return f"{self.name} {self.found} -> {self.wanted}"


class State(enum.Enum):
    READY = "ready"
    DEGRADED = "degraded"
    FAILED = "failed"


class Health(NamedTuple):
    """`line` is one line of ASCII; `exit_code` is 0 right, 1 not, 2 cannot tell."""

    state: State
    line: str
    exit_code: int


class SourceState(NamedTuple):
    """`lost` counts the events that it lost since the start, or None where it cannot tell.

    Where the kernel says only that some were lost, each time counts as one.
    """

    name: str
    up: bool
    detail: str
    lost: Optional[int] = 0


class Ipvs(NamedTuple):
    """What the kernel's IPVS answered over generic netlink; `up` is None when it was not asked."""

    up: Optional[bool] = None
    version: str = ""
    table_size: int = 0
    detail: str = "not asked"


class Histogram(NamedTuple):
    """Observations counted per bucket (not cumulated), and their sum in seconds."""

    counts: tuple[int, ...]
    total: float = 0.0


class CounterValues(NamedTuple):
    """What has happened since the start, by module and by sysctl name."""

    loads: Mapping[str, int]
    load_failures: Mapping[str, int]
    unloads: Mapping[str, int]
    drifts: Mapping[str, int]
    repairs: Mapping[str, int]
    repair_failures: Mapping[str, int]
    repair_seconds: Histogram
    looks: int
    look_seconds: Histogram


class ConfigState(NamedTuple):
    """The configuration at work; `errors` are those of a newer one that was refused."""

    hash: str
    profiles: tuple[str, ...]
    files: tuple[str, ...]
    interval: float
    errors: tuple[str, ...] = ()


class ContendedSysctl(NamedTuple):
    """A sysctl that another writer changes again and again; `yielded` says that it is left to it for good."""

    name: str
    rival: str
    yielded: bool
    attribution: Attribution = Attribution.UNKNOWN


class Operation(enum.Enum):
    """What ipvsd does for itself, and may fail at while the node is right."""

    LISTEN = "listen"
    KEEP_CONFIGURATION = "keep_configuration"
    WRITE_STATUS = "write_status"
    WRITE_HISTORY = "write_history"


class RootKind(enum.Enum):
    """By which kernel a root is judged. The verdicts on several of them never mix."""

    RUNNING_KERNEL = "running_kernel"  # the kernel of this machine, and its files
    OTHER_TREE = "other_tree"  # the /proc, /sys and files of another machine, below a directory
    FIRST_BOOT = "first_boot"  # an image in which no kernel runs: the state after its first boot


class InstalledKernel(NamedTuple):
    """A kernel in /lib/modules, with the verdicts as they would be under it, and the lines that fail at its boot."""

    release: str
    running: bool
    boots_next: bool  # the next boot takes it
    modules: tuple[ModuleFinding, ...]
    notes: tuple[str, ...] = ()


class Report(NamedTuple):
    """One finished look-decide-act-look: what was wanted, seen and done, and when."""

    time: float  # seconds since the epoch
    boottime: float  # CLOCK_BOOTTIME, seconds
    kernel: Kernel
    modules: tuple[ModuleFinding, ...]
    sysctls: tuple[SysctlFinding, ...]  # those of one pattern as one
    health: Health
    counters: CounterValues
    parameters: tuple[SysctlFinding, ...] = ()
    repairs: tuple[Repair, ...] = ()  # the last ones, oldest first
    sources: tuple[SourceState, ...] = ()
    ipvs: Ipvs = Ipvs()
    config: Optional[ConfigState] = None
    kernels: tuple[InstalledKernel, ...] = ()
    backend: str = ""  # how writes to sysctls are seen: bpf, inotify or periodic
    contended: tuple[ContendedSysctl, ...] = ()
    refusals: Mapping[str, int] = NOTHING  # writes to guarded sysctls, by name
    notes: tuple[str, ...] = ()  # what a person should know besides
    root_kind: RootKind = RootKind.RUNNING_KERNEL
    age: float = 0.0  # seconds since the look, when this is served
    failures: Mapping[str, str] = NOTHING  # by Operation: what ipvsd itself failed at when it last tried, and why

    @property
    def lost(self) -> int:
        """The number of events for which the kernel had no room, whatever their source."""
        return sum(source.lost or 0 for source in self.sources)

    @property
    def findings(self) -> tuple[Finding, ...]:
        return (*self.modules, *self.parameters, *self.sysctls)
