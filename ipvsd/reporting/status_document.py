"""A Report as the one JSON document of /status, status.json and `--output json`; see docs/status.md."""

from __future__ import annotations

import time
from typing import Any

from ipvsd import __version__
from ipvsd.decide import health
from ipvsd.decide.health import outdated, required, tolerated
from ipvsd.model.report import ContendedSysctl, Health, InstalledKernel, Repair, Report, State
from ipvsd.model.types import Finding, ModuleFinding


def build_document(report: Report) -> dict[str, Any]:
    """Return the report as values for JSON. Later versions only add keys."""
    config, expiry = report.config, report.web_certificate_expiry
    return {
        "version": __version__,
        "time": format_time(report.time),
        "boottime": round(report.boottime, 3),
        "age": round(report.age, 3),
        "reconciliations": report.counters.reconciliations,
        "state": report.health.state.value,
        "summary": report.health.summary,
        "kernel": report.kernel.release,
        "root_kind": report.root_kind.value,
        "notes": list(report.notes),
        "kernels": [encode_kernel(installed) for installed in report.kernels],
        "modules": [encode_finding(found) for found in report.modules],
        "parameters": [encode_finding(found) for found in report.parameters],
        "sysctls": [encode_finding(found) for found in report.sysctls],
        "contended": [encode_contended(item) for item in report.contended],
        "repairs": [encode_repair(item) for item in report.repairs],
        "failures": [{"operation": item, "error": error} for item, error in report.failures.items()],
        "backend": report.backend,
        "events_lost": report.events_lost,
        "sources": [item._asdict() for item in report.sources],
        "ipvs": report.ipvs._asdict(),
        "web_certificate_expiry": None if expiry is None else format_time(expiry),
        "config": config and {key: _as_list(value) for key, value in config._asdict().items()},
    }


def _as_list(value: object) -> object:
    return list(value) if isinstance(value, tuple) else value


def with_age(report: Report, boottime: float) -> Report:
    """Return the report with its age at a time of CLOCK_BOOTTIME. A report that is too old has the state failed.

    Suspended time counts, because the node may have changed meanwhile.
    """
    age = max(0.0, boottime - report.boottime)
    if report.config is None or not outdated(age, report.config.interval):
        return report._replace(age=age)
    last = f"the last reconciliation was {age:.0f} s ago (last state: {report.health.summary})"
    line = f"failed: outdated result: {last}"
    return report._replace(age=age, health=Health(State.FAILED, line, 2))


def encode_repair(repair: Repair) -> dict[str, Any]:
    return {
        "name": repair.name,
        "actual": repair.actual,
        "desired": repair.desired,
        "time": format_time(repair.time),
        "seconds": round(repair.seconds, 6),
        "writer_text": repair.writer_text,
        "attribution": repair.attribution.value,
        "writer": repair.writer and repair.writer._asdict(),
    }


def encode_contended(item: ContendedSysctl) -> dict[str, Any]:
    return {
        "name": item.name,
        "conflicting_program": item.conflicting_program,
        "attribution": item.attribution.value,
        "yielded": item.yielded,
    }


def format_time(seconds: float) -> str:
    """Return a time in UTC with milliseconds, as in RFC 3339."""
    whole, thousandths = divmod(int(seconds * 1000), 1000)
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(whole)) + f".{thousandths:03d}Z"


def encode_kernel(installed: InstalledKernel) -> dict[str, Any]:
    return {
        "release": installed.release,
        "running": installed.running,
        "boots_next": installed.boots_next,
        "ready": health.could_be_ready(installed),
    }


def encode_finding(finding: Finding) -> dict[str, Any]:
    common = {
        "name": finding.name,
        "required": required(finding),
        "verdict": finding.verdict.value,
        "compliant": finding.compliant,
        "tolerated": tolerated(finding),
        "evidence": finding.evidence,
        "remedy": finding.remedy,
        "origin": finding.desired.origin,
        "last_verdict": finding.last_verdict
        and {"verdict": finding.last_verdict.verdict.value, "time": format_time(finding.last_verdict.time)},
    }
    if isinstance(finding, ModuleFinding):
        return {**common, "module": finding.module}
    compliant, total = finding.members
    return {
        **common,
        "desired": str(finding.desired.want),
        "actual": finding.actual,
        "policy": finding.desired.policy.value,
        "members": {"compliant": compliant, "total": total} if finding.desired.pattern == finding.name else None,
    }
