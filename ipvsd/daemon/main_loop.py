"""The wiring, and the main loop: wait for a reason, reconcile, record, publish."""

from __future__ import annotations

import contextlib
import gc
import time
from typing import TYPE_CHECKING, Optional

from ipvsd.config.profiles import notes
from ipvsd.config.schema import Config
from ipvsd.daemon.active_config import Configured
from ipvsd.daemon.event_sources import EventSources
from ipvsd.daemon.publisher import Publisher, build_report
from ipvsd.daemon.schedule import Schedule
from ipvsd.daemon.startup import Startup
from ipvsd.daemon.watch_targets import watch_targets
from ipvsd.kernel.host import LinuxHost
from ipvsd.kernel.virtual_services import VirtualServiceCounter
from ipvsd.model.report import NoteKind, Operation, Report
from ipvsd.reconcile.reconciler import Reconciler
from ipvsd.reconcile.rounds import FirstRound
from ipvsd.reporting.operation_failures import OperationFailures
from ipvsd.reporting.recorder import Recorder
from ipvsd.runtime import resources
from ipvsd.runtime.event_loop import EventLoop, Reason, ReasonKind
from ipvsd.runtime.journal import log
from ipvsd.runtime.sd_notify import SdNotify, watchdog_period

if TYPE_CHECKING:
    from ipvsd.daemon.services import OptionalServices


