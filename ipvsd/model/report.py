"""The report of a reconciliation. All values are frozen, because other threads read them."""

# No `from __future__ import annotations`: NamedTuple would compile each field's text at import.

import enum
from collections.abc import Mapping, Sequence
from typing import NamedTuple, Optional

from ipvsd.model.types import NOTHING, Kernel, ModuleFinding, RootKind, SysctlFinding


class Writer(NamedTuple):
    """A process that wrote a sysctl or unloaded a module. Unknown fields are empty, and `pid` is 0.

    It has no command line, because all users can read a report, and hidepid= (proc(5)) hides command lines.
    """

    pid: int
    comm: str
    unit: str = ""
    container: str = ""  # the ID of the container
    pod: str = ""  # the UID of the pod

    def __str__(self) -> str:
        process = f"{self.comm or 'a process'}[{self.pid}]" if self.pid else "a process"
        origin = f"pod {self.pod}" if self.pod else f"container {self.container[:12]}" if self.container else self.unit
        return f"{process} of {origin}" if origin else process


UNKNOWN = "unknown"  # the writer, if it is unknown


class Attribution(enum.Enum):
    """Certain: only this process wrote the value to this sysctl, in this network namespace. Likely: evidence fits."""

    CERTAIN = "certain"
    LIKELY = "likely"
    UNKNOWN = "unknown"

    def describe(self, writer_text: str) -> str:
        writer = "an unknown process" if writer_text == UNKNOWN else writer_text
        return f"probably by {writer}" if self is Attribution.LIKELY else f"by {writer}"


class Repair(NamedTuple):
    """An action that a later observation verified, `seconds` after the event.

    `writer_text` names whoever made the drift: the writer if there is one, "the kernel" or "unknown".
    """

    name: str
    actual: str
    desired: str
    time: float  # seconds since the epoch
    seconds: float
    before: str = ""  # the value that the writer replaced, if known
    writer_text: str = UNKNOWN
    writer: Optional[Writer] = None
    attribution: Attribution = Attribution.UNKNOWN

    @property
    def attribution_text(self) -> str:
        return self.attribution.describe(self.writer_text)

    def __str__(self) -> str:
        return f"{self.name} {self.actual} -> {self.desired}"


class State(enum.Enum):
    """The state of the node. The comments are the text of ipvsd(8), in scdoc(5) ('make tables')."""

    # Every required item is compliant, and there is no other problem.
    READY = "ready"
    # Every required item is compliant, but an optional item is not.
    DEGRADED = "degraded"
    # A required item is not compliant.
    FAILED = "failed"


class Health(NamedTuple):
    """`summary` is one line of ASCII; `exit_code` is 0 right, 1 not, 2 cannot tell."""

    state: State
    summary: str
    exit_code: int


class SourceState(NamedTuple):
    """`events_lost` counts lost events, or reports of such a loss, since the start. None means that it is unknown."""

    name: str
    up: bool
    detail: str
    events_lost: Optional[int] = 0


class Ipvs(NamedTuple):
    """The reply of the kernel's IPVS over generic netlink. `up` is None if there was no query."""

    up: Optional[bool] = None
    version: str = ""
    table_size: int = 0
    detail: str = "not queried"


class Histogram(NamedTuple):
    """The number of observations in each bucket (not cumulative), and their sum in seconds."""

    counts: tuple[int, ...]
    total: float = 0.0


class CounterValues(NamedTuple):
    """Counters since the start, by module and by sysctl."""

    loads: Mapping[str, int]
    load_failures: Mapping[str, int]
    unloads: Mapping[str, int]
    drifts: Mapping[str, int]
    repairs: Mapping[str, int]
    repair_failures: Mapping[str, int]
    repair_seconds: Histogram
    reconciliations: int
    reconciliation_seconds: Histogram
    tables_lost: int = 0  # losses of all virtual services of IPVS


class ConfigState(NamedTuple):
    """The active configuration. `errors` are those of a newer one that was rejected."""

    hash: str
    profiles: tuple[str, ...]
    files: tuple[str, ...]
    interval: float
    errors: tuple[str, ...] = ()


