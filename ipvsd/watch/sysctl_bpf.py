"""Writes to sysctls by every process of the machine, and who makes them: a BPF program on the root control group.

It tells of a write just before the value is stored, and also of writes in other network namespaces,
which leave ours as it was: what is right is found by reading our own. Everything that needs a
capability is done when it is attached; what to tell of is said through shared memory.
"""

from __future__ import annotations

import contextlib
import functools
import itertools
import mmap
import os
from collections.abc import Callable, Collection, Iterator, Sequence
from typing import Optional

from ipvsd.bpf import syscall, sysctl_program
from ipvsd.bpf.allowlist import Allowed
from ipvsd.bpf.asm import assemble
from ipvsd.bpf.ringbuf import Ring
from ipvsd.decide.attribution import KEPT, Seen
from ipvsd.kernel.processes import Writers
from ipvsd.model.report import Refusal, SourceState, Writer
from ipvsd.reconcile.fast_path import Reflex
from ipvsd.runtime import rootfs
from ipvsd.runtime.event_loop import Mailbox, ReasonKind
from ipvsd.sysctl import sysctl_names
from ipvsd.watch.event_source import Targets
from ipvsd.watch.unit_cgroups import Units

RING = 1 << 16  # bytes
# Seconds until what was lost is looked for: a whole look at once would only have more lost while it lasts.
_LONGEST_MOUNTS = 1 << 24  # bytes; a node has some mounts for each container
_BEHIND = 1.0


