"""Report writes to sysctls by every process of the machine, with the writer, through a BPF program on the root cgroup.

The program reports a write just before the kernel stores the value, also in other network namespaces. So only
reading our own sysctl shows whether it is compliant. All operations that need a capability happen while the program
is attached. Shared memory then controls what it reports.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import os
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Optional

from ipvsd.bpf import syscall, sysctl_program
from ipvsd.bpf.allowlist import Allowlist
from ipvsd.bpf.asm import assemble
from ipvsd.bpf.ringbuf import RingBuffer
from ipvsd.kernel.processes import ProcessResolver
from ipvsd.model.events import Write
from ipvsd.model.report import SourceState, Writer
from ipvsd.runtime import rootfs
from ipvsd.runtime.event_loop import EventLoop, ReasonKind
from ipvsd.sysctl import sysctl_names
from ipvsd.watch.event_source import EventSink, Targets
from ipvsd.watch.unit_cgroups import UnitCgroups

RING_BYTES = 1 << 16  # bytes
_MAX_MOUNTS_BYTES = 1 << 24  # bytes; a node has some mounts for each container
# Seconds until a reconciliation searches for lost events. At once, it would lose more events while it runs.
_LOST_DELAY = 1.0


class SysctlBpf:
    """Delivers an event for each sysctl that is written, with the writes and their writers."""

    def __init__(self, loop: EventLoop, sink: EventSink, root: str = "/") -> None:
        self._loop, self._sink, self._root = loop, sink, root
        self._stack = contextlib.ExitStack()
        self._ring: Optional[RingBuffer] = None
        self._names: dict[bytes, str] = {}
        self._marks: dict[int, int] = {}
        self._own: Sequence[int] = ()
        self._units: Optional[UnitCgroups] = None
        self.guards = False
        self._lost, self._reported_lost, self._lost_pending = 0, 0, False
        self.detail = "not started"

    def attach(self) -> bool:
        """Attach the program. If this fails, `detail` contains the reason, and no resource is left open."""
        try:
            with contextlib.ExitStack() as stack:
                self._attach(stack)
                self._stack = stack.pop_all()
        except OSError as error:
            self._ring = None
            self.detail = f"cannot use BPF: {error.strerror or error}"
            return False
        return True

    def _attach(self, stack: contextlib.ExitStack) -> None:
        cgroup_root = find_cgroup_root(self._root)
        if not cgroup_root:
            raise OSError(0, "cgroup v2 is not mounted")
        ring = RingBuffer("ipvsd_ring", RING_BYTES)
        stack.callback(ring.close)
        width = 8 * sysctl_program.BUCKET_WORDS
        array, mapped = syscall.ARRAY, syscall.MMAPABLE
        table = syscall.create_map(array, "ipvsd_table", 4, width, sysctl_program.BUCKETS, mapped)
        stack.callback(os.close, table)
        allowed = syscall.create_map(array, "ipvsd_allowed", 4, 8 * sysctl_program.MAX_ALLOWED, 1, mapped)
        stack.callback(os.close, allowed)
        writers = ProcessResolver(self._root, cgroup_root)
        self._resolve_writer = functools.cache(writers.resolve)
        own = writers.own_group()
        program, variant, self.guards = _load(stack, table, allowed, ring.descriptor, own)
        knows_process = variant.process is not None
        size = -(-sysctl_program.BUCKETS * width // mmap.PAGESIZE) * mmap.PAGESIZE
        self._table = syscall.map_words(stack, table, size)
        self._allowed = Allowlist(syscall.map_words(stack, allowed, mmap.PAGESIZE))
        group = os.open(cgroup_root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            stack.callback(os.close, syscall.attach(program, group))
        finally:
            os.close(group)
        self._units = UnitCgroups(self._loop, cgroup_root, self._allowed.add)
        stack.callback(self._units.close)
        # If the program cannot query processes, it recognises ipvsd's own writes by the cgroup.
        self._own = () if knows_process else own
        self.guards = self.guards and (knows_process or bool(self._own))
        self._loop.add_reader(ring.descriptor, self.drain)
        stack.callback(self._loop.remove_reader, ring.descriptor)
        self._ring = ring
        self.detail = "; ".join(("bpf on the root control group", *_describe_limits(variant)))

    def arm(self, targets: Targets) -> None:
        if self._ring is None:
            return
        assert self._units
        groups = self._units.groups(frozenset(targets.allowed if targets.guarded else ()))
        self._allowed.replace((*self._own, *groups))  # as they are now
        names: dict[bytes, str] = {}
        marks: dict[int, int] = {}
        files: dict[int, list[str]] = {}
        for known, file in targets.sysctls.items():
            path = sysctl_names.parts(known)
            name = sysctl_program.name_in_record("/".join(path or ()).encode("latin-1"))
            if not path or name in names:
                continue
            # A sysctl with two paths is reported under its canonical name.
            names[name] = key = sysctl_names.ALIASES.get(known, known)
            bucket, mark = sysctl_program.find_bucket(name, self.guards and key in targets.guarded)
            marks[bucket] = sysctl_program.shared_mark(marks[bucket], mark) if bucket in marks else mark
            files.setdefault(bucket, []).append(file)
        if names.keys() - self._names.keys():
            # A write can have happened between the last reconciliation and the mark. Even if another sysctl has
            # marked the bucket, a report of this write was discarded.
            self._loop.post(ReasonKind.SYSCTL, "newly watched")
        changed = [bucket for bucket, mark in marks.items() if self._marks.get(bucket) != mark]
        # Buckets are marked before others are cleared, so that no write to a sysctl that stays managed is missed.
        for bucket in (*changed, *(self._marks.keys() - marks.keys())):
            self._mark(bucket, marks.get(bucket, 0))
        for bucket in changed:
            for file in files[bucket]:
                _learn_location(file)
        self._names, self._marks = names, marks

    def _mark(self, bucket: int, mark: int) -> None:
        """Set a mark, after clearing the location that the program learned for the former names."""
        at = sysctl_program.BUCKET_WORDS * bucket
        self._table[at + 1] = self._table[at + 2] = 0
        self._table[at] = mark

    def drain(self) -> None:
        """Deliver the reported writes, one event for each sysctl.

        This delivers the write that caused a value that was read earlier, unless another processor is writing this
        report or one before it. A repeated write is parsed once, and each writer is identified once.
        """
        if self._ring is None:
            return
        records: dict[str, list[bytes]] = {}
        for record in self._ring.read_records():
            key = self._names.get(sysctl_program.record_name(record))
            if key is not None:
                records.setdefault(key, []).append(record)
        now = time.monotonic()
        for key, found in records.items():
            self._sink.on_event(key, now, stored=False, writes=functools.partial(self._writes, found))
        if records:
            self._resolve_writer.cache_clear()  # a process of the same number may be another one by the next time
        self._check_lost()

    def _writes(self, records: Sequence[bytes]) -> Sequence[Write]:
        """Return the writes. Consecutive repetitions by the same writer are one write."""
        runs = [list(run) for _, run in itertools.groupby(records, sysctl_program.record_key)]
        return [_write(sysctl_program.parse_record(run[0]), len(run), self._resolve_writer) for run in runs]

    def _check_lost(self) -> None:
        lost = self._table[sysctl_program.BUCKET_WORDS * sysctl_program.LOST_BUCKET]
        if lost != self._lost:
            self._lost = lost
            self._sink.on_loss()
            if not self._lost_pending:
                self._lost_pending = True
                self._loop.call_later(_LOST_DELAY, self._report_lost)

    def _report_lost(self) -> None:
        self._lost_pending = False
        self._loop.post(ReasonKind.LOST, "bpf")

    def monitored(self) -> Collection[str]:
        """Return the sysctls for which no report of a write was lost since the last call."""
        complete, self._reported_lost = self._lost == self._reported_lost, self._lost
        return frozenset(self._names.values() if complete and self._ring is not None else ())

    @property
    def lost(self) -> int:
        """The number of lost reports of writes, and of lost events for new units."""
        return self._lost + (self._units.lost if self._units else 0)

    def state(self) -> SourceState:
        return SourceState("sysctl_bpf", self._ring is not None, self.detail, self.lost)

    def close(self) -> None:
        self._ring = None
        self._stack.close()


def _write(told: sysctl_program.WriteRecord, times: int, writer: Callable[[int, str, int], Writer]) -> Write:
    return Write(
        sysctl_names.canonical(told.new) if told.complete or told.refused else None,
        functools.partial(writer, told.pid, told.comm, told.cgroup),
        sysctl_names.canonical(told.old),
        told.at,
        told.in_our_namespace,
        times,
        told.refused,
    )


def find_cgroup_root(root: str) -> str:
    try:
        text = rootfs.text(root, "proc/self/mounts", _MAX_MOUNTS_BYTES) or ""
    except rootfs.UnreadableError:
        return ""
    fields = [line.split() for line in text.splitlines()]
    return next((field[1] for field in fields if len(field) > 2 and field[2] == "cgroup2"), "")


def _load(
    stack: contextlib.ExitStack, table: int, allowed: int, ring: int, own: Sequence[int]
) -> tuple[int, sysctl_program.Variant, bool]:
    """Load the most complete program that the kernel accepts. Return it, its variant, and whether it guards."""
    last = OSError()
    for variant in _variants(os.getpid(), next(iter(own), 0)):
        for guards in (True, False):
            try:
                code = assemble(sysctl_program.program(table, allowed if guards else None, ring, variant))
                program = syscall.load_program("ipvsd_sysctl", code)
            except OSError as error:
                last = error
            else:
                stack.callback(os.close, program)
                return program, variant, guards
    raise last


def _variants(process: int, group: int) -> Sequence[sysctl_program.Variant]:
    return (
        sysctl_program.Variant(process),
        sysctl_program.Variant(process, namespaces=False),
        sysctl_program.Variant(process, comm=False, namespaces=False),
        sysctl_program.Variant(None, group, comm=False),
        sysctl_program.Variant(None, comm=False, namespaces=False),
    )


def _learn_location(path: str) -> None:
    """Read a sysctl, so that the program learns its location. A reconciliation reads only one of two paths."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.read(descriptor, 1)
        finally:
            os.close(descriptor)


def _describe_limits(variant: sysctl_program.Variant) -> Iterator[str]:
    if variant.process is None:
        yield "this kernel does not report the process"
    if not variant.namespaces or (variant.process is None and not variant.group):
        yield "BPF cannot distinguish network namespaces"
