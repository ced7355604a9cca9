"""The wiring, and the one loop: wait for a reason, look, decide, act, look again, tell.

First the node, then the comforts: what is not needed to load modules and to write sysctls is
imported after READY=1 only.
"""

from __future__ import annotations

import contextlib
import gc
import os
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Optional

from ipvsd.config.profiles import notes
from ipvsd.config.schema import Config
from ipvsd.daemon.active_config import Configured
from ipvsd.daemon.last_seen import LastSeen
from ipvsd.decide import backoff, remedies
from ipvsd.decide.aggregate import collapsed
from ipvsd.decide.backoff import History
from ipvsd.decide.contention import Fights, Limit
from ipvsd.decide.health import assess
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.processes import Writers
from ipvsd.kernel.virtual_services import Table
from ipvsd.model.report import Ipvs, Operation, Repair, Report, SourceState, State
from ipvsd.reconcile.fast_path import Reflex
from ipvsd.reconcile.reconciler import UNSETTLED, Known, Reconciled, reconcile
from ipvsd.reporting import status_document
from ipvsd.reporting.messages import TABLE_LOST, told
from ipvsd.reporting.operation_failures import OwnFailures
from ipvsd.reporting.recorder import Books
from ipvsd.runtime import capabilities, instance_lock, resources
from ipvsd.runtime.event_loop import Mailbox, Reason, ReasonKind
from ipvsd.runtime.journal import log
from ipvsd.runtime.sd_notify import Notifier, watchdog_period
from ipvsd.state import status_file
from ipvsd.watch.event_source import Source, Targets, targets
from ipvsd.watch.sysctl_bpf import Writes
from ipvsd.watch.sysctl_inotify import Sysctls
from ipvsd.watch.uevents import Uevents

if TYPE_CHECKING:
    from ipvsd.boot.installed_kernels import Survey
    from ipvsd.kernel.ipvs_probe import Asker
    from ipvsd.reporting.http_endpoint import Web
    from ipvsd.reporting.notices import Notices

MORE = ", see 'ipvsd status'"
# The reasons for which what is fought over is written, too.
_THOROUGH = (ReasonKind.START, ReasonKind.PERIODIC, ReasonKind.RELOAD)
_RARELY = 60.0  # seconds, at most, between two tries to listen
HOLD = 5.0  # seconds between the looks of a strict start that waits