class Daemon:
    def __init__(self, root: str, host: LinuxHost, configured: Configured, notifier: SdNotify) -> None:
        """`root` contains /etc, /proc, /run and /var."""
        self._root, self._host = root, host
        self._configured, self._notifier = configured, notifier
        self._failures = OperationFailures()
        self._recorder = Recorder(root, self._failures)
        self._publisher = Publisher(root, self._failures)
        self._sources = EventSources(root)
        self._services: Optional[OptionalServices] = None
        self._startup = Startup(self._notifier)

    def run(self, first: FirstRound) -> None:
        """Run until SIGTERM. `first` is the first round of the first reconciliation."""
        with EventLoop() as self._event_loop, contextlib.ExitStack() as stack:
            self._reserve = resources.DescriptorReserve()
            stack.callback(self._reserve.close)
            self._event_loop.install_signal_handlers()
            stack.callback(self._event_loop.restore_signal_handlers)
            stack.callback(self._close)
            self._reconciler = Reconciler(
                self._host, self._event_loop, self._sources, self._config, VirtualServiceCounter(self._root)
            )
            # The observation that follows the first round shows all that happens before the sources have started.
            self._sources.start(self._event_loop, self._host, self._reconciler)
            self._first: Optional[FirstRound] = first
            self._loop()

    def _close(self) -> None:
        if self._services:
            self._services.close()
        self._sources.close()
        self._host.fds.close()
        self._publisher.close()

    # --- configuration ------------------------------------------------------------------

    @property
    def _config(self) -> Config:
        return self._configured.config

    def _reload(self, asked: bool) -> None:
        """Read the configuration again, and use it if it is valid. `asked` means that a person requests it."""
        taken = self._configured.reload(asked)
        if self._startup.over:
            self._keep()
        if taken:
            self._log_notes()
            self._reconciler.configure(self._config)
            if self._services:
                self._services.serve(self._config)

    def _keep(self) -> None:
        if self._configured.new:
            self._failures.attempt(Operation.STORE_CONFIGURATION, self._configured.keep)

    def _profile_notes(self) -> tuple[str, ...]:
        return notes(self._config.profiles, self._config.kube_proxy)

    def _log_notes(self) -> None:
        for note in self._profile_notes():
            log("warning", note)

    # --- the loop -----------------------------------------------------------------------

    def _loop(self) -> None:
        reasons: tuple[Reason, ...] = (Reason(ReasonKind.START, "", time.monotonic()),)
        self._schedule = Schedule(time.monotonic(), self._period())
        while True:
            with self._reserve.released():  # for reads, and for late imports
                if ReasonKind.STOP in {reason.kind for reason in reasons}:
                    self._notifier.stopping()
                    if self._reconciler.unreported:
                        self._reconcile(reasons)
                    return
                self._turn(reasons)
            if self._services:  # after the reserve is open again: each open(2) would wait for the thread of the query
                self._services.start_query()
            reasons = self._wait()

    def _turn(self, reasons: tuple[Reason, ...]) -> None:
        kinds = {reason.kind for reason in reasons}
        asked = ReasonKind.RELOAD in kinds
        if asked and self._startup.over:
            self._notifier.reloading()
        if asked or kinds & {ReasonKind.CONFIG, ReasonKind.RESYNC, ReasonKind.RETRY}:
            self._reload(asked)
        report = self._reconcile(reasons)
        self._event_loop.run_ready()  # drift does not wait until everything is published
        starts = not self._startup.over and self._startup.may_end(report, self._config)
        if starts or (asked and self._startup.over):
            self._startup.over = True
            self._notifier.ready(self._line(report))
        elif self._startup.over:
            self._notifier.status(self._line(report))
        self._notifier.watchdog()
        self._publish(report)
        if starts:
            self._start_optional_services(report)
            self._publish(report)
        self._event_loop.run_ready()
        gc.enable()  # in a service, it was disabled until here, because a start creates much and drops little
        gc.collect()  # also releases Python's free lists, which otherwise keep the memory of the largest reconciliation
        if starts:
            gc.freeze()  # current objects stay; collecting them takes longer than a repair

    def _wait(self) -> tuple[Reason, ...]:
        now = time.monotonic()
        dues = (self._configured.due, self._reconciler.next_try, self._startup.next_check(now, self._config))
        reasons = self._event_loop.run_until_reason(max(0.0, self._schedule.next(now, self._period(), dues) - now))
        now = time.monotonic()
        if self._schedule.resync(now, self._period()):  # even if there are many other reasons
            reasons = (*reasons, Reason(ReasonKind.RESYNC, "", now))
        reasons = reasons or (Reason(ReasonKind.RETRY, "", now),)
        log("debug", f"woken by {', '.join(f'{reason.kind.value} {reason.detail}'.strip() for reason in reasons)}")
        return reasons

    def _period(self) -> float:
        watched = watchdog_period()
        return min(self._config.interval, watched / 2) if watched else self._config.interval

    def _reconcile(self, reasons: tuple[Reason, ...]) -> Report:
        """Reconcile all items, record the changes, and update the targets of the event sources."""
        first, self._first = self._first, None
        begun = first.begun if first else time.monotonic()
        result, changes = self._reconciler.reconcile_all(reasons, first)
        self._schedule.settle(result.unsettled, ReasonKind.LINK in {reason.kind for reason in reasons})
        registry = self._reconciler.registry
        contended = registry.contended()
        self._event_loop.run_ready()  # drift does not wait until everything is recorded
        self._recorder.record(changes, contended, self._event_loop.run_ready)
        self._recorder.counters.observe_round(time.monotonic() - begun)
        directories, allowed = self._configured.directories(), self._config.guard_allow
        self._sources.arm(watch_targets(self._host, result.after, contended, directories, allowed))
        if self._services:
            self._services.check(self._config, result, reasons)
        return build_report(result.kernel, result.after, registry, self._recorder, self._sources.backend())

    def _publish(self, report: Report) -> None:
        report = report._replace(
            config=self._configured.state(),
            sources=self._sources.states(),
            config_loaded_at=self._configured.loaded_at,
        )
        report = report.add_notes(NoteKind.IPVS_MODE_DEPRECATED, self._profile_notes())
        report = report.add_notes(NoteKind.GUARD_WITHOUT_EFFECT, self._sources.notes())
        report = report.add_notes(NoteKind.CONFIGURATION_INCOMPLETE, self._configured.waiting)
        self._publisher.publish(self._services.complete(report) if self._services else report)
        if self._services and self._publisher.report:
            self._services.export(self._publisher.report)

    def _line(self, report: Report) -> str:
        errors = self._configured.errors
        if not errors:
            return report.health.summary
        return f"{report.health.summary}; invalid configuration (ipvsd uses the previous one): {errors[0]}"

    def _start_optional_services(self, report: Report) -> None:
        """Start the services that wait for READY=1, among them the event source of the configuration."""
        log("info", report.health.summary)
        log("info", self._sources.describe_backend())
        self._log_notes()
        self._keep()
        from ipvsd.watch.config_watcher import ConfigWatcher

        if self._configured.watched:
            self._sources.add(ConfigWatcher(self._event_loop))
        self._publisher.show_sources(self._sources.states())
        from ipvsd.daemon.services import OptionalServices

        publisher, loop = self._publisher, self._event_loop
        self._services = OptionalServices(self._root, loop, self._host, self._failures, lambda: publisher.report)
        self._services.start(self._config, report.modules)
