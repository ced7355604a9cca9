"""Findings from the status of the running daemon: what one observation of the node cannot show."""

from __future__ import annotations

import calendar
import time
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple, Optional

from ipvsd.decide.health import outdated
from ipvsd.doctor import own_setting, sections
from ipvsd.doctor.finding import Finding, Severity
from ipvsd.model.value_texts import text_of
from ipvsd.reporting import certificate_notice, status_document

_RESTART = "run 'systemctl restart ipvsd', and 'journalctl -u ipvsd' to find the cause"


class DaemonFacts(NamedTuple):
    """The daemon's status, or None if it does not run. `age` is that of the status, in seconds.

    `unusable` is the reason why the status cannot be used, or empty.
    """

    status: Optional[Mapping[str, Any]] = None
    age: float = 0.0
    time: float = 0.0  # seconds since the epoch
    unusable: str = ""


def findings(facts: DaemonFacts) -> Iterator[Finding]:
    """Yield the problems of the daemon, and the sysctls that another program changes repeatedly."""
    if facts.unusable:
        yield Finding(
            "status_unusable",
            Severity.WARNING,
            "the status of the daemon cannot be used",
            (facts.unusable,),
            "the daemon replaces its status after each reconciliation",
            _RESTART,
        )
    if facts.status is None:
        return
    config = facts.status["config"]
    if outdated(facts.age, config["interval"]):
        yield Finding(
            "daemon_outdated",
            Severity.WARNING,
            "the daemon has not reconciled the node for a long time",
            (f"the last reconciliation was {facts.age:.0f} s ago; resync every {config['interval']:g} s",),
            "nothing repairs drift until the daemon reconciles the node",
            _RESTART,
        )
    for item in facts.status["contended"]:
        yield Finding(
            "sysctl_contended",
            Severity.WARNING,
            f"{item['name']} is contended: another program changes it repeatedly",
            (f"changed by {item['conflicting_program']}",),
            "ipvsd writes a contended sysctl only once per resync",
            f"stop the program, or set 'policy: yield' for this sysctl in {_place(facts.status, item['name'])}",
            sections.SYSCTL_CHANGED,
        )
    for item in facts.status["failures"]:
        yield Finding(
            "daemon_operation_failed",
            Severity.WARNING,
            f"the daemon cannot {text_of(item['operation'])}",
            (item["error"],),
            "the node itself is not affected",
            "correct the error; ipvsd.service retries",
        )
    yield from _certificate(facts.status, facts.time)
    for error in config["errors"]:
        yield Finding(
            "configuration_rejected",
            Severity.WARNING,
            "the daemon has rejected the configuration, and uses the last good one",
            (error,),
            "an invalid configuration is not applied",
            "run 'ipvsd config validate', and correct the file",
        )


def _place(status: Mapping[str, Any], name: str) -> str:
    """Return the file, with the line if there is one, that sets a sysctl."""
    return own_setting.place(next((item["origin"] for item in status["sysctls"] if item["name"] == name), ""))


def _certificate(status: Mapping[str, Any], now: float) -> Iterator[Finding]:
    """Yield a certificate of the HTTP endpoint that expires. `now` is in seconds since the epoch."""
    expiry = _seconds(status.get("web_certificate_expiry"))
    problem = certificate_notice.problem(expiry, now)
    if problem:
        yield Finding(
            "web_certificate_expired" if now > (expiry or 0.0) else "web_certificate_expiring",
            Severity.WARNING,
            problem,
            (f"the daemon uses it; now it is {status_document.format_time(now)}",),
            "with an expired certificate, Prometheus cannot scrape the node; the node itself is not affected",
            certificate_notice.REMEDY,
        )


def _seconds(text: Any) -> Optional[float]:
    """Return a time of the status document in seconds since the epoch, or None if there is none."""
    try:
        return float(calendar.timegm(time.strptime(str(text)[:19], "%Y-%m-%dT%H:%M:%S")))
    except ValueError:
        return None
