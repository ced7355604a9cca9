"""A finding of `ipvsd doctor`: one problem, with its evidence, an explanation and the way to fix it."""

from __future__ import annotations

import enum
from collections.abc import Iterable, Sequence
from dataclasses import dataclass


class Severity(enum.Enum):
    """The severity of a finding, the most severe first."""

    ERROR = "error"  # services do not work, or kube-proxy does not do what its configuration requests
    UNKNOWN = "unknown"  # something required cannot be read
    WARNING = "warning"  # it works now, and will not later or elsewhere
    NOTE = "note"  # a fact that explains what an administrator sees


_ORDER = tuple(Severity)
EXIT_CODES = {Severity.ERROR: 1, Severity.UNKNOWN: 2, Severity.WARNING: 0, Severity.NOTE: 0}


@dataclass(frozen=True)
class Finding:
    """`fix` contains the exact command or line. `section` is a heading of troubleshooting.md, or empty.

    Identifiers are `lower_snake_case`, and stable.
    """

    id: str
    severity: Severity
    summary: str
    evidence: tuple[str, ...] = ()
    explanation: str = ""
    fix: str = ""
    section: str = ""


def by_severity(findings: Iterable[Finding]) -> Sequence[Finding]:
    """Return the findings, the most severe first. Of the same severity, the order stays: causes before effects."""
    return sorted(findings, key=lambda found: _ORDER.index(found.severity))


def exit_code(findings: Iterable[Finding]) -> int:
    """Return 1 if there is an error, 2 if something required is unknown, otherwise 0."""
    severities = {found.severity for found in findings}
    return next((EXIT_CODES[item] for item in _ORDER if item in severities), 0)
