"""Correct a file: apply the corrections of the findings until none is left, and change nothing else."""

from __future__ import annotations

import codecs
from typing import NamedTuple

from ipvsd.kube_proxy import source_text
from ipvsd.kube_proxy.config_check import Result, Versions, check
from ipvsd.kube_proxy.findings import Severity
from ipvsd.kube_proxy.node_comparison import Node

_MAX_ROUNDS = 30


class Fixed(NamedTuple):
    """A corrected file, and the findings about it."""

    text: str
    result: Result


def fix(data: bytes, versions: Versions, node: Node) -> Fixed:
    """Return the corrected file. If an error has no correction, `result` still contains it."""
    result = check(data, versions, node)
    seen = {result.text}
    for _ in range(_MAX_ROUNDS):
        severities = (Severity.ERROR, Severity.WARNING)
        edits = [edit for found in result.findings if found.severity in severities for edit in found.edits]
        text = source_text.apply(result.text, edits)
        if not edits or text in seen:
            break
        seen.add(text)
        result = check(text.encode(), versions, node)
    return Fixed("\ufeff" * data.startswith(codecs.BOM_UTF8) + result.text, result)
