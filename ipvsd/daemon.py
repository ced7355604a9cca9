"""The wiring, and the one loop: wait for a reason, look, decide, act, look again, tell.

First the node, then the comforts: what is not needed to load modules and to write sysctls is
imported after READY=1 only.
"""

from __future__ import annotations

import contextlib
import time
from typing import TYPE_CHECKING, Optional

from ipvsd import configfiles, persist, restraint, statusfile
from ipvsd.config import Config, ConfigError, parse
from ipvsd.effective import fingerprint
from ipvsd.groups import collapsed
from ipvsd.health import assess
from ipvsd.host import LinuxHost
from ipvsd.journal import log
from ipvsd.model import (
    Finding,
    Reason,
    ReasonKind,
    Repair,
)
from ipvsd.narrate import narrate, told
from ipvsd.notify import Notifier, watchdog_period
from ipvsd.profiles import notes
from ipvsd.reconcile import Reconciled, reconcile
from ipvsd.report import ConfigState, Ipvs, Report, SourceState, State
from ipvsd.restraint import History
from ipvsd.tally import Ledger
from ipvsd.wake import Mailbox
from ipvsd.watch import Source, Targets
from ipvsd.watch.sysctls import Sysctls
from ipvsd.watch.uevents import Uevents

if TYPE_CHECKING:
    from ipvsd.ipvs import Asker
    from ipvsd.preflight import Survey
    from ipvsd.web import Web

EX_CONFIG = 78
NOT_AS_CONFIGURED = "is not as configured (run: ipvsd apply --persist)"
SHOWN_REPAIRS = 50
UNSETTLED = (0.01, 0.05, 0.25)  # seconds until the next looks at a module on its way in or out
_NO_LINKS = ("all", "default", "lo")  # below net.ipv4.conf, beside those of interfaces
HOLD = 5.0  # seconds between the looks of a strict start that waits