class Daemon:
    """Keeps one host as its configuration wants it, until it is told to stop."""

    def __init__(self, root: str = "/", only: Optional[str] = None, host: Optional[LinuxHost] = None) -> None:
        """`root` is where /etc, /proc, /run and /var are looked for; `only` the one configuration file to read."""
        self._root, self._only = root, only
        self._host = host or LinuxHost(root)
        self._notifier = Notifier()
        self._configured = Configured(root, only)
        self._history: History = {}
        self._failures = OwnFailures()
        self._books = Books(root, self._failures)
        self._last_seen = LastSeen(time.monotonic)
        self._known: Optional[Known] = None
        self._table = Table(root)
        self._sources: list[Source] = []
        self._web: Optional[Web] = None
        self._asker: Optional[Asker] = None
        self._survey: Optional[Survey] = None
        self._notices: Optional[Notices] = None
        self._ready = False
        self._unsettled = 0
        self._targets = Targets(frozenset(), {}, ())
        self._started = self._periodic_at = time.monotonic()
        self.report: Optional[Report] = None  # replaced, never changed: other threads read it

    def run(self) -> int:
        """Run until SIGTERM; return the exit code."""
        resources.refuse_huge_pages()
        if not self._configured.begin():
            self._notifier.status(f"configuration refused: {self._configured.errors[0]}")
            return os.EX_CONFIG
        resources.raise_limit()
        with Mailbox() as self._mailbox, contextlib.ExitStack() as stack:
            self._reserve = resources.Reserve()
            stack.callback(self._reserve.close)
            self._mailbox.take_signals()
            stack.callback(self._mailbox.release_signals)
            stack.callback(self._close)
            self._watch()
            self._loop()
        return 0

    # --- configuration ------------------------------------------------------------------

    def _reload(self, asked: bool) -> None:
        """Read the configuration again and take it if it is good; `asked` says that a person wants it so."""
        taken = self._configured.reload(asked)
        if self._ready:
            self._keep()
        if not taken:
            return
        self._tell_notes()
        self._history = backoff.forgive(self._history)
        self._reflex.fights = Fights(self._limit())
        if self._ready:
            self._serve()

    def _keep(self) -> None:
        if self._configured.new:
            self._failures.attempt(Operation.KEEP_CONFIGURATION, self._configured.keep)

    @property
    def _config(self) -> Config:
        return self._configured.config

    def _limit(self) -> Limit:
        return Limit(self._config.fight_repairs, self._config.fight_window, self._config.fight_quiet)

    def _notes(self) -> tuple[str, ...]:
        known = notes(self._config.profiles, self._config.kube_proxy)
        if self._targets.guarded and not self._writes.guards:
            known = (*known, f"'guard' has no effect here: {self._writes.detail}")
        return (*known, *self._configured.waiting, *(self._notices.found if self._notices else ()))

    def _tell_notes(self) -> None:
        for note in notes(self._config.profiles, self._config.kube_proxy):
            log("warning", note)

    # --- the loop -----------------------------------------------------------------------

    def _loop(self) -> None:
        reasons: tuple[Reason, ...] = (Reason(ReasonKind.START, "", time.monotonic()),)
        self._periodic_at = time.monotonic() + self._period()
        while True:
            with self._reserve.lent():  # for reading, and for what is imported when it is needed
                if ReasonKind.STOP in {reason.kind for reason in reasons}:
                    self._stop(reasons)
                    return
                self._turn(reasons)
            reasons = self._wait()

    def _stop(self, reasons: tuple[Reason, ...]) -> None:
        self._notifier.stopping()
        if self._reflex.untold:
            self._look(reasons)

    def _turn(self, reasons: tuple[Reason, ...]) -> None:
        """Look, and tell of it."""
        kinds = {reason.kind for reason in reasons}
        asked = ReasonKind.RELOAD in kinds
        if asked and self._ready:
            self._notifier.reloading()
        if asked or kinds & {ReasonKind.CONFIG, ReasonKind.PERIODIC, ReasonKind.RETRY}:
            self._reload(asked)
        report = self._look(reasons)
        self._mailbox.serve()  # a drift need not wait until all is told
        starts = not self._ready and self._may_start(report)
        if starts or (asked and self._ready):
            self._ready = True
            self._notifier.ready(self._line(report))
        elif self._ready:
            self._notifier.status(self._line(report))
        self._notifier.watchdog()
        self._publish(report)
        if starts:
            self._add_comforts(report)
            self._publish(report)
        self._mailbox.serve()
        gc.enable()  # as a service it was off until here
        gc.collect()  # Python's free lists, too, which else keep what the largest look took

    def _wait(self) -> tuple[Reason, ...]:
        now = time.monotonic()
        reasons = self._mailbox.take(max(0.0, self._next_look(now) - now))
        now = time.monotonic()
        if now >= self._periodic_at:  # however many other reasons there were
            self._periodic_at = now + self._period()
            reasons = (*reasons, Reason(ReasonKind.PERIODIC, "", now))
        reasons = reasons or (Reason(ReasonKind.RETRY, "", now),)
        log("debug", f"woken by {', '.join(f'{reason.kind.value} {reason.detail}'.strip() for reason in reasons)}")
        return reasons

    def _period(self) -> float:
        watched = watchdog_period()
        return min(self._config.interval, watched / 2) if watched else self._config.interval

    def _next_look(self, now: float) -> float:
        # A shorter interval may have been configured since the last periodic look.
        self._periodic_at = min(self._periodic_at, now + self._period())
        dues = [self._periodic_at]
        others = (self._configured.due, self._last_seen.due, backoff.next_try(self._history))
        dues += [due for due in others if due is not None]
        if 0 < self._unsettled <= len(UNSETTLED):
            dues.append(now + UNSETTLED[self._unsettled - 1])
        if not self._ready:
            dues.append(min(now + HOLD, max(now, self._hold_until())))
        return min(dues)

    def _look(self, reasons: tuple[Reason, ...]) -> Report:
        begun = time.monotonic()
        kinds = {reason.kind for reason in reasons}
        turned, periodic = self._reflex.take(), not kinds.isdisjoint(_THOROUGH)
        fights, others = self._reflex.fights, self._reflex.turn_back_others
        done = reconcile(self._host, self._config, self._history, time.monotonic, fights, periodic, others, self._known)
        after = remedies.fitted(done.after, "/", daemon=True)
        wall, boottime = time.time(), time.clock_gettime(time.CLOCK_BOOTTIME)
        done = done._replace(after=self._last_seen.told(after, wall, boottime, self._config.interval))
        self._history, self._known = done.history, done.known
        self._unsettled = self._unsettled + 1 if done.unsettled else 0
        if not self._unsettled and ReasonKind.LINK in kinds:
            self._unsettled = 2  # the kernel tells of an interface just before it makes its sysctls
        watched, since = self._writes.watched(), min(reason.at for reason in reasons)
        repairs = self._books.enter(done, turned, since, self._reflex.evidence, watched, self._reflex.fights)
        self._reflex.fights = self._books.fights
        self._consider_table(repairs, periodic)
        self._books.refused(self._writes.take_refusals())
        self._books.looked(time.monotonic() - begun)
        self._arm(done)
        if self._asker:
            self._asker.consider(done.after.modules, reasons)
        if self._survey and ReasonKind.PERIODIC in kinds:
            self._look_around(done)
        return self._make_report(done, time.time())

    def _consider_table(self, repairs: Sequence[Repair], look: bool) -> None:
        lost = self._table.lost({repair.name for repair in repairs})
        if lost:
            log("warning", lost, {"MESSAGE_ID": TABLE_LOST})
        elif look:
            self._table.look()

    def _make_report(self, done: Reconciled, wall: float) -> Report:
        repairs, fights = self._books.repairs, self._books.fights
        return Report(
            time=wall,
            boottime=time.clock_gettime(time.CLOCK_BOOTTIME),
            kernel=done.kernel,
            modules=done.after.modules,
            sysctls=collapsed(done.after.sysctls),
            parameters=done.after.parameters,
            health=assess(told(done.after), repairs[-1] if repairs else None, wall, fights.contended(), MORE),
            tally=self._books.tally,
            repairs=repairs,
            backend=self._backend(),
            contended=self._books.contended(),
            refusals=dict(self._books.refusals),
        )

    def _look_around(self, done: Reconciled) -> None:
        """Look at what is not held: the kernels that are installed, and what a person should know besides."""
        if self._survey:
            self._survey.look(self._config)
        if self._notices and not done.unsettled:
            self._notices.look(self._config, done, self._survey.kernels if self._survey else ())

    def _source_states(self) -> tuple[SourceState, ...]:
        states = tuple(source.state() for source in self._sources)
        return (*states, self._web.state()) if self._web else states

    def _backend(self) -> str:
        if self._writes.state().up:
            return "bpf"
        return "inotify" if self._pins.state().up else "periodic"

    def _seeing(self) -> str:
        backend = self._backend()
        why = "" if backend == "bpf" else f"; {self._writes.detail}"
        why += f"; {self._pins.state().detail}" if backend == "periodic" else ""
        return f"writes to sysctls are seen by {'the periodic look alone' if backend == 'periodic' else backend}{why}"

    def _line(self, report: Report) -> str:
        errors = self._configured.errors
        if not errors:
            return report.health.line
        return f"{report.health.line}; configuration refused, the previous one is at work: {errors[0]}"

    # --- faces --------------------------------------------------------------------------

    def _hold_until(self) -> float:
        return self._started + self._config.startup_limit

    def _may_start(self, report: Report) -> bool:
        left = self._hold_until() - time.monotonic()
        if report.health.state is not State.FAILED or not self._config.startup_strict:
            return True
        if left <= 0:
            log("warning", f"strict start: not ready after {self._config.startup_limit:g} s, going on")
            return True
        self._notifier.holding(f"waiting up to {left:.0f} s more (startup: strict); {report.health.line}", 6 * HOLD)
        return False

    def _add_comforts(self, report: Report) -> None:
        """Begin what waited for READY=1: the watch on the configuration, the web, the question to IPVS."""
        log("info", report.health.line)
        log("info", self._seeing())
        self._tell_notes()
        self._keep()
        from ipvsd.watch.config_files import Files

        if self._only is None:
            files = Files(self._mailbox)
            files.arm(self._targets)
            self._sources.append(files)
        assert self.report is not None
        self.report = self.report._replace(sources=self._source_states())  # a page may be asked for from here on
        self._serve()
        from ipvsd.kernel.ipvs_probe import Asker

        self._asker = Asker(self._mailbox, local=self._root == "/")
        from ipvsd.boot.installed_kernels import Survey
        from ipvsd.reporting.notices import Notices

        self._notices, self._survey = Notices(self._root, self._host), Survey(self._root)
        self._survey.look(self._config)
        self._asker.consider(report.modules, ())
        gc.collect()
        gc.freeze()  # what is there now stays; a collection that goes through all of it takes longer than a repair

    def _serve(self) -> None:
        """Serve where the configuration says."""
        from ipvsd.reporting.http_endpoint import Web

        if self._web and self._web.listen != self._config.listen:
            self._web.close()
            self._web = None
        if self._web is None:
            self._web = Web(lambda: self.report, self._config.listen)
            self._listen(self._web)

    def _listen(self, web: Web, pause: float = 1.0) -> None:
        """Open the addresses; those that are not to be had are tried again after ever longer pauses, in seconds."""
        if web is not self._web:
            return
        before = web.refused
        web.arm()
        self._failures.note(Operation.LISTEN, web.refused)
        if web.refused:
            self._mailbox.later(pause, lambda: self._listen(web, min(_RARELY, 2 * pause)))
        if web.refused != before:
            self._mailbox.put(ReasonKind.RETRY, "listening")

    def _publish(self, report: Report) -> None:
        if self._web and not self._web.refused:  # else it is tried again anyway
            self._listen(self._web)  # the server may have ended
        answer = self._asker.answer if self._asker else Ipvs()
        self.report = report._replace(
            config=self._configured.state(),
            sources=self._source_states(),
            ipvs=answer,
            kernels=self._survey.kernels if self._survey else (),
            notes=self._notes(),
            failures=self._failures.current,
        )
        others = {key: error for key, error in self._failures.current.items() if key != Operation.WRITE_STATUS.value}
        document = status_document.document(
            self.report._replace(failures=others)
        )  # which is written, or nobody reads it
        self._failures.attempt(Operation.WRITE_STATUS, lambda: status_file.write(self._root, document))
        self.report = self.report._replace(failures=self._failures.current)

    def _arm(self, done: Reconciled) -> None:
        left_alone = self._reflex.fights.left_alone(periodic=False)
        self._reflex.arm(done, left_alone)
        self._targets = targets(self._host, done, left_alone, self._configured.directories(), self._config.guard_allow)
        for source in self._sources:
            source.arm(self._targets)

    def _watch(self) -> None:
        """Begin to listen, before the first look, and give up what only that needs."""
        self._reflex = Reflex(self._host, self._mailbox)
        self._reflex.fights = Fights(self._limit())
        self._writes = Writes(self._mailbox, self._reflex, self._root)
        self._reflex.hear = self._writes.hear
        self._pins = Sysctls(self._mailbox, self._reflex, self._host.fds)
        uevents = Uevents(self._mailbox, self._reflex, Writers(self._root))
        uevents.arm(self._targets)
        if self._root == "/" and self._writes.attach():
            with contextlib.suppress(OSError):  # not as the service, and without it from the beginning
                capabilities.drop(capabilities.BPF, capabilities.PERFMON)
        self._sources = [uevents, self._pins, self._writes]

    def _close(self) -> None:
        if self._asker:
            self._asker.close()
        for source in self._sources:
            source.close()
        self._host.fds.close()
        if self._web:
            self._web.close()
        status_file.remove(self._root)


def run(root: str = "/", only: Optional[str] = None, host: Optional[LinuxHost] = None) -> int:
    """Run the daemon in this process if no other one runs for the root; return the exit code."""
    with instance_lock.alone(root) as alone:
        return Daemon(root, only, host).run() if alone else os.EX_TEMPFAIL
