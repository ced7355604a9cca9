"""A finding about a configuration of kube-proxy."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ipvsd.kube_proxy.source_text import Edit, SourceText


class Severity(enum.Enum):
    """An error prevents the intended operation of kube-proxy. A note describes a difference that is permitted."""

    ERROR = "error"
    WARNING = "warning"
    NOTE = "note"


class Effect(enum.Enum):
    """The reaction of kube-proxy."""

    EXITS = "exits"
    IGNORES = "ignores_setting"
    OTHER_MODE = "other_mode"
    NONE = "none"


@dataclass(frozen=True)
class Finding:
    """A problem at a place of the given file. `line` and `column` count from 1.

    `key` contains the affected keys or options, separated by commas. `edits` correct the file, or are empty.
    """

    severity: Severity
    line: int
    column: int
    key: str
    problem: str
    effect: Effect
    consequence: str  # the effect as a sentence
    correction: str  # the corrected text, or the action to take
    edits: tuple[Edit, ...] = ()


def finding(
    source: SourceText,
    place: int,
    key: str,
    problem: str,
    consequence: str,
    correction: str,
    edits: tuple[Edit, ...] = (),
    severity: Severity = Severity.ERROR,
    effect: Effect = Effect.EXITS,
) -> Finding:
    """Return a finding at a place of a text. The default is an error that ends kube-proxy."""
    line, column = source.position(place)
    return Finding(severity, line, column, key, problem, effect, consequence, correction, edits)