class Writes:
    """Has the reflex turn back a write to a sysctl that is held, and keeps who made it as evidence."""

    def __init__(self, mailbox: Mailbox, reflex: Reflex, root: str = "/") -> None:
        self._mailbox, self._reflex, self._root = mailbox, reflex, root
        self._stack = contextlib.ExitStack()
        self._ring: Optional[Ring] = None
        self._names: dict[bytes, str] = {}
        self._marks: dict[int, int] = {}
        self._refusals: dict[str, Refusal] = {}
        self._own: Sequence[int] = ()
        self._units: Optional[Units] = None
        self.guards = False
        self._lost, self._told_lost, self._behind = 0, 0, False
        self.detail = "not started"

    def attach(self) -> bool:
        """Attach the program; if that cannot be done, `detail` says why. Nothing is left of a failed try."""
        try:
            with contextlib.ExitStack() as stack:
                self._attach(stack)
                self._stack = stack.pop_all()
        except OSError as error:
            self._ring = None
            self.detail = f"bpf cannot be used: {error.strerror or error}"
            return False
        return True

    def _attach(self, stack: contextlib.ExitStack) -> None:
        place = mounted(self._root)
        if not place:
            raise OSError(0, "control groups of version 2 are not mounted")
        ring = Ring("ipvsd_ring", RING)
        stack.callback(ring.close)
        width = 8 * sysctl_program.WORDS
        table = _opened(
            stack, syscall.create_map(syscall.ARRAY, "ipvsd_table", 4, width, sysctl_program.BUCKETS, syscall.MMAPABLE)
        )
        allowed = _opened(
            stack,
            syscall.create_map(syscall.ARRAY, "ipvsd_allowed", 4, 8 * sysctl_program.ALLOWED, 1, syscall.MMAPABLE),
        )
        self._writers = Writers(self._root, place)
        own = self._writers.own_group()
        program, form, self.guards = _load(stack, table, allowed, ring.descriptor, own)
        tells_process = form.process is not None
        size = -(-sysctl_program.BUCKETS * width // mmap.PAGESIZE) * mmap.PAGESIZE
        self._table = syscall.numbers(stack, table, size)
        self._allowed = Allowed(syscall.numbers(stack, allowed, mmap.PAGESIZE))
        group = os.open(place, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            _opened(stack, syscall.attach(program, group))
        finally:
            os.close(group)
        self._units = Units(self._mailbox, place, self._allowed.add)
        stack.callback(self._units.close)
        # Where the kernel tells no process, our own writes are known by our control group.
        self._own = () if tells_process else own
        self.guards = self.guards and (tells_process or bool(self._own))
        self._mailbox.watch(ring.descriptor, self._receive)
        stack.callback(self._mailbox.unwatch, ring.descriptor)
        self._ring = ring
        self.detail = "; ".join(("bpf on the root control group", *_lacking(form)))

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
            name = sysctl_program.named("/".join(path or ()).encode("latin-1"))
            if not path or name in names:
                continue
            # A sysctl with two paths is reported under the one name by which it is held.
            names[name] = key = sysctl_names.ALIASES.get(known, known)
            bucket, mark = sysctl_program.entry(name, self.guards and key in targets.guarded)
            marks[bucket] = sysctl_program.both_held(marks[bucket], mark) if bucket in marks else mark
            files.setdefault(bucket, []).append(file)
        if marks.keys() - self._marks.keys():
            # A write may have come between the last look and the mark.
            self._mailbox.put(ReasonKind.SYSCTL, "newly watched")
        changed = [bucket for bucket, mark in marks.items() if self._marks.get(bucket) != mark]
        # A bucket is marked before any other is cleared, so that nothing that stays held goes unseen.
        for bucket in (*changed, *(self._marks.keys() - marks.keys())):
            self._mark(bucket, marks.get(bucket, 0))
        for bucket in changed:
            for file in files[bucket]:
                _have_learned(file)
        self._names, self._marks = names, marks

    def _mark(self, bucket: int, mark: int) -> None:
        """Set a mark, after what was learned of the names before is forgotten."""
        at = sysctl_program.WORDS * bucket
        self._table[at + 1] = self._table[at + 2] = 0
        self._table[at] = mark

    def _receive(self) -> None:
        self._take(self._reflex.turn_back, self._reflex.expect)

    def hear(self) -> None:
        """Take what was told of by now as evidence.

        A write is told of before it is stored, so that what made a value that was read before is known
        now, but for what is being told on another processor at this moment, and what was told after that
        began. A value that such a write made wrong is repaired when the mailbox is asked.
        """
        self._take(lambda _: None, lambda key: self._mailbox.later(0.0, functools.partial(self._reflex.expect, key)))

    def _take(self, first: Callable[[str], Optional[str]], then: Callable[[str], None]) -> None:
        """Take what was told of by now; `first` is asked for the value that it turned back, once for each sysctl.

        `then` is told of what is wrong all the same, or will be. It may be much at once: what the same writer did
        again is read once, and each writer looked up once.
        """
        if self._ring is None:
            return
        held: dict[str, list[bytes]] = {}
        turned: dict[str, Optional[str]] = {}
        for record in self._ring.take():
            key = self._names.get(sysctl_program.name(record))
            if key is None:
                continue
            if key not in held:
                # Before the rest: by now the value is mostly stored, and wrong.
                held[key], turned[key] = [], first(key)
            held[key].append(record)
        told = {key: _runs(records) for key, records in held.items()}
        wrong = {key: [run for run in runs if self._wrong(key, run[0])] for key, runs in told.items()}
        for key, ((write, _), *_) in ((key, runs) for key, runs in wrong.items() if runs):
            back = turned[key]
            if len(held[key]) > 1 or back in (None, _before(write)) or back != _value(write):
                then(key)  # nothing was turned back, or maybe what another write had made
        writer = functools.cache(self._writers.writer)
        for key, runs in told.items():
            if len(wrong[key]) > KEPT:
                self._reflex.evidence.missed()
            for write, times in wrong[key][-KEPT:]:
                self._keep(key, write, writer(write.pid, write.comm, write.cgroup), times)
            refused = [(write, times) for write, times in runs if write.refused]
            if refused:
                last, _ = refused[-1]
                times = sum(times for _, times in refused)
                self._refuse(key, last, writer(last.pid, last.comm, last.cgroup), times)
        self._consider_lost()

    def _consider_lost(self) -> None:
        lost = self._table[sysctl_program.WORDS * sysctl_program.LOST]
        if lost != self._lost:
            self._lost = lost
            self._reflex.evidence.missed()
            if not self._behind:
                self._behind = True
                self._mailbox.later(_BEHIND, self._tell_lost)

    def _tell_lost(self) -> None:
        self._behind = False
        self._mailbox.put(ReasonKind.LOST, "bpf")

    def _wrong(self, key: str, write: sysctl_program.Told) -> bool:
        value = _value(write)
        return not write.refused and (value is None or not self._reflex.wanted(key, value))

    def _keep(self, key: str, write: sysctl_program.Told, writer: Writer, times: int) -> None:
        seen = Seen(_value(write), writer, _before(write), write.at, write.ours)
        self._reflex.evidence.add(key, seen, times)

    def _refuse(self, key: str, write: sysctl_program.Told, writer: Writer, times: int) -> None:
        before = self._refusals[key].times if key in self._refusals else 0
        self._refusals[key] = Refusal(key, sysctl_names.canonical(write.new), writer, before + times)
        self._reflex.look_soon()

    def take_refusals(self) -> Sequence[Refusal]:
        """Return what was refused since this was last asked, the last of each sysctl."""
        refusals, self._refusals = tuple(self._refusals.values()), {}
        return refusals

    def watched(self) -> Collection[str]:
        """Return the sysctls to which no process's write went unseen since this was last asked."""
        complete, self._told_lost = self._lost == self._told_lost, self._lost
        return frozenset(self._names.values() if complete and self._ring is not None else ())

    @property
    def lost(self) -> int:
        """The number of writes that were not told of, for lack of room, and of times that new units were not."""
        return self._lost + (self._units.lost if self._units else 0)

    def state(self) -> SourceState:
        return SourceState("writes", self._ring is not None, self.detail, self.lost)

    def close(self) -> None:
        self._ring = None
        self._stack.close()


def _value(write: sysctl_program.Told) -> Optional[str]:
    return sysctl_names.canonical(write.new) if write.whole else None


def _before(write: sysctl_program.Told) -> str:
    return sysctl_names.canonical(write.old)


def _runs(records: Sequence[bytes]) -> list[tuple[sysctl_program.Told, int]]:
    """Return each write with how often the same writer then did the same."""
    runs = [list(run) for _, run in itertools.groupby(records, sysctl_program.what)]
    return [(sysctl_program.told(run[0]), len(run)) for run in runs]


def mounted(root: str) -> str:
    """Return where the control groups of version 2 are mounted, or an empty text."""
    try:
        text = rootfs.text(root, "proc/self/mounts", _LONGEST_MOUNTS) or ""
    except rootfs.UnreadableError:
        return ""
    fields = [line.split() for line in text.splitlines()]
    return next((field[1] for field in fields if len(field) > 2 and field[2] == "cgroup2"), "")


def _load(
    stack: contextlib.ExitStack, table: int, allowed: int, ring: int, own: Sequence[int]
) -> tuple[int, sysctl_program.Form, bool]:
    """Return the program, its form, and whether it guards: the fullest that the kernel takes."""
    last = OSError()
    for form in _forms(os.getpid(), next(iter(own), 0)):
        for guards in (True, False):
            try:
                code = assemble(sysctl_program.program(table, allowed if guards else None, ring, form))
                return _opened(stack, syscall.load_program("ipvsd_sysctl", code)), form, guards
            except OSError as error:
                last = error
    raise last


def _forms(process: int, group: int) -> Sequence[sysctl_program.Form]:
    """Return the forms of the program, the fullest first."""
    return (
        sysctl_program.Form(process),
        sysctl_program.Form(process, places=False),
        sysctl_program.Form(process, comm=False, places=False),
        sysctl_program.Form(None, group, comm=False),
        sysctl_program.Form(None, comm=False, places=False),
    )


def _have_learned(path: str) -> None:
    """Read a sysctl, so that the program learns which one is ours: of those with two names a look reads one."""
    with contextlib.suppress(OSError):
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.read(descriptor, 1)
        finally:
            os.close(descriptor)


def _lacking(form: sysctl_program.Form) -> Iterator[str]:
    if form.process is None:
        yield "this kernel tells no process"
    if not form.places or (form.process is None and not form.group):
        yield "it cannot tell network namespaces apart"


def _opened(stack: contextlib.ExitStack, descriptor: int) -> int:
    stack.callback(os.close, descriptor)
    return descriptor