class ContendedSysctl(NamedTuple):
    """A sysctl that another program changes repeatedly. `yielded` means that ipvsd leaves it to that program."""

    name: str
    conflicting_program: str
    yielded: bool
    attribution: Attribution = Attribution.UNKNOWN


class Operation(enum.Enum):
    """Operations of ipvsd itself that can fail while the node is compliant."""

    LISTEN = "listen"
    LOAD_WEB_CONFIGURATION = "load_web_configuration"
    WRITE_TEXTFILE = "write_textfile"
    STORE_CONFIGURATION = "store_configuration"
    WRITE_STATUS = "write_status"
    WRITE_HISTORY = "write_history"


class NoteKind(enum.Enum):
    """The kinds of notes, as labels of a metric. The comments are the text of docs/metrics.md ('make tables').

    A note that another metric implies has no kind.
    """

    # The configured version of kube-proxy deprecates IPVS mode, disables it by default, or does not have it.
    IPVS_MODE_DEPRECATED = "ipvs_mode_deprecated"
    # The kernel refuses no write to a guarded sysctl, because the BPF program is not attached.
    GUARD_WITHOUT_EFFECT = "guard_without_effect"
    # A newer configuration is not active yet, because a file is being written, or is missing or empty.
    CONFIGURATION_INCOMPLETE = "configuration_incomplete"
    # An interface loses its IPv6 default route, because the node forwards packets.
    ROUTES_IGNORED = "routes_ignored"
    # systemd-modules-load cannot load a module at the next boot, or a file of it is unreadable.
    BOOT_LINE_FAILS = "boot_line_fails"
    # A file that is needed for one of these checks is unreadable.
    CHECK_FAILED = "check_failed"


class KubeProxyState(NamedTuple):
    """The answers of kube-proxy. `up` is None if that is unknown. An unknown mode is empty."""

    up: Optional[bool] = None
    mode: str = ""
    requested_mode: str = ""


class InstalledKernel(NamedTuple):
    """A kernel in /lib/modules, with the verdicts under it, and the lines that fail at its boot."""

    release: str
    running: bool
    boots_next: bool  # the next boot uses it
    modules: tuple[ModuleFinding, ...]
    notes: tuple[str, ...] = ()


class Report(NamedTuple):
    """One finished reconciliation."""

    time: float  # seconds since the epoch
    boottime: float  # CLOCK_BOOTTIME, seconds
    kernel: Kernel
    modules: tuple[ModuleFinding, ...]
    sysctls: tuple[SysctlFinding, ...]  # those of one pattern are combined
    health: Health
    counters: CounterValues
    parameters: tuple[SysctlFinding, ...] = ()
    repairs: tuple[Repair, ...] = ()  # the last ones, oldest first
    sources: tuple[SourceState, ...] = ()
    ipvs: Ipvs = Ipvs()
    config: Optional[ConfigState] = None
    kernels: tuple[InstalledKernel, ...] = ()
    backend: str = ""  # the mechanism that reports writes to sysctls: bpf, inotify or periodic
    contended: tuple[ContendedSysctl, ...] = ()
    refusals: Mapping[str, int] = NOTHING  # writes to guarded sysctls, by name
    notes: tuple[str, ...] = ()  # facts that do not change the state
    root_kind: RootKind = RootKind.RUNNING_KERNEL
    age: float = 0.0  # seconds since the reconciliation when the report is served
    failures: Mapping[str, str] = NOTHING  # the failure of ipvsd's last attempt, by Operation
    note_kinds: frozenset[NoteKind] = frozenset()
    kube_proxy: KubeProxyState = KubeProxyState()
    persisted_files_current: Optional[bool] = None  # None if there are none, or if they cannot be compared
    config_loaded_at: Optional[float] = None  # seconds since the epoch; None if no configuration was valid
    web_certificate_expiry: Optional[float] = None  # seconds since the epoch; None without TLS

    def add_notes(self, kind: Optional[NoteKind], notes: Sequence[str]) -> "Report":
        """Return the report with further notes of a kind, or without one."""
        if not notes:
            return self
        kinds = self.note_kinds if kind is None else self.note_kinds | {kind}
        return self._replace(notes=(*self.notes, *notes), note_kinds=kinds)

    @property
    def events_lost(self) -> int:
        return sum(source.events_lost or 0 for source in self.sources)