class Daemon:
    """Keeps one host as its configuration wants it, until it is told to stop."""

    def __init__(self, root: str = "/", only: Optional[str] = None, host: Optional[LinuxHost] = None) -> None:
        """`root` is where /etc, /proc, /run and /var are looked for; `only` the one configuration file to read."""
        self._root, self._only = root, only
        self._host = host or LinuxHost(root)
        self._notifier = Notifier()
        self._files: configfiles.Files = ()
        self._config_errors: tuple[str, ...] = ()
        self._history: History = {}
        self._ledger = Ledger()
        self._repairs: tuple[Repair, ...] = ()
        self._told: tuple[Finding, ...] = ()
        self._sources: list[Source] = []
        self._web: Optional[Web] = None
        self._asker: Optional[Asker] = None
        self._survey: Optional[Survey] = None
        self._stale: tuple[str, ...] = ()
        self._ready = False
        self._unsettled = 0
        self._targets = Targets(frozenset(), {}, ())
        self._started = self._periodic_at = time.monotonic()
        self.report: Optional[Report] = None  # replaced, never changed: other threads read it

    def run(self) -> int:
        """Run until SIGTERM; return the exit code."""
        config = self._first_config()
        if config is None:
            self._notifier.status(f"configuration refused: {self._config_errors[0]}")
            return EX_CONFIG
        self._config = config
        with Mailbox() as self._mailbox, contextlib.ExitStack() as stack:
            self._mailbox.take_signals()
            stack.callback(self._mailbox.release_signals)
            stack.callback(self._close)
            self._sources = [Uevents(self._mailbox), Sysctls(self._mailbox)]
            self._sources[0].arm(self._targets)  # listening before the first look
            self._loop()
        return 0

    # --- configuration ------------------------------------------------------------------

    def _first_config(self) -> Optional[Config]:
        try:
            self._files = configfiles.read(self._root, self._only)
            return parse(self._files)
        except ConfigError as error:
            self._refuse(error)
        kept = None if self._only else configfiles.last_good(self._root)
        if kept is None:
            log("error", "there is no last good configuration either; the node is left as it is")
            return None
        log("warning", "starting with the last good configuration")
        self._files = kept
        return parse(kept)

    def _refuse(self, error: ConfigError) -> None:
        self._config_errors = error.errors
        log("error", "cannot use the configuration:\n" + "\n".join(error.errors))

    def _reload(self, asked: bool) -> None:
        """Read the configuration again and take it if it is good; `asked` says that a person wants it so."""
        try:
            files = configfiles.read(self._root, self._only)
            if not asked and files == self._files and not self._config_errors:
                return
            config = parse(files)
        except ConfigError as error:
            if asked or error.errors != self._config_errors:
                self._refuse(error)
                log("warning", "the previous configuration stays at work")
            return
        changed = config != self._config
        self._files, self._config, self._config_errors = files, config, ()
        if changed or asked:
            log("info", f"configuration loaded, {fingerprint(config)}")
            self._tell_notes()
            self._history = restraint.forgive(self._history)
            if self._ready:
                self._keep_config()
                self._serve()

    def _notes(self) -> tuple[str, ...]:
        known = notes(self._config.profiles, self._config.kube_proxy)
        return (*known, *(f"{path} {NOT_AS_CONFIGURED}" for path in self._stale))

    def _tell_notes(self) -> None:
        for note in notes(self._config.profiles, self._config.kube_proxy):
            log("warning", note)

    def _keep_config(self) -> None:
        if self._only or self._config_errors:
            return
        try:
            configfiles.keep(self._root, self._files)
        except OSError as error:
            log("debug", f"cannot keep the last good configuration: {error}")

    # --- the loop -----------------------------------------------------------------------

    def _loop(self) -> None:
        reasons: tuple[Reason, ...] = (Reason(ReasonKind.START, "", time.monotonic()),)
        self._periodic_at = time.monotonic() + self._period()
        while True:
            kinds = {reason.kind for reason in reasons}
            if ReasonKind.STOP in kinds:
                self._notifier.stopping()
                return
            asked = ReasonKind.RELOAD in kinds
            if asked and self._ready:
                self._notifier.reloading()
            if asked or kinds & {ReasonKind.CONFIG, ReasonKind.PERIODIC, ReasonKind.RETRY}:
                self._reload(asked)
            report = self._look(reasons)
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
            reasons = self._wait()

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
        retry = restraint.next_try(self._history)
        if retry is not None:
            dues.append(retry)
        if 0 < self._unsettled <= len(UNSETTLED):
            dues.append(now + UNSETTLED[self._unsettled - 1])
        if not self._ready:
            dues.append(min(now + HOLD, max(now, self._hold_until())))
        return min(dues)

    def _look(self, reasons: tuple[Reason, ...]) -> Report:
        begun = time.monotonic()
        done = reconcile(self._host, self._config, self._history, time.monotonic)
        now, wall = time.monotonic(), time.time()
        self._history = done.history
        self._unsettled = self._unsettled + 1 if done.unsettled else 0
        if not self._unsettled and ReasonKind.LINK in {reason.kind for reason in reasons}:
            self._unsettled = 2  # the kernel tells of an interface just before it makes its sysctls
        since = min(reason.at for reason in reasons)
        self._ledger, repairs = self._ledger.book(done, since, now, wall)
        self._ledger = self._ledger.looked(now - begun)
        self._repairs = (*self._repairs, *repairs)[-SHOWN_REPAIRS:]
        self._tell(done, repairs)
        self._arm(done)
        if self._asker:
            self._asker.consider(done.after.modules, reasons)
        if self._survey and ReasonKind.PERIODIC in {reason.kind for reason in reasons}:
            self._look_around(done)
        return self._make_report(done, wall)

    def _make_report(self, done: Reconciled, wall: float) -> Report:
        return Report(
            time=wall,
            boottime=time.clock_gettime(time.CLOCK_BOOTTIME),
            kernel=done.kernel,
            modules=done.after.modules,
            sysctls=collapsed(done.after.sysctls),
            parameters=done.after.parameters,
            health=assess(told(done.after), self._repairs[-1] if self._repairs else None, wall),
            tally=self._ledger.tally,
            repairs=self._repairs,
        )

    def _look_around(self, done: Reconciled) -> None:
        """Look at what only the next boot will need: the kernels that are installed, and the persisted files."""
        if self._survey:
            self._survey.look(self._config)
        if done.unsettled:
            return
        stale = persist.stale(self._root, persist.files(self._config, done.kernel, done.after))
        for path in set(stale) - set(self._stale):
            log("warning", f"{path} {NOT_AS_CONFIGURED}")
        self._stale = stale

    def _source_states(self) -> tuple[SourceState, ...]:
        states = tuple(source.state() for source in self._sources)
        return (*states, self._web.state()) if self._web else states

    def _tell(self, done: Reconciled, repairs: tuple[Repair, ...]) -> None:
        for level, text in narrate(self._told, done, repairs):
            log(level, text)
        if not done.unsettled:
            self._told = told(done.after)

    def _line(self, report: Report) -> str:
        if not self._config_errors:
            return report.health.line
        return f"{report.health.line}; configuration refused, the previous one is at work: {self._config_errors[0]}"

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
        self._tell_notes()
        self._keep_config()
        from ipvsd.watch.files import Files

        if self._only is None:
            files = Files(self._mailbox)
            files.arm(self._targets)
            self._sources.append(files)
        self._serve()
        from ipvsd.ipvs import Asker

        self._asker = Asker(self._mailbox, local=self._root == "/")
        from ipvsd.preflight import Survey

        self._survey = Survey(self._root)
        self._survey.look(self._config)
        self._asker.consider(report.modules, ())

    def _serve(self) -> None:
        """Serve where the configuration says."""
        from ipvsd.web import Web

        if self._web and self._web.listen != self._config.listen:
            self._web.close()
            self._web = None
        if self._web is None:
            self._web = Web(lambda: self.report, self._config.listen)

    def _publish(self, report: Report) -> None:
        if self._web:
            self._web.arm()
        state = ConfigState(
            fingerprint(self._config),
            self._config.profiles,
            tuple(name for name, _ in self._files),
            self._config.interval,
            self._config_errors,
        )
        answer = self._asker.answer if self._asker else Ipvs()
        self.report = report.replace(
            config=state,
            sources=self._source_states(),
            ipvs=answer,
            kernels=self._survey.kernels if self._survey else (),
            notes=self._notes(),
        )
        from ipvsd.present import document

        try:
            statusfile.write(self._root, document(self.report))
        except OSError as error:
            log("debug", f"cannot write {statusfile.PATH}: {error}")

    def _arm(self, done: Reconciled) -> None:
        there = [finding for finding in done.after.sysctls if finding.found is not None]
        paths = {finding.name: self._host.sysctl_path(finding.name) for finding in there}
        for finding in done.after.parameters:
            if finding.found is not None:
                paths[finding.name] = self._host.parameter_path(finding.name)
        directories = () if self._only else configfiles.directories(self._root)
        self._targets = Targets(_modules(done), paths, directories, links=_links(done))
        for source in self._sources:
            source.arm(self._targets)

    def _close(self) -> None:
        if self._asker:
            self._asker.close()
        for source in self._sources:
            source.close()
        if self._web:
            self._web.close()
        statusfile.remove(self._root)


def _modules(done: Reconciled) -> frozenset[str]:
    """Return every module whose coming or going matters, whoever loads it."""
    names = {name for finding in done.after.modules for name in (*finding.wanted.any_of, finding.module)}
    settings = (*done.after.sysctls, *done.after.parameters)
    return frozenset(names) | {finding.wanted.provider for finding in settings if finding.wanted.provider}


def _links(done: Reconciled) -> bool:
    """Tell whether interfaces that come and go bring or take wanted sysctls."""
    names = (finding.wanted.group or finding.name for finding in done.after.sysctls)
    parts = (name.split(".") for name in names)
    return any(len(part) > 3 and part[2] in ("conf", "neigh") and part[3] not in _NO_LINKS for part in parts)


def run(root: str = "/", only: Optional[str] = None, host: Optional[LinuxHost] = None) -> int:
    """Run the daemon in this process; return its exit code."""
    return Daemon(root, only, host).run()
