"""Correct a file: apply the corrections of the findings until none is left, and change nothing else."""

from __future__ import annotations

from typing import NamedTuple

from ipvsd.kube_proxy import source_text
from ipvsd.kube_proxy.config_check import Result, Versions, check
from ipvsd.kube_proxy.findings import Severity
from ipvsd.kube_proxy.node_comparison import Node

_MIN_ROUNDS, _MAX_ROUNDS = 4, 30
_MAX_WORK = 1 << 20  # characters of all rounds; reading 1 MB of YAML takes seconds


class Fixed(NamedTuple):
    """A corrected file, and the findings about it."""

    text: str
    result: Result


def fix(data: bytes, versions: Versions, node: Node) -> Fixed:
    """Return the corrected file. If an error has no correction, `result` still contains it."""
    result = check(data, versions, node)
    seen = {result.text}
    for _ in range(max(_MIN_ROUNDS, min(_MAX_ROUNDS, _MAX_WORK // (len(result.text) + 1)))):
        wrong = (found for found in result.findings if found.severity is not Severity.NOTE)
        text = source_text.apply(result.text, (found.edits for found in wrong))
        if text in seen:
            break
        seen.add(text)
        result = check(text.encode(), versions, node)
    marked = data.startswith(b"\xef\xbb\xbf") and result.text  # a file that is not text has no correction
    return Fixed(f"\ufeff{result.text}" if marked else result.text, result)
