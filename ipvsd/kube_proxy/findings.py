"""A finding about a configuration of kube-proxy."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ipvsd.kube_proxy.source_text import Edit


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
