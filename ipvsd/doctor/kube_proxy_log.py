"""Findings about errors in kube-proxy's log: of one that has ended, or runs and does not answer, or logs errors."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Optional

from ipvsd.discovery.log_reader import Log
from ipvsd.discovery.running import KubeProxy, is_unanswering
from ipvsd.doctor import sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.kube_proxy import known_values, log_errors
from ipvsd.kube_proxy.log_errors import LoggedError


def explained(log: Log, ended: bool) -> Optional[LoggedError]:
    """Return the explained error that counts. `ended` means that no kube-proxy runs.

    Only a fatal error ends kube-proxy, or any error in its last line if it failed.
    """
    known = None if ended else log_errors.last_known(log.lines)
    known = known or log_errors.last_known(log.ended, fatal_only=True)
    return known or (log_errors.explain(log_errors.last_error(log.ended, log.shared)) if log.failure else None)


def last_error(log: Log, ended: bool) -> str:
    """Return the last line that reports an error, explained or not, or an empty text."""
    current = "" if ended else log_errors.last_error(log.lines, log.shared)
    return current or log_errors.last_error(log.ended, log.shared)


def stopped(log: Log, logged: Optional[LoggedError], last_error: str) -> Iterator[Finding]:
    """Yield the error with which the last kube-proxy ended. One that was stopped is a fact and no finding."""
    if logged is not None and (logged.known.fatal or log.failure):
        yield _explained(log, logged, "kube-proxy does not run: it ended with an error")
    elif log.failure and (last_error or not log.shared):
        yield Finding(
            "kube_proxy_failed",
            Severity.ERROR,
            "kube-proxy does not run: it ended with an error",
            (*_shown(log, last_error), log.failure),
            "this is the last error in the log, and ipvsd does not recognize it"
            if last_error
            else "kube-proxy was killed, or ended without a line in its log",
            f"read the log ({_command(log)}), correct the cause, and start kube-proxy again",
            sections.NO_ANSWER,
        )


def running(proxy: KubeProxy, log: Log, logged: Optional[LoggedError], last_error: str) -> Iterator[Finding]:
    """Yield the last explained error of a kube-proxy that runs, or its last error if it does not answer.

    As soon as it answers, an error of its start no longer counts.
    """
    counts = logged is not None and (proxy.silent or not logged.known.fatal)
    # Before 1.26, kube-proxy also logs this line if its configuration sets no mode, and runs.
    usual = logged is not None and logged.known.id == "mode_unknown"
    if logged is not None and counts and not (usual and proxy.settings.requested_mode in known_values.MODES):
        yield _explained(log, logged, f"kube-proxy logs an error: {logged.known.section}")
    elif is_unanswering(proxy):
        yield Finding(
            "kube_proxy_unanswering",
            Severity.ERROR,
            f"{proxy.process} runs, and does not answer",
            (*_shown(log, last_error), *filter(None, (log.failure,)), *proxy.problems[:1]),
            "kube-proxy answers a few seconds after its start, unless it restarts repeatedly, waits, or cannot "
            "listen on its address",
            f"read the log ({_command(log)}), and correct the cause of its last error",
            sections.NO_ANSWER,
        )


def _explained(log: Log, logged: LoggedError, summary: str) -> Finding:
    return Finding(
        f"kube_proxy_{logged.known.id}",
        Severity.ERROR,
        summary,
        (*_shown(log, logged.line), *filter(None, (log.failure,))),
        logged.known.explanation,
        logged.fix,
        logged.known.section,
    )


def _shown(log: Log, line: str) -> tuple[str, ...]:
    return (f"{log.origin}: {line}",) if line else ()


def _command(log: Log) -> str:
    return f"'{log.origin}'" if log.origin.startswith("journalctl") else log.origin or "'journalctl -t kube-proxy'"
